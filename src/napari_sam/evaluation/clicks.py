"""Simulated clicks: where a person would click, given the truth and the mask so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.core.region import Box, Region

__all__ = ["bounding_box_xyxy", "corrective_click", "deepest_point", "random_points"]

Mask = NDArray[np.bool_]


def deepest_point(mask: Mask) -> tuple[int, int]:
    """Return the (x, y) pixel of a mask (H, W) that lies farthest from its edge.

    The image's border counts as an edge. An empty mask gives (0, 0).
    """
    region = Region.around(mask)
    if region.is_empty:
        return 0, 0
    top, left = region.start
    window = np.pad(mask[region.slices], 1)
    depth = ndimage.distance_transform_edt(window)
    row, col = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(col + left - 1), int(row + top - 1)


def corrective_click(truth: Mask, prediction: Mask) -> tuple[tuple[int, int], int] | None:
    """Click the centre of the largest connected error.

    Parameters
    ----------
    truth, prediction : ndarray of bool
        (H, W).

    Returns
    -------
    tuple or None
        The (x, y) pixel and the label: 1 where the truth was missed, 0 where too much was taken.
        None if there is no error.
    """
    candidates = []
    for label, error in ((1, truth & ~prediction), (0, prediction & ~truth)):
        components, count = ndimage.label(error)
        if count:
            sizes = np.bincount(components.ravel())[1:]
            largest = int(sizes.argmax())
            candidates.append((int(sizes[largest]), label, components == largest + 1))
    if not candidates:
        return None
    _, label, component = max(candidates, key=lambda candidate: candidate[:2])
    return deepest_point(component), label


def bounding_box_xyxy(mask: Mask) -> tuple[int, int, int, int]:
    """Return the first and last column and row of a mask (H, W) as (x0, y0, x1, y1).

    The right and lower edges are the last pixels plus one. An empty mask gives zeros.
    """
    return Box.from_region(Region.around(mask)).xyxy


def random_points(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Draw a pixel of each mask (N, H, W) as (N, 1, 2); the same for the same masks."""
    rng = np.random.default_rng(0)
    pixels = [np.argwhere(mask) for mask in masks]
    return np.array([[rows[rng.integers(len(rows))][::-1]] for rows in pixels], dtype=float)
