"""Simulated prompts for training: clicks and boxes with human inaccuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.evaluation.clicks import bounding_box_xyxy

__all__ = ["draw_box", "draw_click", "draw_correction"]

Mask = NDArray[np.bool_]
CENTRAL_FRACTION = 0.7


def draw_click(mask: Mask, rng: np.random.Generator) -> tuple[float, float]:
    """Click into a mask (H, W): mostly in its inner half, else anywhere; as (x, y)."""
    x0, y0, x1, y1 = bounding_box_xyxy(mask)
    window = mask[y0:y1, x0:x1]
    if rng.random() < CENTRAL_FRACTION:
        depth = ndimage.distance_transform_edt(np.pad(window, 1))[1:-1, 1:-1]
        window = depth >= 0.5 * depth.max()
    rows, cols = np.nonzero(window)
    index = int(rng.integers(len(rows)))
    return float(cols[index] + x0), float(rows[index] + y0)


def draw_box(mask: Mask, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw the box around a mask (H, W), each side off by up to a tenth, as (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = bounding_box_xyxy(mask)
    reach = 0.1 * np.array([x1 - x0, y1 - y0, x1 - x0, y1 - y0]) * rng.random()
    box = np.array([x0, y0, x1, y1]) + rng.uniform(-1, 1, 4) * reach
    box[:2] = np.maximum(box[:2], 0)
    box[2:] = np.minimum(np.maximum(box[2:], box[:2] + 1), mask.shape[::-1])
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def draw_correction(
    truth: Mask, prediction: Mask, rng: np.random.Generator
) -> tuple[tuple[float, float], int]:
    """Click into the largest error, label 1 if it was missed, 0 if it was too much.

    Without an error the click confirms: somewhere in the truth, label 1.
    """
    components, count = ndimage.label(truth ^ prediction)
    if count == 0:
        if truth.any():
            return draw_click(truth, rng), 1
        return (float(rng.integers(truth.shape[1])), float(rng.integers(truth.shape[0]))), 0
    sizes = np.bincount(components.ravel())[1:]
    x, y = draw_click(components == int(sizes.argmax()) + 1, rng)
    return (x, y), int(truth[int(y), int(x)])
