"""Electron microscopy: myelinated axons, and neurites between membranes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.synthetic.canvas import Canvas, Labels, Scene
from napari_sam.training.synthetic.layouts import draw_coverage, draw_diameter, scatter, tissue
from napari_sam.training.synthetic.noise import Plane, fibres, log_uniform, smooth_noise
from napari_sam.training.synthetic.optics import blur, scan
from napari_sam.training.synthetic.shapes import Point, ellipse

__all__ = ["axons", "neurites"]

Picture = tuple[NDArray[np.uint8], Labels]


def axons(shape_yx: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Pale axons in dark sheaths of myelin, small beside large; or the inverse, as some detectors.

    A label is the inside of a sheath.
    """
    diameter = draw_diameter(shape_yx, rng, 7, 50)
    canvas = Canvas(shape_yx, diameter, rng, rng.uniform(0.0, 0.07), rng.uniform(0.2, 0.5))
    low = rng.uniform(0.4, 0.65)
    fibre = _Fibres(diameter, rng.uniform(0.15, 0.55), (low, min(low + 0.25, 0.85)))
    coverage = draw_coverage(rng, 0.25, 1.0)
    scatter(canvas, fibre, 0.8 * coverage, rng)
    scatter(canvas, replace(fibre, diameter=0.5 * diameter), coverage, rng)
    myelin = (canvas.labels > 0).astype(np.float32)
    scene = canvas.finish(np.where(canvas.inner > 0, canvas.labels, np.int32(0)))
    inside = scene.labels > 0
    grain = smooth_noise(shape_yx, max(0.04 * diameter, 0.7), rng)
    organelles = np.clip(smooth_noise(shape_yx, max(0.06 * diameter, 0.9), rng) - 1.5, 0, 1)
    pale = rng.uniform(0.65, 0.95) + np.float32(rng.uniform(0.02, 0.1)) * grain
    pale -= np.float32(rng.uniform(0, 0.5)) * organelles
    sheath = rng.uniform(0.05, 0.3) + np.float32(rng.uniform(0.02, 0.08)) * grain
    around = _neuropil(shape_yx, diameter, rng)
    light = np.where(inside, pale, np.where(myelin > 0, sheath, around))
    # a thin cleft where the axon has shrunk from its sheath
    light += np.float32(rng.uniform(-0.25, 0.1)) * scene.edges() * inside
    if rng.random() < 0.5:
        light = 0.95 - light
    seen = blur(np.asarray(light, np.float32), log_uniform(rng, 0.4, 1.5))
    return scan(seen, rng), scene.labels


def neurites(shape_yx: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Draw processes of all sizes between dark membranes, with vesicles and mitochondria."""
    spacing = draw_diameter(shape_yx, rng, 14, 110)
    canvas = Canvas(shape_yx, spacing, rng, rng.uniform(0.06, 0.14), rng.uniform(0.2, 0.5))
    thick = log_uniform(rng, 0.8, max(0.05 * spacing, 1.0))
    border = tissue(
        canvas, spacing, rng, gap=thick, unequal=rng.uniform(0.1, 0.5), joined=rng.uniform(0, 0.5)
    )
    scene = canvas.finish()
    membrane = np.exp(-((border / thick) ** 2))
    grain = smooth_noise(shape_yx, log_uniform(rng, 0.8, 2.0), rng)
    light = scene.per_object(rng, -0.08, 0.08) + rng.uniform(0.6, 0.8)
    light += np.float32(rng.uniform(0.04, 0.14)) * grain
    light += np.float32(rng.uniform(0.0, 0.05)) * smooth_noise(shape_yx, 0.2 * spacing, rng)
    vesicles = smooth_noise(shape_yx, rng.uniform(1.2, 2.4), rng)
    clouds = np.clip(smooth_noise(shape_yx, 0.4 * spacing, rng), 0, 1)
    light -= np.float32(rng.uniform(0.1, 0.5)) * clouds * np.clip(vesicles - 0.9, 0, 1)
    _add_mitochondria(light, scene, rng)
    uneven = 1 + 0.25 * smooth_noise(shape_yx, 0.3 * spacing, rng)
    light -= np.float32(rng.uniform(0.35, 0.6)) * (membrane * uneven).clip(0, 1.2)
    if rng.random() < 0.2:
        light = 0.95 - light
    seen = blur(np.asarray(light, np.float32), log_uniform(rng, 0.4, 1.2))
    return scan(seen, rng, noise=0.15), scene.labels


@dataclass(frozen=True)
class _Fibres:
    """Axons with their sheaths.

    Attributes
    ----------
    diameter : float
        Of a typical axon, without sheath, in pixels.
    spread : float
        Deviation of the logarithm of the diameter.
    g_ratio : tuple of float
        Least and greatest diameter of the axon over that of the fibre.
    """

    diameter: float
    spread: float
    g_ratio: tuple[float, float]

    def __call__(self, canvas: Canvas, centre: Point, rng: np.random.Generator) -> None:
        """Paint a fibre whose inside is the axon."""
        radius = self.diameter / 2 * float(np.exp(rng.normal(0, self.spread)))
        radius = float(np.clip(radius, 2.5, 36))
        sheath = max(radius / float(rng.uniform(*self.g_ratio)) - radius, 1.3)
        stretch = float(rng.uniform(1, 1.6)) ** 0.5
        window = canvas.window(centre, radius * stretch + sheath)
        dy, dx = canvas.offsets(window, centre)
        if dy.size:
            turn = float(rng.uniform(0, np.pi))
            axon = ellipse(dy, dx, radius * stretch, radius / stretch, turn)
            if not (canvas.labels[window][axon > 0] > 0).any():
                canvas.paint(window, axon + np.float32(sheath), inner=axon, min_free=0.8)


def _neuropil(shape_yx: tuple[int, int], diameter: float, rng: np.random.Generator) -> Plane:
    """Draw what lies between fibres: granular, empty or full of thin processes, (H, W)."""
    level = rng.uniform(0.35, 0.95)
    ground = level + np.float32(rng.uniform(0.02, 0.12)) * smooth_noise(
        shape_yx, max(0.12 * diameter, 1.0), rng
    )
    if rng.random() < 0.6:  # membranes of thin processes
        skin = np.exp(-((smooth_noise(shape_yx, 0.2 * diameter + 1, rng) / 0.3) ** 2))
        ground -= np.float32(rng.uniform(0.1, 0.4)) * skin
    if rng.random() < 0.3:
        ground += np.float32(rng.uniform(0.05, 0.15)) * fibres(shape_yx, 0.3 * diameter + 2, rng)
    return np.asarray(np.clip(ground, 0.1, 1.1), np.float32)


def _add_mitochondria(light: Plane, scene: Scene, rng: np.random.Generator) -> None:
    """Darken ellipses with stripes inside of processes, in place."""
    height, width = scene.labels.shape
    size = 0.16 * scene.diameter
    for _ in range(int(rng.integers(0, 1 + min(height * width // int(scene.diameter**2), 60)))):
        centre = rng.uniform((0, 0), (height, width))
        if scene.depth[int(centre[0]), int(centre[1])] < size * 0.9:
            continue
        reach = int(2.2 * size) + 2
        rows = slice(max(int(centre[0]) - reach, 0), int(centre[0]) + reach)
        cols = slice(max(int(centre[1]) - reach, 0), int(centre[1]) + reach)
        part = light[rows, cols]
        y, x = np.ogrid[: part.shape[0], : part.shape[1]]
        dy = (y + rows.start - centre[0]).astype(np.float32)
        dx = (x + cols.start - centre[1]).astype(np.float32)
        turn = float(rng.uniform(0, np.pi))
        depth = ellipse(dy, dx, size * rng.uniform(1.0, 2.0), size * rng.uniform(0.6, 0.9), turn)
        stripes = np.sin((dx * np.cos(turn) + dy * np.sin(turn)) * np.float32(9 / size))
        dark = 0.22 + 0.1 * stripes + 0.25 * (depth < 1.2)
        fits = (depth > 0) & (scene.labels[rows, cols] > 0)
        part[fits] -= np.float32(rng.uniform(0.6, 1.2)) * dark[fits].astype(np.float32)
