"""The tiles of one slice: what each reads and what it may write."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError
from napari_sam.core.region import Region

__all__ = ["Tile", "TileGrid", "tile_grid"]


@dataclass(frozen=True)
class Tile:
    """One tile of a slice.

    Parameters
    ----------
    index : int
        Position in the row-major order of the grid.
    read : Region
        Rows and columns to read: the tile and its halo, cut at the border of the slice.
    write : Region
        Rows and columns that this tile owns. The `write` regions of a grid cover the slice once.
    """

    index: int
    read: Region
    write: Region

    @property
    def crop(self) -> Region:
        """The owned part, counted from the corner of what was read."""
        return self.write.relative_to(self.read)


@dataclass(frozen=True)
class TileGrid(Sequence[Tile]):
    """The tiles of a slice in row-major order, made when they are asked for.

    Use :func:`tile_grid`. A grid is small whatever the number of its tiles, and is sent to other
    processes as it is.

    Parameters
    ----------
    shape_yx : tuple of int
        Rows and columns of the slice.
    side_yx : tuple of int
        Rows and columns that a tile owns; the last ones of the grid own what is left.
    halo : int
        Pixels that a tile reads beyond its own on every side.
    """

    shape_yx: tuple[int, int]
    side_yx: tuple[int, int]
    halo: int

    @property
    def counts_yx(self) -> tuple[int, int]:
        """Tiles along each axis."""
        rows, columns = (-(-n // side) for n, side in zip(self.shape_yx, self.side_yx, strict=True))
        return rows, columns

    @property
    def window_yx(self) -> tuple[int, int]:
        """Most rows and columns that a tile reads."""
        rows, columns = (
            max(min((i + 1) * side + self.halo, n) - max(i * side - self.halo, 0) for i in range(c))
            for n, side, c in zip(self.shape_yx, self.side_yx, self.counts_yx, strict=True)
        )
        return rows, columns

    @property
    def owned(self) -> NDArray[np.int64]:
        """What each tile owns as (top, left, bottom, right), the last two not included, (n, 4)."""
        rows, columns = np.divmod(np.arange(len(self)), self.counts_yx[1])
        start = np.stack((rows, columns), axis=1) * self.side_yx
        stop = np.minimum(start + self.side_yx, self.shape_yx)
        return np.concatenate((start, stop), axis=1)

    def __len__(self) -> int:
        return math.prod(self.counts_yx)

    @overload
    def __getitem__(self, index: int) -> Tile: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Tile, ...]: ...
    def __getitem__(self, index: int | slice) -> Tile | tuple[Tile, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        index = range(len(self))[index]
        start = [i * n for i, n in zip(self._place(index), self.side_yx, strict=True)]
        ends = zip(start, self.side_yx, self.shape_yx, strict=True)
        write = Region(tuple(start), tuple(min(a + side, n) for a, side, n in ends))
        return Tile(index, write.grow(self.halo, self.shape_yx), write)

    def __iter__(self) -> Iterator[Tile]:
        return map(self.__getitem__, range(len(self)))

    def later_neighbors(self, index: int) -> Iterator[int]:
        """List the tiles after one that read pixels which it reads too.

        Parameters
        ----------
        index : int
            Number of a tile.

        Yields
        ------
        int
            Larger numbers, in increasing order.
        """
        row, column = self._place(index)
        n_rows, n_columns = self.counts_yx
        down, across = (-(-2 * self.halo // side) for side in self.side_yx)
        for i in range(row, min(row + down + 1, n_rows)):
            first = column + 1 if i == row else max(column - across, 0)
            for j in range(first, min(column + across + 1, n_columns)):
                yield i * n_columns + j

    def _place(self, index: int) -> tuple[int, int]:
        return divmod(index, self.counts_yx[1])


def tile_grid(shape_yx: tuple[int, int], tile: int, halo: int) -> TileGrid:
    """Cut a slice into tiles.

    An axis that fits into one window of ``tile + 2 * halo`` pixels is not cut.

    Parameters
    ----------
    shape_yx : tuple of int
        Rows and columns of the slice.
    tile : int
        Side of the square that a tile owns, in pixels.
    halo : int
        Pixels that a tile reads beyond its own on every side. Objects up to this size are seen
        whole by every tile that owns a pixel of them.

    Returns
    -------
    TileGrid

    Raises
    ------
    ConfigError
        When the tile has no pixel, or a slice of several tiles has no halo to match objects in.
    """
    if tile < 1 or halo < 0:
        raise ConfigError(
            f"A tile of {tile} pixels with a halo of {halo} was given",
            rule="A tile is at least one pixel wide and its halo is not negative",
            cure="Use for example `--tile 384 --halo 64`",
        )
    sides = [n if n <= tile + 2 * halo else tile for n in shape_yx]
    grid = TileGrid(shape_yx, (sides[0], sides[1]), halo)
    if halo == 0 and len(grid) > 1:
        raise ConfigError(
            f"A halo of 0 pixels was given for a {shape_yx} slice of several tiles",
            rule="Objects are matched across tile borders in the halo that two tiles share",
            cure="Use a halo of about the size of an object, for example `--halo 64`",
        )
    return grid
