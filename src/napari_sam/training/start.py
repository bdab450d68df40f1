"""The weights that a training run starts from."""

from __future__ import annotations

from pathlib import Path

from napari_sam.core.errors import ConfigError
from napari_sam.model import build_sam
from napari_sam.model.sam import Sam

__all__ = ["build_start_model"]


def build_start_model(model: str) -> Sam:
    """Build a model with random weights of an architecture, or with the weights of a file.

    Weights of an instance head that is built otherwise are left out, and the head starts anew.

    Raises
    ------
    ConfigError
        If the model does not take native pixels, or has no instance head.
    CheckpointError
        If the file cannot be read.
    """
    sam = _with_weights(Path(model)) if Path(model).suffix else build_sam(model)
    if not sam.input_spec.native_resolution or sam.instance_head is None:
        raise ConfigError(
            f"model = {model!r} was given",
            rule="Training takes crops at native resolution, so it trains the compact model",
            cure="Use model = 'compact', or a file of its weights",
        )
    return sam


def _with_weights(path: Path) -> Sam:
    from napari_sam.model.checkpoints import detect_architecture
    from napari_sam.model.weight_files import read_state_dict

    state = read_state_dict(path)
    sam = build_sam(detect_architecture(state))
    own = sam.state_dict()
    shapes = {name: value.shape for name, value in state.items()}
    head = {name for name in {*own, *state} if name.startswith("instance_head.")}
    if any(name not in own or shapes.get(name) != own[name].shape for name in head):
        state = {name: value for name, value in state.items() if name not in head}
        state |= {name: own[name] for name in head if name in own}
    sam.load_state_dict(state)
    return sam
