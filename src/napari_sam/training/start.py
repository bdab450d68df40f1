"""The weights that a training run starts from."""

from __future__ import annotations

from pathlib import Path

from napari_sam.model import build_sam, load_model
from napari_sam.model.sam import Sam

__all__ = ["build_start_model"]


def build_start_model(model: str) -> Sam:
    """Random weights of an architecture, or the weights of a file."""
    if Path(model).suffix:
        return load_model(model, device="cpu")
    return build_sam(model)
