"""Stains in transmitted light: what they absorb, and the picture that this makes.

Optical densities of a pixel add up, and each stain has a colour of its own in them (Ruifrok &
Johnston, 2001, Analytical and Quantitative Cytology and Histology 23:291).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.synthetic.noise import log_uniform
from napari_sam.training.synthetic.optics import uneven_light

__all__ = [
    "EOSIN",
    "HEMATOXYLIN",
    "RED_EOSIN",
    "VIOLET",
    "Colour",
    "Stain",
    "between",
    "photograph",
    "tint",
]

Colour = NDArray[np.float32]
Stain = tuple[float, float, float]

HEMATOXYLIN = (0.650, 0.704, 0.286)
EOSIN = (0.072, 0.990, 0.105)
# on many slides eosin is redder than the one they measured
RED_EOSIN = (0.20, 0.86, 0.47)
# the violet of thiazine dyes, as in smears, lies between hematoxylin and red
VIOLET = (0.45, 0.86, 0.20)


def between(one: Stain, other: Stain, rng: np.random.Generator) -> Stain:
    """Draw a stain between two."""
    share = float(rng.random())
    mixed = [a + share * (b - a) for a, b in zip(one, other, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def tint(stain: Stain, rng: np.random.Generator) -> Colour:
    """Colour of a stain as it comes out in one laboratory: a unit vector of densities (3,)."""
    vector = np.clip(np.array(stain) + rng.normal(0, 0.09, 3), 0.02, None)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def photograph(density: Colour, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Let light through (Beer and Lambert), and photograph it.

    Parameters
    ----------
    density : ndarray of float32
        Optical densities (H, W, 3), to base e and about 1 where a stain is dark.
    rng : numpy.random.Generator
        Draws lamp, white balance and noise.

    Returns
    -------
    ndarray of uint8
        (H, W, 3).
    """
    shape = (density.shape[0], density.shape[1])
    lamp = uneven_light(shape, rng, 0.25)[..., None]
    white = rng.uniform(0.85, 1.0) * (1 - np.abs(rng.normal(0, 0.04, 3)))
    light = np.exp(np.float32(-1.15) * density) * lamp * white.astype(np.float32)
    noise = log_uniform(rng, 0.003, 0.04)
    light += np.float32(noise) * rng.standard_normal(light.shape, dtype=np.float32)
    return np.asarray(np.clip(light * 255, 0, 255), np.uint8)
