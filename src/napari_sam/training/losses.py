"""Losses on masks, predicted IoU and instance maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sam.model.instance_head import InstanceMaps

__all__ = ["instance_loss", "iou_targets", "mask_loss"]

FOCAL_WEIGHT = 20.0
"""Weight of the focal cross entropy beside dice."""

RING_WIDTH = 9
"""Side of the square that widens an object to its ring, in low-res cells."""


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Twenty parts of focal cross entropy, averaged apart over object, ring and rest, to one dice.

    An average over all pixels would drown small cells: the model learns "nothing". So the object,
    the ring around it and (half) the rest weigh the same whatever their sizes. The focal weight
    is (1 - p)^2, with p the probability of the truth (Lin et al. 2017, gamma 2); dice is that of
    Milletari et al. 2016; their ratio is that of Kirillov et al. 2023, appendix A.

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
    focal = entropy * (probability - truth).square()
    balanced = (focal * _pixel_weights(target)[:, None]).sum((2, 3))
    overlap = (probability * truth).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum((2, 3)) + truth.sum((2, 3)) + 1)
    return FOCAL_WEIGHT * balanced + dice


@torch.no_grad()
def _pixel_weights(target: Tensor) -> Tensor:
    """Weights of pixels (N, h, w), which sum up to one for each object."""
    inside = (target > 0.5).float()
    reach = RING_WIDTH // 2
    wide = nn.functional.max_pool2d(inside[:, None], (1, RING_WIDTH), 1, (0, reach))
    wide = nn.functional.max_pool2d(wide, (RING_WIDTH, 1), 1, (reach, 0))[:, 0]
    weights = torch.zeros_like(inside)
    for region, share in ((inside, 0.4), (wide - inside, 0.4), (1 - wide, 0.2)):
        weights += share * region / (region.sum((1, 2), keepdim=True) + 1)
    return weights


def iou_targets(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of each thresholded mask (N, M, h, w) with the truth (N, h, w), as (N, M)."""
    predicted = logits > 0
    truth = (target > 0.5)[:, None]
    union = (predicted | truth).sum((2, 3))
    return (predicted & truth).sum((2, 3)) / union.clamp(min=1)


def instance_loss(maps: InstanceMaps, target: Tensor) -> Tensor:
    """Cross entropy plus dice on each map.

    Parameters
    ----------
    maps : InstanceMaps
        Logits, each (B, h, w).
    target : Tensor
        (B, 3, h, w) as :func:`~napari_sam.training.targets.instance_targets` computes them.
    """
    stacked = torch.stack(list(maps), dim=1)
    entropy = nn.functional.binary_cross_entropy_with_logits(stacked, target)
    probability = stacked.sigmoid()
    overlap = (probability * target).sum((0, 2, 3))
    squares = probability.square().sum((0, 2, 3)) + target.square().sum((0, 2, 3))
    dice = 1 - (2 * overlap + 1) / (squares + 1)  # (3,)
    return 3 * entropy + dice.mean()
