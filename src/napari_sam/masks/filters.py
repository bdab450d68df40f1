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
        best, remaining = remaining[0], remaining[1:]
        kept.append(int(best))
        # in double precision, so that the threshold itself is not rounded
        overlaps = box_iou(boxes[best][None], boxes[remaining])[0].astype(np.float64)
        remaining = remaining[overlaps <= iou_threshold]
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

    Gives what :func:`remove_small_regions` gives on the whole frame, but looks at the whole frame
    only where the mask reaches its border.

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
    rows, cols = mask.slices
    inner = (
        mask.area > 0
        and min(rows.start, cols.start) > 0
        and rows.stop < shape_yx[0]
        and cols.stop < shape_yx[1]
        # the background around the mask is one region, and must not count as a hole
        and shape_yx[0] * shape_yx[1] - mask.shape_yx[0] * mask.shape_yx[1] >= min_area
    )
    if inner:  # one pixel of background around it stands for the rest of the frame
        pixels, origin = np.pad(mask.crop(), 1), (rows.start - 1, cols.start - 1)
        pixels, filled = _fill_inner_holes(pixels, min_area)
    else:
        pixels, origin = mask.to_array(shape_yx), (0, 0)
        pixels, filled = remove_small_regions(pixels, min_area, "holes")
    pixels, trimmed = remove_small_regions(pixels, min_area, "islands")
    if not (filled or trimmed):
        return mask, False
    return PackedMask.from_array(pixels, origin), True


def _fill_inner_holes(framed: NDArray[np.bool_], min_area: int) -> tuple[NDArray[np.bool_], bool]:
    """Fill small holes, the background region that holds the first corner apart."""
    regions, n_regions = ndimage.label(~framed, _EIGHT_NEIGHBOURS)
    small = np.bincount(regions.ravel(), minlength=n_regions + 1) < min_area
    small[0] = small[regions[0, 0]] = False
    return (framed | small[regions], True) if small.any() else (framed, False)


def _iou(a: PackedMask, b: PackedMask) -> float:
    shared = a.intersection(b)
    return shared / (a.area + b.area - shared) if shared else 0.0
