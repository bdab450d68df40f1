"""Images in, label images out. Knows file formats and no model; readers load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from napari_sam.io.embedding_cache import EmbeddingCache, embedding_directory
from napari_sam.io.overlay import draw_overlay, label_colors, montage, write_png
from napari_sam.io.volume import ArrayVolume, LazyArray, Volume, open_volume

if TYPE_CHECKING:
    from napari_sam.io.image_labels import save_into_image
    from napari_sam.io.label_image import LabelImage
    from napari_sam.io.label_layout import LabelLayout
    from napari_sam.io.label_pyramid import LabelPyramid
    from napari_sam.io.label_saving import SaveProgress, save_labels
    from napari_sam.io.label_store import LabelStore

__all__ = [
    "ArrayVolume",
    "EmbeddingCache",
    "LabelImage",
    "LabelLayout",
    "LabelPyramid",
    "LabelStore",
    "LazyArray",
    "SaveProgress",
    "Volume",
    "draw_overlay",
    "embedding_directory",
    "label_colors",
    "montage",
    "open_volume",
    "save_into_image",
    "save_labels",
    "write_png",
]

_HOMES = {
    "LabelImage": "label_image",
    "LabelLayout": "label_writer",
    "LabelPyramid": "label_pyramid",
    "LabelStore": "label_store",
    "SaveProgress": "label_saving",
    "save_into_image": "image_labels",
    "save_labels": "label_saving",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
