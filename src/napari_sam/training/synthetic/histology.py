"""Stained sections and smears in colour: dark nuclei on tissue or on white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.synthetic.canvas import Canvas, Labels, Scene
from napari_sam.training.synthetic.layouts import draw_coverage, draw_diameter, scatter
from napari_sam.training.synthetic.noise import Plane, fibres, log_uniform, smooth_noise
from napari_sam.training.synthetic.optics import blur
from napari_sam.training.synthetic.shapes import Blobs
from napari_sam.training.synthetic.stains import (
    EOSIN,
    HEMATOXYLIN,
    RED_EOSIN,
    VIOLET,
    between,
    photograph,
    tint,
)

__all__ = ["histology"]


def histology(
    shape_yx: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Labels]:
    """Purple nuclei, crowded and overlapping, on pink tissue, on lilac or on white."""
    diameter = draw_diameter(shape_yx, rng, 8, 120)
    scene = _nuclei(shape_yx, diameter, rng)
    chromatin = _chromatin(scene, rng)
    style = rng.choice(["tissue", "tissue", "smear", "lilac"])
    if style == "tissue":
        ground = _tissue(scene, rng) * np.float32(log_uniform(rng, 0.2, 0.9))
        first, second = HEMATOXYLIN, between(EOSIN, RED_EOSIN, rng)
    elif style == "smear":
        ground = _cell_bodies(scene, rng) * np.float32(log_uniform(rng, 0.05, 0.5))
        first, second = (HEMATOXYLIN if rng.random() < 0.4 else VIOLET), VIOLET
    else:  # one dye that also tints the ground
        ground = 0.3 + 0.25 * _tissue(scene, rng)
        first, second = (HEMATOXYLIN, VIOLET) if rng.random() < 0.5 else (VIOLET, HEMATOXYLIN)
    density = chromatin[..., None] * tint(first, rng)
    # nuclei take up little of the second dye
    counter = ground * (1 - np.float32(rng.uniform(0.2, 0.7)) * (scene.labels > 0))
    density += np.asarray(counter, np.float32)[..., None] * tint(second, rng)
    return photograph(density, rng), scene.labels


def _nuclei(shape_yx: tuple[int, int], diameter: float, rng: np.random.Generator) -> Scene:
    canvas = Canvas(shape_yx, diameter, rng, rng.uniform(0.01, 0.06), rng.uniform(0.2, 0.4))
    shared = float(rng.uniform(0, np.pi)) if rng.random() < 0.3 else float("nan")
    long = 3.2 if rng.random() < 0.25 else 1.8
    paint = Blobs(
        diameter,
        spread=rng.uniform(0.08, 0.35),
        elongation=rng.uniform(1.1, long),
        lobes=float(rng.choice([0.0, 0.0, 0.1, 0.25])),
        min_free=rng.uniform(0.6, 0.95),
        aligned=shared,
    )
    scatter(canvas, paint, draw_coverage(rng, 0.03, 0.7), rng)
    return canvas.finish()


def _chromatin(scene: Scene, rng: np.random.Generator) -> Plane:
    """Optical density of the nuclei (H, W): pale and vesicular to dense and dark."""
    shape, diameter = scene.labels.shape, scene.diameter
    inside = scene.labels > 0
    clumps = smooth_noise(shape, max(rng.uniform(0.04, 0.1) * diameter, 0.7), rng)
    texture = 1 + np.float32(rng.uniform(0.05, 0.35)) * clumps
    fine = smooth_noise(shape, max(0.02 * diameter, 0.7), rng)
    texture += np.float32(rng.uniform(0.0, 0.2)) * fine
    rim = np.exp(-((scene.depth / max(0.07 * diameter, 1.0)) ** 2))
    hollow = scene.per_object(rng, 0, float(rng.choice([0.2, 0.6])))
    texture *= 1 - hollow * (1 - rim)
    if rng.random() < 0.5:  # nucleoli
        texture += np.float32(rng.uniform(0.3, 0.9)) * np.clip(2 * clumps - 2.6, 0, 1)
    strength = scene.per_object_log(rng, rng.uniform(0.05, 0.45)).clip(0, 2.2)
    typical = np.float32(log_uniform(rng, 0.5, 1.5))
    density = typical * np.maximum(strength, 0.45 * inside) * texture.clip(0.25, 2.5)
    density *= 1 + np.float32(rng.uniform(0.1, 0.6)) * np.minimum(scene.overlap, 2)
    is_far = inside * (rng.random(scene.tags.size) < rng.uniform(0, 0.25))[scene.labels]
    far = np.asarray(density * is_far, np.float32)
    sharp = blur(np.asarray(density - far, np.float32), log_uniform(rng, 0.4, 1.5))
    return sharp + blur(far, 0.08 * diameter)


def _tissue(scene: Scene, rng: np.random.Generator) -> Plane:
    """Density of cytoplasm, fibres and gaps, around 1 where there is tissue (H, W)."""
    shape = (scene.labels.shape[0], scene.labels.shape[1])
    diameter = scene.diameter
    patches = smooth_noise(shape, rng.uniform(0.7, 2.5) * diameter + 4, rng)
    density = 0.8 + np.float32(rng.uniform(0.05, 0.25)) * patches
    if rng.random() < 0.7:
        strands = fibres(shape, rng.uniform(0.1, 0.4) * diameter + 1, rng)
        mixed = np.clip(0.5 + 0.7 * smooth_noise(shape, 2 * diameter + 8, rng), 0, 1)
        density += np.float32(rng.uniform(0.08, 0.3)) * strands * mixed
    if rng.random() < 0.6:  # skins of cells and vacuoles: lines where noise changes its sign
        skin = np.exp(-((smooth_noise(shape, 0.35 * diameter + 1, rng) / 0.25) ** 2))
        density += np.float32(rng.uniform(-0.3, 0.4)) * skin
    density += np.float32(rng.uniform(0.02, 0.12)) * smooth_noise(shape, 1.3, rng)
    if rng.random() < 0.5:
        level = rng.uniform(0.3, 1.6)
        gaps = smooth_noise(shape, rng.uniform(1, 4) * diameter + 5, rng)
        density *= np.clip(1 - (gaps - level) * 6, rng.uniform(0, 0.15), 1)
    return np.asarray(np.clip(density, 0, None), np.float32)


def _cell_bodies(scene: Scene, rng: np.random.Generator) -> Plane:
    """Pale bodies around nuclei on empty glass, with some smudges, (H, W)."""
    shape = (scene.labels.shape[0], scene.labels.shape[1])
    near = blur((scene.labels > 0).astype(np.float32), rng.uniform(0.15, 0.5) * scene.diameter)
    wavy = near + 0.05 * smooth_noise(shape, 0.3 * scene.diameter + 1, rng)
    bodies = np.clip((wavy - rng.uniform(0.05, 0.3)) * 12, 0, 1)
    smudges = np.clip(smooth_noise(shape, scene.diameter, rng) - rng.uniform(0.8, 2), 0, 1)
    grain = 1 + 0.2 * smooth_noise(shape, max(0.05 * scene.diameter, 0.8), rng)
    return np.asarray(np.clip((0.1 + bodies + 0.7 * smudges) * grain, 0, None), np.float32)
