"""The arrays of a label image: what they must be, and how their levels are written together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError, OutputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region

__all__ = ["block_lengths", "blocks_of", "checked_levels", "output_errors", "write_level"]

BLOCK_PIXELS = 2**22
"""Pixels that are held at once while a label image is searched or changed."""


def blocks_of(region: Region, n_pixels: int | None = None) -> Iterator[Region]:
    """Cut a region into bands of rows that are small enough to be held.

    Parameters
    ----------
    region : Region
        Rows and columns.
    n_pixels : int, optional
        Pixels of a band at most, where a row has no more; :data:`BLOCK_PIXELS` by default.

    Yields
    ------
    Region
    """
    (top, left), (bottom, right) = region.start, region.stop
    rows = max((n_pixels or BLOCK_PIXELS) // max(right - left, 1), 1)
    for start in range(top, bottom, rows):
        yield Region((start, left), (min(start + rows, bottom), right))


def write_level(
    array: Any, factors: Sequence[int], plane: Plane, region: Region, values: NDArray[Any]
) -> None:
    """Write into one level what belongs to a part of a plane of the full one.

    Parameters
    ----------
    array : array-like
        The level.
    factors : sequence of int
        Pixels of the full level along a side of one of this level, per array axis.
    plane : Plane
        A plane of the full level. It need not exist in a coarser one.
    region : Region
        Rows and columns of the full level.
    values : ndarray of int, shape (rows, columns)
        At full resolution.
    """
    position = []
    for axis, index in zip(plane.other_axes, plane.position, strict=True):
        if index % factors[axis]:
            return  # this level leaves out the plane
        position.append(index // factors[axis])
    steps = [factors[axis] for axis in plane.axes_yx]
    start = tuple(-(-a // step) for a, step in zip(region.start, steps, strict=True))
    stop = tuple(-(-b // step) for b, step in zip(region.stop, steps, strict=True))
    first = [a * step - b for a, step, b in zip(start, steps, region.start, strict=True)]
    level_plane = Plane(plane.axes_yx, tuple(position))
    if any(i >= array.shape[axis] for axis, i in zip(plane.other_axes, position, strict=True)):
        return  # a level whose last plane was rounded away
    inside = Region(start, stop).intersect(Region.whole(level_plane.shape_yx(array.shape)))
    if not inside.is_empty:
        coarse = values[first[0] :: steps[0], first[1] :: steps[1]]
        rows, cols = inside.shape
        level_plane.write(array, inside, coarse[:rows, :cols].astype(array.dtype, copy=False))


def block_lengths(array: Any) -> tuple[int, ...]:
    """Choose the lengths of blocks in which an array is searched.

    Parameters
    ----------
    array : array-like
        Numpy or Zarr array.

    Returns
    -------
    tuple of int
        Whole chunks along each axis, up to about four million elements.
    """
    shape = tuple(int(length) for length in array.shape)
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None) or (1,) * len(shape)
    lengths = [min(chunk, max(n, 1)) for chunk, n in zip(chunks, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        fit = max(BLOCK_PIXELS // math.prod(lengths), 1)
        lengths[axis] = min(lengths[axis] * fit, max(shape[axis], 1))
    return tuple(lengths)


def checked_levels(
    levels: Sequence[Any], factors: Sequence[tuple[int, ...]] | None
) -> tuple[tuple[Any, ...], tuple[tuple[int, ...], ...]]:
    """Check the arrays of a label image.

    Parameters
    ----------
    levels, factors
        As :class:`~napari_sam.pipeline.label_target.LabelTarget` takes them.

    Returns
    -------
    levels : tuple of array-like
    factors : tuple of tuple of int
        One per level and array axis.

    Raises
    ------
    InputError
        When an array is no label image or cannot be written, or levels and factors do not fit.
    """
    for array in levels:
        _check_array(array)
    n_dimensions = len(levels[0].shape) if levels else 0
    given = ((1, 1),) if factors is None else factors
    whole = tuple((1,) * (n_dimensions - len(row)) + tuple(map(int, row)) for row in given)
    fits = len(whole) == len(levels) and all(len(array.shape) == n_dimensions for array in levels)
    fits = fits and all(len(row) == n_dimensions and min(row) >= 1 for row in whole)
    if not fits or set(whole[0]) != {1}:
        raise InputError(
            f"A label image of {len(levels)} levels was given with the factors {factors}",
            rule="All levels have the same axes, and each has a factor per axis, 1 for the first",
            cure="Give for example factors=((1, 1), (2, 2)) with two levels",
        )
    return tuple(levels), whole


def _check_array(array: Any) -> None:
    is_label = np.dtype(array.dtype).kind in "ui" and len(array.shape) >= 2
    flags = getattr(array, "flags", None)
    is_fixed = getattr(array, "read_only", False) or not getattr(flags, "writeable", True)
    if not is_label or is_fixed or hasattr(array, "compute"):
        kind = f"{type(array).__name__} of type {array.dtype} and shape {tuple(array.shape)}"
        raise InputError(
            f"A {'read-only ' if is_fixed else ''}{kind} was given as label image",
            rule="Objects are written to integer labels in a numpy or Zarr array of two or more "
            "axes that may be changed in place",
            cure="Use a new labels layer, or save the labels as OME-Zarr and open them to write",
        )


@contextmanager
def output_errors(done: str) -> Iterator[None]:
    """Turn the operating system's errors into messages with a cure.

    Parameters
    ----------
    done : str
        What was tried, as "written".

    Raises
    ------
    OutputError
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The labels cannot be {done}: {error.strerror or error}",
            rule="The label image stays where it is, on a disk with free space",
            cure="Free space or bring the folder back, and repeat the step",
        ) from error
