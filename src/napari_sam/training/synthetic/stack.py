"""A stack of fluorescent nuclei: the sample data of the demo and of the plugin.

The same arguments give the same stack in every version, because pages and tests count its nuclei.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["synthetic_stack"]

Labels = NDArray[np.int32]
Picture = NDArray[np.float32]


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


def _expose(light: Picture, rng: np.random.Generator, photons: float) -> NDArray[np.uint16]:
    """Uneven light, shot noise and read noise; 12 bits of the camera are used."""
    height, width = light.shape
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    tilt = 1 + rng.uniform(-0.15, 0.15) * y + rng.uniform(-0.15, 0.15) * x
    expected = np.clip(light * tilt, 0, None)
    detected: NDArray[Any] = rng.poisson(expected * photons) / photons
    detected = detected + rng.normal(0, rng.uniform(0.002, 0.02), light.shape)
    counts: NDArray[np.uint16] = np.clip(detected * 2500 + 100, 0, 4095).astype(np.uint16)
    return counts
