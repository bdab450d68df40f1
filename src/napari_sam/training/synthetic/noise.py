"""Random planes: grain of any width, spots and fibres, at the cost of small matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Plane", "fibres", "log_uniform", "smooth_noise", "spline_weights"]

Plane = NDArray[np.float32]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def spline_weights(size: int, spacing: float, phase: float = 0.0) -> Plane:
    """Weights of cubic B-splines ``spacing`` pixels apart at ``size`` pixels, (size, n).

    Knot ``i`` lies at the pixel ``(i - 1 - phase) * spacing``; the weights of a pixel add up to 1.
    """
    knots = int(np.ceil(size / spacing + phase)) + 3
    place = np.arange(size, dtype=np.float32)[:, None] / np.float32(spacing)
    away = np.abs(place - np.arange(knots, dtype=np.float32) + np.float32(1 + phase))
    outer, inner = np.maximum(2 - away, 0), np.maximum(1 - away, 0)
    return np.asarray((outer * outer * outer - 4 * inner * inner * inner) / 6, np.float32)


def smooth_noise(
    shape_yx: tuple[int, int], grain: float | tuple[float, float], rng: np.random.Generator
) -> Plane:
    """Draw noise (H, W) of about zero mean and unit deviation.

    Parameters
    ----------
    shape_yx : tuple of int
        Rows and columns.
    grain : float or tuple of float
        Standard deviation of the Gaussian that would blur white noise alike, in pixels; one
        number, or one along rows and one along columns.
    rng : numpy.random.Generator
        Source of chance.
    """
    grains = grain if isinstance(grain, tuple) else (grain, grain)
    if min(grains) < 1.2:
        white = rng.standard_normal(shape_yx, dtype=np.float32)
        if max(grains) < 0.3:
            return white
        soft = ndimage.gaussian_filter(white, grains, truncate=3.0)
        return np.asarray(soft / (soft.std() + 1e-6), np.float32)
    along, across = (
        spline_weights(size, 1.73 * one, float(rng.random()))
        for size, one in zip(shape_yx, grains, strict=True)
    )
    coarse = rng.standard_normal((along.shape[1], across.shape[1]), dtype=np.float32)
    # 0.479 is the mean of the sum of squared spline weights, along each of the two axes
    return np.asarray(along @ coarse @ across.T / 0.479, np.float32)


def fibres(shape_yx: tuple[int, int], width: float, rng: np.random.Generator) -> Plane:
    """Draw wavy strands in one direction, (H, W), of unit deviation.

    Parameters
    ----------
    shape_yx : tuple of int
        Rows and columns.
    width : float
        Of a strand, in pixels.
    rng : numpy.random.Generator
        Source of chance.
    """
    turn = rng.uniform(0, np.pi)
    rows, cols = np.ogrid[: shape_yx[0], : shape_yx[1]]
    across = (rows * np.cos(turn) + cols * np.sin(turn)).astype(np.float32)
    across += 2.5 * width * smooth_noise(shape_yx, 6 * width, rng)
    across -= across.min()
    profile = rng.standard_normal(int(across.max() / width) + 3)
    strands = np.interp(across / width, np.arange(profile.size), profile)
    return np.asarray(strands * (1 + 0.5 * smooth_noise(shape_yx, 5 * width, rng)), np.float32)
