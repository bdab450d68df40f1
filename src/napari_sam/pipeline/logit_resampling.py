"""Masks at the resolution of the plane from logits on a coarser grid. Numpy only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.region import Region

__all__ = ["mask_above"]

_PIXELS_PER_BLOCK = 2**20


def mask_above(
    logits: NDArray[np.float32],
    threshold: float,
    cells_per_pixel_yx: tuple[float, float],
    size_yx: tuple[int, int],
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Resample logits bilinearly to pixels, and cut where they are above a threshold.

    A mean of two logits is above a threshold only where one of them is, so that only pixels near
    such logits are looked at.

    Parameters
    ----------
    logits : ndarray of float32, shape (n, m)
        Logits of cells; the first cell starts where the first pixel does.
    threshold : float
        Pixels with logits above it belong to the mask.
    cells_per_pixel_yx : tuple of float
        Cells along a side of one pixel.
    size_yx : tuple of int
        Rows and columns of pixels.

    Returns
    -------
    tuple
        The mask of a rectangle, bool (h, w), and the rectangle's first row and column. No pixel
        outside of it is above the threshold.
    """
    hit = Region.around(logits > threshold)
    if hit.is_empty:
        return np.zeros((0, 0), np.bool_), (0, 0)
    rows, cols = (
        _pixels_near(start, stop - 1, per_pixel, length)
        for start, stop, per_pixel, length in zip(
            hit.start, hit.stop, cells_per_pixel_yx, size_yx, strict=True
        )
    )
    mask = np.empty((len(rows), len(cols)), np.bool_)
    block = max(_PIXELS_PER_BLOCK // max(len(cols), 1), 1)
    for start in range(0, len(rows), block):
        part = _resample(logits, rows[start : start + block], cells_per_pixel_yx[0])
        across = _resample(part.T, cols, cells_per_pixel_yx[1]).T
        np.greater(across, threshold, out=mask[start : start + block])
    return mask, (rows.start, cols.start)


def _pixels_near(first: int, last: int, per_pixel: float, length: int) -> range:
    """Pixels that depend on any of the cells from first to last."""
    start = math.floor((first - 0.5) / per_pixel - 0.5)
    stop = math.ceil((last + 1.5) / per_pixel - 0.5) + 1
    start = min(max(start, 0), length)
    return range(start, max(min(stop, length), start))


def _resample(values: NDArray[np.float32], pixels: range, per_pixel: float) -> NDArray[np.float32]:
    """Interpolate along the first axis; beyond the centres of the outer cells, these hold."""
    centres = (np.arange(pixels.start, pixels.stop) + 0.5) * per_pixel - 0.5
    centres = np.clip(centres, 0, len(values) - 1)
    lower = centres.astype(np.intp)
    upper = np.minimum(lower + 1, len(values) - 1)
    weight = (centres - lower).astype(np.float32)[:, None]
    resampled: NDArray[np.float32] = values[lower] * (1 - weight) + values[upper] * weight
    return resampled
