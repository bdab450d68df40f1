"""Bacteria and yeast, in phase contrast, brightfield or fluorescence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.synthetic.canvas import Canvas, Labels, Scene
from napari_sam.training.synthetic.layouts import draw_coverage, draw_diameter, scatter
from napari_sam.training.synthetic.noise import Plane, log_uniform, smooth_noise
from napari_sam.training.synthetic.optics import blur, expose
from napari_sam.training.synthetic.shapes import Point, ellipse, merge
from napari_sam.training.synthetic.transmitted import debris, halo_image

__all__ = ["bacteria", "yeast"]

Picture = tuple[NDArray[Any], Labels]


def bacteria(shape_yx: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Rods: alone, in chains, or side by side in microcolonies."""
    width = min(log_uniform(rng, 5, 26), 0.12 * min(shape_yx))
    canvas = Canvas(shape_yx, 1.6 * width, rng, rng.uniform(0.0, 0.03), rng.uniform(0.5, 1.5))
    rods = _Rods(
        width,
        aspect=(rng.uniform(1.3, 2.5), rng.uniform(2.5, 7.0)),
        bend=float(rng.choice([0.0, 0.1, 0.35])),
        colony=int(rng.choice([1, 1, 4, 12, 40])),
        in_line=float(rng.choice([0.1, 0.3, 0.95])),
    )
    scatter(canvas, rods, draw_coverage(rng, 0.02, 0.7), rng)
    scene = canvas.finish()
    if rng.random() < 0.4:
        return expose(_glow(scene, rng), rng), scene.labels
    phase = scene.dome(0.35 * width) * scene.per_object(rng, 0.6, 1.0)
    phase -= np.float32(rng.uniform(0, 0.5)) * scene.edges() * (scene.labels > 0)
    light = halo_image(phase, rng.uniform(0.3, 0.8) * width, rng.uniform(0.4, 0.9))
    light *= np.float32(rng.choice([1.0, 1.0, -1.0]))
    return _seen_unstained(light, rng), scene.labels


def yeast(shape_yx: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Round budding cells with bright or dark rims; a large bud is a cell of its own."""
    diameter = draw_diameter(shape_yx, rng, 10, 80)
    canvas = Canvas(shape_yx, diameter, rng, rng.uniform(0.0, 0.02), 0.5)
    paint = _Budding(diameter, rng.uniform(0.05, 0.2), rng.uniform(1.05, 1.5), rng.uniform(0, 0.6))
    scatter(canvas, paint, draw_coverage(rng, 0.03, 0.75), rng)
    scene = canvas.finish()
    if rng.random() < 0.2:
        return expose(_glow(scene, rng), rng), scene.labels
    rim = log_uniform(rng, 0.04, 0.12) * diameter + 0.5
    inside = (scene.labels > 0).astype(np.float32)
    wall = np.exp(-(((scene.depth - rim) / rim) ** 2)) * inside
    vacuole = np.clip(scene.inner / (0.06 * diameter), 0, 1)
    body = rng.uniform(-0.5, 0.5) * scene.dome(0.3 * diameter) * scene.per_object(rng, 0.5, 1)
    sign = float(rng.choice([-1, 1]))
    grain = smooth_noise(scene.labels.shape, max(0.06 * diameter, 0.7), rng)
    light = sign * wall + body - sign * np.float32(rng.uniform(0, 0.6)) * vacuole
    light += np.float32(rng.uniform(0.02, 0.15)) * grain * inside
    outside = blur(inside, rim) * (1 - inside)
    light -= sign * np.float32(rng.uniform(0.4, 1.5)) * outside
    light += np.float32(rng.uniform(-0.3, 0.3)) * (blur(inside, 3 * rim) - inside)
    return _seen_unstained(np.asarray(light, np.float32), rng), scene.labels


def _glow(scene: Scene, rng: np.random.Generator) -> Plane:
    """Fluorescent microbes (H, W): all of the cell, or its wall, on a dim ground."""
    width = scene.diameter
    signal = scene.per_object_log(rng, rng.uniform(0.05, 0.5)).clip(0.25, 2.5)
    signal *= scene.labels > 0
    if rng.random() < 0.3:
        wall = np.exp(-((scene.depth / max(0.08 * width, 1.0)) ** 2))
        signal *= 0.25 + np.float32(0.9) * wall
    else:
        spots = smooth_noise(scene.labels.shape, max(0.12 * width, 0.8), rng)
        signal *= (0.4 + 0.6 * scene.dome(0.3 * width)) * (1 + 0.2 * spots)
        signal *= 1 - 0.3 * scene.edges()
    light = 0.5 * blur(signal, log_uniform(rng, 0.5, max(0.06 * width, 0.7)))
    haze = np.float32(rng.uniform(0, 0.2)) * blur(signal, width)
    return np.asarray(light + haze + 0.15 * rng.random() ** 2, np.float32)


def _seen_unstained(light: Plane, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Photograph what differs from even light."""
    shape = (light.shape[0], light.shape[1])
    medium = np.float32(rng.uniform(0, 0.05)) * smooth_noise(shape, rng.uniform(2, 40), rng)
    if rng.random() < 0.3:
        medium += np.float32(rng.uniform(0.1, 0.4)) * debris(shape, rng)
    seen = 0.5 + log_uniform(rng, 0.12, 0.4) * light + 0.4 * medium
    return expose(
        blur(seen, rng.uniform(0.4, 1.2)), rng, fewest_photons=200, most_uneven=0.35, bleached=0
    )


@dataclass(frozen=True)
class _Rods:
    """Rods that lie where others end or beside them.

    Attributes
    ----------
    width : float
        In pixels.
    aspect : tuple of float
        Least and greatest length over width.
    bend : float
        How far a rod is curved, as a fraction of its length.
    colony : int
        Rods that are painted together.
    in_line : float
        How often the next rod of a colony follows at the end and not at the side.
    """

    width: float
    aspect: tuple[float, float]
    bend: float
    colony: int
    in_line: float

    def __call__(self, canvas: Canvas, centre: Point, rng: np.random.Generator) -> None:
        """Paint a colony."""
        placed = [(centre, float(rng.uniform(0, np.pi)), self._one(canvas, centre, None, rng))]
        for _ in range(int(rng.integers(1, self.colony + 1)) - 1):
            middle, turn, length = placed[int(rng.integers(max(len(placed) - 6, 0), len(placed)))]
            next_turn = turn + float(rng.normal(0, 0.12))
            along = np.array([np.sin(turn), np.cos(turn)])
            side = float(rng.choice([-1, 1]))
            if rng.random() < self.in_line:
                place = middle + side * along * (length + 0.05 * self.width)
            else:
                across = np.array([np.cos(turn), -np.sin(turn)])
                slip = rng.uniform(-0.3, 0.3) * length
                place = middle + side * across * 1.05 * self.width + along * slip
            if not canvas.is_taken(place):
                placed.append((place, next_turn, self._one(canvas, place, next_turn, rng)))

    def _one(
        self, canvas: Canvas, centre: Point, turn: float | None, rng: np.random.Generator
    ) -> float:
        """Paint one rod, and return its length."""
        turn = float(rng.uniform(0, np.pi)) if turn is None else turn
        length = self.width * float(rng.uniform(*self.aspect))
        window = canvas.window(centre, length / 2 + self.width)
        dy, dx = canvas.offsets(window, centre)
        if dy.size:
            cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
            along, across = dx * cos + dy * sin, dy * cos - dx * sin
            if self.bend:
                across = across + np.float32(self.bend * rng.uniform(-4, 4) / length) * along**2
            half = max((length - self.width) / 2, 0.5)
            beyond = np.maximum(np.abs(along) - np.float32(half), 0)
            depth = np.float32(self.width / 2) - np.sqrt(beyond**2 + across**2)
            canvas.paint(window, depth, min_free=0.8)
        return length


@dataclass(frozen=True)
class _Budding:
    """Round cells, some with a bud.

    Attributes
    ----------
    diameter, spread, elongation : float
        As in :class:`~napari_sam.training.synthetic.shapes.Blobs`.
    budding : float
        Fraction of cells with a bud. Up to 0.65 of the mother's diameter it belongs to her.
    """

    diameter: float
    spread: float
    elongation: float
    budding: float

    def __call__(self, canvas: Canvas, centre: Point, rng: np.random.Generator) -> None:
        """Paint a cell, its bud, or a pair."""
        radius = self.diameter / 2 * float(np.exp(rng.normal(0, self.spread)))
        stretch = float(rng.uniform(1, self.elongation)) ** 0.5
        turn = float(rng.uniform(0, 2 * np.pi))
        share = float(rng.uniform(0.3, 1.0)) if rng.random() < self.budding else 0.0
        bud = share * radius
        away = (radius * stretch + 0.8 * bud) * np.array([np.sin(turn), np.cos(turn)])
        window = canvas.window(centre, radius * stretch + 2 * bud)
        dy, dx = canvas.offsets(window, centre)
        if not dy.size:
            return
        mother = ellipse(dy, dx, radius * stretch, radius / stretch, turn)
        shift = rng.uniform(-0.3, 0.3, 2) * radius
        size = rng.uniform(0.2, 0.5) * radius
        moved = dy - np.float32(shift[0]), dx - np.float32(shift[1])
        inner = ellipse(*moved, size, size, 0)
        if not bud:
            canvas.paint(window, mother, inner=inner, min_free=0.9)
            return
        child = ellipse(dy - np.float32(away[0]), dx - np.float32(away[1]), bud, 0.9 * bud, turn)
        if share <= 0.65:
            canvas.paint(window, merge(mother, child, 0.15 * radius), inner=inner, min_free=0.9)
        else:
            canvas.paint(window, mother, inner=inner, min_free=0.9)
            canvas.paint(window, child, min_free=0.8)
