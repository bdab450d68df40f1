"""The plane that objects are painted on, one after the other, and what a microscope sees of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.training.synthetic.noise import Plane, smooth_noise

__all__ = ["MIN_PIXELS", "Canvas", "Labels", "Scene", "Window", "whole_objects"]

Labels = NDArray[np.int32]
Window = tuple[slice, slice]

_ANGLES = np.arange(8) * (np.pi / 4)
_CIRCLE_YX = np.stack([np.sin(_ANGLES), np.cos(_ANGLES)], axis=1)

MIN_PIXELS = 12
"""Smaller objects are not labelled."""


@dataclass(frozen=True)
class Scene:
    """Where objects lie, before any light falls on them.

    Attributes
    ----------
    labels : ndarray of int32
        (H, W), numbered from 1 without gaps; each object is one connected component.
    depth : ndarray of float32
        Distance to the edge of the object, about, in pixels (H, W); 0 outside.
    inner : ndarray of float32
        Distance to the edge of what an object contains (its nucleus, its axon), positive inside,
        in pixels (H, W).
    overlap : ndarray of float32
        How many objects are hidden below the one that is seen, (H, W).
    tags : ndarray of float32
        A number for each label that says what sort of object it is, (n + 1,).
    diameter : float
        Of a typical object, in pixels.
    """

    labels: Labels
    depth: Plane
    inner: Plane
    overlap: Plane
    tags: Plane
    diameter: float

    def per_object(self, rng: np.random.Generator, low: float, high: float) -> Plane:
        """Draw a value for each object, uniformly; 0 outside of them."""
        values = rng.uniform(low, high, self.tags.size).astype(np.float32)
        values[0] = 0
        return np.asarray(values[self.labels])

    def per_object_log(self, rng: np.random.Generator, spread: float) -> Plane:
        """Draw a factor for each object around 1, its logarithm normal; 0 outside of them."""
        values = np.exp(rng.normal(0, spread, self.tags.size).clip(-2.5, 2.5)).astype(np.float32)
        values[0] = 0
        return np.asarray(values[self.labels])

    def tag(self) -> Plane:
        """Each object's tag at its pixels, (H, W)."""
        return np.asarray(self.tags[self.labels])

    def dome(self, width: float) -> Plane:
        """Rise from 0 at an object's edge to 1 at the depth ``width``, round at the top."""
        rising = np.minimum(self.depth / max(width, 0.5), 1.0)
        return np.asarray(rising * (2 - rising), np.float32)

    def edges(self) -> Plane:
        """1 on both sides of a border between two labels, or between a label and ground."""
        found = np.zeros(self.labels.shape, np.float32)
        down = self.labels[1:] != self.labels[:-1]
        right = self.labels[:, 1:] != self.labels[:, :-1]
        for part, border in (
            (found[1:], down),
            (found[:-1], down),
            (found[:, 1:], right),
            (found[:, :-1], right),
        ):
            part[border] = 1
        return found


class Canvas:
    """A plane with coordinates that waver, so that no outline is a perfect curve.

    Parameters
    ----------
    shape_yx : tuple of int
        Rows and columns.
    diameter : float
        Of a typical object, in pixels.
    rng : numpy.random.Generator
        Source of chance.
    roughness : float
        How far the coordinates waver, as a fraction of the diameter.
    grain : float
        Over what distance they waver, as a fraction of the diameter.

    Attributes
    ----------
    y, x : ndarray of float32
        Coordinates of each pixel, (H, W).
    labels, depth, inner, overlap : ndarray
        As in :class:`Scene`; labels may still be in pieces.
    covered : int
        Pixels painted.
    """

    def __init__(
        self,
        shape_yx: tuple[int, int],
        diameter: float,
        rng: np.random.Generator,
        roughness: float = 0.0,
        grain: float = 0.35,
    ) -> None:
        self.shape_yx = shape_yx
        self.diameter = diameter
        rows, cols = np.indices(shape_yx, np.float32)
        self.y, self.x = rows, cols
        self._waver = 2.5 * roughness * diameter + 2  # how far a coordinate moves, at most
        if roughness > 0:
            for plane in (self.y, self.x):
                wave = smooth_noise(shape_yx, max(grain * diameter, 2.0), rng)
                plane += np.float32(roughness * diameter) * wave.clip(-2.5, 2.5)
        self.labels = np.zeros(shape_yx, np.int32)
        self.depth = np.zeros(shape_yx, np.float32)
        self.inner = np.full(shape_yx, -1e3, np.float32)
        self.overlap = np.zeros(shape_yx, np.float32)
        self.covered = 0
        self._tags = [0.0]

    @property
    def count(self) -> int:
        """Objects painted."""
        return len(self._tags) - 1

    def is_taken(self, centre: NDArray[np.float64]) -> bool:
        """Whether an object lies at a point (row, column), which may be outside of the plane."""
        row, col = int(centre[0]), int(centre[1])
        if not (0 <= row < self.shape_yx[0] and 0 <= col < self.shape_yx[1]):
            return False
        return bool(self.labels[row, col])

    def crowding(self, centre: NDArray[np.float64], radius: float) -> float:
        """Probe how much of a circle (row, column) is taken: a fraction of eight points on it."""
        points = (centre + radius * _CIRCLE_YX).astype(np.intp)
        inside = ((points >= 0) & (points < self.shape_yx)).all(axis=1)
        rows, cols = points[inside].T
        return float(np.count_nonzero(self.labels[rows, cols])) / len(_CIRCLE_YX)

    def window(self, centre: NDArray[np.float64], reach: float) -> Window:
        """Find the pixels within ``reach`` of a point: rows and columns, possibly none."""
        return self.window_around([centre.tolist()], reach)

    def window_around(self, points: list[list[float]], reach: float) -> Window:
        """Find the rows and columns of pixels within ``reach`` of any of some points."""
        reach += self._waver
        sides = []
        for places, length in zip(zip(*points, strict=True), self.shape_yx, strict=True):
            low = max(int(min(places) - reach), 0)
            sides.append(slice(low, max(min(int(max(places) + reach) + 1, length), low)))
        return sides[0], sides[1]

    def offsets(self, window: Window, centre: NDArray[np.float64]) -> tuple[Plane, Plane]:
        """Coordinates of a window's pixels, relative to a point."""
        return self.y[window] - np.float32(centre[0]), self.x[window] - np.float32(centre[1])

    def paint(
        self,
        window: Window,
        depth: Plane,
        *,
        inner: Plane | None = None,
        min_free: float = 0.75,
        above: bool = False,
        tag: float = 0.0,
    ) -> bool:
        """Add an object where ``depth`` is positive.

        Parameters
        ----------
        window : tuple of slice
            Where on the plane.
        depth : ndarray of float32
            Distance to the object's edge, positive inside, of the window's shape.
        inner : ndarray of float32, optional
            The same for what the object contains.
        min_free : float
            The fraction of the object that has to lie on ground.
        above : bool
            Whether it hides what is there already, or the other way round.
        tag : float
            What sort of object it is.

        Returns
        -------
        bool
            Whether there was room for it.
        """
        inside = depth > 0
        area = int(np.count_nonzero(inside))
        below = self.labels[window]
        shared = inside & (below > 0)
        if area < MIN_PIXELS or np.count_nonzero(shared) > (1 - min_free) * area:
            return False
        self.overlap[window][shared] += 1
        if not above:
            inside &= ~shared
        self._tags.append(tag)
        below[inside] = self.count
        self.depth[window][inside] = depth[inside]
        if inner is not None:
            self.inner[window][inside] = inner[inside]
        self.covered += int(np.count_nonzero(inside))
        return True

    def adopt(self, labels: Labels, depth: Plane, count: int) -> None:
        """Take objects over that were drawn elsewhere, numbered up to ``count``."""
        self.labels, self.depth = labels, np.maximum(depth, 0)
        self._tags = [0.0] * (count + 1)
        self.covered = int(np.count_nonzero(labels))

    def finish(self, labels: Labels | None = None) -> Scene:
        """Drop what is too small or in pieces, and number what stays.

        Parameters
        ----------
        labels : ndarray of int32, optional
            A part of what was painted, under the same numbers, instead of all of it.
        """
        painted = self.labels if labels is None else labels
        numbered, origins = whole_objects(painted)
        inside = numbered > 0
        return Scene(
            numbered,
            self.depth * inside,
            np.where(inside, self.inner, np.float32(-1e3)),
            self.overlap * inside,
            np.array(self._tags, np.float32)[origins],
            self.diameter,
        )


def whole_objects(labels: Labels) -> tuple[Labels, NDArray[np.int64]]:
    """Keep the largest piece of each label if it has :data:`MIN_PIXELS`, numbered without gaps.

    Returns
    -------
    tuple of ndarray
        The new labels (H, W), and the old number of each new one (n + 1,).
    """
    height, width = labels.shape
    filled = labels > 0
    # pixels at even places, and between them the links of those that have the same label
    links = np.zeros((2 * height - 1, 2 * width - 1), bool)
    links[::2, ::2] = filled
    links[1::2, ::2] = filled[1:] & (labels[1:] == labels[:-1])
    links[::2, 1::2] = filled[:, 1:] & (labels[:, 1:] == labels[:, :-1])
    pieces = ndimage.label(links)[0][::2, ::2]
    sizes = np.bincount(pieces.ravel())
    owners = np.zeros(sizes.size, np.int64)
    owners[pieces] = labels
    largest = np.zeros(int(labels.max()) + 1, np.int64)
    order = np.argsort(sizes, kind="stable")
    largest[owners[order]] = order  # the last one to be written is the largest
    kept = largest[1:]
    kept = kept[(kept > 0) & (sizes[kept] >= MIN_PIXELS)]
    numbers = np.zeros(sizes.size, np.int32)
    numbers[kept] = np.arange(1, kept.size + 1)
    return numbers[pieces], np.concatenate([[0], owners[kept]])
