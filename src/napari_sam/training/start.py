"""The weights that a training run starts from."""

from __future__ import annotations

from pathlib import Path

from napari_sam.core.errors import ConfigError
from napari_sam.model import build_sam, load_model
from napari_sam.model.sam import Sam

__all__ = ["build_start_model"]


def build_start_model(model: str) -> Sam:
    """Build a model with random weights of an architecture, or with the weights of a file.

    Raises
    ------
    ConfigError
        If the model does not take native pixels, or has no instance head.
    CheckpointError
        If the file cannot be read.
    """
    sam = load_model(model, device="cpu") if Path(model).suffix else build_sam(model)
    if not sam.input_spec.native_resolution or sam.instance_head is None:
        raise ConfigError(
            f"model = {model!r} was given",
            rule="Training takes crops at native resolution, so it trains the compact model",
            cure="Use model = 'compact', or a file of its weights",
        )
    return sam
