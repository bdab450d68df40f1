"""A quick check during training: one click and one box on fixed crops of the validation split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam.evaluation.clicks import bounding_box_xyxy, deepest_point
from napari_sam.model.sam import Sam
from napari_sam.training.augment import TrainingImage, take_crop
from napari_sam.training.crop_frame import CropFrame
from napari_sam.training.losses import iou_targets

__all__ = [
    "GroupScores",
    "ValidationCrop",
    "draw_validation_crops",
    "overall_score",
    "validate",
]


@dataclass(frozen=True)
class ValidationCrop:
    """A crop (S, S, 3) of uint8 with the true masks (N, S, S) to ask for."""

    group: str
    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]


@dataclass(frozen=True)
class GroupScores:
    """Mean IoU over the objects of a group.

    Attributes
    ----------
    click : float
        One click, the mask of the highest predicted IoU.
    click_best : float
        One click, the best of the three masks.
    click_single : float
        One click, the single mask.
    box : float
        One box.
    """

    click: float
    click_best: float
    click_single: float
    box: float


def draw_validation_crops(
    images: list[TrainingImage], size: int, objects_per_group: int, seed: int = 0
) -> list[ValidationCrop]:
    """Draw crops until each group has its number of objects, at most six a crop."""
    rng = np.random.default_rng(seed)
    groups: dict[str, list[TrainingImage]] = {}
    for image in images:
        groups.setdefault(image.group, []).append(image)
    crops = []
    for group in sorted(groups):
        wanted = objects_per_group
        for attempt in range(4 * objects_per_group):
            source = groups[group][attempt % len(groups[group])]
            crop = take_crop(source, size, rng)
            areas = np.bincount(crop.labels.ravel())
            ids = np.flatnonzero(areas >= 30)
            ids = rng.permutation(ids[ids > 0])[: min(6, wanted)]
            if ids.size:
                crops.append(ValidationCrop(group, crop.image, crop.labels == ids[:, None, None]))
                wanted -= ids.size
            if wanted == 0:
                break
    return crops


@torch.no_grad()
def validate(model: Sam, crops: list[ValidationCrop]) -> dict[str, GroupScores]:
    """Score a model in evaluation mode on the crops, by group."""
    rows: dict[str, list[NDArray[np.float64]]] = {}
    for crop in crops:
        rows.setdefault(crop.group, []).append(_score_crop(model, crop))
    return {
        group: GroupScores(*np.concatenate(parts).mean(axis=0).tolist())
        for group, parts in rows.items()
    }


def overall_score(scores: dict[str, GroupScores]) -> float:
    """Mean over the groups of the mean of ``click`` and ``box``, by which weights are chosen."""
    return float(np.mean([(score.click + score.box) / 2 for score in scores.values()]))


def _score_crop(model: Sam, crop: ValidationCrop) -> NDArray[np.float64]:
    """IoU of click, best of three, single mask and box for each object, (N, 4)."""
    device = model.device
    frame = CropFrame(model, crop.image.shape[0])
    features = model.encode(frame.pixels(crop.image[None]))
    truth = torch.from_numpy(crop.masks).to(device)
    clicks = torch.tensor([[deepest_point(mask)] for mask in crop.masks], dtype=torch.float32)
    boxes = torch.tensor([bounding_box_xyxy(mask) for mask in crop.masks], dtype=torch.float32)
    clicks, boxes = clicks * frame.scale, boxes * frame.scale
    points = (clicks.to(device), torch.ones(len(clicks), 1, device=device))
    logits, predicted = model.decode(features, points=points, multimask=True)
    three = _iou(logits, truth)
    chosen = three.gather(1, predicted.argmax(dim=1, keepdim=True))[:, 0]
    single = _iou(model.decode(features, points=points, multimask=False)[0], truth)[:, 0]
    box = _iou(model.decode(features, boxes=boxes.to(device), multimask=False)[0], truth)[:, 0]
    scores = torch.stack([chosen, three.amax(dim=1), single, box], dim=1)
    return scores.double().cpu().numpy()


def _iou(logits: Tensor, truth: Tensor) -> Tensor:
    """IoU (N, M) of low-res logits (N, M, h, w) with true masks (N, S, S)."""
    size = (truth.shape[-2], truth.shape[-1])
    return iou_targets(nn.functional.interpolate(logits, size=size, mode="bilinear"), truth.float())
