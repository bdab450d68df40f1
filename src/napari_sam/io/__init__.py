"""Images in, label images out. Knows file formats and no model; readers load on first use."""

from napari_sam.io.volume import ArrayVolume, LazyArray, Volume, open_volume

__all__ = ["ArrayVolume", "LazyArray", "Volume", "open_volume"]
