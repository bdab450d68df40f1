"""Size and place of the labels of an image, and of labels that lie in several parts of a slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEASURE", "measure_labels", "merge_measures"]

MEASURE = np.dtype(
    [("number", np.int64), ("area", np.int64), ("box", np.int64, (4,)), ("sum_yx", np.int64, (2,))]
)
"""Of one label: its number, its pixels, its box as (top, left, bottom, right) with the last two not
included, and the sums of the rows and columns of its pixels. All of it adds up over parts."""

Measures = NDArray[Any]


def measure_labels(
    labels: NDArray[np.integer], count: int, corner_yx: tuple[int, ...] = (0, 0)
) -> Measures:
    """Measure the labels 1 to `count` of an image.

    Parameters
    ----------
    labels : ndarray of int, shape (H, W)
    count : int
        No label is larger.
    corner_yx : tuple of int
        Row and column of the image's first pixel.

    Returns
    -------
    ndarray of MEASURE
        Of the labels that have pixels, by label, which is their number.
    """
    top, left = corner_yx
    flat = labels.ravel()
    places = np.flatnonzero(flat)
    values = flat[places]
    rows, columns = np.divmod(places, labels.shape[1])
    area = np.bincount(values, minlength=count + 1)[1:]
    # sums of whole numbers below 2**53 are exact as floats
    sum_y = np.bincount(values, weights=rows, minlength=count + 1)[1:]
    sum_x = np.bincount(values, weights=columns, minlength=count + 1)[1:]
    found = np.flatnonzero(area)
    measures = np.zeros(len(found), dtype=MEASURE)
    measures["number"] = found + 1
    measures["area"] = area[found]
    measures["sum_yx"][:, 0] = sum_y[found].astype(np.int64) + top * area[found]
    measures["sum_yx"][:, 1] = sum_x[found].astype(np.int64) + left * area[found]
    from scipy import ndimage

    boxes = ndimage.find_objects(labels, max_label=count)
    for row, label in enumerate(found.tolist()):
        y, x = boxes[label]
        measures["box"][row] = y.start + top, x.start + left, y.stop + top, x.stop + left
    return measures


def merge_measures(measures: Measures) -> Measures:
    """Add up what was measured of the same labels in different parts.

    Parameters
    ----------
    measures : ndarray of MEASURE
        In any order.

    Returns
    -------
    ndarray of MEASURE
        One for each number, by number.
    """
    ordered = measures[np.argsort(measures["number"], kind="stable")]
    numbers, starts = np.unique(ordered["number"], return_index=True)
    merged = np.zeros(len(numbers), dtype=MEASURE)
    if not len(numbers):
        return merged
    merged["number"] = numbers
    merged["area"] = np.add.reduceat(ordered["area"], starts)
    merged["sum_yx"] = np.add.reduceat(ordered["sum_yx"], starts, axis=0)
    merged["box"][:, :2] = np.minimum.reduceat(ordered["box"][:, :2], starts, axis=0)
    merged["box"][:, 2:] = np.maximum.reduceat(ordered["box"][:, 2:], starts, axis=0)
    return merged
