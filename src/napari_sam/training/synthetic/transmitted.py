"""Cells without a stain, in transmitted light: phase contrast, and brightfield out of focus."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.synthetic.canvas import Canvas, Labels, Scene
from napari_sam.training.synthetic.layouts import draw_coverage, draw_diameter, scatter, tissue
from napari_sam.training.synthetic.noise import Plane, log_uniform, smooth_noise
from napari_sam.training.synthetic.optics import blur, expose
from napari_sam.training.synthetic.shapes import Blobs, Branched

__all__ = ["brightfield", "debris", "halo_image", "phase_contrast"]

Picture = tuple[NDArray[Any], Labels]


def phase_contrast(shape_yx: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Cells with bright halos and shade-off: spread, bipolar, branched, packed, rounded up."""
    diameter = draw_diameter(shape_yx, rng, 18, 140)
    scene = _cells(shape_yx, diameter, rng)
    phase = _optical_thickness(scene, rng)
    light = halo_image(phase, log_uniform(rng, 1.2, 0.12 * diameter), 1.1 - 0.5 * rng.random() ** 2)
    light += _rims(scene, rng)
    is_round = (scene.tag() > 0) * scene.dome(0.3 * diameter)
    # rounded cells are so thick that the phase turns over: bright, in a bright ring
    light += np.float32(rng.uniform(0.3, 0.9)) * blur(is_round, 1.0)
    ring = blur(is_round, 2.5) - is_round
    light += np.float32(rng.uniform(0.3, 0.9)) * np.maximum(ring, 0)
    contrast = log_uniform(rng, 0.25, 0.8)
    picture = 0.45 + contrast * light + 0.4 * _medium(shape_yx, diameter, rng)
    seen = blur(np.asarray(picture, np.float32), rng.uniform(0.4, 1.1))
    return expose(seen, rng, fewest_photons=300, most_uneven=0.35, bleached=0), scene.labels


def brightfield(shape_yx: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Cells seen by defocus: bright or dark rims, rings around them, or oblique shading.

    Away from focus the image differs from even light by the Laplacian of the phase (Teague, 1983,
    transport of intensity); a wider defocus is approximated by a difference of Gaussians.
    """
    diameter = draw_diameter(shape_yx, rng, 12, 160)
    scene = _cells(shape_yx, diameter, rng)
    phase = _optical_thickness(scene, rng)
    spread = log_uniform(rng, 0.6, max(0.05 * diameter, 0.8))
    near, far = blur(phase, spread), blur(phase, 1.8 * spread)
    light = (near - far) * np.float32(rng.choice([-1.0, 1.0]))
    if rng.random() < 0.4:  # a second ring, of the other sign
        light = light - 0.6 * (far - blur(phase, 3.5 * spread)) * np.sign(light.sum() or 1)
    if rng.random() < 0.3:  # light from one side
        turn = rng.uniform(0, 2 * np.pi)
        slope_y, slope_x = np.gradient(near)
        light = 1.5 * spread * (np.sin(turn) * slope_y + np.cos(turn) * slope_x)
    strongest = float(np.quantile(np.abs(light)[scene.labels > 0], 0.97))
    strength = rng.uniform(0.4, 1.3) / (strongest + 0.02)
    absorbed = np.float32(rng.uniform(0.0, 0.12)) * blur((scene.depth > 0) * phase, 1.0)
    picture = 0.5 + 0.3 * strength * light - absorbed + 0.3 * _medium(shape_yx, diameter, rng)
    return expose(
        np.asarray(picture, np.float32), rng, fewest_photons=300, most_uneven=0.35, bleached=0
    ), scene.labels


def halo_image(phase: Plane, width: float, share: float) -> Plane:
    """Look at a phase (H, W) through a phase plate: darker, in a bright halo.

    The ring also shifts light that the object bent a little. This light is the phase, smoothed
    (Yin et al., 2012, Medical Image Analysis 16:1047); taking it away makes the halo
    outside, and the shade-off inside of large cells.

    Parameters
    ----------
    phase : ndarray of float32
        (H, W).
    width : float
        Of the halo, in pixels.
    share : float
        How much of the smoothed phase is taken away.
    """
    smoothed = 0.6 * blur(phase, width) + 0.4 * blur(phase, 3 * width)
    return np.asarray(np.float32(share) * smoothed - phase, np.float32)


def debris(shape_yx: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Dark specks of a few pixels, and some bright ones, in patches (H, W)."""
    specks = smooth_noise(shape_yx, rng.uniform(0.8, 2.2), rng)
    patches = 0.7 * smooth_noise(shape_yx, rng.uniform(8, 30), rng)
    level = rng.uniform(2.6, 4.0)
    dark = np.clip(specks + patches - level, 0, 1)
    bright = np.clip(-specks + patches - level - 0.5, 0, 1)
    return np.asarray(0.6 * bright - dark, np.float32)


def _cells(shape_yx: tuple[int, int], diameter: float, rng: np.random.Generator) -> Scene:
    """Draw the cells of a culture, of one habit."""
    canvas = Canvas(shape_yx, diameter, rng, rng.uniform(0.01, 0.07), rng.uniform(0.1, 0.4))
    habit = rng.choice(["spread", "bipolar", "branched", "epithelial", "round"])
    shared = float(rng.uniform(0, np.pi)) if rng.random() < 0.4 else float("nan")
    rounded = float(rng.choice([0.0, 0.05, 0.15]))
    free = rng.uniform(0.65, 0.95)
    most = 6 if diameter > 30 else 4  # processes; more would not be seen on small cells
    paint: Blobs | Branched
    if habit == "epithelial":
        missing = float(rng.choice([0.0, 0.05, 0.3]))
        tissue(canvas, diameter, rng, gap=0.6, unequal=0.2, core=0.4, missing=missing)
        return canvas.finish()
    if habit == "round":
        paint = Blobs(diameter, rng.uniform(0.05, 0.25), rng.uniform(1.1, 2.5), 0.1, 0, free, 0.45)
    elif habit == "bipolar":
        paint = Branched(
            diameter, (2, 2), (0.8, 2.0), rng.uniform(0.5, 0.8), 0.3, free, rounded, shared
        )
    elif habit == "branched":
        paint = Branched(
            diameter, (2, most), (0.6, 1.8), rng.uniform(0.45, 0.7), 0.2, free, rounded
        )
    else:
        web = rng.uniform(0.3, 0.8)
        paint = Branched(
            diameter, (2, most), (0.5, 1.1), rng.uniform(0.7, 1.0), web, free, rounded, shared
        )
    scatter(canvas, paint, draw_coverage(rng, 0.04, 0.9), rng)
    return canvas.finish()


def _optical_thickness(scene: Scene, rng: np.random.Generator) -> Plane:
    """Phase shift of the cells (H, W): a rim, a thicker middle, nucleus, granules, and noise."""
    shape, diameter = scene.labels.shape, scene.diameter
    flat = rng.uniform(0.1, 0.7)
    phase = flat * scene.dome(max(0.04 * diameter, 1.2))
    phase += rng.uniform(0, 1 - flat) * scene.dome(rng.uniform(0.25, 0.6) * diameter)
    phase += np.float32(rng.uniform(0.0, 0.3)) * np.clip(scene.inner / (0.05 * diameter), 0, 1)
    grains = smooth_noise(shape, max(0.02 * diameter, 0.7), rng)
    middle = np.clip(scene.depth / (0.3 * diameter), 0, 1)
    phase += np.float32(rng.uniform(0.03, 0.25)) * grains * (0.2 + middle)
    if rng.random() < 0.6:  # vesicles
        phase += np.float32(rng.uniform(0.3, 1.0)) * np.clip(grains - 1.6, 0, 1) * middle
    edge = scene.edges() * np.float32(rng.uniform(0.0, 0.5))
    faint = scene.per_object_log(rng, rng.uniform(0.05, 0.45)).clip(0, 2.5)
    inside = scene.labels > 0
    return np.asarray(inside * np.maximum(faint, 0.35 * inside) * (phase + edge), np.float32)


def _rims(scene: Scene, rng: np.random.Generator) -> Plane:
    """Bright lines around cells and dark ones within, as strong as the cell is steep there."""
    inside = (scene.labels > 0).astype(np.float32)
    width = log_uniform(rng, 0.9, 2.5)
    near = blur(inside, width)
    rough = smooth_noise((inside.shape[0], inside.shape[1]), 0.3 * scene.diameter, rng)
    steep = np.clip(0.6 + 0.6 * rough, 0, 2) * np.float32(rng.uniform(0.0, 1.6))
    return np.asarray(steep * (near * (1 - inside) - 0.7 * (1 - near) * inside), np.float32)


def _medium(shape_yx: tuple[int, int], diameter: float, rng: np.random.Generator) -> Plane:
    """Dirt and slow unevenness of the ground, (H, W)."""
    ground = np.float32(rng.uniform(0.0, 0.06)) * smooth_noise(
        shape_yx, rng.uniform(0.3, 1.5) * diameter, rng
    )
    ground += np.float32(rng.uniform(0.0, 0.05)) * smooth_noise(shape_yx, rng.uniform(1, 3), rng)
    if rng.random() < 0.5:
        ground += np.float32(rng.uniform(0.2, 0.8)) * debris(shape_yx, rng)
    return np.asarray(ground, np.float32)
