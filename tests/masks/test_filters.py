"""Filters against brute force on the whole frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import label

from napari_sam.masks import (
    PackedMask,
    box_iou,
    is_box_near_crop_edge,
    mask_iou,
    mask_nms,
    nms,
    remove_small_regions,
    remove_small_regions_packed,
)

MASK = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
BOX = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 12)] * 2).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)


def brute_force_nms(iou: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if not any(iou[i, j] > threshold for j in kept):
            kept.append(i)
    return kept


@given(st.lists(st.tuples(BOX, st.integers(0, 5)), max_size=25), st.floats(0, 1))
def test_box_nms_is_greedy(items: list[tuple[tuple[int, ...], int]], threshold: float) -> None:
    boxes = np.array([box for box, _ in items], dtype=np.int64).reshape(-1, 4)
    scores = np.array([score for _, score in items], dtype=np.float32)
    iou = box_iou(boxes, boxes).astype(np.float64)
    assert nms(boxes, scores, threshold).tolist() == brute_force_nms(iou, scores, threshold)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9, 1.0])
def test_box_nms_is_greedy_for_more_boxes_than_are_compared_at_once(threshold: float) -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 60, (400, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 20, (400, 2))], axis=1)
    scores = rng.integers(0, 50, 400).astype(np.float32)
    iou = box_iou(boxes, boxes).astype(np.float64)
    kept = nms(boxes, scores, threshold).tolist()
    assert kept == brute_force_nms(iou, scores, threshold)
    assert (len(kept) > 64) == (threshold > 0)


@given(
    arrays(bool, st.tuples(st.integers(1, 8), st.just(4), st.just(4))),
    st.floats(0, 1),
    st.randoms(use_true_random=False),
)
def test_mask_nms_is_greedy(masks: np.ndarray, threshold: float, random: object) -> None:
    scores = np.array([random.randint(0, 3) for _ in masks], dtype=np.float64)
    packed = [PackedMask.from_array(mask) for mask in masks]
    expected = brute_force_nms(mask_iou(masks, masks), scores, threshold)
    assert mask_nms(packed, scores, threshold).tolist() == expected


def test_a_box_goes_only_above_the_threshold() -> None:
    boxes = np.array([[0, 0, 10, 1], [0, 0, 5, 1]])  # overlap exactly 0.5
    scores = np.array([0.9, 0.8])
    assert nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, 0.49).tolist() == [0]


def test_boxes_at_a_crop_edge_are_told_from_those_at_the_image_edge() -> None:
    crop, image = (100, 0, 200, 100), (0, 0, 300, 300)
    boxes = np.array(
        [
            [140, 40, 160, 60],  # inside
            [115, 40, 160, 60],  # near the crop's left edge
            [140, 5, 160, 60],  # near its top edge, which is the image's too
            [140, 40, 160, 80],  # 20 pixels from its bottom edge: still near
            [140, 40, 160, 79],
        ]
    )
    near = is_box_near_crop_edge(boxes, crop, image)
    assert near.tolist() == [False, True, False, True, False]


def small_regions_of(mask: np.ndarray, min_area: int) -> np.ndarray:
    regions = label(mask, connectivity=2)
    sizes = np.bincount(regions.ravel())
    return (regions > 0) & (sizes < min_area)[regions]


@given(MASK, st.integers(1, 12))
def test_small_holes_are_filled(mask: np.ndarray, min_area: int) -> None:
    filled, changed = remove_small_regions(mask, min_area, "holes")
    expected = mask | small_regions_of(~mask, min_area)
    np.testing.assert_array_equal(filled, expected)
    assert changed == (expected != mask).any()


@given(MASK, st.integers(1, 12))
def test_small_islands_go_but_the_largest_stays(mask: np.ndarray, min_area: int) -> None:
    cleaned, changed = remove_small_regions(mask, min_area, "islands")
    small = small_regions_of(mask, min_area)
    if mask.any() and (small == mask).all():
        regions = label(cleaned, connectivity=2)
        assert regions.max() == 1
        largest = np.bincount(label(mask, connectivity=2).ravel())[1:].max()
        assert cleaned.sum() == largest
        assert changed
    else:
        np.testing.assert_array_equal(cleaned, mask & ~small)
        assert changed == small.any()


@settings(max_examples=200)
@given(MASK, st.tuples(*[st.integers(0, 2)] * 4), st.integers(1, 20))
def test_packed_masks_are_cleaned_as_in_the_whole_frame(
    mask: np.ndarray, pad: tuple[int, int, int, int], min_area: int
) -> None:
    frame = np.pad(mask, (pad[:2], pad[2:]))
    expected, filled = remove_small_regions(frame, min_area, "holes")
    expected, trimmed = remove_small_regions(expected, min_area, "islands")
    cleaned, changed = remove_small_regions_packed(
        PackedMask.from_array(frame), min_area, frame.shape
    )
    np.testing.assert_array_equal(cleaned.to_array(frame.shape), expected)
    assert changed == (filled or trimmed)


@pytest.mark.parametrize("mode", ["holes", "islands"])
def test_diagonal_neighbours_are_one_region(mode: str) -> None:
    two_regions = np.zeros((9, 9), dtype=bool)
    two_regions[np.arange(4), np.arange(4)] = True  # four pixels, touching at corners
    two_regions[6:9, 6:9] = True
    mask = two_regions if mode == "islands" else ~two_regions
    assert not remove_small_regions(mask, 4, mode)[1]
    cleaned, changed = remove_small_regions(mask, 5, mode)
    assert changed
    assert (cleaned ^ mask).sum() == 4
