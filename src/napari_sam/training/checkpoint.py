"""Training checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_sam.core.errors import CheckpointError, ConfigError

__all__ = ["MovingAverage", "load_checkpoint", "refuse_other_run", "save_checkpoint"]


class MovingAverage:
    """Exponential moving average of a model's weights and buffers.

    Parameters
    ----------
    model : torch.nn.Module
        The model to follow.
    decay : float
        Weight of the past; smaller during the first steps, so that the start is forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards ``model`` after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            average = self.state[name]
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``, tensors and plain values only, so that ``path`` is always whole."""
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code.

    Raises
    ------
    CheckpointError
        If the file is damaged or not a training checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"The training checkpoint {path} cannot be read ({error})",
            rule="A checkpoint is a file that `napari-sam train` or `distill` wrote",
            cure="Remove it to start the run again from the beginning",
        ) from error
    if not isinstance(state, dict) or "iteration" not in state:
        raise CheckpointError(
            f"{path} is not a training checkpoint",
            rule="A checkpoint is a file that `napari-sam train` or `distill` wrote",
            cure="Remove it, or choose another output folder",
        )
    return state


def refuse_other_run(
    folder: Path,
    before: Mapping[str, Any],
    options: Mapping[str, Any],
    may_change: Collection[str],
) -> None:
    """Refuse to go on with a run in a folder that began with other options.

    Raises
    ------
    ConfigError
        If an option differs that may not change.
    """
    changed = sorted(
        name
        for name, value in options.items()
        if name not in may_change and before.get(name) != value
    )
    if changed:
        raise ConfigError(
            f"{folder} holds a run with other values of {', '.join(changed)}",
            rule="A run goes on with the options that it began with",
            cure="Restore these options, or choose another output folder",
        )
