"""A generator of synthetic microscopy with known objects.

It widens what real images cover during training, and makes the sample data of the demo. Only
numpy and scipy are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["KINDS", "synthetic_image", "synthetic_stack"]

Labels = NDArray[np.int32]
Picture = NDArray[np.float32]


def synthetic_image(
    shape_yx: tuple[int, int], rng: np.random.Generator, kind: str | None = None
) -> tuple[NDArray[np.uint16], Labels]:
    """Draw cells and photograph them.

    Parameters
    ----------
    shape_yx : tuple of int
        Rows and columns.
    rng : numpy.random.Generator
        Source of chance.
    kind : str, optional
        One of :data:`KINDS`; drawn at random unless given.

    Returns
    -------
    tuple of ndarray
        The image (H, W) of uint16 and its labels (H, W) of int32, numbered from 1.
    """
    chosen = kind or str(rng.choice(sorted(KINDS)))
    radius = float(np.exp(rng.uniform(np.log(5), np.log(28))))
    labels = _scatter_cells(shape_yx, radius, float(rng.uniform(0.15, 0.7)), rng)
    return _expose(KINDS[chosen](labels, radius, rng), rng), labels


def synthetic_stack(
    shape_zyx: tuple[int, int, int] = (5, 256, 256), seed: int = 0
) -> tuple[NDArray[np.uint16], Labels]:
    """Draw a stack of fluorescent nuclei.

    Parameters
    ----------
    shape_zyx : tuple of int
        Slices, rows and columns.
    seed : int
        The same seed gives the same stack.

    Returns
    -------
    tuple of ndarray
        The image (Z, Y, X) of uint16 and its labels (Z, Y, X) of int32; a nucleus has one label
        in all its slices.
    """
    rng = np.random.default_rng(seed)
    depth, height, width = shape_zyx
    labels = np.zeros(shape_zyx, np.int32)
    z, y, x = np.ogrid[:depth, :height, :width]
    for number in range(1, max(depth * height * width // 4200, 3) + 1):
        centre = rng.uniform((0, 0, 0), shape_zyx)
        radii = rng.uniform((1.3, 7, 7), (3.0, 13, 13))
        reach = ((z - centre[0]) / radii[0]) ** 2 + (
            ((y - centre[1]) / radii[1]) ** 2 + ((x - centre[2]) / radii[2]) ** 2
        )
        nucleus = reach <= 1
        if not (labels[ndimage.binary_dilation(nucleus, iterations=2)] > 0).any():
            labels[nucleus] = number
    planes = [_expose(_nuclei(plane, 10.0, rng), rng, photons=160.0) for plane in labels]
    return np.stack(planes), labels


def _scatter_cells(
    shape_yx: tuple[int, int], radius: float, density: float, rng: np.random.Generator
) -> Labels:
    """Place cells of about one size until they cover the wanted share of the image."""
    labels = np.zeros(shape_yx, np.int32)
    elongation = float(rng.uniform(1.0, 1.9))
    roughness = float(rng.uniform(0.0, 0.16))
    wanted, covered, number = density * labels.size, 0, 0
    for _ in range(int(8 * density * labels.size / (3 * radius**2)) + 8):
        if covered >= wanted:
            break
        centre = rng.uniform((0, 0), shape_yx)
        rows, cols, cell = _cell_shape(centre, radius, elongation, roughness, shape_yx, rng)
        free = cell & (labels[rows, cols] == 0)
        if free.sum() < max(0.75 * cell.sum(), 12):
            continue
        number += 1
        labels[rows, cols][free] = number
        covered += int(free.sum())
    return labels


def _cell_shape(
    centre: NDArray[np.float64],
    radius: float,
    elongation: float,
    roughness: float,
    shape_yx: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Draw one cell: an ellipse whose radius wavers with the angle."""
    size = radius * float(np.exp(rng.normal(0, 0.2)))
    long, short = size * elongation**0.5, size / elongation**0.5
    reach = int(1.6 * long) + 2
    low = np.maximum(centre.astype(int) - reach, 0)
    high = np.minimum(centre.astype(int) + reach + 1, shape_yx)
    y, x = np.ogrid[low[0] : high[0], low[1] : high[1]]
    turn = rng.uniform(0, np.pi)
    dy, dx = y - centre[0], x - centre[1]
    along = (dx * np.cos(turn) + dy * np.sin(turn)) / long
    across = (dy * np.cos(turn) - dx * np.sin(turn)) / short
    angle = np.arctan2(across, along)
    edge = np.ones_like(angle)
    for harmonic in range(2, 6):
        edge += roughness / harmonic * 2 * np.sin(harmonic * angle + rng.uniform(0, 2 * np.pi))
    inside = along**2 + across**2 <= edge**2
    return slice(low[0], high[0]), slice(low[1], high[1]), inside


def _smooth_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Picture:
    """Noise of zero mean and unit deviation whose grain is ``sigma`` pixels."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma)
    scaled: Picture = (noise - noise.mean()) / (noise.std() + 1e-6)
    return scaled


def _depth(labels: Labels) -> Picture:
    """Distance to the cell's edge in pixels; touching cells are kept apart."""
    edges = ndimage.grey_erosion(labels, size=3) != ndimage.grey_dilation(labels, size=3)
    depth = ndimage.distance_transform_edt((labels > 0) & ~edges)
    return np.asarray(depth, np.float32)


def _per_cell(labels: Labels, low: float, high: float, rng: np.random.Generator) -> Picture:
    values = rng.uniform(low, high, int(labels.max()) + 1).astype(np.float32)
    values[0] = 0
    return values[labels]


def _nuclei(labels: Labels, radius: float, rng: np.random.Generator) -> Picture:
    """Bright, textured nuclei on a dim uneven ground, blurred by the microscope."""
    texture = 1 + 0.25 * _smooth_noise(labels.shape, max(radius / 5, 1.0), rng)
    rim = np.minimum(_depth(labels) / (0.25 * radius) + 0.5, 1.0)
    signal = _per_cell(labels, 0.35, 1.0, rng) * texture * rim
    ground = 0.06 + 0.03 * _smooth_noise(labels.shape, 4 * radius, rng)
    blurred = ndimage.gaussian_filter(signal, rng.uniform(0.6, 1.8))
    haze = 0.15 * ndimage.gaussian_filter(signal, 2 * radius)
    return np.asarray(blurred + haze + ground, np.float32)


def _membranes(labels: Labels, radius: float, rng: np.random.Generator) -> Picture:
    """Cells that only their membranes show."""
    edges = (ndimage.grey_erosion(labels, size=3) != labels) | (
        ndimage.grey_dilation(labels, size=3) != labels
    )
    strength = 0.8 + 0.2 * _smooth_noise(labels.shape, radius, rng)
    signal = ndimage.gaussian_filter(edges * strength, rng.uniform(0.6, 1.4))
    inside = 0.08 * _per_cell(labels, 0.3, 1.0, rng)
    return np.asarray(signal + inside + 0.05, np.float32)


def _phase_contrast(labels: Labels, radius: float, rng: np.random.Generator) -> Picture:
    """Cells slightly darker or lighter than the ground, with a bright halo around them."""
    thickness = np.minimum(_depth(labels) / (0.5 * radius), 1.0)
    phase = thickness * _per_cell(labels, 0.6, 1.0, rng)
    phase += 0.12 * (labels > 0) * _smooth_noise(labels.shape, max(radius / 6, 0.8), rng)
    halo = ndimage.gaussian_filter(phase, 0.35 * radius + 1) - phase
    sign = 1.0 if rng.random() < 0.7 else -1.0
    ground = 0.5 + 0.04 * _smooth_noise(labels.shape, 3 * radius, rng)
    return np.asarray(ground + sign * 0.45 * halo, np.float32)


def _stained(labels: Labels, radius: float, rng: np.random.Generator) -> Picture:
    """Dark nuclei on a bright, textured ground, as in a stained section."""
    absorbed = _per_cell(labels, 0.3, 0.75, rng) * np.minimum(_depth(labels) / 2 + 0.4, 1.0)
    tissue = 0.12 * np.abs(_smooth_noise(labels.shape, radius, rng))
    grain = 0.06 * _smooth_noise(labels.shape, 1.2, rng)
    light = ndimage.gaussian_filter(0.95 - absorbed - tissue + grain, rng.uniform(0.5, 1.2))
    return np.asarray(light, np.float32)


def _dense_sections(labels: Labels, radius: float, rng: np.random.Generator) -> Picture:
    """Pale profiles inside dark walls on gray, as axons in electron microscopy."""
    wall = max(0.25 * radius, 1.5)
    depth = _depth(labels)
    outside = ndimage.distance_transform_edt(labels == 0)
    sheath = (labels == 0) & (outside < wall)
    body = (labels > 0) * (0.75 + 0.08 * _smooth_noise(labels.shape, 1.5, rng))
    ground = (labels == 0) * (0.5 + 0.12 * _smooth_noise(labels.shape, radius / 3 + 1, rng))
    light = np.where(sheath, 0.12, body + ground) - 0.2 * ((depth > 0) & (depth < 1.5))
    return np.asarray(ndimage.gaussian_filter(light, rng.uniform(0.5, 1.2)), np.float32)


def _expose(
    light: Picture, rng: np.random.Generator, photons: float | None = None
) -> NDArray[np.uint16]:
    """Uneven light, shot noise and read noise; 12 bits of the camera are used."""
    height, width = light.shape
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    tilt = 1 + rng.uniform(-0.15, 0.15) * y + rng.uniform(-0.15, 0.15) * x
    expected = np.clip(light * tilt, 0, None)
    count = photons or float(np.exp(rng.uniform(np.log(40), np.log(800))))
    detected: NDArray[Any] = rng.poisson(expected * count) / count
    detected = detected + rng.normal(0, rng.uniform(0.002, 0.02), light.shape)
    counts: NDArray[np.uint16] = np.clip(detected * 2500 + 100, 0, 4095).astype(np.uint16)
    return counts


KINDS: dict[str, Callable[[Labels, float, np.random.Generator], Picture]] = {
    "dense_sections": _dense_sections,
    "membranes": _membranes,
    "nuclei": _nuclei,
    "phase_contrast": _phase_contrast,
    "stained": _stained,
}
"""What the generator can draw, by name."""
