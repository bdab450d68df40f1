"""Which masks to keep: non-maximum suppression, crop edges, small islands and holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.masks.packed import PackedMask
from napari_sam.masks.scores import box_iou, boxes_meet

__all__ = [
    "CROP_EDGE_TOLERANCE",
    "is_box_near_crop_edge",
    "mask_nms",
    "nms",
    "remove_small_regions",
    "remove_small_regions_packed",
]

CROP_EDGE_TOLERANCE = 20.0
"""Pixels within which a box counts as touching an edge, as in the original."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.int8)

_NMS_BLOCK = 64
"""Boxes that are compared with all others at once."""


def nms(
    boxes_xyxy: NDArray[np.floating | np.integer],
    scores: NDArray[np.floating],
    iou_threshold: float,
) -> NDArray[np.int64]:
    """Keep the best of boxes that overlap: greedy non-maximum suppression.

    Parameters
    ----------
    boxes_xyxy : ndarray, shape (N, 4)
        Boxes as (x0, y0, x1, y1).
    scores : ndarray, shape (N,)
        Greater is better. Of equal scores the earlier box wins.
    iou_threshold : float
        A box goes when its intersection over union with a kept one is greater than this.

    Returns
    -------
    ndarray of int64
        Indices of the kept boxes, best first.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float32).reshape(-1, 4)
    remaining = np.argsort(-np.asarray(scores), kind="stable")
    kept: list[int] = []
    while remaining.size:
        block = remaining[:_NMS_BLOCK]
        # in double precision, so that the threshold itself is not rounded
        overlaps = box_iou(boxes[block], boxes[remaining]).astype(np.float64)
        rivals = overlaps > iou_threshold
        alive = np.ones(len(remaining), dtype=np.bool_)
        for row in range(len(block)):
            if alive[row]:
                kept.append(int(block[row]))
                alive &= ~rivals[row]
        alive[: len(block)] = False
        remaining = remaining[alive]
    return np.array(kept, dtype=np.int64)


def mask_nms(
    masks: Sequence[PackedMask], scores: NDArray[np.floating], iou_threshold: float
) -> NDArray[np.int64]:
    """Keep the best of masks that overlap, by their pixels instead of their boxes.

    Parameters
    ----------
    masks : sequence of PackedMask
    scores : ndarray, shape (N,)
        Greater is better. Of equal scores the earlier mask wins.
    iou_threshold : float
        A mask goes when its intersection over union with a kept one is greater than this.

    Returns
    -------
    ndarray of int64
        Indices of the kept masks, best first.
    """
    boxes = np.array([mask.box_xyxy for mask in masks], dtype=np.int64).reshape(-1, 4)
    kept: list[int] = []
    for index in np.argsort(-np.asarray(scores), kind="stable").tolist():
        near = np.flatnonzero(boxes_meet(boxes[index], boxes[kept]))
        if all(_iou(masks[index], masks[kept[i]]) <= iou_threshold for i in near):
            kept.append(index)
    return np.array(kept, dtype=np.int64)


def is_box_near_crop_edge(
    boxes_xyxy: NDArray[np.floating | np.integer],
    crop_xyxy: tuple[int, int, int, int],
    image_xyxy: tuple[int, int, int, int],
    tolerance: float = CROP_EDGE_TOLERANCE,
) -> NDArray[np.bool_]:
    """Tell which boxes touch an edge of their crop that is not an edge of the image.

    Parameters
    ----------
    boxes_xyxy : ndarray, shape (N, 4)
        Boxes as (x0, y0, x1, y1) in the image's frame.
    crop_xyxy, image_xyxy : tuple of int
        The crop and the whole image, as (x0, y0, x1, y1).
    tolerance : float
        Pixels within which a side counts as touching.

    Returns
    -------
    ndarray of bool, shape (N,)
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float32).reshape(-1, 4)
    near_crop = np.abs(boxes - np.asarray(crop_xyxy, dtype=np.float32)) <= tolerance
    near_image = np.abs(boxes - np.asarray(image_xyxy, dtype=np.float32)) <= tolerance
    touching: NDArray[np.bool_] = np.any(near_crop & ~near_image, axis=1)
    return touching


def remove_small_regions(
    mask: NDArray[np.bool_], min_area: int, mode: Literal["holes", "islands"]
) -> tuple[NDArray[np.bool_], bool]:
    """Fill small holes of a mask, or remove its small islands.

    Regions are connected over edges and corners (8-connectivity). When all islands are small, the
    largest stays.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
    min_area : int
        Regions with fewer pixels go.
    mode : {"holes", "islands"}

    Returns
    -------
    mask : ndarray of bool, shape (H, W)
        The input itself when nothing changed.
    changed : bool
    """
    regions, n_regions = ndimage.label(~mask if mode == "holes" else mask, _EIGHT_NEIGHBOURS)
    sizes = np.bincount(regions.ravel(), minlength=n_regions + 1)
    small = sizes < min_area
    small[0] = False  # not a region: the mask itself, or the background
    if not small.any():
        return mask, False
    if mode == "holes":
        return mask | small[regions], True
    keep = ~small
    keep[0] = False
    if not keep.any():
        keep[1 + int(np.argmax(sizes[1:]))] = True
    return keep[regions], True


def remove_small_regions_packed(
    mask: PackedMask, min_area: int, shape_yx: tuple[int, int]
) -> tuple[PackedMask, bool]:
    """Fill the small holes of a packed mask, then remove its small islands.

    Gives what :func:`remove_small_regions` gives on the whole frame, but looks only at the mask's
    rectangle and one pixel around it, as what lies beyond is background.

    Parameters
    ----------
    mask : PackedMask
    min_area : int
        Regions with fewer pixels go.
    shape_yx : tuple of int
        Shape of the frame.

    Returns
    -------
    mask : PackedMask
        The input itself when nothing changed.
    changed : bool
    """
    pixels, origin = _with_rim(mask, shape_yx)
    filled = _fill_inner_holes(pixels, _outside(mask, shape_yx), min_area)
    if filled is None:
        pixels, origin = mask.to_array(shape_yx), (0, 0)
        filled = remove_small_regions(pixels, min_area, "holes")
    pixels, was_filled = filled
    pixels, was_trimmed = remove_small_regions(pixels, min_area, "islands")
    if not (was_filled or was_trimmed):
        return mask, False
    return PackedMask.from_array(pixels, origin), True


def _with_rim(
    mask: PackedMask, shape_yx: tuple[int, int]
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Add one pixel of background around a mask, where the frame has it; and return its origin."""
    rows, cols = mask.slices
    before = int(rows.start > 0), int(cols.start > 0)
    after = int(rows.stop < shape_yx[0]), int(cols.stop < shape_yx[1])
    pixels = np.pad(mask.crop(), tuple(zip(before, after, strict=True)))
    return pixels, (rows.start - before[0], cols.start - before[1])


def _outside(mask: PackedMask, shape_yx: tuple[int, int]) -> list[tuple[tuple[int, int], int]]:
    """List the connected parts of the frame beyond the rim: a pixel of their rim, and the area.

    The rim connects them all, unless the mask reaches from one border to the opposite one.
    """
    rows, cols = mask.slices
    n_rows, n_cols = shape_yx
    top, left = rows.start > 0, cols.start > 0
    bottom, right = rows.stop < n_rows, cols.stop < n_cols
    above, below = max(rows.start - 1, 0), max(n_rows - rows.stop - 1, 0)
    before, after = max(cols.start - 1, 0), max(n_cols - cols.stop - 1, 0)
    if (top or bottom) and (left or right):
        inside = (n_rows - above - below) * (n_cols - before - after)
        return [((0 if top else -1, 0), n_rows * n_cols - inside)]
    parts = (
        (top, (0, 0), above * n_cols),
        (bottom, (-1, 0), below * n_cols),
        (left, (0, 0), before * n_rows),
        (right, (0, -1), after * n_rows),
    )
    return [(corner, area) for has_rim, corner, area in parts if has_rim]


def _fill_inner_holes(
    pixels: NDArray[np.bool_], outside: list[tuple[tuple[int, int], int]], min_area: int
) -> tuple[NDArray[np.bool_], bool] | None:
    """Fill the small holes of a mask with its rim; None where one goes on beyond the rim."""
    regions, n_regions = ndimage.label(~pixels, _EIGHT_NEIGHBOURS)
    sizes = np.bincount(regions.ravel(), minlength=n_regions + 1)
    for corner, area in outside:
        sizes[regions[corner]] += area
    small = sizes < min_area
    small[0] = False  # not a region: the mask itself
    if any(small[regions[corner]] for corner, _ in outside):
        return None
    return (pixels | small[regions], True) if small.any() else (pixels, False)


def _iou(a: PackedMask, b: PackedMask) -> float:
    shared = a.intersection(b)
    return shared / (a.area + b.area - shared) if shared else 0.0
