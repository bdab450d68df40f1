"""Label images: made from masks and stitched across tiles. Numpy only."""

from napari_sam.labels.compose import Composition, MaskCrop, compose_labels
from napari_sam.labels.stitch import Stitched, TileLabels, stitch_tiles

__all__ = [
    "Composition",
    "MaskCrop",
    "Stitched",
    "TileLabels",
    "compose_labels",
    "stitch_tiles",
]
