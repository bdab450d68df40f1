"""The weights that a training run starts from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from napari_sam.model import build_sam
from napari_sam.model.sam import Sam

__all__ = ["Start", "build_start_model", "freeze_parts"]


class Start(NamedTuple):
    """What a run starts from.

    Attributes
    ----------
    sam : Sam
        The model.
    weights : dict of str to Tensor
        What the file gave it, by name, in single precision; none of an instance head that the
        file does not have, or has of another build. Empty for random weights.
    """

    sam: Sam
    weights: dict[str, Tensor]


def build_start_model(model: str) -> Start:
    """Build a model with random weights of an architecture, or with the weights of a file.

    Every model gets an instance head. Where the file has none, or one of another build, the head
    starts from random weights.
    A map of predicted IoU is left out: it fits the predictions before training alone.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    CheckpointError
        If the file cannot be read.
    """
    if Path(model).suffix:
        return _with_weights(Path(model))
    return Start(build_sam(model, instance_head=True), {})


def freeze_parts(sam: Sam, trained: str) -> None:
    """Let only some weights of a model be trained.

    Parameters
    ----------
    sam : Sam
        The model.
    trained : {"all", "decoder", "head"}
        Everything; prompt encoder, mask decoder and instance head; or the instance head alone.
    """
    if trained == "all":
        return
    sam.image_encoder.requires_grad_(False)
    if trained == "head":
        sam.prompt_encoder.requires_grad_(False)
        sam.mask_decoder.requires_grad_(False)


def _with_weights(path: Path) -> Start:
    from napari_sam.model.checkpoints import check_weights, detect_architecture
    from napari_sam.model.weight_files import read_state_dict

    state = read_state_dict(path)
    architecture = detect_architecture(state)
    sam = build_sam(architecture, instance_head=True)
    own = sam.state_dict()
    weights = _fitting(state, own)
    fresh = {name: value for name, value in own.items() if name.startswith("instance_head.")}
    check_weights(architecture, own, fresh | weights, source=str(path))
    sam.load_state_dict(fresh | weights)
    return Start(sam, weights)


def _fitting(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Choose what a model takes of a file: all but the map, and a head of another build."""
    from napari_sam.model.checkpoints import CALIBRATION_KEY

    state = {name: value for name, value in state.items() if name != CALIBRATION_KEY}
    head = {name for name in {*own, *state} if name.startswith("instance_head.")}
    if any(name not in own or _shape_of(state, name) != own[name].shape for name in head):
        state = {name: value for name, value in state.items() if name not in head}
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }


def _shape_of(state: dict[str, Tensor], name: str) -> tuple[int, ...] | None:
    value = state.get(name)
    return None if value is None else tuple(value.shape)
