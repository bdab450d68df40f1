"""Write the weights of a model as a file for inference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.errors import CheckpointError, ConfigError, OutputError
from napari_sam.model import detect_architecture
from napari_sam.model.checkpoints import CALIBRATION_KEY
from napari_sam.model.sam import Sam
from napari_sam.training.checkpoint import load_checkpoint

__all__ = ["export_calibrated", "export_model", "require_calibratable"]

_PRECISE = ("running_mean", "running_var", CALIBRATION_KEY)


def export_model(checkpoint: Path, target: Path, *, half: bool = True) -> Path:
    """Write the averaged weights of a training run as a model for inference.

    Parameters
    ----------
    checkpoint : Path
        A checkpoint of `napari-sam train` or `napari-sam distill`.
    target : Path
        The ``.safetensors`` file to write.
    half : bool
        Round weights to half precision; the statistics of batch normalisation stay in single
        precision, because small variances would not survive. Otherwise weights are written as
        they are.

    Returns
    -------
    Path
        ``target``.

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged.
    OutputError
        If the file cannot be written.
    """
    state = load_checkpoint(checkpoint)
    config = json.loads(state["config"])
    metadata = {"iterations": str(state["iteration"]), "seed": str(config["seed"])}
    if "teacher" in config:
        metadata["teacher"] = f"{config['teacher']} sha256:{config['teacher_digest']}"
    weights = state.get("exported", state["average"])  # distillation exports the average itself
    return _write(weights, metadata, target, source=str(checkpoint), half=half)


def export_calibrated(sam: Sam, values: NDArray[np.float64], target: Path) -> Path:
    """Write a model with a map of its predicted IoU.

    Parameters
    ----------
    sam : Sam
        The compact model; a map that it has already is replaced.
    values : ndarray
        The map, (M, K), from :func:`~napari_sam.evaluation.calibration.fit_iou_calibration`. It
        stays in single precision.
    target : Path
        The ``.safetensors`` file to write.

    Returns
    -------
    Path
        ``target``.

    Raises
    ------
    ConfigError
        If the model is not the compact one.
    OutputError
        If the file cannot be written.
    """
    require_calibratable(sam)
    metadata = {"calibrated_from": sam.digest}
    state = sam.state_dict() | {CALIBRATION_KEY: torch.from_numpy(values).float()}
    return _write(state, metadata, target, source=sam.name)


def require_calibratable(sam: Sam) -> None:
    """Refuse a model whose files have no place for a map of predicted IoU.

    Raises
    ------
    ConfigError
        If the model is not the compact one.
    """
    if not sam.input_spec.native_resolution:
        raise ConfigError(
            f"The predicted IoU of {sam.name} was to be calibrated",
            rule="Files of the compact model have a place for such a map, official ones do not",
            cure="Use compact, or a file of its weights",
        )


def _write(
    state: Mapping[str, Tensor],
    metadata: dict[str, str],
    target: Path,
    *,
    source: str,
    half: bool = True,
) -> Path:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    weights = {
        name: (_rounded(name, value) if half else value).cpu().contiguous()
        for name, value in state.items()
    }
    metadata = {"format": "pt", "architecture": detect_architecture(weights), **metadata}
    not_finite = [name for name, value in weights.items() if not value.isfinite().all()]
    if not_finite:
        raise CheckpointError(
            f"{source} has weights that are not finite, such as {not_finite[0]}",
            rule="A model file holds finite numbers",
            cure="Lower learning_rate and train again",
        )
    temporary = target.with_suffix(".part")
    try:
        save_file(weights, temporary, metadata=metadata)
        temporary.chmod(0o644)  # safetensors writes for the owner alone; a model is for everybody
        temporary.replace(target)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"The model cannot be written to {target} ({error})",
            rule="It needs a file in a folder that can be written to",
            cure="Choose another file",
        ) from error
    return target


def _rounded(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point() or name.endswith(_PRECISE):
        return value
    return value.half()
