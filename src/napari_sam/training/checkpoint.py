"""Training checkpoints: what a run needs to go on as if it had never stopped, and its best."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_sam.core.errors import CheckpointError, ConfigError

__all__ = [
    "BestAverage",
    "MovingAverage",
    "load_checkpoint",
    "refuse_other_run",
    "save_checkpoint",
]


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


class BestAverage:
    """The averaged weights of the best validation so far, in a file of their own.

    Parameters
    ----------
    path : Path
        The file; it is read where there is one, for the run goes on.

    Attributes
    ----------
    iteration : int
        Steps before this validation; 0 before the first.
    score : float
        Its score; negative before the first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.iteration, self.score = 0, -1.0
        if path.exists():
            state = load_checkpoint(path)
            self.iteration, self.score = int(state["iteration"]), float(state["score"])

    def offer(self, score: float, state: dict[str, Any]) -> bool:
        """Keep ``state`` if its score is the best, and tell whether it is."""
        if not score > self.score:
            return False
        save_checkpoint(self.path, state | {"score": score})
        self.iteration, self.score = int(state["iteration"]), score
        return True


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
    state: Mapping[str, Any],
    options: Mapping[str, Any],
    may_change: Collection[str],
) -> None:
    """Refuse to go on with a run in a folder that began with other options.

    Parameters
    ----------
    folder : Path
        Where the run is.
    state : mapping
        Its checkpoint, with its options as JSON under ``config``.
    options : mapping
        The options that it shall go on with.
    may_change : collection of str
        Which of them may differ; ``iterations`` may besides, until the learning rate falls.

    Raises
    ------
    ConfigError
        If an option differs that may not change.
    """
    before = json.loads(state["config"])
    is_rate_high = int(state["iteration"]) <= before["decay_from"] * before["iterations"]
    allowed = {*may_change, "iterations"} if is_rate_high else set(may_change)
    changed = sorted(
        name for name, value in options.items() if name not in allowed and before.get(name) != value
    )
    if changed:
        raise ConfigError(
            f"{folder} holds a run with other values of {', '.join(changed)}",
            rule="A run goes on with the options that it began with",
            cure="Restore these options, or choose another output folder",
        )
