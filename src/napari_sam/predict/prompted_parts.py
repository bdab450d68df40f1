"""The part of a mask that its prompts mean, and whether the decode window cuts it off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.predict.windows import Window

__all__ = ["cells_of_points", "is_cut_off", "prompted_parts"]


def prompted_parts(
    inside: NDArray[np.bool_], cells_yx: Sequence[tuple[int, int]]
) -> list[tuple[slice, slice]]:
    """Find the connected parts of a mask that prompts mean.

    They are those under positive points, or else the largest one: a model also draws scraps
    elsewhere, and these do not make an object larger.

    Parameters
    ----------
    inside : ndarray of bool, shape (hl, wl)
        The mask in low-res cells.
    cells_yx : sequence of tuple of int
        Row and column of the cells under the positive points.

    Returns
    -------
    list of tuple of slice
        Rows and columns of the smallest rectangle around each part; none for an empty mask.
    """
    parts, count = ndimage.label(inside)
    if count == 0:
        return []
    meant = {int(parts[cell]) for cell in cells_yx} - {0}
    if not meant:
        meant = {int(np.bincount(parts.ravel())[1:].argmax()) + 1}
    boxes = ndimage.find_objects(parts)
    return [boxes[part - 1] for part in sorted(meant)]


def cells_of_points(
    points_xy: NDArray[np.float64], window: Window, stride: int
) -> list[tuple[int, int]]:
    """Find the low-res cells of a window under points.

    Parameters
    ----------
    points_xy : ndarray of float64, shape (K, 2)
        Points as (x, y) in the input frame.
    window : Window
        Where the low-res logits lie.
    stride : int
        Input pixels per low-res cell.

    Returns
    -------
    list of tuple of int
        Row and column; the nearest cell of the window for a point beyond it.
    """
    cells = np.floor((points_xy + 0.5 - window.offset_xy) / stride).astype(int)
    last = np.array([window.width, window.height]) // stride - 1
    return [(int(row), int(col)) for col, row in np.clip(cells, 0, last)]


def is_cut_off(
    inside: NDArray[np.bool_],
    cells_yx: Sequence[tuple[int, int]],
    window: Window,
    image_size_yx: tuple[int, int],
) -> bool:
    """Tell whether what prompts mean reaches an edge of a window that is not the image's border.

    Parameters
    ----------
    inside : ndarray of bool, shape (M, hl, wl)
        Masks of one object in the low-res cells of the window.
    cells_yx : sequence of tuple of int
        Row and column of the cells under the positive points.
    window : Window
        Where they were decoded.
    image_size_yx : tuple of int
        Rows and columns of the image in the input frame, without padding.

    Returns
    -------
    bool
        Whether any of the masks is cut off; scraps away from the prompts do not count.
    """
    edges = np.zeros(inside.shape[1:], np.bool_)
    edges[0] |= window.y > 0
    edges[-1] |= window.y + window.height < image_size_yx[0]
    edges[:, 0] |= window.x > 0
    edges[:, -1] |= window.x + window.width < image_size_yx[1]
    return any(
        edges[part].any()
        for mask in inside
        if (mask & edges).any()
        for part in prompted_parts(mask, cells_yx)
    )
