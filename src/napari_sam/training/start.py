"""The weights that a training run starts from."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from napari_sam.model import build_sam
from napari_sam.model.sam import Sam

__all__ = ["build_start_model", "freeze_parts", "read_start_weights"]


def build_start_model(model: str) -> Sam:
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
    return (
        _with_weights(Path(model)) if Path(model).suffix else build_sam(model, instance_head=True)
    )


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


def read_start_weights(path: Path, sam: Sam) -> dict[str, Tensor]:
    """Read the weights of a file that fit a model.

    Parameters
    ----------
    path : Path
        The file.
    sam : Sam
        A model of the file's architecture.

    Returns
    -------
    dict of str to Tensor
        By name, in single precision; without the instance head if it is of another build.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    from napari_sam.model.checkpoints import CALIBRATION_KEY
    from napari_sam.model.weight_files import read_state_dict

    own = sam.state_dict()
    state = read_state_dict(path)
    state.pop(CALIBRATION_KEY, None)
    head = {name for name in {*own, *state} if name.startswith("instance_head.")}
    if any(name not in own or _shape_of(state, name) != own[name].shape for name in head):
        state = {name: value for name, value in state.items() if name not in head}
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }


def _with_weights(path: Path) -> Sam:
    from napari_sam.model.checkpoints import check_weights, detect_architecture
    from napari_sam.model.weight_files import read_state_dict

    architecture = detect_architecture(read_state_dict(path))
    sam = build_sam(architecture, instance_head=True)
    own = sam.state_dict()
    fresh = {name: value for name, value in own.items() if name.startswith("instance_head.")}
    state = fresh | read_start_weights(path, sam)
    check_weights(architecture, own, state, source=str(path))
    sam.load_state_dict(state)
    return sam


def _shape_of(state: dict[str, Tensor], name: str) -> tuple[int, ...] | None:
    value = state.get(name)
    return None if value is None else tuple(value.shape)
