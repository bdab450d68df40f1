"""Segment Anything for microscopy: a headless engine, and a napari plugin on it.

Names load on first use, so ``import napari_sam`` is quick and brings neither torch nor napari.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from napari_sam.core.errors import NapariSamError
    from napari_sam.model import Sam, load_model
    from napari_sam.pipeline import SegmentConfig, segment_volume
    from napari_sam.predict import (
        AutomaticMaskGenerator,
        ImageEmbedding,
        MaskPrediction,
        SamPredictor,
        segment_everything,
    )

__all__ = [
    "AutomaticMaskGenerator",
    "ImageEmbedding",
    "MaskPrediction",
    "NapariSamError",
    "Sam",
    "SamPredictor",
    "SegmentConfig",
    "__version__",
    "load_model",
    "segment_everything",
    "segment_volume",
]

_HOMES = {
    "AutomaticMaskGenerator": "napari_sam.predict",
    "ImageEmbedding": "napari_sam.predict",
    "MaskPrediction": "napari_sam.predict",
    "NapariSamError": "napari_sam.core.errors",
    "Sam": "napari_sam.model",
    "SamPredictor": "napari_sam.predict",
    "SegmentConfig": "napari_sam.pipeline",
    "load_model": "napari_sam.model",
    "segment_everything": "napari_sam.predict",
    "segment_volume": "napari_sam.pipeline",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'napari_sam' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # takes longer than all the rest

    try:
        return version("napari-sam")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"
