"""What stands between an object and its picture: lens, light, camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.training.synthetic.noise import Plane, log_uniform, smooth_noise, spline_weights

__all__ = ["blur", "expose", "scan", "uneven_light"]


def blur(plane: Plane, sigma: float) -> Plane:
    """Convolve (H, W) with a Gaussian; wide ones cost no more than narrow ones.

    Above 3 pixels the blurred plane is sampled ``sigma`` apart, and cubic B-splines of that spacing
    fill in between. They blur too, with a variance of a third of the squared spacing, so the
    Gaussian before them is narrower.
    """
    if sigma <= 0.2:
        return plane
    if sigma <= 3:
        return np.asarray(ndimage.gaussian_filter(plane, sigma, truncate=3.0), np.float32)
    sides = []
    for size in plane.shape:
        spread = spline_weights(size, sigma)
        knots = (np.arange(spread.shape[1], dtype=np.float32) - 1) * np.float32(sigma)
        away = (knots[:, None] - np.arange(size, dtype=np.float32)) / np.float32(sigma)
        gather = np.exp(-0.75 * away**2)
        sides.append((spread, gather / gather.sum(axis=1, keepdims=True)))
    (rows, from_rows), (cols, from_cols) = sides
    return np.asarray(rows @ (from_rows @ plane @ from_cols.T) @ cols.T, np.float32)


def uneven_light(shape_yx: tuple[int, int], rng: np.random.Generator, most: float = 0.5) -> Plane:
    """Light that leans to one side and falls off from a spot, (H, W), around 1."""
    height, width = shape_yx
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    strength = most * rng.random() ** 2
    slope_y, slope_x = rng.uniform(-0.5, 0.5, 2) * strength
    centre_y, centre_x = rng.uniform(-0.8, 0.8, 2)
    fall = ((y - centre_y) ** 2 + (x - centre_x) ** 2) / rng.uniform(1.0, 3.0)
    light = 1 + slope_y * y + slope_x * x - 0.7 * strength * np.minimum(fall, 1.2)
    return np.asarray(np.clip(light, 0.15, None), np.float32)


def expose(
    light: Plane,
    rng: np.random.Generator,
    *,
    fewest_photons: float = 30.0,
    most_uneven: float = 0.5,
    bleached: float = 0.06,
) -> NDArray[np.uint16]:
    """Photograph a plane of light (H, W), about 0 to 1, with a camera of 12 bits.

    Uneven light, bleached fields, shot noise, read noise, line noise and saturation, each drawn at
    random.

    Parameters
    ----------
    light : ndarray of float32
        (H, W).
    rng : numpy.random.Generator
        Source of chance.
    fewest_photons : float
        The least number of photons per unit of light and pixel; the most is a hundred times that.
    most_uneven : float
        How much the illumination may fall off.
    bleached : float
        Probability that a part of the field was exposed before.

    Returns
    -------
    ndarray of uint16
        (H, W), 0 to 4095.
    """
    expected = np.clip(light * uneven_light(light.shape, rng, most_uneven), 0, None)
    if rng.random() < bleached:
        _bleach(expected, rng)
    detected = _count_photons(expected, log_uniform(rng, fewest_photons, 100 * fewest_photons), rng)
    read = log_uniform(rng, 0.001, 0.02)
    detected += np.float32(read) * rng.standard_normal(light.shape, dtype=np.float32)
    if rng.random() < 0.08:
        _add_line_noise(detected, rng)
    gain = rng.uniform(1500, 3600)
    if rng.random() < 0.1:  # too long an exposure
        gain *= rng.uniform(1.1, 1.6)
    counts = detected * np.float32(gain) + np.float32(rng.uniform(20, 300))
    return np.asarray(np.clip(counts, 0, 4095), np.uint16)


def scan(light: Plane, rng: np.random.Generator, *, noise: float = 0.1) -> NDArray[np.uint8]:
    """Scan a plane (H, W), about 0 to 1, with electrons: grain, line noise, charging; 8 bits."""
    picture = light * uneven_light(light.shape, rng, 0.4)
    strength = log_uniform(rng, 0.01, noise)
    picture += np.float32(strength) * smooth_noise(light.shape, float(rng.choice([0.0, 0.6])), rng)
    if rng.random() < 0.15:
        _add_line_noise(picture, rng)
    if rng.random() < 0.15:
        picture += np.float32(0.08) * smooth_noise(light.shape, rng.uniform(20, 80), rng)
    scale = rng.uniform(150, 260)
    return np.asarray(np.clip(picture * scale + rng.uniform(0, 40), 0, 255), np.uint8)


def _count_photons(expected: Plane, photons: float, rng: np.random.Generator) -> Plane:
    """Shot noise: Poisson where few photons are counted, its normal limit where many are."""
    mean = expected * np.float32(photons)
    if photons < 60:
        return np.asarray(rng.poisson(mean) / photons, np.float32)
    noise = np.sqrt(mean) * rng.standard_normal(mean.shape, dtype=np.float32)
    return np.asarray((mean + noise) / np.float32(photons), np.float32)


def _bleach(light: Plane, rng: np.random.Generator) -> None:
    """Dim a rectangle that was exposed before, in place."""
    height, width = light.shape
    top, left = int(rng.integers(height)), int(rng.integers(width))
    rows = slice(top, top + int(rng.integers(height // 4, height)) + 1)
    cols = slice(left, left + int(rng.integers(width // 4, width)) + 1)
    light[rows, cols] *= np.float32(rng.uniform(0.5, 0.85))


def _add_line_noise(picture: Plane, rng: np.random.Generator) -> None:
    """Shift whole rows or columns up or down, in place."""
    by_rows = rng.random() < 0.5
    lines = rng.normal(0, rng.uniform(0.002, 0.012), (picture.shape[0 if by_rows else 1],))
    lines = lines.astype(np.float32)
    picture += lines[:, None] if by_rows else lines[None]
