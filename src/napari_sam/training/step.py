"""One training step: rounds of simulated prompts through the prompt encoder and mask decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam.model.layers import ImageFeatures
from napari_sam.model.mask_decoder import ALL_MASKS
from napari_sam.model.sam import Sam
from napari_sam.training.batches import Batch
from napari_sam.training.config import TrainConfig
from napari_sam.training.crop_frame import CropEncoder, CropFrame
from napari_sam.training.losses import instance_loss, iou_targets, mask_loss
from napari_sam.training.prompts import draw_box, draw_click, draw_correction

__all__ = ["StepLosses", "training_losses"]

IOU_WEIGHT = 2.0
"""Weight of the squared error on predicted IoU."""

SINGLE_MASK_WEIGHT = 0.5
"""Weight of the single-mask token's loss on a first click, where the multimask output leads."""


class StepLosses(NamedTuple):
    """Losses of a step: ``total`` to descend, and parts as figures for the log."""

    total: Tensor
    mask: float
    iou: float
    proposals: float
    train_iou: float


class _Prompted(NamedTuple):
    """The prompts of N objects so far: clicks, and boxes for those that have one."""

    points: list[list[tuple[float, float]]]
    labels: list[list[int]]
    boxes: list[tuple[float, float, float, float] | None]

    def of(self, indices: NDArray[np.int64]) -> _Prompted:
        """Keep the prompts of some objects."""
        kept = indices.tolist()
        return _Prompted(
            [self.points[index] for index in kept],
            [self.labels[index] for index in kept],
            [self.boxes[index] for index in kept],
        )


def training_losses(
    model: Sam,
    batch: Batch,
    config: TrainConfig,
    rng: np.random.Generator,
    encoder: CropEncoder | None = None,
) -> StepLosses:
    """Sum up the losses of prompted masks and of the instance maps.

    Parameters
    ----------
    model : Sam
        The model.
    batch : Batch
        Crops and the objects to prompt for.
    config : TrainConfig
        Weights and chances.
    rng : numpy.random.Generator
        Draws the prompts.
    encoder : CropEncoder, optional
        Encodes the crops; one that is trained along unless given.

    Returns
    -------
    StepLosses
    """
    encoder = encoder or CropEncoder(model, config.crop_size, is_frozen=False)
    features = encoder(batch.images, batch.pool_numbers)
    sums = _Sums(features.embedding.new_zeros(()), features.embedding.new_zeros(()))
    quality = 0.0
    if config.train_parts != "head":
        quality = _prompt_losses(sums, model, encoder.frame, features, batch, config, rng)
    count = max(sums.count, 1)
    total = (sums.mask + IOU_WEIGHT * sums.iou) / count
    proposals = torch.zeros_like(total)
    if model.instance_head is not None and config.proposal_weight > 0:
        maps = model.instance_head(features)
        target = torch.from_numpy(batch.maps).to(model.device)
        size = maps.foreground.shape[-2:]
        proposals = instance_loss(maps, nn.functional.adaptive_avg_pool2d(target, size))
        total = total + config.proposal_weight * proposals
    return StepLosses(
        total,
        float(sums.mask.detach()) / count,
        float(sums.iou.detach()) / count,
        float(proposals.detach()),
        quality,
    )


def _prompt_losses(
    sums: _Sums,
    model: Sam,
    frame: CropFrame,
    features: ImageFeatures,
    batch: Batch,
    config: TrainConfig,
    rng: np.random.Generator,
) -> float:
    """Prompt each object for one or more rounds; returns the mean IoU of the first.

    The first round is a click (loss: minimum over the three masks) or a box (single-mask token);
    later rounds give the last logits as mask prompt and add a click into the largest error, or
    now and then nothing. Each object draws its own number of rounds, so that few go through many.
    """
    decode = _Decoder(model, features, frame.scale, _draw_origin(model, config.crop_size, rng))
    target = frame.shrink(batch.masks)
    prompted = _first_prompts(batch, config, rng)
    rounds_left = _draw_rounds(batch, config, rng)
    members = np.arange(len(batch.masks))
    previous: Tensor | None = None
    number, quality = 0, 0.0
    while members.size:
        own = target[members]
        is_object = ~torch.from_numpy(batch.background[members]).to(own.device)
        logits, predicted_iou = decode(batch.image_index[members], prompted, previous)
        losses = mask_loss(logits, own)  # (N, 4)
        actual_iou = iou_targets(logits, own)
        chosen, best = _combine(losses, prompted, number)
        sums.add(chosen * is_object, (predicted_iou - actual_iou).square().mean(1))
        if number == 0:
            reached = actual_iou.gather(1, best[:, None])[:, 0]
            quality = float((reached * is_object).sum() / is_object.sum().clamp(min=1))
        number += 1
        goes_on = np.flatnonzero(rounds_left[members] > number)
        members = members[goes_on]
        if members.size:
            kept = torch.from_numpy(goes_on).to(own.device)
            logits, best = logits[kept].detach(), best[kept]
            previous = logits.gather(1, best[:, None, None, None].expand(-1, 1, *logits.shape[2:]))
            prompted = _correct(prompted.of(goes_on), batch.masks[members], previous, config, rng)
    return quality


@dataclass
class _Sums:
    """Losses summed up over objects and rounds, and how many of them there were."""

    mask: Tensor
    iou: Tensor
    count: int = 0

    def add(self, mask: Tensor, iou: Tensor) -> None:
        self.mask = self.mask + mask.sum()
        self.iou = self.iou + iou.sum()
        self.count += len(mask)


def _draw_rounds(batch: Batch, config: TrainConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw how many rounds each object goes through; a click on background is one."""
    rounds = rng.geometric(1 - config.extra_round_probability, len(batch.masks))
    return np.where(batch.background, 1, np.minimum(rounds, config.max_rounds))


def _each_image(features: ImageFeatures) -> list[ImageFeatures]:
    """Take a batch of features apart, without copies."""
    skips = [skip.unbind() for skip in features.skips]
    return [
        ImageFeatures(embedding[None], tuple(skip[index][None] for skip in skips))
        for index, embedding in enumerate(features.embedding.unbind())
    ]


def _combine(losses: Tensor, prompted: _Prompted, number: int) -> tuple[Tensor, Tensor]:
    """Loss of each object and the mask to go on with, from the losses (N, 4) of its masks."""
    ambiguous = torch.tensor(
        [number == 0 and box is None for box in prompted.boxes], device=losses.device
    )
    least, index = losses[:, 1:].min(dim=1)
    single = losses[:, 0]
    loss = torch.where(ambiguous, least + SINGLE_MASK_WEIGHT * single, single)
    return loss, torch.where(ambiguous, index + 1, torch.zeros_like(index))


class _Decoder:
    """Decodes all four masks of objects in a batch of encoded crops."""

    def __init__(
        self, model: Sam, features: ImageFeatures, scale: float, origin: tuple[float, float]
    ) -> None:
        self._model = model
        self._features = features
        self._images = _each_image(features)
        self._scale = scale
        self._origin = origin

    def __call__(
        self, image_index: NDArray[np.int64], prompted: _Prompted, previous: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, 4, h, w) and predicted IoU (N, 4); like prompts go in a call of their own."""
        kinds = [
            (box is not None, len(points))
            for box, points in zip(prompted.boxes, prompted.points, strict=True)
        ]
        logits: list[Tensor] = []
        predicted: list[Tensor] = []
        order: list[int] = []
        for kind in sorted(set(kinds)):
            members = np.array([index for index, own in enumerate(kinds) if own == kind])
            order.extend(members.tolist())
            drawn, scores = self._decode(
                image_index[members], prompted.of(members), previous, members
            )
            logits.extend(drawn)
            predicted.append(scores)
        back = torch.from_numpy(np.argsort(order)).to(predicted[0].device)
        return torch.cat(logits).float()[back], torch.cat(predicted).float()[back]

    def _decode(
        self,
        image_index: NDArray[np.int64],
        prompted: _Prompted,
        previous: Tensor | None,
        members: NDArray[np.int64],
    ) -> tuple[list[Tensor], Tensor]:
        device = self._features.embedding.device
        index = torch.from_numpy(image_index).to(device)
        embedding = self._features.embedding.index_select(0, index)
        mask = None if previous is None else previous[torch.from_numpy(members).to(device)]
        grid = (embedding.shape[-2], embedding.shape[-1])
        encoder, decoder = self._model.prompt_encoder, self._model.mask_decoder
        points, boxes = _as_tensors(prompted, self._scale, device)
        prompts = encoder(points, boxes, mask, grid, self._origin)
        image_pe = encoder.dense_pe(grid, self._origin)
        decoded = decoder.decode_tokens(ImageFeatures(embedding), image_pe, prompts, ALL_MASKS)
        drawn = []
        for row, image in enumerate(image_index.tolist()):  # finer maps are large: none is copied
            own = self._images[image], prompts.of_prompt(row), decoded.of_prompt(row)
            drawn.append(decoder.draw_masks(*own, ALL_MASKS))
        return drawn, decoded.predicted_iou


def _as_tensors(
    prompted: _Prompted, scale: float, device: torch.device
) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None]:
    """Stack the clicks and boxes of objects with like prompts; None where they have none."""
    points = boxes = None
    if prompted.points[0]:
        coords = torch.tensor(prompted.points, device=device) * scale
        points = coords, torch.tensor(prompted.labels, device=device).float()
    if prompted.boxes[0] is not None:
        boxes = torch.tensor(prompted.boxes, device=device) * scale
    return points, boxes


def _first_prompts(batch: Batch, config: TrainConfig, rng: np.random.Generator) -> _Prompted:
    """Draw a click or a box for each object, and a click for each background."""
    prompted = _Prompted([], [], [])
    for mask, ground, is_background in zip(
        batch.masks, batch.background_masks, batch.background, strict=True
    ):
        if not is_background and rng.random() < config.box_fraction:
            has_click = rng.random() < config.box_click_fraction
            prompted.points.append([draw_click(mask, rng)] if has_click else [])
            prompted.labels.append([1] if has_click else [])
            prompted.boxes.append(draw_box(mask, rng))
            continue
        prompted.points.append([draw_click(ground if is_background else mask, rng)])
        prompted.labels.append([1])
        prompted.boxes.append(None)
    return prompted


def _correct(
    prompted: _Prompted,
    truth: NDArray[np.bool_],
    previous: Tensor,
    config: TrainConfig,
    rng: np.random.Generator,
) -> _Prompted:
    """Add a click into the largest error of each object's mask, or leave all to the mask prompt."""
    size = truth.shape[-1]
    masks = nn.functional.interpolate(previous, size=(size, size), mode="bilinear") > 0
    corrected = _Prompted([], [], [])
    for index, prediction in enumerate(masks[:, 0].cpu().numpy()):
        points, labels = prompted.points[index], prompted.labels[index]
        box = prompted.boxes[index]
        chance = rng.random()
        if chance < config.mask_only_fraction / 2:
            points, labels, box = [], [], None  # the mask alone, as when labels are refined
        elif chance >= config.mask_only_fraction:
            click, label = draw_correction(truth[index], prediction, rng)
            points, labels = [*points, click], [*labels, label]
        corrected.points.append(points)
        corrected.labels.append(labels)
        corrected.boxes.append(box)
    return corrected


def _draw_origin(model: Sam, crop_size: int, rng: np.random.Generator) -> tuple[float, float]:
    """Put the crop anywhere in the frame of the positional encoding, where it does not fill it."""
    if not model.input_spec.native_resolution:
        return 0.0, 0.0
    room = max(model.input_spec.size - crop_size, 0)
    return float(rng.uniform(0, room)), float(rng.uniform(0, room))
