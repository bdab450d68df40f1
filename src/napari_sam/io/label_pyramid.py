"""Array-likes over Zarr arrays that read and write through: nothing is kept in memory."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError, OutputError

__all__ = ["ArrayView", "LabelPyramid", "RepeatedView", "factors_yx"]


class _ArrayLike(ABC):
    """What follows from the shape and the elements of an array."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @abstractmethod
    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read elements."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype=dtype)


class _View(_ArrayLike):
    """One array in another shape."""

    def __init__(self, array: Any, shape: tuple[int, ...], dtype: Any = None) -> None:
        self.array = array
        self.dtype: np.dtype[Any] = np.dtype(array.dtype if dtype is None else dtype)
        self._shape = shape

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._shape

    @property
    def read_only(self) -> bool:
        """Whether the array cannot be written."""
        return bool(getattr(self.array, "read_only", False))


class ArrayView(_View):
    """An array with some axes held at one index, read and written only where it is indexed.

    Parameters
    ----------
    array : array-like
        Anything with ``shape``, ``dtype`` and indexing, such as a Zarr array.
    fixed : dict of int to int
        Index along each axis that the view leaves out.
    dtype : dtype, optional
        Type that elements are read as; that of the array when not given.
    """

    def __init__(
        self, array: Any, fixed: Mapping[int, int] | None = None, dtype: Any = None
    ) -> None:
        self._fixed = dict(fixed or {})
        self._axes = [axis for axis in range(len(array.shape)) if axis not in self._fixed]
        super().__init__(array, tuple(int(array.shape[axis]) for axis in self._axes), dtype)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Length of a chunk along each axis; the whole axis where the array has no chunks."""
        chunks = getattr(self.array, "chunks", None) or self.array.shape
        return tuple(int(chunks[axis]) for axis in self._axes)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self.array[self._index(key)]).astype(self.dtype, copy=False)

    def __setitem__(self, key: Any, values: Any) -> None:
        self.array[self._index(key)] = values

    def _index(self, key: Any) -> tuple[Any, ...]:
        index: list[Any] = [self._fixed.get(axis) for axis in range(len(self.array.shape))]
        for axis, entry in zip(self._axes, expand_key(key, self.ndim), strict=True):
            index[axis] = entry
        return tuple(index)


class RepeatedView(_View):
    """An array with one more axis, along which it is the same everywhere.

    So labels of an image with channels are there whichever channel is looked at.

    Parameters
    ----------
    array : array-like
        Anything with ``shape``, ``dtype`` and indexing, such as a Zarr array.
    axis : int
        The axis of the view that the array lacks.
    length : int
        Its length.
    """

    def __init__(self, array: Any, axis: int, length: int) -> None:
        shape = tuple(int(n) for n in array.shape)
        super().__init__(array, (*shape[:axis], length, *shape[axis:]))
        self.axis = axis

    @property
    def chunks(self) -> tuple[int, ...]:
        """Length of a chunk along each axis; the whole axis where the array has no chunks."""
        chunks = tuple(getattr(self.array, "chunks", None) or self.array.shape)
        return (*chunks[: self.axis], self.shape[self.axis], *chunks[self.axis :])

    def __getitem__(self, key: Any) -> NDArray[Any]:
        index, place, count = self._split(key)
        block = np.asarray(self.array[index])
        if count is None:
            return block
        return np.repeat(np.expand_dims(block, place), count, axis=place)

    def __setitem__(self, key: Any, values: Any) -> None:
        index, place, count = self._split(key)
        if count == 0:
            return
        block = np.asarray(values)
        n_after = sum(isinstance(entry, slice) for entry in index) - place
        if count is not None and block.ndim > n_after:  # it has a value for each repetition
            block = block.take(0, axis=block.ndim - n_after - 1)
        self.array[index] = block

    def _split(self, key: Any) -> tuple[tuple[Any, ...], int, int | None]:
        """Take the repeated axis out of an index: what is left, where it was, how often."""
        entries = expand_key(key, self.ndim)
        entry = entries.pop(self.axis)
        place = sum(isinstance(before, slice) for before in entries[: self.axis])
        length = self.shape[self.axis]
        count = len(range(*entry.indices(length))) if isinstance(entry, slice) else None
        return tuple(entries), place, count


class LabelPyramid(_ArrayLike):
    """A label pyramid that is used as its full resolution; what is written reaches every level.

    A coarser level holds every n-th row and column of the full resolution, starting with pixel 0.

    Parameters
    ----------
    levels : sequence of array-like
        The full resolution first; only rows and columns (the last two axes) shrink.
    """

    def __init__(self, levels: Sequence[Any]) -> None:
        self.levels = tuple(levels)
        self.factors_yx = factors_yx([level.shape for level in self.levels])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the full resolution."""
        return tuple(int(length) for length in self.levels[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the ids."""
        dtype: np.dtype[Any] = np.dtype(self.levels[0].dtype)
        return dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """Length of a chunk along each axis."""
        return tuple(getattr(self.levels[0], "chunks", None) or self.shape)

    @property
    def read_only(self) -> bool:
        """Whether the arrays cannot be written."""
        return any(getattr(level, "read_only", False) for level in self.levels)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self.levels[0][key])

    def __setitem__(self, key: Any, values: Any) -> None:
        if self.read_only:
            raise OutputError(
                "Labels that may only be read were to be changed",
                rule="Labels on the disk are changed where they are, which needs the permission",
                cure="Save them under another name and open those, or change the permissions",
            )
        if isinstance(key, np.ndarray) and key.dtype == bool:
            key = np.nonzero(key)
        entries = expand_key(key, self.ndim)
        if all(isinstance(entry, slice) or np.ndim(entry) == 0 for entry in entries):
            self._set_block(entries, values)
        else:
            self._set_pixels(entries, values)

    def _set_block(self, entries: list[Any], values: Any) -> None:
        spans = [_as_span(entry, n) for entry, n in zip(entries, self.shape, strict=True)]
        kept = [isinstance(entry, slice) for entry in entries]
        block = np.broadcast_to(
            values, [len(span) for span, keep in zip(spans, kept, strict=True) if keep]
        ).reshape([len(span) for span in spans])
        for level, (row, column) in zip(self.levels, self.factors_yx, strict=True):
            steps = [1] * (self.ndim - 2) + [row, column]
            # Levels that were divided rounding down end before the last kept row.
            target = [
                range(-(-span.start // step), min(-(-span.stop // step), length))
                for span, step, length in zip(spans, steps, level.shape, strict=True)
            ]
            if all(target):
                source = tuple(
                    slice(to[0] * step - span.start, to[-1] * step - span.start + 1, step)
                    for span, to, step in zip(spans, target, steps, strict=True)
                )
                level[tuple(slice(to.start, to.stop) for to in target)] = block[source]

    def _set_pixels(self, entries: list[Any], values: Any) -> None:
        if any(isinstance(entry, slice) for entry in entries):
            raise _unsupported(entries)
        indices = np.broadcast_arrays(*(np.asarray(entry) for entry in entries))
        values = np.broadcast_to(values, indices[0].shape)
        for level, (row, column) in zip(self.levels, self.factors_yx, strict=True):
            held = (indices[-2] % row == 0) & (indices[-1] % column == 0)
            held &= (indices[-2] // row < level.shape[-2]) & (
                indices[-1] // column < level.shape[-1]
            )
            target = [index[held] for index in indices]
            target[-2:] = target[-2] // row, target[-1] // column
            if target[0].size:
                level[tuple(target)] = values[held]


def factors_yx(shapes: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Find by how much the levels of a pyramid are reduced.

    Parameters
    ----------
    shapes : sequence of shape
        Shape of each level, the full resolution first.

    Returns
    -------
    tuple of (int, int)
        Rows and columns of the full resolution per row and column of each level.
    """
    factors = [(1, 1)]
    for fine, coarse in pairwise(shapes):  # from level to level, where rounding errors are small
        row, column = (max(round(fine[axis] / coarse[axis]), 1) for axis in (-2, -1))
        factors.append((factors[-1][0] * row, factors[-1][1] * column))
    return tuple(factors)


def expand_key(key: Any, ndim: int) -> list[Any]:
    """Write out an index with one entry per axis.

    Parameters
    ----------
    key : index
        What stands between the brackets of ``array[...]``.
    ndim : int
        Number of axes of the array.

    Returns
    -------
    list
        ``ndim`` entries.
    """
    entries = list(key) if isinstance(key, tuple) else [key]
    dots = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    at = dots[0] if dots else len(entries)
    missing = ndim - len(entries) + len(dots)
    return [*entries[:at], *[slice(None)] * missing, *entries[at + len(dots) :]]


def _as_span(entry: Any, length: int) -> range:
    """Return the positions that a slice or an index means."""
    if isinstance(entry, slice):
        span = range(*entry.indices(length))
        if span.step != 1:
            raise _unsupported(entry)
        return span
    start = range(length)[int(entry)]
    return range(start, start + 1)


def _unsupported(entry: Any) -> InputError:
    return InputError(
        f"Labels were to be written at {entry}",
        rule="A label pyramid is written in blocks without gaps, or pixel by pixel",
        cure="Use slices without a step, or one array of positions per axis",
    )
