"""Masks that follow the clicks they were made from: in at positive ones, out at negative ones.

The compact model leaves a quarter to a third of corrective clicks unfollowed, mostly those into a
thin rim. There, what the click asks for is drawn around it, up to a little beyond the nearest place
where the mask is right already, so that the two join: a click into the middle of a missing piece is
as far from the mask as from the end of the piece. On 29 training images of four kinds, with 8
objects of each, this raised the mean IoU after three clicks from .829 to .850 (axons), .866 to .876
(fluorescence), .802 to .824 (histology) and .783 to .788 (phase contrast), and as much after five.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["follow_clicks"]

BEYOND_NEAREST = 1.3
"""Radius that is drawn, in distances to where the mask is right already."""

FARTHEST = 16
"""Low-res cells from a click within which the mask is looked for."""

ALONE = 3.0
"""Radius that is drawn in low-res cells where the mask is right nowhere near."""

TO_CONTRARY = 0.7
"""What is drawn leaves out contrary clicks: it goes so far of the way to the nearest."""

LEAST = 1.3
"""The least radius in low-res cells: all cells that the click lies between change."""


def follow_clicks(
    logits: Tensor,
    threshold: float,
    cells_yx: NDArray[np.float64],
    is_positive: NDArray[np.bool_],
) -> Tensor:
    """Let the masks of one object follow its clicks, where they do not.

    Parameters
    ----------
    logits : Tensor, shape (M, hl, wl)
        Low-res logits; they stay as they are.
    threshold : float
        Logits above it are inside the mask.
    cells_yx : ndarray of float64, shape (K, 2)
        Clicks as (row, column), in low-res cells with the centre of the first at (0, 0). Those
        outside of the logits do not count.
    is_positive : ndarray of bool, shape (K,)
        Whether a click is into the object.

    Returns
    -------
    Tensor, shape (M, hl, wl)
        Masks of nothing stay so: no click says what the object is that was not found.
    """
    rows, cols = logits.shape[-2:]
    shown = ((cells_yx > -0.5) & (cells_yx < np.array([rows, cols]) - 0.5)).all(axis=1)
    cells_yx, is_positive = cells_yx[shown], is_positive[shown]
    values, is_copied = logits.cpu().numpy(), False
    for index in range(len(values)):
        for place, positive in zip(cells_yx, is_positive, strict=True):
            if _follows(values[index], threshold, place, positive):
                continue
            if not (values[index] > threshold).any():
                break
            if not is_copied:
                values, is_copied = values.copy(), True
            contrary = cells_yx[is_positive != positive]
            _draw(values[index], threshold, place, bool(positive), contrary)
    return torch.from_numpy(values).to(logits.device) if is_copied else logits


def _follows(
    logits: NDArray[np.float32], threshold: float, place: NDArray[np.float64], positive: bool
) -> bool:
    """Whether the mask, interpolated as for the image, is right at a click."""
    last = np.array(logits.shape) - 1
    (y, x), (last_y, last_x) = np.clip(place, 0, last).tolist(), last.tolist()
    top, left = int(y), int(x)
    bottom, right = min(top + 1, last_y), min(left + 1, last_x)
    down, along = y - top, x - left
    upper = (1 - along) * logits[top, left] + along * logits[top, right]
    lower = (1 - along) * logits[bottom, left] + along * logits[bottom, right]
    return bool(((1 - down) * upper + down * lower > threshold) == positive)


def _draw(
    logits: NDArray[np.float32],
    threshold: float,
    place: NDArray[np.float64],
    positive: bool,
    contrary: NDArray[np.float64],
) -> None:
    """Make a mask right around a click, in place: surely there, and less so farther away."""
    reach = int(np.ceil(BEYOND_NEAREST * FARTHEST))
    row, col = np.round(place).astype(int).tolist()
    near = (
        slice(max(row - reach, 0), row + reach + 1),
        slice(max(col - reach, 0), col + reach + 1),
    )
    rows, cols = np.ogrid[: logits.shape[0], : logits.shape[1]]
    squared = (rows[near[0]] - place[0]) ** 2 + (cols[:, near[1]] - place[1]) ** 2
    sign = np.float32(1 if positive else -1)
    rightness = sign * (logits[near] - np.float32(threshold))
    squares = squared[(rightness > 0) & (squared <= FARTHEST**2)]
    radius = BEYOND_NEAREST * float(np.sqrt(squares.min())) if squares.size else ALONE
    if len(contrary):
        nearest = float(np.sqrt(((contrary - place) ** 2).sum(axis=1).min()))
        radius = min(radius, TO_CONTRARY * nearest)
    wanted = (1 - squared / max(radius, LEAST) ** 2).astype(np.float32)
    raised = np.where(wanted > 0, np.maximum(rightness, wanted), rightness)
    logits[near] = np.float32(threshold) + sign * raised
