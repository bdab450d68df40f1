"""Losses on masks, predicted IoU and instance maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sam.model.instance_head import InstanceMaps

__all__ = ["instance_loss", "iou_targets", "mask_loss"]

RING_WIDTH = 9
"""Side of the square that widens an object to its ring, in low-res cells."""


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal cross entropy, averaged apart over object, ring and rest, plus dice.

    An average over all pixels would drown small cells: the model learns "nothing". So the object,
    the ring around it and (half) the rest weigh the same whatever their sizes. The focal weight
    is 1 - p, with p the probability of the truth (Lin et al. 2017, gamma 1); dice is that of
    Milletari et al. 2016.

    Parameters
    ----------
    logits : Tensor
        (N, M, h, w).
    target : Tensor
        (N, h, w), 0 to 1.

    Returns
    -------
    Tensor
        Loss of each mask, (N, M).
    """
    truth = target[:, None].expand_as(logits)
    probability = logits.sigmoid()
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    focal = entropy * (probability - truth).abs()
    region_object = (target > 0.5).float()[:, None]  # (N, 1, h, w)
    widened = nn.functional.max_pool2d(region_object, RING_WIDTH, 1, RING_WIDTH // 2)
    regions = ((region_object, 1.0), (widened - region_object, 1.0), (1 - widened, 0.5))
    balanced = sum(
        (weight * (focal * region).sum((2, 3)) / (region.sum((2, 3)) + 1.0))
        for region, weight in regions
    )
    overlap = (probability * truth).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum((2, 3)) + truth.sum((2, 3)) + 1)
    return 2.0 * balanced + dice


def iou_targets(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of each thresholded mask (N, M, h, w) with the truth (N, h, w), as (N, M)."""
    predicted = logits > 0
    truth = (target > 0.5)[:, None]
    union = (predicted | truth).sum((2, 3))
    return (predicted & truth).sum((2, 3)) / union.clamp(min=1)


def instance_loss(maps: InstanceMaps, target: Tensor) -> Tensor:
    """Cross entropy on each map plus dice on the foreground.

    Parameters
    ----------
    maps : InstanceMaps
        Logits, each (B, h, w).
    target : Tensor
        (B, 3, h, w) as :func:`~napari_sam.training.targets.instance_targets` computes them.
    """
    stacked = torch.stack(list(maps), dim=1)
    entropy = nn.functional.binary_cross_entropy_with_logits(stacked, target)
    probability = maps.foreground.sigmoid()
    overlap = (probability * target[:, 0]).sum()
    dice = 1 - (2 * overlap + 1) / (probability.sum() + target[:, 0].sum() + 1)
    return 3 * entropy + 0.5 * dice
