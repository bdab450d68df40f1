"""Targets of the instance head, from label images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["instance_targets"]


def instance_targets(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Compute foreground, centre and boundary maps of a label image.

    Parameters
    ----------
    labels : ndarray of int32
        (H, W); 0 is background.

    Returns
    -------
    ndarray of float32
        (3, H, W), each 0 to 1: foreground; the distance to the object's edge as a fraction of the
        object's largest; boundary.
    """
    padded = np.pad(labels, 1, mode="edge")
    inner = padded[1:-1, 1:-1]
    boundary = np.zeros(labels.shape, dtype=bool)
    for row, col in ((0, 1), (2, 1), (1, 0), (1, 2)):
        shifted = padded[row : row + labels.shape[0], col : col + labels.shape[1]]
        boundary |= inner != shifted
    depth = ndimage.distance_transform_edt((labels > 0) & ~boundary)
    largest = ndimage.maximum(depth, labels, index=np.arange(labels.max() + 1))
    centre = depth / np.maximum(np.atleast_1d(largest)[labels], 1.0)
    maps = [labels > 0, np.where(labels > 0, centre, 0.0), boundary]
    return np.stack(maps).astype(np.float32)
