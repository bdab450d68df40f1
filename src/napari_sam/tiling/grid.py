"""The tiles of one slice: what each reads and what it may write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from napari_sam.core.errors import ConfigError
from napari_sam.core.region import Region

__all__ = ["Tile", "tile_grid"]


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


def tile_grid(shape_yx: tuple[int, int], tile: int, halo: int) -> tuple[Tile, ...]:
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
    tuple of Tile
        In row-major order.

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
    spans = [list(_spans(length, tile, halo)) for length in shape_yx]
    if halo == 0 and len(spans[0]) * len(spans[1]) > 1:
        raise ConfigError(
            f"A halo of 0 pixels was given for a {shape_yx} slice of several tiles",
            rule="Objects are matched across tile borders in the halo that two tiles share",
            cure="Use a halo of about the size of an object, for example `--halo 64`",
        )
    tiles = []
    for index, ((top, bottom), (left, right)) in enumerate(product(*spans)):
        write = Region((top, left), (bottom, right))
        tiles.append(Tile(index, write.grow(halo, shape_yx), write))
    return tuple(tiles)


def _spans(length: int, tile: int, halo: int) -> Iterator[tuple[int, int]]:
    if length <= tile + 2 * halo:
        yield 0, length
        return
    for start in range(0, length, tile):
        yield start, min(start + tile, length)
