"""Distillation: a student's image encoder learns the embeddings of a frozen teacher.

Zhang et al. 2023 (MobileSAM, arXiv:2306.14289) minimise the squared error on the image embedding
alone. The mask loss that may be added is that of Zhou et al. 2023 (EdgeSAM, arXiv:2312.06660): the
teacher's own masks are the truth.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_sam.core.errors import ConfigError
from napari_sam.model import load_model, resolve_device
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.mask_decoder import ALL_MASKS
from napari_sam.model.sam import Sam
from napari_sam.training.checkpoint import (
    MovingAverage,
    load_checkpoint,
    refuse_other_run,
    save_checkpoint,
)
from napari_sam.training.distill_config import DistillConfig
from napari_sam.training.distill_data import (
    DistillBatch,
    DistillPrompts,
    DistillSource,
    frame_pixels,
    load_distill_images,
)
from napari_sam.training.log import StepLog
from napari_sam.training.loop import CHECKPOINT_NAME, Started, Stopped
from napari_sam.training.losses import mask_loss
from napari_sam.training.optimization import begin_step, descend, parameter_groups
from napari_sam.training.teacher import Teacher, build_student, join_to_teacher

__all__ = [
    "DistillEvent",
    "DistillLosses",
    "DistillStepDone",
    "TeacherEncoded",
    "decode_all_masks",
    "distill",
    "distillation_losses",
]

LOG_COLUMNS = ("loss", "embedding", "mask", "seconds")


@dataclass(frozen=True)
class TeacherEncoded:
    """The teacher's embedding of an image is at hand: ``done`` of ``total``."""

    done: int
    total: int


@dataclass(frozen=True)
class DistillStepDone:
    """One optimiser step was taken.

    Attributes
    ----------
    iteration : int
        Steps so far.
    loss : float
        What was descended.
    embedding_loss : float
        Mean squared error on the image embedding.
    mask_loss : float
        Mask loss without its weight; 0 where it is left out.
    seconds : float
        Time of the step.
    """

    iteration: int
    loss: float
    embedding_loss: float
    mask_loss: float
    seconds: float


DistillEvent = Started | TeacherEncoded | DistillStepDone | Stopped


class DistillLosses(NamedTuple):
    """Losses of a step: ``total`` to descend, and its parts."""

    total: Tensor
    embedding: Tensor
    mask: Tensor


def distill(config: DistillConfig) -> Iterator[DistillEvent]:
    """Train an image encoder to give the embeddings of a teacher.

    The teacher first encodes each image that the run will take, once. A checkpoint is written
    every ``checkpoint_every`` steps and when the generator is closed; the same call goes on from
    it. Images and prompts depend on the seed and the step alone.

    Parameters
    ----------
    config : DistillConfig
        What to train, after which teacher, on what, for how long.

    Yields
    ------
    Started, TeacherEncoded, DistillStepDone or Stopped

    Raises
    ------
    InputError
        If the data cannot be used.
    CheckpointError
        If weights are missing or damaged.
    ConfigError
        If the student's embedding is unlike the teacher's, or the output folder holds another run.
    """
    run = _Run(config)
    yield Started(run.iteration, config.iterations, len(run.source.images), str(run.device))
    if not run.finished:
        yield from run.encode_images()
        try:
            yield from run.steps()
        finally:
            run.save()
    yield Stopped(run.iteration, run.checkpoint_path, run.checkpoint_path, run.iteration)


def distillation_losses(
    student: Sam,
    batch: DistillBatch,
    target: ImageFeatures,
    config: DistillConfig,
) -> DistillLosses:
    """Compare a student with its teacher on a batch.

    Parameters
    ----------
    student : Sam
        The student's image encoder before the teacher's other parts.
    batch : DistillBatch
        Images, and prompts for the mask loss.
    target : ImageFeatures
        The teacher's features of these images, (B, C, h, w).
    config : DistillConfig
        The weight of the mask loss.

    Returns
    -------
    DistillLosses
        The squared error is averaged over the embedding; of the compact model's finer maps, which
        its mask decoder reads too, the errors are added. The mask loss is the mean over all masks
        of all prompts; the truth are the teacher's masks of the same prompts.
    """
    pixels = frame_pixels(batch.images, student)
    features = student.encode(pixels, torch.bfloat16 if config.autocast else None)
    pairs = zip(
        (features.embedding, *features.skips), (target.embedding, *target.skips), strict=True
    )
    embedding = torch.stack([nn.functional.mse_loss(own, true) for own, true in pairs]).sum()
    mask = embedding.new_zeros(())
    prompted = [(i, prompts) for i, prompts in enumerate(batch.prompts) if prompts is not None]
    if config.mask_weight > 0 and prompted:
        losses = [
            _mask_loss(student, features.of_prompt(index), target.of_prompt(index), prompts)
            for index, prompts in prompted
        ]
        mask = torch.stack(losses).mean()
    return DistillLosses(embedding + config.mask_weight * mask, embedding, mask)


def decode_all_masks(sam: Sam, features: ImageFeatures, prompts: DistillPrompts) -> Tensor:
    """Decode the single mask and the three of multimask output, (N, 4, hl, wl), of one image."""
    clicks, boxes = (
        None if values is None else torch.from_numpy(values).to(sam.device) for values in prompts
    )
    points = None if clicks is None else (clicks, torch.ones_like(clicks[..., 0]))
    grid = (features.embedding.shape[-2], features.embedding.shape[-1])
    embedded = sam.prompt_encoder(points, boxes, None, grid)
    image_pe = sam.prompt_encoder.dense_pe(grid)
    logits: Tensor = sam.mask_decoder(features, image_pe, embedded, ALL_MASKS)[0]
    return logits


def _mask_loss(
    student: Sam, features: ImageFeatures, target: ImageFeatures, prompts: DistillPrompts
) -> Tensor:
    """Mean loss of the masks of one image's prompts; the teacher's decoder is the student's."""
    with torch.no_grad():
        truth = decode_all_masks(student, target, prompts).flatten(0, 1) > 0  # (N * 4, hl, wl)
    logits = decode_all_masks(student, features, prompts).flatten(0, 1)
    return mask_loss(logits[:, None], truth.float()).mean()


class _Run:
    """State of one distillation."""

    def __init__(self, config: DistillConfig) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        self.device = resolve_device(config.device)
        teacher = load_model(config.teacher, device=self.device)
        self.model = join_to_teacher(build_student(config.student), teacher)
        self.encoder = self.model.image_encoder
        images = load_distill_images(
            Path(config.data), teacher.input_spec, with_labels=config.mask_weight > 0
        )
        self.source = DistillSource(images, config)
        self.folder = Path(config.output)
        self.checkpoint_path = self.folder / CHECKPOINT_NAME
        self.teacher = Teacher(teacher, Path(config.embeddings or self.folder / "teacher"))
        self.options = {**dataclasses.asdict(config), "teacher_digest": teacher.digest}
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.encoder, config.weight_decay), lr=config.learning_rate
        )
        self.average = MovingAverage(self.model, config.ema_decay)
        self.log = StepLog(self.folder, LOG_COLUMNS)
        self.iteration = 0
        self._resume()
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def finished(self) -> bool:
        return self.iteration >= self.config.iterations

    def encode_images(self) -> Iterator[DistillEvent]:
        """Let the teacher encode what the steps to come will take."""
        steps = range(self.iteration, self.config.iterations)
        needed = sorted({index for step in steps for index in self.source.indices(step)})
        for done, index in enumerate(needed, start=1):
            self.teacher.maps(self.source.images[index])
            yield TeacherEncoded(done, len(needed))

    def steps(self) -> Iterator[DistillEvent]:
        config = self.config
        with ThreadPoolExecutor(1) as pool:  # reads the next batch while this one is learnt
            upcoming = pool.submit(self._prepare, self.iteration)
            while not self.finished:
                started = time.perf_counter()
                batch, target = upcoming.result()
                if self.iteration + 1 < config.iterations:
                    upcoming = pool.submit(self._prepare, self.iteration + 1)
                losses = self._step(batch, target)
                self.iteration += 1
                seconds = time.perf_counter() - started
                total, embedding, mask = (float(value.detach()) for value in losses)
                self.log.add_row(self.iteration, [total, embedding, mask, seconds])
                if self.iteration % config.checkpoint_every == 0:
                    self.save()
                yield DistillStepDone(self.iteration, total, embedding, mask, seconds)

    def save(self) -> None:
        """Write the checkpoint."""
        state: dict[str, Any] = {
            "iteration": self.iteration,
            "config": json.dumps(self.options),
            "encoder": self.encoder.state_dict(),
            "average": self.average.state,
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.checkpoint_path, state)
        self.log.flush()

    def _prepare(self, step: int) -> tuple[DistillBatch, ImageFeatures]:
        batch = self.source.batch(step)
        return batch, self.teacher.batch(batch.images)

    def _step(self, batch: DistillBatch, target: ImageFeatures) -> DistillLosses:
        config = self.config
        begin_step(self.encoder, self.optimizer, self.iteration, config)
        losses = distillation_losses(self.model, batch, target, config)
        descend(losses.total, self.encoder, self.optimizer, self.iteration)
        self.average.update(self.model, self.iteration)
        return losses

    def _resume(self) -> None:
        if not self.checkpoint_path.exists():
            return
        state = load_checkpoint(self.checkpoint_path)
        if "teacher_digest" not in json.loads(state["config"]):
            raise ConfigError(
                f"{self.folder} holds a run of `napari-sam train`",
                rule="A distillation goes on with a distillation only",
                cure="Choose another output folder",
            )
        refuse_other_run(self.folder, state, self.options, _MAY_CHANGE)
        self.encoder.load_state_dict(state["encoder"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.state = {k: v.to(self.device) for k, v in state["average"].items()}
        self.iteration = int(state["iteration"])
        self.log.truncate(self.iteration)


# the teacher's digest tells whether it is the same, wherever its file is
_MAY_CHANGE = {"data", "output", "teacher", "embeddings", "device", "checkpoint_every"}
