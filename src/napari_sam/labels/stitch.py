"""Merge the labels of overlapping tiles into one label image without seams.

Tiles are matched and grouped as in :mod:`napari_sam.labels.seams`. Then:

1. An object that some tile saw whole is painted whole from one such tile: the tile that owns its
   centroid, otherwise the best score. An object that no tile saw whole is painted piece by piece,
   from each tile the pixels that the tile owns. A label that no other tile confirms, and whose
   centroid lies in another tile's part, is dropped: its owner saw it better and found nothing.
2. Where objects still collide the better score wins, and an object that loses more than half of its
   pixels is dropped before anything is painted for good.

Any part of the slice can be painted by itself, from the tiles that reach into it: so a slice of any
size takes the memory of a few tiles and some notes of each object, and its parts come out the same
in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.region import Region
from napari_sam.labels.paintings import plan_paintings
from napari_sam.labels.seams import NO_MATCHES, TileLabels, match_tiles, neighbors, pieces_of

__all__ = [
    "Painted",
    "Stitched",
    "Visibility",
    "choose_kept",
    "count_visible",
    "paint",
    "stitch_tiles",
]

MIN_VISIBLE = 0.5

LoadTile = Callable[[int], TileLabels]


class Stitched(NamedTuple):
    """The label image of a slice.

    Attributes
    ----------
    labels : ndarray of int32, shape (H, W)
        0 is background, 1..n are objects, in the order of their smallest global id.
    scores : ndarray of float32, shape (n,)
        Best score of each object over the tiles that saw it.
    """

    labels: NDArray[np.int32]
    scores: NDArray[np.float32]


class Visibility(NamedTuple):
    """What is seen of objects in a part of a slice.

    Attributes
    ----------
    numbers : ndarray of uint32
        Positions in the paintings, each once.
    visible, total : ndarray of int64
        Pixels of each that no better object covers, and all its pixels.
    """

    numbers: NDArray[np.int64]
    visible: NDArray[np.int64]
    total: NDArray[np.int64]


class Painted(NamedTuple):
    """A part of a slice.

    Attributes
    ----------
    labels : ndarray of int32, shape (h, w)
        0 is background; i stands for the object ``numbers[i - 1]``.
    numbers : ndarray of uint32
        Positions in the paintings.
    """

    labels: NDArray[np.int32]
    numbers: NDArray[np.int64]


def stitch_tiles(
    tiles: Sequence[TileLabels], shape_yx: tuple[int, int], *, min_area: int = 1
) -> Stitched:
    """Merge the labels of overlapping tiles that are all in memory.

    Parameters
    ----------
    tiles : sequence of TileLabels
        In the order of the grid; their owned parts cover the slice.
    shape_yx : tuple of int
        Rows and columns of the slice.
    min_area : int
        Objects of fewer pixels are dropped.

    Returns
    -------
    Stitched
    """
    if not tiles:
        return Stitched(np.zeros(shape_yx, dtype=np.int32), np.zeros(0, dtype=np.float32))
    pieces = np.concatenate([pieces_of(i, tile, shape_yx) for i, tile in enumerate(tiles)])
    matches = np.concatenate(
        [NO_MATCHES]
        + [
            match_tiles(i, tiles[i], j, tiles[j], shape_yx)
            for i, j in neighbors([tile.read for tile in tiles])
        ]
    )
    owned = np.array([[*tile.write.start, *tile.write.stop] for tile in tiles])
    paintings = plan_paintings(pieces, matches, owned)
    everything = Region.whole(shape_yx)
    counted = count_visible(everything, paintings.parts, tiles.__getitem__)
    kept = paintings.select(choose_kept([counted], len(paintings), min_area))
    painted = paint(everything, kept.parts, tiles.__getitem__)
    ids = np.concatenate(([0], painted.numbers + 1)).astype(np.int32)
    return Stitched(ids[painted.labels], kept.score)


def count_visible(region: Region, parts: NDArray[Any], load: LoadTile) -> Visibility:
    """Count the pixels that objects have and keep in a part of the slice.

    Parameters
    ----------
    region : Region
        The part.
    parts : ndarray of PART
        What is painted there, in any order.
    load : callable
        Returns the tile of a number.

    Returns
    -------
    Visibility
    """
    owner = np.zeros(region.shape, dtype=np.int32)
    numbers = np.unique(parts["painting"])
    total = np.zeros(len(numbers), dtype=np.int64)
    for label, mask, window in _masks(region, parts, numbers, load):
        total[label - 1] += np.count_nonzero(mask)
        part = owner[window]
        part[mask & (part == 0)] = label
    visible = np.bincount(owner.ravel(), minlength=len(numbers) + 1)[1:]
    return Visibility(numbers, visible, total)


def choose_kept(counted: Iterable[Visibility], count: int, min_area: int) -> NDArray[np.bool_]:
    """Tell which objects have enough visible pixels, and enough of all their pixels.

    Parameters
    ----------
    counted : iterable of Visibility
        Of all parts of the slice, in any order.
    count : int
        Number of paintings.
    min_area : int
        Objects of fewer pixels are dropped.

    Returns
    -------
    ndarray of bool, shape (count,)
    """
    visible, total = np.zeros((2, count), dtype=np.int64)
    for numbers, visible_here, total_here in counted:
        visible[numbers] += visible_here
        total[numbers] += total_here
    kept: NDArray[np.bool_] = (visible >= max(min_area, 1)) & (visible >= MIN_VISIBLE * total)
    return kept


def paint(region: Region, parts: NDArray[Any], load: LoadTile) -> Painted:
    """Paint a part of the slice.

    Parameters
    ----------
    region : Region
        The part.
    parts : ndarray of PART
        What the kept objects paint there, in any order.
    load : callable
        Returns the tile of a number.

    Returns
    -------
    Painted
    """
    labels = np.zeros(region.shape, dtype=np.int32)
    numbers = np.unique(parts["painting"])
    for label, mask, window in _masks(region, parts, numbers, load):
        part = labels[window]
        part[mask & (part == 0)] = label
    return Painted(labels, numbers)


def _masks(
    region: Region, parts: NDArray[Any], numbers: NDArray[np.int64], load: LoadTile
) -> Iterator[tuple[int, NDArray[np.bool_], tuple[slice, slice]]]:
    """Masks inside a part of the slice, the best first: position in `numbers` + 1, mask, place."""
    ordered = parts[np.argsort(parts["rank"], kind="stable")]
    labels = np.searchsorted(numbers, ordered["painting"]) + 1
    places = np.concatenate(
        (
            np.maximum(ordered["box"][:, :2], region.start),
            np.minimum(ordered["box"][:, 2:], region.stop),
        ),
        axis=1,
    )
    columns = (labels, ordered["tile"], ordered["label"], *places.T)
    y, x = region.start
    for label, number, in_tile, top, left, bottom, right in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        if top < bottom and left < right:
            tile = load(number)
            dy, dx = tile.read.start
            mask = tile.labels[top - dy : bottom - dy, left - dx : right - dx] == in_tile
            yield label, mask, (slice(top - y, bottom - y), slice(left - x, right - x))
