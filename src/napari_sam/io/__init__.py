"""Images in, label images out. Knows file formats and no model; readers load on first use."""

from napari_sam.io.overlay import draw_overlay, label_colors, montage, write_png
from napari_sam.io.volume import ArrayVolume, LazyArray, Volume, open_volume

__all__ = [
    "ArrayVolume",
    "LazyArray",
    "Volume",
    "draw_overlay",
    "label_colors",
    "montage",
    "open_volume",
    "write_png",
]
