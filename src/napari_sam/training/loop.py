"""The training loop: a generator of events, resumable at any moment."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sam.model import resolve_device
from napari_sam.model.sam import Sam
from napari_sam.training.batches import Batch, BatchSource, load_training_images
from napari_sam.training.checkpoint import (
    BestAverage,
    MovingAverage,
    load_checkpoint,
    refuse_other_run,
    save_checkpoint,
)
from napari_sam.training.config import TrainConfig
from napari_sam.training.crop_frame import CropEncoder
from napari_sam.training.log import TrainingLog
from napari_sam.training.optimization import begin_step, descend, parameter_groups
from napari_sam.training.start import build_start_model, freeze_parts
from napari_sam.training.step import StepLosses, training_losses
from napari_sam.training.validation import (
    GroupScores,
    ValidationCrop,
    draw_validation_crops,
    overall_score,
    validate,
)

__all__ = ["Started", "StepDone", "Stopped", "TrainEvent", "Validated", "train"]

CHECKPOINT_NAME = "checkpoint.pt"
BEST_NAME = "best.pt"


@dataclass(frozen=True)
class Started:
    """Training begins, or goes on, at ``iteration`` of ``iterations``."""

    iteration: int
    iterations: int
    images: int
    device: str


@dataclass(frozen=True)
class StepDone:
    """One optimiser step was taken."""

    iteration: int
    loss: float
    train_iou: float
    seconds: float


@dataclass(frozen=True)
class Validated:
    """The averaged weights were scored on the validation split: the best so far, or not."""

    iteration: int
    scores: dict[str, GroupScores]
    is_best: bool


@dataclass(frozen=True)
class Stopped:
    """The run is over.

    Attributes
    ----------
    iteration : int
        Steps taken.
    checkpoint : Path
        What a run goes on from.
    best : Path
        What to export: the averaged weights of the best validation, or the checkpoint where there
        was no validation.
    best_iteration : int
        Steps before the weights in ``best``.
    """

    iteration: int
    checkpoint: Path
    best: Path
    best_iteration: int


TrainEvent = Started | StepDone | Validated | Stopped


def train(config: TrainConfig) -> Iterator[TrainEvent]:
    """Train a model.

    A checkpoint is written every ``checkpoint_every`` steps and when the generator is closed; the
    same call goes on from it. Crops and prompts depend on the seed and the step alone. Beside it,
    the averaged weights of the best validation are kept: those of the highest mean over the groups
    of the mean of ``click`` and ``box``.

    Parameters
    ----------
    config : TrainConfig
        What to train, on what, for how long.

    Yields
    ------
    Started, StepDone, Validated or Stopped

    Raises
    ------
    InputError
        If the data cannot be used.
    ConfigError
        If the output folder holds another run.
    """
    run = _Run(config)
    yield Started(run.iteration, config.iterations, len(run.images), str(run.device))
    if run.finished:
        yield run.stopped()
        return
    try:
        yield from run.steps()
    finally:
        run.save()
    yield run.stopped()


class _Run:
    """State of one training run."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint_path = self.folder / CHECKPOINT_NAME
        torch.manual_seed(config.seed)
        self.device = resolve_device(config.device)
        self.model, self.start = self._begin()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        freeze_parts(self.model, config.train_parts)
        is_frozen = config.train_parts != "all"
        self.encoder = CropEncoder(self.model, config.crop_size, is_frozen=is_frozen)
        self.images = load_training_images(Path(config.data), "train", config.hold_out_every)
        self.source = BatchSource(self.images, config)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, config.weight_decay), lr=config.learning_rate
        )
        self.average = MovingAverage(self.model, config.ema_decay)
        self.log = TrainingLog(self.folder)
        self.iteration = 0
        self._resume()
        self.best = BestAverage(self.folder / BEST_NAME)
        self.validation = self._validation_crops()

    @property
    def finished(self) -> bool:
        return self.iteration >= self.config.iterations

    def steps(self) -> Iterator[TrainEvent]:
        config = self.config
        with ThreadPoolExecutor(1) as pool:  # draws the next batch while this one is learnt
            upcoming = pool.submit(self.source.batch, self.iteration)
            while not self.finished:
                started = time.perf_counter()
                batch = upcoming.result()
                upcoming = pool.submit(self.source.batch, self.iteration + 1)
                losses = self._step(batch)
                self.iteration += 1
                seconds = time.perf_counter() - started
                self.log.add_step(self.iteration, losses, seconds)
                if self.iteration % config.checkpoint_every == 0:
                    self.save()
                total = float(losses.total.detach())
                yield StepDone(self.iteration, total, losses.train_iou, seconds)
                if self.iteration % config.validate_every == 0 or self.finished:
                    yield self._validate()

    def save(self) -> None:
        """Write the checkpoint."""
        state = self._exportable() | {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.checkpoint_path, state)
        self.log.flush()

    def stopped(self) -> Stopped:
        """Say how far the run got, and which weights are its best."""
        if self.best.iteration:
            best = (self.best.path, self.best.iteration)
        else:
            best = (self.checkpoint_path, self.iteration)
        return Stopped(self.iteration, self.checkpoint_path, *best)

    def _exportable(self) -> dict[str, Any]:
        """Return what a model file is made from."""
        return {
            "iteration": self.iteration,
            "config": json.dumps(dataclasses.asdict(self.config)),
            "average": self.average.state,
            "exported": self._mixed(),
        }

    def _begin(self) -> tuple[Sam, dict[str, Tensor]]:
        """Build the model, and hold the weights that it starts from where they keep a share."""
        sam, weights = build_start_model(self.config.model)
        kept = weights if self.config.start_share else {}
        return sam.to(self.device), {name: value.to(self.device) for name, value in kept.items()}

    def _mixed(self) -> dict[str, Tensor]:
        """Return the averaged weights, mixed with those that the run started from."""
        mixed = dict(self.average.state)
        for name, value in self.start.items():
            if value.is_floating_point():
                mixed[name] = mixed[name].lerp(value, self.config.start_share)
        return mixed

    def _step(self, batch: Batch) -> StepLosses:
        config = self.config
        begin_step(self.model, self.optimizer, self.iteration, config)
        rng = np.random.default_rng([config.seed, self.iteration, 1])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.autocast):
            losses = training_losses(self.model, batch, config, rng, self.encoder)
        descend(losses.total, self.model, self.optimizer, self.iteration)
        self.average.update(self.model, self.iteration)
        return losses

    def _validate(self) -> Validated:
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self._mixed())
        scores = validate(self.model.eval(), self.validation)
        self.model.load_state_dict(own)
        is_best = bool(scores) and self.best.offer(overall_score(scores), self._exportable())
        self.log.add_validation(self.iteration, scores, self.best.iteration)
        return Validated(self.iteration, scores, is_best)

    def _validation_crops(self) -> list[ValidationCrop]:
        images = load_training_images(
            Path(self.config.data), "val", self.config.hold_out_every
        )  # none in a folder without a split
        return draw_validation_crops(images, self.config.crop_size, self.config.validation_objects)

    def _resume(self) -> None:
        if not self.checkpoint_path.exists():
            (self.folder / BEST_NAME).unlink(missing_ok=True)  # of a run that began anew
            return
        state = load_checkpoint(self.checkpoint_path)
        refuse_other_run(self.folder, state, dataclasses.asdict(self.config), _MAY_CHANGE)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.state = {k: v.to(self.device) for k, v in state["average"].items()}
        self.iteration = int(state["iteration"])
        self.log.truncate(self.iteration)


_MAY_CHANGE = {
    "data",
    "output",
    "device",
    "checkpoint_every",
    "validate_every",
    "validation_objects",
}
