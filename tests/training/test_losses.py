"""Losses fall where masks get better, and small objects weigh as much as large ones."""

from __future__ import annotations

import torch

from napari_sam.model.instance_head import InstanceMaps
from napari_sam.training.losses import instance_loss, iou_targets, mask_loss


def _square(side: int) -> torch.Tensor:
    target = torch.zeros(1, 64, 64)
    target[:, 20 : 20 + side, 20 : 20 + side] = 1
    return target


def test_a_better_mask_has_a_lower_loss() -> None:
    target = _square(12)
    right, nothing = 12 * target - 6, torch.full((1, 64, 64), -6.0)
    all_pixels = -nothing
    losses = mask_loss(torch.stack([right, nothing, all_pixels], dim=1), target)[0]
    assert losses[0] < 0.1
    assert losses[1] > 2
    assert losses[2] > 2


def test_missing_a_small_object_costs_as_much_as_missing_a_large_one() -> None:
    nothing = torch.full((1, 1, 64, 64), -6.0)
    small, large = mask_loss(nothing, _square(5)), mask_loss(nothing, _square(30))
    assert abs(float(small - large)) < 0.2 * float(large)


def test_iou_targets() -> None:
    target = _square(10)
    half = target.clone()
    half[:, 20:25] = 0
    logits = torch.stack([2 * target - 1, 2 * half - 1, -torch.ones_like(target)], dim=1)
    assert iou_targets(logits, target).tolist() == [[1.0, 0.5, 0.0]]


def test_instance_loss_is_least_at_the_truth() -> None:
    target = torch.zeros(1, 3, 16, 16)
    target[:, :, 4:9, 4:9] = 1
    right = InstanceMaps(*(12 * target - 6).unbind(1))
    wrong = InstanceMaps(*(6 - 12 * target).unbind(1))
    assert instance_loss(right, target) < 0.1
    assert instance_loss(wrong, target) > 5
