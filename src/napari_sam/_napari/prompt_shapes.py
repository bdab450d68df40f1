"""From shapes drawn in napari to prompts: boxes, filled masks, and points along scribbles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from napari_sam.core.prompts import BoxPrompt, MaskPrompt

__all__ = ["SCRIBBLES", "points_along", "shape_prompt"]

SCRIBBLES = ("path", "line")
"""Shapes that have no inside."""
ELLIPSE_CORNERS = 64
SCRIBBLE_STEP = 16.0
SCRIBBLE_POINTS = 8
LEAST_SIDE = 2.0
"""What is smaller, in pixels, was a slip of the mouse, or a polygon that is not finished."""
SQUARE_TOLERANCE = 1e-3
"""Pixels that the corners of a rectangle may be off the image's rows and columns."""


def shape_prompt(
    kind: str, vertices_xy: NDArray[np.float64], shape_yx: tuple[int, int]
) -> BoxPrompt | MaskPrompt | None:
    """Turn a drawn shape into a prompt.

    Parameters
    ----------
    kind : str
        ``rectangle``, ``ellipse`` or ``polygon``, as napari calls them.
    vertices_xy : ndarray, shape (N, 2)
        Corners in plane pixels; of an ellipse those of the rectangle around it.
    shape_yx : tuple of int
        Rows and columns of the plane.

    Returns
    -------
    BoxPrompt or MaskPrompt or None
        A rectangle along rows and columns is a box; any other shape is the mask of the pixels
        whose centres it holds. None when it covers nothing of the image, or is too small
        to be meant.
    """
    left, top = vertices_xy.min(axis=0)
    right, bottom = vertices_xy.max(axis=0)
    if min(right - left, bottom - top) < LEAST_SIDE or len(np.unique(vertices_xy, axis=0)) < 3:
        return None
    if kind == "rectangle" and _is_upright(vertices_xy):
        rows, cols = shape_yx
        box = max(left, -0.5), max(top, -0.5), min(right, cols - 0.5), min(bottom, rows - 0.5)
        return BoxPrompt(*map(float, box)) if box[0] < box[2] and box[1] < box[3] else None
    corners = _ellipse(vertices_xy) if kind == "ellipse" else vertices_xy
    return _filled(corners, shape_yx)


def points_along(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spread a few points evenly over a scribble.

    Parameters
    ----------
    vertices : ndarray, shape (N, D)
        The scribble's vertices, in any coordinates with one pixel as their unit.

    Returns
    -------
    ndarray, shape (M, D)
        One for about every 16 pixels, 2 to 8 of them, none at the very ends.
    """
    steps = np.linalg.norm(np.diff(vertices, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    count = int(np.clip(round(along[-1] / SCRIBBLE_STEP), 2, SCRIBBLE_POINTS))
    wanted = along[-1] * (np.arange(count) + 0.5) / count
    points = [np.interp(wanted, along, column) for column in vertices.T]
    return np.stack(points, axis=1)


def _is_upright(corners_xy: NDArray[np.float64]) -> bool:
    """Tell whether each corner of a rectangle has the left or right, and the top or bottom."""
    low, high = corners_xy.min(axis=0), corners_xy.max(axis=0)
    off = np.minimum(np.abs(corners_xy - low), np.abs(corners_xy - high))
    return bool(off.max() <= SQUARE_TOLERANCE)


def _ellipse(corners_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw the ellipse within a rectangle of any direction as a polygon."""
    centre = corners_xy.mean(axis=0)
    first, second = (corners_xy[1] - corners_xy[0]) / 2, (corners_xy[3] - corners_xy[0]) / 2
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)[:, np.newaxis]
    outline: NDArray[np.float64] = centre + np.cos(angle) * first + np.sin(angle) * second
    return outline


def _filled(corners_xy: NDArray[np.float64], shape_yx: tuple[int, int]) -> MaskPrompt | None:
    """Fill a polygon within its own rectangle of the plane."""
    low = np.maximum(np.floor(corners_xy.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(corners_xy.max(axis=0)) + 1, shape_yx[::-1]).astype(int)
    if (low >= high).any():
        return None
    (left, top), (cols, rows) = low.tolist(), (high - low).tolist()
    inside = polygon2mask((rows, cols), (corners_xy - low)[:, ::-1])
    return MaskPrompt.from_array(inside, (top, left)) if inside.any() else None
