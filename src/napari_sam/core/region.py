"""Blocks of arrays and boxes in images: the only place that converts (row, column) and (x, y)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError

__all__ = ["Box", "Region", "xy_from_yx", "yx_from_xy"]


@dataclass(frozen=True)
class Region:
    """A half-open block of an array: ``start <= index < stop`` along each axis.

    Parameters
    ----------
    start, stop : tuple of int
        One value per axis, ``0 <= start <= stop``.

    Raises
    ------
    InputError
        When the two differ in length, or an axis runs backwards.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        ordered = all(0 <= a <= b for a, b in zip(self.start, self.stop, strict=False))
        if len(self.start) != len(self.stop) or not ordered:
            raise InputError(
                f"A region from {self.start} to {self.stop} was given",
                rule="A region has as many starts as stops, and 0 <= start <= stop on each axis",
                cure="Give the lower corner first",
            )

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Region:
        """Cover an array of this shape.

        Parameters
        ----------
        shape : sequence of int

        Returns
        -------
        Region
        """
        return cls((0,) * len(shape), tuple(int(length) for length in shape))

    @classmethod
    def around(cls, mask: NDArray[np.bool_]) -> Region:
        """Find the smallest rectangle that holds all pixels of a mask.

        Parameters
        ----------
        mask : ndarray of bool, shape (h, w)

        Returns
        -------
        Region
            Rows and columns of the mask; empty, at its first pixel, where no pixel is set.
        """
        rows = np.flatnonzero(mask.any(axis=1))
        if rows.size == 0:
            return cls((0, 0), (0, 0))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        cols = np.flatnonzero(mask[top:bottom].any(axis=0))
        return cls((top, int(cols[0])), (bottom, int(cols[-1]) + 1))

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def is_empty(self) -> bool:
        """Whether the region holds no element."""
        return 0 in self.shape

    @property
    def slices(self) -> tuple[slice, ...]:
        """The index that cuts this region out of an array."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def intersect(self, other: Region) -> Region:
        """Take the common part; empty where the two do not meet.

        Parameters
        ----------
        other : Region

        Returns
        -------
        Region
        """
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Region(start, tuple(max(a, b) for a, b in zip(start, stop, strict=True)))

    def grow(self, margin: int, shape: Sequence[int]) -> Region:
        """Widen by a margin on every side, within an array.

        Parameters
        ----------
        margin : int
            Elements to add on every side.
        shape : sequence of int
            Shape of the array, which the result does not leave.

        Returns
        -------
        Region
        """
        start = tuple(max(a - margin, 0) for a in self.start)
        return Region(
            start, tuple(min(b + margin, n) for b, n in zip(self.stop, shape, strict=True))
        )

    def relative_to(self, outer: Region) -> Region:
        """Count the same block from the start of an outer one that holds it.

        Parameters
        ----------
        outer : Region

        Returns
        -------
        Region

        Raises
        ------
        InputError
            When this region leaves the outer one.
        """
        if self.intersect(outer) != self:
            raise InputError(
                f"The region {self.start} to {self.stop} leaves {outer.start} to {outer.stop}",
                rule="A region can only be counted from one that holds it",
                cure="Intersect the two first",
            )
        return Region(
            tuple(a - o for a, o in zip(self.start, outer.start, strict=True)),
            tuple(b - o for b, o in zip(self.stop, outer.start, strict=True)),
        )

    def within(self, outer: Region) -> Region:
        """Count a block that was counted from the start of an outer one as that one is counted.

        The reverse of :meth:`relative_to`.

        Parameters
        ----------
        outer : Region

        Returns
        -------
        Region
        """
        return Region(
            tuple(a + o for a, o in zip(self.start, outer.start, strict=True)),
            tuple(b + o for b, o in zip(self.stop, outer.start, strict=True)),
        )


@dataclass(frozen=True)
class Box:
    """A rectangle in an image, in (x, y) pixel coordinates; right and bottom are exclusive.

    Parameters
    ----------
    left, top, right, bottom : int
        Edges, with ``left <= right`` and ``top <= bottom``.
    """

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def from_region(cls, region_yx: Region) -> Box:
        """Turn rows and columns into x and y.

        Parameters
        ----------
        region_yx : Region
            Two axes, rows then columns.

        Returns
        -------
        Box
        """
        (top, left), (bottom, right) = region_yx.start, region_yx.stop
        return cls(left, top, right, bottom)

    @property
    def region_yx(self) -> Region:
        """The same rectangle as rows and columns."""
        return Region((self.top, self.left), (self.bottom, self.right))

    @property
    def xyxy(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom


def xy_from_yx(points_yx: NDArray[Any]) -> NDArray[Any]:
    """Turn (row, column) points into (x, y) points.

    Parameters
    ----------
    points_yx : ndarray, shape (..., 2)

    Returns
    -------
    ndarray, shape (..., 2)
    """
    return np.ascontiguousarray(points_yx[..., ::-1])


def yx_from_xy(points_xy: NDArray[Any]) -> NDArray[Any]:
    """Turn (x, y) points into (row, column) points.

    Parameters
    ----------
    points_xy : ndarray, shape (..., 2)

    Returns
    -------
    ndarray, shape (..., 2)
    """
    return np.ascontiguousarray(points_xy[..., ::-1])
