"""Training crops: a random place, scale, orientation and look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

__all__ = ["Crop", "TrainingImage", "change_look", "make_training_image", "take_crop"]

DIAMETER_RANGE = (7.0, 130.0)
"""Median object diameters, in pixels, that the scale jitter aims at."""

SCALE_RANGE = (0.45, 2.2)
"""Smallest and largest scale of a crop."""

MAX_LOG_STRETCH = 0.22
"""Natural logarithm of the most that a warped crop is stretched, and shrunk across: about 5 : 4."""


@dataclass(frozen=True)
class TrainingImage:
    """An image ready to be cropped.

    Attributes
    ----------
    group : str
        Set and modality.
    image : ndarray of uint8
        (H, W) or (H, W, 3), stretched to its percentiles.
    labels : ndarray of int32
        (H, W).
    diameter : float
        Median diameter of the objects, in pixels.
    """

    group: str
    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    diameter: float


@dataclass(frozen=True)
class Crop:
    """A training crop: ``image`` (S, S, 3) of uint8 and ``labels`` (S, S) of int32."""

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]


def make_training_image(
    group: str, image: NDArray[np.uint8], labels: NDArray[np.int32]
) -> TrainingImage:
    """Measure the objects of a stretched image."""
    areas = np.bincount(labels.ravel())[1:]
    areas = areas[areas > 0]
    diameter = float(np.sqrt(4 * np.median(areas) / np.pi)) if areas.size else 32.0
    return TrainingImage(group, image, labels, diameter)


def take_crop(
    source: TrainingImage, size: int, rng: np.random.Generator, warp_fraction: float = 0.0
) -> Crop:
    """Cut a square at random place and scale, and flip and turn it at random.

    Parameters
    ----------
    source : TrainingImage
        What to cut from.
    size : int
        Side of the crop, in pixels.
    rng : numpy.random.Generator
        Draws all of it.
    warp_fraction : float
        Share of the crops that are turned by any angle and stretched along any direction, where
        the image is large enough for that. The others are turned by quarters alone.
    """
    scale = _draw_scale(source.diameter, rng)
    warped = None
    if warp_fraction and rng.random() < warp_fraction:
        warped = _cut_warped(source, size, scale, rng)
    image, labels = warped or _cut_upright(source, size, scale, rng)
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    return Crop(np.ascontiguousarray(image), np.ascontiguousarray(labels))


def _cut_upright(
    source: TrainingImage, size: int, scale: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    height, width = source.labels.shape
    # an image smaller than the crop is padded at bottom and right, as the model pads
    side = size / scale
    span_y, span_x = min(side, height), min(side, width)
    focus_y, focus_x = _draw_focus(source.labels, rng)
    top = float(np.clip(focus_y - rng.uniform(0.1, 0.9) * span_y, 0, height - span_y))
    left = float(np.clip(focus_x - rng.uniform(0.1, 0.9) * span_x, 0, width - span_x))
    shape = (max(round(span_y * scale), 1), max(round(span_x * scale), 1))
    box = (left, top, left + span_x, top + span_y)
    image = _resize(source.image, box, shape, Image.Resampling.BILINEAR)
    labels = _resize(source.labels, box, shape, Image.Resampling.NEAREST)
    return _pad(image, size), _pad_labels(labels, size)


def _cut_warped(
    source: TrainingImage, size: int, scale: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int32]] | None:
    """Cut a turned and stretched square; None where the image does not hold it."""
    warp = _draw_warp(rng)
    height, width = source.labels.shape
    half_x, half_y = np.abs(warp).sum(axis=1) * size / (2 * scale)
    if 2 * half_x > width or 2 * half_y > height:
        return None
    focus_y, focus_x = _draw_focus(source.labels, rng)
    shift_y, shift_x = rng.uniform(-0.4, 0.4, 2) * size / scale
    centre_y = float(np.clip(focus_y + shift_y, half_y, height - half_y))
    centre_x = float(np.clip(focus_x + shift_x, half_x, width - half_x))
    box = (centre_x - half_x, centre_y - half_y, centre_x + half_x, centre_y + half_y)
    shape = (round(2 * half_y * scale), round(2 * half_x * scale))
    image = _resize(source.image, box, shape, Image.Resampling.BILINEAR)
    labels = _resize(source.labels, box, shape, Image.Resampling.NEAREST)
    return (
        _warp(image, warp, size, Image.Resampling.BILINEAR),
        _warp(labels, warp, size, Image.Resampling.NEAREST),
    )


def _draw_warp(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a turn and a stretch that keeps areas: (2, 2), from (x, y) in the crop to the image."""
    stretch = np.exp(rng.uniform(-MAX_LOG_STRETCH, MAX_LOG_STRETCH))
    before, after = _rotation(rng), _rotation(rng)
    return np.asarray(after @ np.diag([stretch, 1 / stretch]) @ before)


def _rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _warp(
    array: NDArray[Any], warp: NDArray[np.float64], size: int, resampling: Image.Resampling
) -> NDArray[Any]:
    """Sample a square of `size` about the middle of an array."""
    middle = np.array([array.shape[1], array.shape[0]]) / 2
    offset = middle - warp.sum(axis=1) * size / 2
    rows = (warp[0, 0], warp[0, 1], offset[0], warp[1, 0], warp[1, 1], offset[1])
    picture = Image.fromarray(array)
    return np.asarray(
        picture.transform((size, size), Image.Transform.AFFINE, rows, resample=resampling)
    )


def change_look(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change gamma, contrast, polarity, sharpness and noise of an image (S, S, 3)."""
    values = image.astype(np.float32) / 255
    if rng.random() < 0.5:
        values **= np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.1:
        values = 1 - values
    if rng.random() < 0.3:
        values = values[..., rng.permutation(3)]
    if rng.random() < 0.25:
        values = values * _uneven_light(values.shape[:2], rng)
    if rng.random() < 0.5:
        values = (values - 0.5) * rng.uniform(0.7, 1.2) + 0.5 + rng.uniform(-0.1, 0.1)
    if rng.random() < 0.2:
        sigma = rng.uniform(0.4, 1.3)
        values = ndimage.gaussian_filter(values, (sigma, sigma, 0))
    if rng.random() < 0.3:
        spread = rng.uniform(0.01, 0.07)
        is_gray = np.array_equal(image[..., 0], image[..., 1])
        shape = values.shape[:2] + ((1,) if is_gray else (3,))
        values = values + rng.normal(0, spread, shape).astype(np.float32)
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def _uneven_light(shape_yx: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Light that falls off from a spot, (H, W, 1), at most 1."""
    rows, cols = np.ogrid[: shape_yx[0], : shape_yx[1]]
    centre_y, centre_x = rng.uniform(0, 1, 2) * shape_yx
    width = rng.uniform(0.5, 1.5) * max(shape_yx)
    distance = ((rows - centre_y) ** 2 + (cols - centre_x) ** 2) / width**2
    light = 1 - rng.uniform(0.2, 0.7) * (1 - np.exp(-distance))
    return np.asarray(light[..., None], np.float32)


def _draw_scale(diameter: float, rng: np.random.Generator) -> float:
    low = max(SCALE_RANGE[0], DIAMETER_RANGE[0] / diameter)
    high = min(SCALE_RANGE[1], DIAMETER_RANGE[1] / diameter)
    if low > high:  # objects outside the range are brought to its nearer end
        return low if diameter < DIAMETER_RANGE[0] else high
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _draw_focus(labels: NDArray[np.int32], rng: np.random.Generator) -> tuple[int, int]:
    """Draw a pixel, mostly on an object, so that few crops are empty."""
    for _ in range(8):
        row, col = int(rng.integers(labels.shape[0])), int(rng.integers(labels.shape[1]))
        if labels[row, col] or rng.random() < 0.1:
            break
    return row, col


def _resize(
    array: NDArray[Any],
    box: tuple[float, float, float, float],
    shape: tuple[int, int],
    resampling: Image.Resampling,
) -> NDArray[Any]:
    picture = Image.fromarray(array)
    return np.asarray(picture.resize(shape[::-1], resampling, box=box))


def _pad(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    pads = [(0, size - image.shape[0]), (0, size - image.shape[1])]
    return np.pad(image, pads + [(0, 0)] * (image.ndim - 2), mode="constant")


def _pad_labels(labels: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    return np.pad(labels, [(0, size - labels.shape[0]), (0, size - labels.shape[1])])
