"""Merge the labels of overlapping tiles into one label image without seams.

Tiles are matched and grouped as in :mod:`napari_sam.labels.seams`. Then:

1. An object that some tile saw whole is painted whole from one such tile: the tile that owns its
   centroid, otherwise the best score. An object that no tile saw whole is painted piece by piece,
   from each tile the pixels that the tile owns. A label that no other tile confirms, and whose
   centroid lies in another tile's part, is dropped: its owner saw it better and found nothing.
2. Where objects still collide the better score wins, and an object that loses more than half of its
   pixels is dropped before anything is painted for good.

Any part of the slice can be painted by itself, from the tiles that reach into it: so a slice of any
size takes the memory of a few tiles, and its parts come out the same in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.region import Region
from napari_sam.labels.seams import (
    Piece,
    TileLabels,
    group_pieces,
    match_tiles,
    neighbors,
    pieces_of,
)

__all__ = [
    "Painting",
    "Stitched",
    "TileLabels",
    "count_visible",
    "is_kept",
    "paint",
    "plan_paintings",
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


class Painting(NamedTuple):
    """What an object puts on the slice.

    Attributes
    ----------
    rank : tuple
        Its place in the order of painting: the best score first, then the smallest global id.
    parts : tuple of (Piece, Region)
        Pieces, and the rectangle of the slice in which each is painted.
    """

    rank: tuple[float, int]
    parts: tuple[tuple[Piece, Region], ...]

    @property
    def score(self) -> float:
        """Best score over the tiles that saw the object."""
        return -self.rank[0]


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
    paintings = plan_paintings(
        [tile.read for tile in tiles], [tile.write for tile in tiles], tiles.__getitem__, shape_yx
    )
    everything = Region.whole(shape_yx)
    counts = count_visible(everything, list(enumerate(paintings)), tiles.__getitem__)
    kept = [
        painting
        for number, painting in enumerate(paintings)
        if is_kept(*counts.get(number, (0, 0)), min_area)
    ]
    labels = paint(everything, list(enumerate(kept, 1)), tiles.__getitem__)
    return Stitched(labels, np.array([painting.score for painting in kept], dtype=np.float32))


def plan_paintings(
    reads: Sequence[Region],
    writes: Sequence[Region],
    load: LoadTile,
    shape_yx: tuple[int, int],
) -> list[Painting]:
    """Decide what each object of a slice paints; at most two tiles are loaded at once.

    Parameters
    ----------
    reads, writes : sequence of Region
        What each tile has read, and what it owns.
    load : callable
        Returns the tile of a number.
    shape_yx : tuple of int
        Rows and columns of the slice.

    Returns
    -------
    list of Painting
        By smallest global id of the object.
    """
    pieces = {
        piece.gid: piece
        for number in range(len(reads))
        for piece in pieces_of(number, load(number), shape_yx)
    }
    matches = (
        match
        for i, j in neighbors(reads)
        for match in match_tiles(i, load(i), j, load(j), shape_yx)
    )
    groups = group_pieces(pieces, matches)
    planned = (_painting([pieces[gid] for gid in members], writes) for members in groups)
    return [painting for painting in planned if painting is not None]


def count_visible(
    region: Region, paintings: Sequence[tuple[int, Painting]], load: LoadTile
) -> dict[int, tuple[int, int]]:
    """Count the pixels that objects have and keep in a part of the slice.

    Parameters
    ----------
    region : Region
        The part.
    paintings : sequence of (int, Painting)
        Objects with a number each, in any order; others than these do not reach into the part.
    load : callable
        Returns the tile of a number.

    Returns
    -------
    dict of int to tuple of int
        By number: pixels that no better object covers, and all its pixels.
    """
    owner = np.full(region.shape, -1, dtype=np.int64)
    total: dict[int, int] = {}
    for number, mask, window in _masks(region, paintings, load):
        total[number] = total.get(number, 0) + int(np.count_nonzero(mask))
        part = owner[window.slices]
        part[mask & (part < 0)] = number
    numbers, counts = np.unique(owner[owner >= 0], return_counts=True)
    visible = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    return {number: (visible.get(number, 0), count) for number, count in total.items()}


def is_kept(visible: int, total: int, min_area: int) -> bool:
    """Tell whether an object with so many visible pixels of all its pixels is one."""
    return visible >= max(min_area, 1) and visible >= MIN_VISIBLE * total


def paint(
    region: Region, paintings: Sequence[tuple[int, Painting]], load: LoadTile
) -> NDArray[np.int32]:
    """Paint a part of the slice.

    Parameters
    ----------
    region : Region
        The part.
    paintings : sequence of (int, Painting)
        The kept objects that reach into it, each with its label, in any order.
    load : callable
        Returns the tile of a number.

    Returns
    -------
    ndarray of int32, shape ``region.shape``
    """
    labels = np.zeros(region.shape, dtype=np.int32)
    for label, mask, window in _masks(region, paintings, load):
        part = labels[window.slices]
        part[mask & (part == 0)] = label
    return labels


def _masks(
    region: Region, paintings: Iterable[tuple[int, Painting]], load: LoadTile
) -> Iterator[tuple[int, NDArray[np.bool_], Region]]:
    """Masks of objects inside a part, the best first, with their place in it."""
    for number, painting in sorted(paintings, key=lambda item: item[1].rank):
        for piece, place in painting.parts:
            inside = place.intersect(region)
            if not inside.is_empty:
                tile = load(piece.tile)
                mask = tile.labels[inside.relative_to(tile.read).slices] == piece.label
                yield number, mask, inside.relative_to(region)


def _painting(members: list[Piece], writes: Sequence[Region]) -> Painting | None:
    """Choose what an object paints, or None when its owner did not see it."""
    rank = (-max(piece.score for piece in members), members[0].gid)
    if len(members) == 1:
        piece = members[0]
        return Painting(rank, ((piece, piece.box),)) if piece.owns_centroid else None
    whole = [piece for piece in members if not piece.is_truncated]
    if whole:
        best = min(whole, key=lambda piece: (not piece.owns_centroid, -piece.score, piece.gid))
        return Painting(rank, ((best, best.box),))
    owned = ((piece, piece.box.intersect(writes[piece.tile])) for piece in members)
    return Painting(rank, tuple((piece, place) for piece, place in owned if not place.is_empty))
