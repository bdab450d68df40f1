"""Pixels that lie in a TIFF as they are, one row after another: any window is read by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["RawPages", "raw_pages"]

STRIP_BYTES = 2**18
"""Rows that are read at once from a file at a URL."""
SAMPLES_BYTES = 2**8
"""The last axes, up to this size together, count as one pixel: channels that lie side by side."""
ROW_BYTES = 2**14
"""The last axes are read whole up to this size: that takes less time than another short read."""


class RawPages:
    """The uncompressed pages of a TIFF as one array that reads what is indexed.

    Nothing is mapped into memory: a file on a network that fails raises an error, where a map would
    end the process.

    Parameters
    ----------
    series : tifffile.TiffPageSeries
        One whose pages hold their pixels in one piece each.
    offsets : list of int
        Where each page begins in the file, or where all of them begin that follow each other.
    is_local : bool
        Whether a short read costs little, so that a window is read row by row.
    """

    def __init__(self, series: Any, offsets: list[int], *, is_local: bool) -> None:
        keyframe = series.keyframe
        self._file = keyframe.parent.filehandle
        self._file.set_lock(True)
        self._offsets = offsets
        self._n_page_axes = 0 if len(offsets) == 1 else _n_page_axes(series)
        self._stored = np.dtype(keyframe.dtype).newbyteorder(keyframe.parent.byteorder)
        self.shape: tuple[int, ...] = tuple(int(length) for length in series.shape)
        self.dtype: np.dtype[Any] = self._stored.newbyteorder("=")
        self.chunks = self._pieces(SAMPLES_BYTES) if is_local else self._strips()

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        spans = [range(*span.indices(n)) for span, n in zip(index, self.shape, strict=True)]
        picked = [slice(None)] * len(spans)
        for axis, length in enumerate(self._pieces(ROW_BYTES)):
            if length > 1:
                picked[axis] = slice(spans[axis].start, spans[axis].stop)
                spans[axis] = range(length)
        block = self._read_block(spans)[tuple(picked)]
        return np.ascontiguousarray(block, dtype=self.dtype)  # not a view of all that was read

    def _read_block(self, spans: list[range]) -> NDArray[Any]:
        block = np.empty([len(span) for span in spans], dtype=self._stored)
        if block.size:
            n_outer = self._n_outer(spans)
            runs = block.reshape(math.prod(block.shape[:n_outer]), -1)
            with self._file.lock:
                for start, run in zip(self._starts(spans, n_outer), runs, strict=True):
                    self._read_run(start, run)
        return block

    def _pieces(self, n_bytes: int) -> tuple[int, ...]:
        """Take the last axes whole that have so many bytes together, and single elements else."""
        lengths, size = [1] * len(self.shape), self.dtype.itemsize
        for axis in reversed(range(self._n_page_axes, len(self.shape))):
            size *= self.shape[axis]
            if size > n_bytes:
                break
            lengths[axis] = self.shape[axis]
        return tuple(lengths)

    def _strips(self) -> tuple[int, ...]:
        """Cut each page into rows, several of them where they are short."""
        lengths, size = [1] * len(self.shape), self.dtype.itemsize
        for axis in reversed(range(self._n_page_axes, len(self.shape))):
            lengths[axis] = max(min(self.shape[axis], -(-STRIP_BYTES // size)), 1)
            size *= lengths[axis]
        return tuple(lengths)

    def _n_outer(self, spans: list[range]) -> int:
        """Count the axes before those along which a block lies in one piece of the file."""
        n_outer = len(spans) - 1
        while n_outer > self._n_page_axes and len(spans[n_outer]) == self.shape[n_outer]:
            n_outer -= 1
        return n_outer

    def _starts(self, spans: list[range], n_outer: int) -> Iterator[int]:
        """Yield where in the file each piece begins."""
        n_page = self._n_page_axes
        steps = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        inner = sum(
            span.start * step for span, step in zip(spans[n_outer:], steps[n_outer:], strict=True)
        )
        for outer in product(*spans[:n_outer]):
            number = 0
            for i, length in zip(outer[:n_page], self.shape, strict=False):
                number = number * length + i
            within = sum(
                i * step for i, step in zip(outer[n_page:], steps[n_page:n_outer], strict=True)
            )
            yield self._offsets[number] + (inner + within) * self._stored.itemsize

    def _read_run(self, start: int, run: NDArray[Any]) -> None:
        self._file.seek(start)
        left = memoryview(cast(Any, run.view(np.uint8)))
        while left:
            count = self._file.readinto(left)
            if not count:
                raise OSError("the file ends before its pixels")
            left = left[count:]


def raw_pages(series: Any, *, is_local: bool) -> RawPages | None:
    """Take the pages of a series as they lie in the file, where that can be done.

    Parameters
    ----------
    series : tifffile.TiffPageSeries
        A series, or one level of it.
    is_local : bool
        Whether the file lies on this machine.

    Returns
    -------
    RawPages or None
        None when the pages are compressed, lie in tiles, or in several files.
    """
    if not _is_plain(series):
        return None
    if series.dataoffset is not None:
        return RawPages(series, [series.dataoffset], is_local=is_local)
    pages = list(series.pages)
    if not all(_is_whole(page, series.keyframe) for page in pages):
        return None
    return RawPages(series, [page.dataoffsets[0] for page in pages], is_local=is_local)


def _is_plain(series: Any) -> bool:
    """Tell whether pixels are written as numpy has them, but for the order of bytes."""
    page = series.keyframe
    return bool(
        page.is_final
        and not (page.is_stk or page.is_lsm)  # their strips need not follow each other
        and page.dtype is not None
        and page.dtype == series.dtype
        and page.bitspersample == 8 * page.dtype.itemsize
        and series.transform is None
    )


def _is_whole(page: Any, keyframe: Any) -> bool:
    """Tell whether a page holds its pixels in one piece of the same file."""
    if page is None or page.parent is not keyframe.parent:
        return False
    starts, counts = list(page.dataoffsets), list(page.databytecounts)
    ends = [start + count for start, count in zip(starts, counts, strict=False)]
    return bool(
        starts
        and len(counts) == len(starts)
        and min(starts) > 0
        and starts[1:] == ends[:-1]
        and ends[-1] - starts[0] >= keyframe.nbytes
    )


def _n_page_axes(series: Any) -> int:
    """Count the axes along which the pages of a series follow each other."""
    n_axes = 0
    while math.prod(series.shape[:n_axes]) < len(series.pages):
        n_axes += 1
    return n_axes
