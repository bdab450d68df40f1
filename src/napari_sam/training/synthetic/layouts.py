"""Where objects lie: scattered, in clusters, packed, in colonies, or as a tissue without gaps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.synthetic.canvas import Canvas
from napari_sam.training.synthetic.noise import Plane, log_uniform

__all__ = ["Paint", "draw_coverage", "draw_diameter", "scatter", "tissue"]

Paint = Callable[[Canvas, NDArray[np.float64], np.random.Generator], None]

MOST_TRIES = 340
"""Objects tried in an image of 256 x 256, so that small ones do not take for ever."""


MOST_REFUSED = 10
"""Objects without room, besides one for every second that had room, until a canvas is full."""


def draw_diameter(
    shape_yx: tuple[int, int], rng: np.random.Generator, low: float, high: float
) -> float:
    """Draw a typical diameter, log-uniform, that leaves room for something else in the image."""
    high = min(high, 0.7 * min(shape_yx))
    return log_uniform(rng, min(low, high / 2), high)


def draw_coverage(rng: np.random.Generator, low: float = 0.03, high: float = 0.85) -> float:
    """Draw what fraction of the image objects cover, sparse ones somewhat more often."""
    return low + (high - low) * float(rng.random() ** 1.3)


def scatter(canvas: Canvas, paint: Paint, coverage: float, rng: np.random.Generator) -> None:
    """Paint objects at random places, or in clusters, until they cover enough of the canvas.

    At least one is painted.

    Parameters
    ----------
    canvas : Canvas
        What to paint on.
    paint : callable
        Paints one object at a point.
    coverage : float
        The wanted fraction of pixels that belong to objects.
    rng : numpy.random.Generator
        Source of chance.
    """
    area = canvas.labels.size
    wanted = coverage * area
    needed = wanted / (0.6 * canvas.diameter**2)
    tries = int(min(3 * needed + 6, MOST_TRIES * area / 65536 + 30))
    refused = 0
    for centre in _points(canvas, tries, rng):
        if canvas.covered >= wanted or canvas.count > tries:
            break
        if refused > MOST_REFUSED + canvas.count // 2:
            break
        # look before painting in vain, which costs more
        if not canvas.is_taken(centre) and canvas.crowding(centre, 0.35 * canvas.diameter) < 0.5:
            before = canvas.covered
            paint(canvas, centre, rng)
            refused += canvas.covered == before
    middle = np.array(canvas.shape_yx) / 2
    for _ in range(20):
        if canvas.covered:
            break
        paint(canvas, middle, rng)


def _points(canvas: Canvas, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw points (N, 2) on and just outside of the canvas: uniform, or around some of them."""
    margin = min(0.4 * canvas.diameter, 20.0)
    size = np.array(canvas.shape_yx, float)
    points = rng.uniform(-margin, size + margin, (count, 2))
    if rng.random() < 0.4:
        parents = rng.uniform(0, size, (int(rng.integers(1, 8)), 2))
        reach = canvas.diameter * rng.uniform(0.8, 3.5)
        offsets = rng.normal(0, reach, (count, 2))
        near = parents[rng.integers(len(parents), size=count)] + offsets
        loners = rng.random(count) < rng.uniform(0, 0.3)
        points = np.where(loners[:, None], points, near)
    return points


def tissue(
    canvas: Canvas,
    spacing: float,
    rng: np.random.Generator,
    *,
    gap: float = 0.0,
    unequal: float = 0.0,
    core: float = 0.0,
    missing: float = 0.0,
    joined: float = 0.0,
) -> Plane:
    """Fill the canvas with the cells of a Voronoi diagram.

    Parameters
    ----------
    canvas : Canvas
        What to paint on.
    spacing : float
        Distance of the cells' seeds, in pixels.
    rng : numpy.random.Generator
        Source of chance.
    gap : float
        Half the distance between two cells, in pixels.
    unequal : float
        How unequal cells are: seeds push their borders by up to this fraction of the spacing.
    core : float
        Diameter of what a cell contains, as a fraction of the spacing.
    missing : float
        Fraction of cells left out.
    joined : float
        Fraction of seeds that belong to a neighbour's cell, which makes it long or angular.

    Returns
    -------
    ndarray of float32
        Distance to the border between cells, in pixels (H, W), whatever the gap.
    """
    grid = _jittered_grid(canvas.shape_yx, spacing, rng)
    numbers, seeds = _join(grid.shape[:2], joined, rng), grid.reshape(-1, 2)
    pushes = unequal * spacing * rng.uniform(-1, 1, len(seeds))
    nearest = np.full(canvas.shape_yx, 1e6, np.float32)
    second = nearest.copy()
    owner = np.zeros(canvas.shape_yx, np.int32)
    for number, seed, push in zip(numbers.tolist(), seeds, pushes, strict=True):
        window = canvas.window(seed, (1.7 + unequal) * spacing)
        dy, dx = canvas.offsets(window, seed)
        if not dy.size:
            continue
        away = np.sqrt(dy * dy + dx * dx) - np.float32(push)
        first, next_first, owners = nearest[window], second[window], owner[window]
        np.minimum(next_first, np.maximum(first, away), out=next_first, where=owners != number)
        np.copyto(owners, number, where=away < first)
        np.minimum(first, away, out=first)
    depth = np.asarray((second - nearest) * np.float32(0.5), np.float32)
    hidden = (rng.random(len(seeds) + 1) < missing)[owner]
    owner[(depth <= gap) | (hidden & (not hidden.all()))] = 0
    radius = core * spacing / 2 * rng.uniform(0.8, 1.2, len(seeds)) - 0.5 * pushes
    canvas.adopt(owner, depth - np.float32(gap), len(seeds))
    canvas.inner = np.append(0, radius).astype(np.float32)[owner] - nearest
    return depth


def _join(shape: tuple[int, ...], joined: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """Give each seed of a grid a number from 1, (N,), or that of the neighbour it joins."""
    numbers = np.arange(1, shape[0] * shape[1] + 1, dtype=np.int32).reshape(shape)
    takes, goes_up = rng.random(shape) < joined, rng.random(shape) < 0.5
    for row in range(1, shape[0]):
        for col in range(1, shape[1]):
            if takes[row, col]:
                other = (row - 1, col) if goes_up[row, col] else (row, col - 1)
                numbers[row, col] = numbers[other]
    return numbers.ravel()


def _jittered_grid(
    shape_yx: tuple[int, int], spacing: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Points of a hexagonal grid, moved at random, (rows, columns, 2), from beyond the plane."""
    rows = np.arange(-1, shape_yx[0] / (0.87 * spacing) + 2)
    cols = np.arange(-1, shape_yx[1] / spacing + 2)
    row, col = np.meshgrid(rows, cols, indexing="ij")
    points = np.stack([row * 0.87, col + 0.5 * (row % 2)], axis=-1)
    points += rng.normal(0, rng.uniform(0.1, 0.3), points.shape)
    return np.asarray(points * spacing)
