"""Masks as low-res logits of a view: drawn ones, and those of another view."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.predict.frames import View
from napari_sam.predict.transforms import CERTAIN_LOGIT

__all__ = ["low_res_of_mask", "low_res_of_other_view"]


def low_res_of_mask(
    mask: NDArray[np.bool_], origin_yx: tuple[int, int], view: View
) -> NDArray[np.float32]:
    """Turn a drawn mask to low-res logits of a view, for use as a mask prompt.

    Each logit is ``CERTAIN_LOGIT * (2 * fraction - 1)``, where ``fraction`` is the part of the
    low-res cell that the mask covers, as in
    :meth:`~napari_sam.predict.transforms.ImageTransform.masks_to_low_res`.

    Parameters
    ----------
    mask : ndarray of bool, shape (h, w)
        A rectangle of the plane that holds all of the mask.
    origin_yx : tuple of int
        Its first row and column.
    view : View
        Where the prompt is decoded.

    Returns
    -------
    ndarray of float32, shape (hl, wl)
    """
    covered: NDArray[Any] = mask
    for axis in (0, 1):
        covered = _cell_means(covered, axis, view.cell_edges(axis) - origin_yx[axis])
    return (CERTAIN_LOGIT * (2.0 * covered - 1.0)).astype(np.float32)


def low_res_of_other_view(
    logits: NDArray[np.float32], source: View, target: View
) -> NDArray[np.float32]:
    """Carry low-res logits from one view to another, as means over the cells' areas.

    Parameters
    ----------
    logits : ndarray of float32, shape (hl, wl)
        Low-res logits in `source`.
    source, target : View
        Views of the same plane.

    Returns
    -------
    ndarray of float32
        Low-res logits in `target`; surely background where `source` did not look.
    """
    carried: NDArray[Any] = logits + CERTAIN_LOGIT
    for axis in (0, 1):
        in_pixels = target.cell_edges(axis) - source.region_yx.start[axis]
        # steps of a cell are exact in float64, unless a model resized the frame
        in_cells = in_pixels * source.cells_per_pixel_yx[axis]
        carried = _cell_means(carried, axis, in_cells)
    return (carried - CERTAIN_LOGIT).astype(np.float32)


def _cell_means(values: NDArray[Any], axis: int, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of piecewise constant values between following edges; around the values is 0.

    Value ``i`` holds from ``i`` to ``i + 1``.
    """
    moved = np.moveaxis(values, axis, 0)
    length = len(moved)
    inside = np.clip(edges, 0, length)
    whole = np.minimum(inside.astype(np.intp), max(length - 1, 0))
    first, last = int(whole[0]), int(whole[-1]) + 1
    sums = np.zeros((last - first + 1, moved.shape[1]))
    np.cumsum(moved[first:last], axis=0, dtype=np.float64, out=sums[1:])
    part = (inside - whole)[:, None]
    integral = sums[whole - first] + part * moved[whole]
    means = np.diff(integral, axis=0) / np.diff(edges)[:, None]
    return np.moveaxis(means, 0, axis)
