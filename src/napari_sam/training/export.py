"""Write the averaged weights of a training run as a model file."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from napari_sam.core.errors import CheckpointError
from napari_sam.model import detect_architecture
from napari_sam.training.checkpoint import load_checkpoint

__all__ = ["export_model"]


def export_model(checkpoint: Path, target: Path, *, half: bool = True) -> Path:
    """Write a model for inference.

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
    """
    from safetensors.torch import save_file

    state = load_checkpoint(checkpoint)
    weights = {
        name: (_rounded(name, value) if half else value).contiguous()
        for name, value in state["average"].items()
    }
    not_finite = [name for name, value in weights.items() if not value.isfinite().all()]
    if not_finite:
        raise CheckpointError(
            f"{checkpoint} has weights that are not finite, such as {not_finite[0]}",
            rule="A model file holds finite numbers",
            cure="Lower learning_rate and train again",
        )
    config = json.loads(state["config"])
    metadata = {
        "format": "pt",
        "architecture": detect_architecture(weights),
        "iterations": str(state["iteration"]),
        "seed": str(config["seed"]),
    }
    if "teacher" in config:
        metadata["teacher"] = f"{config['teacher']} sha256:{config['teacher_digest']}"
    temporary = target.with_suffix(".part")
    save_file(weights, temporary, metadata=metadata)
    temporary.chmod(0o644)  # safetensors writes for the owner alone; a model is for everybody
    temporary.replace(target)
    return target


def _rounded(name: str, value: torch.Tensor) -> torch.Tensor:
    if not value.is_floating_point() or name.endswith(("running_mean", "running_var")):
        return value
    return value.half()
