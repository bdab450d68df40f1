"""Label images: made from masks, stitched across tiles, linked across slices. No torch."""

from napari_sam.labels.compose import Composition, MaskCrop, compose_labels
from napari_sam.labels.link import LinkRule, SliceLinker, link_slices
from napari_sam.labels.measure import MEASURE, measure_labels, merge_measures
from napari_sam.labels.paintings import PART, BlockParts, Paintings, plan_paintings
from napari_sam.labels.seams import (
    NO_MATCHES,
    PIECE,
    TileLabels,
    group_pieces,
    match_tiles,
    pieces_of,
    tile_of,
)
from napari_sam.labels.stitch import (
    Painted,
    Stitched,
    Visibility,
    choose_kept,
    count_visible,
    paint,
    stitch_tiles,
)

__all__ = [
    "MEASURE",
    "NO_MATCHES",
    "PART",
    "PIECE",
    "BlockParts",
    "Composition",
    "LinkRule",
    "MaskCrop",
    "Painted",
    "Paintings",
    "SliceLinker",
    "Stitched",
    "TileLabels",
    "Visibility",
    "choose_kept",
    "compose_labels",
    "count_visible",
    "group_pieces",
    "link_slices",
    "match_tiles",
    "measure_labels",
    "merge_measures",
    "paint",
    "pieces_of",
    "plan_paintings",
    "stitch_tiles",
    "tile_of",
]
