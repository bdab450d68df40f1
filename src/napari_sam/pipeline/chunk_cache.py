"""Decoded chunks of a slice, kept for the tiles that read them again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, chain, groupby, pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.region import Region

__all__ = ["REQUEST_BYTES", "ChunkCache"]

REQUEST_BYTES = 2**26
"""Chunks that are read in one request, about: they are held twice while they are taken apart."""

_Block = tuple[range, range]
"""Rows and columns of the grid of chunks."""


class ChunkCache:
    """Reads windows of slices through their chunks, so that each chunk is decoded once.

    That holds while windows come in row-major order, slice after slice, and a row of them fits
    the budget. Chunks above the window asked for are dropped, so what is kept is about a row of
    windows. In any other order the pixels are the same, and chunks are read again.

    Used by one thread at a time.

    Parameters
    ----------
    read : callable
        Takes the index of a slice and a region of it made of whole chunks; returns its pixels, of
        shape (h, w, C).
    lengths_yx : tuple of (tuple of int, tuple of int)
        Lengths of the chunks along rows and columns.
    pixel_bytes : int
        Size of a pixel of what `read` returns.
    budget : int
        Bytes that are kept at most; one chunk is kept in any case, as it was in memory whole when
        it was decoded.

    Attributes
    ----------
    n_pixels_read : int
        Pixels that were read so far, each as often as it was.
    """

    def __init__(
        self,
        read: Callable[[tuple[int, ...], Region], NDArray[Any]],
        lengths_yx: tuple[tuple[int, ...], tuple[int, ...]],
        pixel_bytes: int,
        budget: int,
    ) -> None:
        self._read = read
        self._edges = tuple(list(accumulate(lengths, initial=0)) for lengths in lengths_yx)
        self._pixel_bytes = pixel_bytes
        self._budget = budget
        self._position: tuple[int, ...] | None = None
        self._kept: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self.n_bytes = 0
        self.n_pixels_read = 0

    def get(self, position: tuple[int, ...], window: Region) -> NDArray[Any]:
        """Read a window of a slice.

        Parameters
        ----------
        position : tuple of int
            Index of the slice along the axes before YX.
        window : Region
            Rows and columns, not empty.

        Returns
        -------
        ndarray, shape (h, w, C)
            Not to be written to.
        """
        self._forget(position, window.start[0])
        block = self._block(window)
        chunk = (block[0][0], block[1][0])
        if len(block[0]) == len(block[1]) == 1 and chunk in self._kept:
            self._kept.move_to_end(chunk)
            return self._kept[chunk][window.relative_to(self._region(block)).slices]
        parts = self._parts(position, block, list(self._missing(block)))
        first = next(parts)
        pixels = np.empty((*window.shape, first[1].shape[-1]), dtype=first[1].dtype)
        for region, part in chain([first], parts):
            common = region.intersect(window)
            pixels[common.relative_to(window).slices] = part[common.relative_to(region).slices]
        return pixels

    def band_bytes(self, windows: Iterable[Region]) -> int:
        """Tell what is kept while windows are read in row-major order.

        Parameters
        ----------
        windows : iterable of Region

        Returns
        -------
        int
            Size of the chunks that the widest row of windows lies in, or the budget.
        """
        rows = {self._block(window)[0] for window in windows}
        top_bottom = [(self._edges[0][span.start], self._edges[0][span.stop]) for span in rows]
        tallest = max(bottom - top for top, bottom in top_bottom)
        sides = [max(b - a for a, b in pairwise(edges)) for edges in self._edges]
        band = tallest * self._edges[1][-1] * self._pixel_bytes
        return min(band, max(self._budget, sides[0] * sides[1] * self._pixel_bytes))

    def _parts(
        self, position: tuple[int, ...], block: _Block, missing: list[_Block]
    ) -> Iterator[tuple[Region, NDArray[Any]]]:
        """Yield all pixels of a block: first those that are kept, as reading may drop them."""
        for chunk in product(*block):
            if chunk in self._kept:
                self._kept.move_to_end(chunk)
                yield self._region(_as_block(chunk)), self._kept[chunk]
        for request in missing:
            region = self._region(request)
            pixels = self._read(position, region)
            self.n_pixels_read += region.shape[0] * region.shape[1]
            yield region, pixels
            self._keep(request, region, pixels)

    def _forget(self, position: tuple[int, ...], top: int) -> None:
        """Drop what lies in other slices, and above."""
        if position != self._position:
            self._kept.clear()
            self._position, self.n_bytes = position, 0
        bottoms = self._edges[0][1:]
        for chunk in [chunk for chunk in self._kept if bottoms[chunk[0]] <= top]:
            self.n_bytes -= self._kept.pop(chunk).nbytes

    def _keep(self, block: _Block, region: Region, pixels: NDArray[Any]) -> None:
        is_single = len(block[0]) == len(block[1]) == 1
        for chunk in product(*block):
            inner = self._region(_as_block(chunk)).relative_to(region).slices
            kept = pixels if is_single else pixels[inner].copy()  # a view would keep all of it
            self._kept[chunk] = kept
            self.n_bytes += kept.nbytes
            while self.n_bytes > self._budget and len(self._kept) > 1:
                self.n_bytes -= self._kept.popitem(last=False)[1].nbytes

    def _block(self, window: Region) -> _Block:
        """Find the chunks that a window lies in."""
        rows, columns = (
            range(bisect_right(edges, start) - 1, bisect_left(edges, stop))
            for edges, start, stop in zip(self._edges, window.start, window.stop, strict=True)
        )
        return rows, columns

    def _region(self, block: _Block) -> Region:
        starts = (edges[span.start] for edges, span in zip(self._edges, block, strict=True))
        stops = (edges[span.stop] for edges, span in zip(self._edges, block, strict=True))
        return Region(tuple(starts), tuple(stops))

    def _missing(self, block: _Block) -> Iterator[_Block]:
        """Yield what is not kept of a block as a few rectangles, each small enough to be read."""
        rows, columns = block
        by_gaps = groupby(rows, key=lambda row: self._gaps(row, columns))
        for gaps, group in by_gaps:
            alike = list(group)
            for gap in gaps:
                for part in self._requests(alike, gap):
                    yield part, gap

    def _gaps(self, row: int, columns: range) -> list[range]:
        """List the runs of chunks of a row that are not kept."""
        runs = groupby(columns, key=lambda column: (row, column) in self._kept)
        missing = [list(run) for is_kept, run in runs if not is_kept]
        return [range(run[0], run[-1] + 1) for run in missing]

    def _requests(self, rows: list[int], columns: range) -> Iterator[range]:
        """Cut rows of chunks where they are too many for one request."""
        width = self._edges[1][columns.stop] - self._edges[1][columns.start]
        height = max(REQUEST_BYTES // (width * self._pixel_bytes), 1)
        first = rows[0]
        for row in rows[1:]:
            if self._edges[0][row + 1] - self._edges[0][first] > height:
                yield range(first, row)
                first = row
        yield range(first, rows[-1] + 1)


def _as_block(chunk: tuple[int, int]) -> _Block:
    return range(chunk[0], chunk[0] + 1), range(chunk[1], chunk[1] + 1)
