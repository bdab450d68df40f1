"""Fluorescence: nuclei, cells whose membranes show, cells whose cytoplasm shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.synthetic.canvas import Canvas, Labels, Scene
from napari_sam.training.synthetic.layouts import draw_coverage, draw_diameter, scatter, tissue
from napari_sam.training.synthetic.noise import Plane, log_uniform, smooth_noise
from napari_sam.training.synthetic.optics import blur, expose
from napari_sam.training.synthetic.shapes import Blobs, Branched

__all__ = ["cytoplasm", "membranes", "nuclei", "packed_cells"]

Picture = tuple[NDArray[Any], Labels]


def nuclei(shape_yx: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Textured nuclei, dim ones beside bright ones, some out of focus."""
    diameter = draw_diameter(shape_yx, rng, 6, 200)
    canvas = Canvas(shape_yx, diameter, rng, rng.uniform(0.0, 0.05), rng.uniform(0.2, 0.5))
    paint = Blobs(
        diameter,
        spread=rng.uniform(0.05, 0.4),
        elongation=rng.uniform(1.05, 2.2),
        lobes=float(rng.choice([0.0, 0.0, 0.1, 0.25])),
        dividing=float(rng.choice([0.0, 0.0, 0.04, 0.1])),
        min_free=rng.uniform(0.6, 0.98),
    )
    scatter(canvas, paint, draw_coverage(rng), rng)
    scene = canvas.finish()
    signal = _nuclear_signal(scene, rng)
    signal = _defocus_some(scene, signal, rng)
    light = blur(signal, log_uniform(rng, 0.5, max(0.6, min(0.06 * diameter, 3))))
    return expose(light + _ground(scene, signal, rng), rng), scene.labels


def membranes(shape_yx: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Cells of which only the membranes show, of uneven strength, packed or apart."""
    diameter = draw_diameter(shape_yx, rng, 10, 160)
    scene = packed_cells(shape_yx, diameter, rng)
    width = log_uniform(rng, 0.5, max(0.06 * diameter, 0.8))
    uneven = 1 + rng.uniform(0.1, 0.45) * smooth_noise(shape_yx, diameter * 0.3, rng)
    signal = blur(scene.edges() * uneven.clip(0.15, 3), width) * np.float32(1.2 + 0.9 * width)
    inside = scene.per_object(rng, 0.3, 1.0) * np.float32(rng.choice([0.02, 0.08, 0.2]))
    spots = smooth_noise(shape_yx, max(0.03 * diameter, 0.7), rng) - 2.2
    signal += inside + 0.4 * np.clip(spots, 0, 1) * (scene.labels > 0)
    if rng.random() < 0.3:  # a dye of nuclei in the same picture
        signal += np.float32(rng.uniform(0.2, 0.6)) * (scene.inner > 0)
    light = 0.8 * blur(signal, rng.uniform(0.4, 1.2))
    return expose(light + _ground(scene, signal, rng), rng), scene.labels


def cytoplasm(shape_yx: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Bright cells with dark nuclei: round, packed, spread or branched."""
    diameter = draw_diameter(shape_yx, rng, 14, 200)
    scene = packed_cells(shape_yx, diameter, rng, branched=0.5)
    grain = smooth_noise(shape_yx, log_uniform(rng, 0.02, 0.12) * diameter, rng)
    threads = np.exp(-((smooth_noise(shape_yx, max(0.05 * diameter, 1), rng) / 0.4) ** 2))
    texture = 1 + rng.uniform(0.05, 0.3) * grain + rng.uniform(0, 0.4) * threads
    thick = 0.35 + 0.65 * scene.dome(rng.uniform(0.1, 0.5) * diameter)
    signal = scene.per_object_log(rng, rng.uniform(0.1, 0.6)) * texture.clip(0.2, 3) * thick
    hollow = np.clip(scene.inner / max(0.03 * diameter, 0.8), 0, 1)
    signal *= 1 - hollow * np.float32(rng.uniform(0.3, 0.95))
    seams = scene.edges() * np.float32(rng.uniform(0, 0.5))
    light = 0.5 * blur(signal * (1 - seams), rng.uniform(0.5, 1.8))
    return expose(light + _ground(scene, signal, rng), rng), scene.labels


def packed_cells(
    shape_yx: tuple[int, int], diameter: float, rng: np.random.Generator, branched: float = 0.0
) -> Scene:
    """Draw whole cells with a nucleus: a tissue, loose round cells, or spread ones."""
    canvas = Canvas(shape_yx, diameter, rng, rng.uniform(0.0, 0.07), rng.uniform(0.2, 0.5))
    way = rng.random()
    if way < 0.5 * (1 - branched):
        gap = float(rng.choice([0.0, 0.0, 1.0, 0.03 * diameter]))
        missing = float(rng.choice([0.0, 0.1, 0.3]))
        unequal = rng.uniform(0, 0.25)
        joined = float(rng.choice([0.0, 0.0, 0.2]))
        tissue(
            canvas,
            diameter,
            rng,
            gap=gap,
            unequal=unequal,
            core=0.45,
            missing=missing,
            joined=joined,
        )
    elif way < 1 - branched:
        paint = Blobs(
            diameter,
            spread=rng.uniform(0.05, 0.3),
            elongation=rng.uniform(1.1, 2.0),
            min_free=rng.uniform(0.45, 0.9),
            core=rng.uniform(0.35, 0.6),
        )
        scatter(canvas, paint, draw_coverage(rng, 0.1, 0.95), rng)
    else:
        few = int(rng.integers(2, 4))
        spread = Branched(
            diameter,
            processes=(few, few + int(rng.integers(0, 4))),
            web=rng.uniform(0.2, 0.7),
            min_free=rng.uniform(0.6, 0.9),
        )
        scatter(canvas, spread, draw_coverage(rng, 0.05, 0.8), rng)
    return canvas.finish()


def _nuclear_signal(scene: Scene, rng: np.random.Generator) -> Plane:
    """Chromatin: brightness of each nucleus, its grain, nucleoli or bright spots, its dome."""
    shape, diameter = scene.labels.shape, scene.diameter
    grain = smooth_noise(shape, max(0.05 * diameter, 0.6), rng)
    texture = 1 + np.float32(rng.uniform(0.03, 0.25)) * grain
    texture += np.float32(rng.uniform(0.0, 0.12)) * smooth_noise(shape, 0.02 * diameter + 0.5, rng)
    clumps = smooth_noise(shape, max(rng.uniform(0.04, 0.12) * diameter, 0.8), rng)
    style = rng.random()
    if style < 0.3:  # nucleoli are dark
        texture -= np.float32(rng.uniform(0.2, 0.5)) * np.clip(2 * clumps - 1.8, 0, 1)
    elif style < 0.55:  # chromocentres are bright
        texture += np.float32(rng.uniform(0.4, 1.2)) * np.clip(2 * clumps - 2.2, 0, 1)
    else:
        texture += np.float32(rng.uniform(0.0, 0.2)) * clumps
    rim = rng.uniform(0.3, 0.9)
    dome = rim + (1 - rim) * scene.dome(rng.uniform(0.1, 0.5) * diameter)
    bright = scene.per_object_log(rng, log_uniform(rng, 0.08, 0.9)).clip(0, 4)
    bright *= 1 + np.float32(1.2) * scene.tag()  # dividing ones are condensed
    added = np.float32(rng.uniform(0, 0.8)) * np.minimum(scene.overlap, 2)
    signal = bright * texture.clip(0.1, 3) * dome * (1 + added)
    bright_end = np.float32(np.quantile(signal[scene.labels > 0], 0.95))
    inside = scene.labels > 0
    # even the dimmest nucleus is a tenth as bright as the brightest
    return np.asarray(inside * np.maximum(0.85 * signal / bright_end, 0.1), np.float32)


def _defocus_some(scene: Scene, signal: Plane, rng: np.random.Generator) -> Plane:
    """Blur some of the objects, and leave the others as they are."""
    if rng.random() < 0.5:
        return signal
    is_far = rng.random(scene.tags.size) < rng.uniform(0.05, 0.5)
    far = np.where(is_far[scene.labels], signal, np.float32(0))
    sigma = rng.uniform(0.05, 0.14) * scene.diameter
    return signal - far + blur(far, sigma)


def _ground(scene: Scene, signal: Plane, rng: np.random.Generator) -> Plane:
    """Haze around bright objects, what lies far from focus, and an uneven offset."""
    shape = (scene.labels.shape[0], scene.labels.shape[1])
    ground = np.full(shape, 0.25 * rng.random() ** 2, np.float32)
    ground *= 1 + np.float32(rng.uniform(0, 0.25)) * smooth_noise(shape, rng.uniform(20, 80), rng)
    if rng.random() < 0.6:
        haze = blur(signal, rng.uniform(0.4, 1.5) * scene.diameter)
        ground += np.float32(rng.uniform(0.02, 0.3)) * haze
    if rng.random() < 0.3:
        clouds = smooth_noise(shape, max(0.5 * scene.diameter, 4), rng)
        ground += np.float32(rng.uniform(0.03, 0.12)) * np.clip(clouds - 0.8, 0, 2)
    return np.clip(ground, 0, None)
