"""Numbers that describe masks: stability score, intersection over union, bounding box."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.region import Region

__all__ = [
    "batched_mask_to_box",
    "box_iou",
    "boxes_meet",
    "mask_iou",
    "mask_to_box",
    "stability_score",
]


def stability_score(logits: Tensor, mask_threshold: float, offset: float) -> Tensor:
    """Tell how little a mask changes when its threshold moves.

    The intersection over union of the masks at ``mask_threshold + offset`` and
    ``mask_threshold - offset`` (Kirillov et al. 2023, section 5, "Cleaning").

    Parameters
    ----------
    logits : Tensor, shape (..., H, W)
        Mask logits at image resolution.
    mask_threshold, offset : float
        Threshold of the mask, and how far it moves both ways.

    Returns
    -------
    Tensor of float32, shape (...)
        0 to 1. NaN where even the larger mask is empty, as 0 / 0 in the original.
    """
    intersections = torch.count_nonzero(logits > mask_threshold + offset, dim=(-2, -1))
    unions = torch.count_nonzero(logits > mask_threshold - offset, dim=(-2, -1))
    return intersections.to(torch.float32) / unions.to(torch.float32)


def mask_iou(masks_a: NDArray[np.bool_], masks_b: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union of each mask of one set with each of another.

    Parameters
    ----------
    masks_a : ndarray of bool, shape (N, H, W)
    masks_b : ndarray of bool, shape (M, H, W)

    Returns
    -------
    ndarray of float64, shape (N, M)
        0 where both masks are empty.
    """
    flat_a = masks_a.reshape(len(masks_a), -1).astype(np.float32)
    flat_b = masks_b.reshape(len(masks_b), -1).astype(np.float32)
    intersections = (flat_a @ flat_b.T).astype(np.float64)
    areas_a = masks_a.reshape(len(masks_a), -1).sum(axis=1, dtype=np.int64)
    areas_b = masks_b.reshape(len(masks_b), -1).sum(axis=1, dtype=np.int64)
    unions = areas_a[:, None] + areas_b[None, :] - intersections
    iou = np.zeros_like(intersections)
    np.divide(intersections, unions, out=iou, where=unions > 0)
    return iou


def mask_to_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Find the first and last column and row of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)

    Returns
    -------
    tuple of int
        (x0, y0, x1, y1), ends included; zeros for an empty mask, as in the original.
    """
    region = Region.around(mask)
    if region.is_empty:
        return 0, 0, 0, 0
    (top, left), (bottom, right) = region.start, region.stop
    return left, top, right - 1, bottom - 1


def batched_mask_to_box(masks: Tensor) -> Tensor:
    """Find the boxes of many masks at once.

    Parameters
    ----------
    masks : Tensor of bool, shape (N, H, W)

    Returns
    -------
    Tensor of int64, shape (N, 4)
        (x0, y0, x1, y1), ends included; zeros for an empty mask.
    """
    rows, cols = masks.any(dim=2), masks.any(dim=1)  # (N, H), (N, W)
    x0, x1 = _first_and_last(cols)
    y0, y1 = _first_and_last(rows)
    return torch.stack([x0, y0, x1, y1], dim=1) * rows.any(dim=1, keepdim=True)


def box_iou(
    boxes_a: NDArray[np.floating | np.integer], boxes_b: NDArray[np.floating | np.integer]
) -> NDArray[np.float32]:
    """Intersection over union of each box of one set with each of another.

    Parameters
    ----------
    boxes_a : ndarray, shape (N, 4)
        Boxes as (x0, y0, x1, y1).
    boxes_b : ndarray, shape (M, 4)

    Returns
    -------
    ndarray of float32, shape (N, M)
        0 where both boxes have no area. Single precision, as the original computes it.
    """
    a = np.asarray(boxes_a, dtype=np.float32)[:, None]
    b = np.asarray(boxes_b, dtype=np.float32)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    np.maximum(sides, 0, out=sides)
    intersections: NDArray[np.float32] = sides[..., 0] * sides[..., 1]
    unions = _box_area(a) + _box_area(b) - intersections
    iou = np.zeros_like(intersections)
    np.divide(intersections, unions, out=iou, where=unions > 0)
    return iou


def boxes_meet(box_xyxy: NDArray[np.integer], boxes_xyxy: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Tell which boxes share a pixel with one box.

    Parameters
    ----------
    box_xyxy : ndarray of int, shape (4,)
        A box as (x0, y0, x1, y1), ends included.
    boxes_xyxy : ndarray of int, shape (N, 4)

    Returns
    -------
    ndarray of bool, shape (N,)
    """
    starts_before = (boxes_xyxy[:, :2] <= box_xyxy[2:]).all(axis=1)
    ends_after = (boxes_xyxy[:, 2:] >= box_xyxy[:2]).all(axis=1)
    return np.logical_and(starts_before, ends_after)


def _box_area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return area


def _first_and_last(present: Tensor) -> tuple[Tensor, Tensor]:
    """First and last true index along the last axis of (N, L), each (N,)."""
    marks = present.to(torch.uint8)
    first = marks.argmax(dim=1)
    return first, present.shape[1] - 1 - marks.flip(1).argmax(dim=1)
