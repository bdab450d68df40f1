"""Label images: made from masks and stitched across tiles. Numpy only."""

from napari_sam.labels.compose import Composition, MaskCrop, compose_labels

__all__ = ["Composition", "MaskCrop", "compose_labels"]
