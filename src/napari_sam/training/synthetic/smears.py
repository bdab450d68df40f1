"""Smears of blood and marrow in colour: red cells, and white ones with a nucleus in each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.synthetic.canvas import Canvas, Labels, Scene
from napari_sam.training.synthetic.layouts import draw_coverage, draw_diameter, scatter
from napari_sam.training.synthetic.noise import Plane, log_uniform, smooth_noise
from napari_sam.training.synthetic.optics import blur
from napari_sam.training.synthetic.shapes import Blobs
from napari_sam.training.synthetic.stains import (
    HEMATOXYLIN,
    RED_EOSIN,
    VIOLET,
    between,
    photograph,
    tint,
)

__all__ = ["smear"]

RED, WHITE = 0.0, 1.0
"""Tags of the two sorts of cells."""


def smear(shape_yx: tuple[int, int], rng: np.random.Generator) -> tuple[NDArray[np.uint8], Labels]:
    """Red cells with a pale middle, and white cells: whole, nucleus and cytoplasm together."""
    diameter = draw_diameter(shape_yx, rng, 10, 90)
    scene = _cells(shape_yx, diameter, rng)
    is_white = scene.tag()
    nuclei = _nuclei(scene, rng) * is_white
    bodies = _cytoplasm(scene, rng) * is_white * (1 - np.minimum(nuclei, 1))
    reds = _haemoglobin(scene, rng) * (1 - is_white)
    glass = np.float32(rng.uniform(0, 0.15)) * (1 + 0.2 * smooth_noise(shape_yx, diameter, rng))
    nuclear = tint(VIOLET if rng.random() < 0.6 else HEMATOXYLIN, rng)
    bodily = tint(between(HEMATOXYLIN, RED_EOSIN, rng), rng)
    red = tint(between(RED_EOSIN, (0.35, 0.70, 0.62), rng), rng)
    parts = ((nuclei, nuclear), (bodies, bodily), (reds, red), (glass, bodily))
    sharpness = log_uniform(rng, 0.4, max(0.03 * diameter, 0.8))
    density = np.zeros((*shape_yx, 3), np.float32)
    for plane, colour in parts:
        density += blur(np.asarray(plane, np.float32), sharpness)[..., None] * colour
    return photograph(density, rng), scene.labels


def _cells(shape_yx: tuple[int, int], diameter: float, rng: np.random.Generator) -> Scene:
    """Draw white cells first, then red ones into the room that is left."""
    canvas = Canvas(shape_yx, diameter, rng, rng.uniform(0.0, 0.03), rng.uniform(0.2, 0.5))
    white = Blobs(
        min(diameter * rng.uniform(1.1, 2.4), 0.8 * min(shape_yx)),
        spread=rng.uniform(0.05, 0.25),
        elongation=rng.uniform(1.05, 1.6),
        lobes=float(rng.choice([0.0, 0.05, 0.12])),
        min_free=rng.uniform(0.7, 0.95),
        core=rng.uniform(0.45, 0.85),
        tag=WHITE,
    )
    whites = draw_coverage(rng, 0.03, 0.6)
    scatter(canvas, white, whites, rng)
    if rng.random() < 0.85:
        red = Blobs(
            diameter,
            spread=rng.uniform(0.03, 0.15),
            elongation=rng.uniform(1.05, 1.5),
            min_free=rng.uniform(0.55, 0.98),
            tag=RED,
        )
        scatter(canvas, red, min(whites + draw_coverage(rng, 0.05, 0.6), 0.85), rng)
    return canvas.finish()


def _nuclei(scene: Scene, rng: np.random.Generator) -> Plane:
    """Optical density of nuclei (H, W): round, bean-shaped or in lobes, clumped."""
    shape, diameter = scene.labels.shape, scene.diameter
    wave = smooth_noise(shape, rng.uniform(0.12, 0.3) * diameter, rng)
    depth = scene.inner + np.float32(rng.choice([0.02, 0.1, 0.25]) * diameter) * wave
    inside = np.clip(depth / max(0.03 * diameter, 0.7) + 0.5, 0, 1) * (scene.depth > 1)
    clumps = smooth_noise(shape, max(rng.uniform(0.03, 0.1) * diameter, 0.7), rng)
    texture = 1 + np.float32(rng.uniform(0.03, 0.3)) * clumps
    strength = scene.per_object_log(rng, rng.uniform(0.03, 0.25)) * log_uniform(rng, 0.7, 1.8)
    return np.asarray(inside * texture.clip(0.4, 2) * strength, np.float32)


def _cytoplasm(scene: Scene, rng: np.random.Generator) -> Plane:
    """Optical density around nuclei (H, W): pale, often in grains, with a rim or without."""
    shape, diameter = scene.labels.shape, scene.diameter
    grains = smooth_noise(shape, max(rng.uniform(0.01, 0.05) * diameter, 0.6), rng)
    texture = 1 + np.float32(rng.uniform(0.02, 0.4)) * grains
    rim = np.float32(rng.uniform(0, 1.0)) * np.exp(-scene.depth / max(0.06 * diameter, 0.8))
    strength = scene.per_object_log(rng, rng.uniform(0.05, 0.4)) * log_uniform(rng, 0.12, 0.8)
    return np.asarray(strength * (texture.clip(0.3, 2) + rim), np.float32)


def _haemoglobin(scene: Scene, rng: np.random.Generator) -> Plane:
    """Optical density of red cells (H, W): thin in the middle, or all alike; darker in overlaps."""
    hollow = np.float32(rng.uniform(0, 0.9))
    middle = scene.dome(rng.uniform(0.35, 0.5) * scene.diameter) ** rng.uniform(1.5, 4)
    strength = scene.per_object_log(rng, rng.uniform(0.03, 0.2)) * log_uniform(rng, 0.15, 0.7)
    strength *= 1 + np.float32(rng.uniform(0.3, 1.0)) * np.minimum(scene.overlap, 2)
    return np.asarray(strength * (1 - hollow * middle), np.float32)
