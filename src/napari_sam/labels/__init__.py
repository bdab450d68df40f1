"""Label images: made from masks and stitched across tiles. Numpy only."""

from napari_sam.labels.compose import Composition, MaskCrop, compose_labels
from napari_sam.labels.link import LinkRule, SliceLinker, link_slices
from napari_sam.labels.seams import TileLabels
from napari_sam.labels.stitch import (
    Painting,
    Stitched,
    count_visible,
    is_kept,
    paint,
    plan_paintings,
    stitch_tiles,
)

__all__ = [
    "Composition",
    "LinkRule",
    "MaskCrop",
    "Painting",
    "SliceLinker",
    "Stitched",
    "TileLabels",
    "compose_labels",
    "count_visible",
    "is_kept",
    "link_slices",
    "paint",
    "plan_paintings",
    "stitch_tiles",
]
