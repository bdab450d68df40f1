"""Outlines of single objects: depth below the edge, in pixels, positive inside.

Each takes a canvas and a point and paints one object there; distances are those of the canvas, so
its wavering coordinates make every outline uneven.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.synthetic.canvas import Canvas, Window
from napari_sam.training.synthetic.noise import Plane

__all__ = ["Blobs", "Branched", "ellipse", "merge", "stroke"]

Point = NDArray[np.float64]


def ellipse(dy: Plane, dx: Plane, long: float, short: float, turn: float) -> Plane:
    """Depth in an ellipse with the given half axes, the long one at ``turn`` from the columns."""
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along = (dx * cos + dy * sin) / np.float32(long)
    across = (dy * cos - dx * sin) / np.float32(short)
    reach = np.sqrt(along * along + across * across)
    return np.asarray((1 - reach) * np.float32(short), np.float32)


def stroke(dy: Plane, dx: Plane, start: Point, end: Point, wide: float, narrow: float) -> Plane:
    """Depth in a line with round ends whose half width goes from ``wide`` to ``narrow``."""
    way = (end - start).astype(np.float32)
    from_y, from_x = dy - np.float32(start[0]), dx - np.float32(start[1])
    length = max(float(way @ way), 1e-6)
    place = (from_y * way[0] + from_x * way[1]) / np.float32(length)
    np.minimum(np.maximum(place, 0, out=place), 1, out=place)
    off_y, off_x = from_y - place * way[0], from_x - place * way[1]
    away = np.sqrt(off_y * off_y + off_x * off_x)
    return np.asarray(wide + (narrow - wide) * place - away, np.float32)


def merge(one: Plane, other: Plane, width: float) -> Plane:
    """Unite two shapes; where both edges are within ``width``, a web of skin rounds the corner."""
    near = np.maximum(1 - np.abs(one - other) / np.float32(width), 0)
    return np.asarray(np.maximum(one, other) + near * near * np.float32(width / 4), np.float32)


@dataclass(frozen=True)
class Blobs:
    """Round, long or lobed objects, such as nuclei.

    Attributes
    ----------
    diameter : float
        Of a typical one, in pixels.
    spread : float
        Deviation of the logarithm of the diameter.
    elongation : float
        Long axis over short axis, at most.
    lobes : float
        Depth of the lobes, as a fraction of the radius.
    dividing : float
        Fraction of objects that are two halves side by side, each an object (tag 1).
    min_free : float
        The fraction of an object that has to lie on ground.
    core : float
        Diameter of what an object contains, as a fraction of its own; 0 for nothing.
    aligned : float
        A direction that all share, in radians, or NaN.
    tag : float
        What sort of object it is.
    """

    diameter: float
    spread: float = 0.2
    elongation: float = 1.5
    lobes: float = 0.0
    dividing: float = 0.0
    min_free: float = 0.8
    core: float = 0.0
    aligned: float = float("nan")
    tag: float = 0.0

    def __call__(self, canvas: Canvas, centre: Point, rng: np.random.Generator) -> None:
        """Paint one, or two halves."""
        radius = self.diameter / 2 * float(np.exp(rng.normal(0, self.spread)))
        stretch = float(rng.uniform(1, self.elongation)) ** 0.5
        turn = float(rng.uniform(0, np.pi))
        if not np.isnan(self.aligned):
            turn = self.aligned + float(rng.normal(0, 0.25))
        if rng.random() < self.dividing:
            self._halves(canvas, centre, radius, turn, rng)
            return
        window = canvas.window(centre, radius * stretch * (1 + self.lobes))
        dy, dx = canvas.offsets(window, centre)
        if not dy.size:
            return
        depth = ellipse(dy, dx, radius * stretch, radius / stretch, turn)
        if self.lobes:
            depth += _waves(dy, dx, self.lobes * radius, rng)
        inner = None
        if self.core:
            size = self.core * radius * float(rng.uniform(0.85, 1.15))
            shift = rng.uniform(-0.25, 0.25, 2) * (radius / stretch - size)
            moved = dy - np.float32(shift[0]), dx - np.float32(shift[1])
            inner = ellipse(*moved, size * stretch**0.6, size / stretch**0.6, turn)
        above = bool(rng.random() < 0.5)
        canvas.paint(window, depth, inner=inner, min_free=self.min_free, above=above, tag=self.tag)

    def _halves(
        self, canvas: Canvas, centre: Point, radius: float, turn: float, rng: np.random.Generator
    ) -> None:
        """Paint the two halves of a dividing object: plates that face each other."""
        apart = radius * float(rng.uniform(0.4, 0.9))
        for side in (-1, 1):
            middle = centre + side * apart * np.array([np.cos(turn), -np.sin(turn)])
            window = canvas.window(middle, radius)
            dy, dx = canvas.offsets(window, middle)
            if dy.size:
                depth = ellipse(dy, dx, 0.75 * radius, 0.36 * radius, turn)
                canvas.paint(window, depth, tag=1)


def _waves(dy: Plane, dx: Plane, height: float, rng: np.random.Generator) -> Plane:
    """Lobes around a point: two harmonics of the angle."""
    angle = np.arctan2(dy, dx)
    waves = np.zeros_like(angle)
    for harmonic in (2, 3):
        phase, part = np.float32(rng.uniform(0, 2 * np.pi)), np.float32(rng.uniform(0.2, 1.0))
        waves += part * np.sin(harmonic * angle + phase)
    return np.asarray(waves * np.float32(height / 2), np.float32)


@dataclass(frozen=True)
class Branched:
    """Spread cells: a body with processes, webbed where they leave it.

    Attributes
    ----------
    diameter : float
        Of a typical cell, of its area, in pixels.
    processes : tuple of int
        Fewest and most processes; two lie opposite each other.
    reach : tuple of float
        Shortest and longest process, in diameters.
    body : float
        Diameter of the body over that of the cell.
    web : float
        Width of the web, as a fraction of the diameter.
    min_free : float
        The fraction of a cell that has to lie on ground.
    round : float
        Fraction of cells that are rounded up, before they divide (tag 1).
    aligned : float
        A direction that all share, in radians, or NaN.
    """

    diameter: float
    processes: tuple[int, int] = (2, 5)
    reach: tuple[float, float] = (0.5, 1.4)
    body: float = 0.7
    web: float = 0.4
    min_free: float = 0.8
    round: float = 0.0
    aligned: float = float("nan")

    def __call__(self, canvas: Canvas, centre: Point, rng: np.random.Generator) -> None:
        """Paint one."""
        size = self.diameter * float(np.exp(rng.normal(0, 0.2)))
        if rng.random() < self.round:
            Blobs(0.6 * size, 0.1, 1.2, core=0.4, tag=1)(canvas, centre, rng)
            return
        turn = float(rng.uniform(0, 2 * np.pi))
        if not np.isnan(self.aligned):
            turn = self.aligned + float(rng.normal(0, 0.2)) + np.pi * float(rng.integers(2))
        long = self.body * size / 2 * float(rng.uniform(1.0, 1.5))
        short = (self.body * size / 2) ** 2 / long
        ends = self._ends(size, turn, rng)
        web = self.web * size
        points = [centre.tolist(), *(centre + ends).tolist()]
        window = canvas.window_around(points, long + web / 2)
        dy, dx = canvas.offsets(window, centre)
        if not dy.size:
            return
        depth = ellipse(dy, dx, long, short, turn)
        for end in ends:
            tip = float(rng.uniform(0.02, 0.08)) * size * 0.5 + 0.7
            part = _around(window, centre, end, 0.55 * short + web + 0.2 * canvas.diameter)
            limb = stroke(dy[part], dx[part], np.zeros(2), end, 0.55 * short, tip)
            depth[part] = merge(depth[part], limb, web)
        core = ellipse(dy, dx, 0.45 * long, 0.6 * short, turn)
        above = bool(rng.random() < 0.5)
        canvas.paint(window, depth, inner=core, min_free=self.min_free, above=above)

    def _ends(self, size: float, turn: float, rng: np.random.Generator) -> Point:
        """Draw where processes end, relative to the centre (N, 2): about evenly all around."""
        count = int(rng.integers(self.processes[0], self.processes[1] + 1))
        lengths = size * rng.uniform(*self.reach, count)
        angles = turn + 2 * np.pi * np.arange(count) / count + rng.normal(0, 0.3, count)
        return np.stack([lengths * np.sin(angles), lengths * np.cos(angles)], axis=1)


def _around(window: Window, centre: Point, end: Point, reach: float) -> Window:
    """Find the part of a window that lies within ``reach`` of the way from its centre to an end."""
    parts = []
    for side, middle, way in zip(window, centre.tolist(), end.tolist(), strict=True):
        start = middle - side.start
        low, high = start + min(way, 0) - reach, start + max(way, 0) + reach
        length = side.stop - side.start
        parts.append(slice(min(max(int(low), 0), length), min(max(int(high) + 1, 0), length)))
    return parts[0], parts[1]
