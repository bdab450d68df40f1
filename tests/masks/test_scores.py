"""Scores and boxes of masks against their definitions."""

import numpy as np
import torch
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from napari_sam.masks import (
    PackedMask,
    batched_mask_to_box,
    box_iou,
    mask_iou,
    mask_to_box,
    stability_score,
)

MASKS = arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=8))


def test_stability_is_the_overlap_of_a_stricter_and_a_laxer_mask() -> None:
    logits = torch.tensor([[[2.0, 0.5, -0.5, -2.0]], [[2.0, 2.0, -2.0, -2.0]]])
    np.testing.assert_allclose(stability_score(logits, 0.0, 1.0), [1 / 3, 1.0])
    np.testing.assert_allclose(stability_score(logits, 1.0, 0.25), [1.0, 1.0])


def test_stability_of_nothing_is_not_a_number() -> None:
    assert torch.isnan(stability_score(torch.full((1, 2, 2), -5.0), 0.0, 1.0)).all()


@given(MASKS)
def test_boxes_hold_the_first_and_last_pixels(masks: np.ndarray) -> None:
    batched = batched_mask_to_box(torch.from_numpy(masks)).tolist()
    for mask, box in zip(masks, batched, strict=True):
        ys, xs = np.nonzero(mask)
        expected = [xs.min(), ys.min(), xs.max(), ys.max()] if ys.size else [0, 0, 0, 0]
        assert list(mask_to_box(mask)) == box == expected


@given(MASKS)
def test_mask_iou_is_intersection_over_union(masks: np.ndarray) -> None:
    iou = mask_iou(masks, masks[:2])
    for i, a in enumerate(masks):
        for j, b in enumerate(masks[:2]):
            union = (a | b).sum()
            assert iou[i, j] == ((a & b).sum() / union if union else 0.0)


def test_box_iou_by_hand() -> None:
    boxes = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [10, 10, 10, 12]])
    expected = [[1.0, 1 / 3, 0.0], [1 / 3, 1.0, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(box_iou(boxes, boxes), expected, rtol=1e-6)


@given(MASKS)
def test_packed_masks_unfold_to_what_they_were(masks: np.ndarray) -> None:
    packed = [PackedMask.from_array(mask) for mask in masks]
    for mask, pack in zip(masks, packed, strict=True):
        np.testing.assert_array_equal(pack.to_array(mask.shape), mask)
        assert pack.box_xyxy == mask_to_box(mask)
        assert pack.area == mask.sum()
        assert pack.intersection(packed[0]) == (mask & masks[0]).sum()
    moved = PackedMask.from_array(masks[0], (2, 3)).to_array((20, 20))
    np.testing.assert_array_equal(moved[2 : 2 + masks.shape[1], 3 : 3 + masks.shape[2]], masks[0])
    assert moved.sum() == masks[0].sum()
