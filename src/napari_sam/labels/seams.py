"""The objects of single tiles, and which objects of neighbouring tiles are the same.

1. Labels of different tiles get different global ids, ``tile << 32 | label``.
2. Two tiles whose windows overlap, diagonal neighbours included, are compared in the *shared band*,
   the pixels that both have read. Two labels are the same object when their IoU in the band is over
   0.5; labels are disjoint within a tile, so at most one partner can exceed that and no order or
   tie decides. A label that a window cut off inside the band is also the same object as the one
   that contains over 0.8 of it. Labels that merely touch are never merged.
3. Union-find collects matches into objects, named by their smallest global id, so the result does
   not depend on the order of tiles or matches.

Each function needs one tile, or two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region

__all__ = ["Piece", "TileLabels", "group_pieces", "match_tiles", "neighbors", "pieces_of"]

MIN_IOU = 0.5
MIN_CONTAINMENT = 0.8
TILE_SHIFT = 32


@dataclass(frozen=True)
class TileLabels:
    """The label image of one tile.

    Parameters
    ----------
    read : Region
        Rows and columns of the slice that the tile saw.
    write : Region
        Rows and columns that it owns, inside `read`. The owned parts of all tiles cover the slice.
    labels : ndarray of int, shape ``read.shape``
        0 is background, 1..n are objects.
    scores : ndarray of float, shape (n,)
        Score of each object, higher is better.

    Raises
    ------
    InputError
        When the labels do not fill `read`, or an object has no score.
    """

    read: Region
    write: Region
    labels: NDArray[np.int32]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        top = int(self.labels.max(initial=0))
        if self.labels.shape != self.read.shape or top > len(self.scores):
            raise InputError(
                f"Labels of shape {self.labels.shape} up to {top} came with {len(self.scores)} "
                f"scores for a window of shape {self.read.shape}",
                rule="A tile's labels fill its window, and each of its objects has a score",
                cure="Return labels as large as the tile that was given, and a score per label",
            )


class Piece(NamedTuple):
    """One label of one tile, without its pixels.

    Attributes
    ----------
    gid : int
        Global id, ``tile << 32 | label``.
    score : float
        Its score.
    box : Region
        Smallest rectangle around it, in the slice.
    is_truncated : bool
        Whether the edge of the tile's window cuts it off.
    owns_centroid : bool
        Whether its centroid lies in the part that the tile owns.
    """

    gid: int
    score: float
    box: Region
    is_truncated: bool
    owns_centroid: bool

    @property
    def tile(self) -> int:
        """Number of its tile."""
        return self.gid >> TILE_SHIFT

    @property
    def label(self) -> int:
        """Its label in the tile."""
        return self.gid & ((1 << TILE_SHIFT) - 1)


def pieces_of(number: int, tile: TileLabels, shape_yx: tuple[int, int]) -> list[Piece]:
    """Describe the objects of a tile.

    Parameters
    ----------
    number : int
        Number of the tile in the grid.
    tile : TileLabels
    shape_yx : tuple of int
        Rows and columns of the slice.

    Returns
    -------
    list of Piece
        By label.
    """
    cut_edges = _cut_edges(tile.read, shape_yx)
    pieces = []
    for label, box, center in _objects(tile.labels):
        starts = tile.read.start
        place = Region(
            tuple(a + o for a, o in zip(box.start, starts, strict=True)),
            tuple(b + o for b, o in zip(box.stop, starts, strict=True)),
        )
        middle = [int(c + o) for c, o in zip(center, starts, strict=True)]
        owned = zip(tile.write.start, middle, tile.write.stop, strict=True)
        pieces.append(
            Piece(
                gid=(number << TILE_SHIFT) | label,
                score=float(tile.scores[label - 1]),
                box=place,
                is_truncated=_touches(place, tile.read, cut_edges),
                owns_centroid=all(a <= c < b for a, c, b in owned),
            )
        )
    return pieces


def match_tiles(
    i: int, first: TileLabels, j: int, second: TileLabels, shape_yx: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Find the objects that two tiles share.

    Parameters
    ----------
    i, j : int
        Numbers of the tiles.
    first, second : TileLabels
        The tiles, whose windows overlap.
    shape_yx : tuple of int
        Rows and columns of the slice.

    Yields
    ------
    tuple of int
        Global ids of the same object in both tiles.
    """
    band = first.read.intersect(second.read)
    a, b = (tile.labels[band.relative_to(tile.read).slices] for tile in (first, second))
    cut_a = _cut_labels(a, band, first.read, shape_yx)
    cut_b = _cut_labels(b, band, second.read, shape_yx)
    for label_a, label_b in _matches(a, b, cut_a, cut_b):
        yield (i << TILE_SHIFT) | label_a, (j << TILE_SHIFT) | label_b


def neighbors(windows: Sequence[Region]) -> Iterator[tuple[int, int]]:
    """Find the windows that share pixels, by a sweep down the rows.

    Parameters
    ----------
    windows : sequence of Region
        What each tile reads.

    Yields
    ------
    tuple of int
        Numbers of two windows, the smaller first; ordered by the window that lies further down.
    """
    order = sorted(range(len(windows)), key=lambda i: windows[i].start)
    open_windows: list[int] = []
    for j in order:
        top = windows[j].start[0]
        open_windows = [i for i in open_windows if windows[i].stop[0] > top]
        for i in open_windows:
            if not windows[i].intersect(windows[j]).is_empty:
                yield min(i, j), max(i, j)
        open_windows.append(j)


def group_pieces(gids: Iterable[int], matches: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Collect matched ids by union-find; the smallest id of a group is its root.

    Parameters
    ----------
    gids : iterable of int
        All global ids.
    matches : iterable of tuple of int
        Pairs that are the same object, in any order.

    Returns
    -------
    list of list of int
        The ids of each object in increasing order; objects by their smallest id.
    """
    parent = {gid: gid for gid in gids}

    def root(gid: int) -> int:
        while parent[gid] != gid:
            parent[gid] = parent[parent[gid]]
            gid = parent[gid]
        return gid

    for a, b in matches:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    members: defaultdict[int, list[int]] = defaultdict(list)
    for gid in sorted(parent):
        members[root(gid)].append(gid)
    return [members[gid] for gid in sorted(members)]


def _matches(
    a: NDArray[np.int32], b: NDArray[np.int32], cut_a: set[int], cut_b: set[int]
) -> Iterator[tuple[int, int]]:
    """Yield the labels of two images of the same pixels that are the same object."""
    both = (a > 0) & (b > 0)
    if not both.any():
        return
    joint = a[both].astype(np.int64) << TILE_SHIFT | b[both]
    pairs, counts = np.unique(joint, return_counts=True)
    area_a, area_b = np.bincount(a.ravel()), np.bincount(b.ravel())
    for pair, shared in zip(pairs.tolist(), counts.tolist(), strict=True):
        label_a, label_b = pair >> TILE_SHIFT, pair & ((1 << TILE_SHIFT) - 1)
        in_a, in_b = int(area_a[label_a]), int(area_b[label_b])
        if (
            shared > MIN_IOU * (in_a + in_b - shared)
            or (label_a in cut_a and shared > MIN_CONTAINMENT * in_a)
            or (label_b in cut_b and shared > MIN_CONTAINMENT * in_b)
        ):
            yield label_a, label_b


def _cut_labels(
    labels: NDArray[np.int32], band: Region, read: Region, shape_yx: tuple[int, int]
) -> set[int]:
    """Labels that the edge of their window cuts off inside the band."""
    top, left, bottom, right = _cut_edges(read, shape_yx)
    edges = [
        (top and band.start[0] == read.start[0], labels[0]),
        (left and band.start[1] == read.start[1], labels[:, 0]),
        (bottom and band.stop[0] == read.stop[0], labels[-1]),
        (right and band.stop[1] == read.stop[1], labels[:, -1]),
    ]
    cut: set[int] = set()
    for is_cut, line in edges:
        if is_cut:
            cut.update(np.unique(line).tolist())
    return cut


def _objects(
    labels: NDArray[np.int32],
) -> Iterator[tuple[int, Region, tuple[float, float]]]:
    """Yield each label with its box and its centroid, in one pass over the pixels."""
    rows, columns = np.nonzero(labels)
    values = labels[rows, columns]
    order = np.argsort(values, kind="stable")
    rows, columns, values = rows[order], columns[order], values[order]
    ids, starts = np.unique(values, return_index=True)
    stops = np.append(starts, len(values))[1:]
    for label, first, last in zip(ids, starts, stops, strict=True):
        y, x = rows[first:last], columns[first:last]
        # rows stay sorted within a label
        box = Region((int(y[0]), int(x.min())), (int(y[-1]) + 1, int(x.max()) + 1))
        yield int(label), box, (float(y.mean()), float(x.mean()))


def _cut_edges(read: Region, shape_yx: tuple[int, int]) -> tuple[bool, bool, bool, bool]:
    """Whether the top, left, bottom and right edge of a window cut the slice."""
    before = [a > 0 for a in read.start]
    after = [b < n for b, n in zip(read.stop, shape_yx, strict=True)]
    return before[0], before[1], after[0], after[1]


def _touches(box: Region, window: Region, edges: tuple[bool, bool, bool, bool]) -> bool:
    at = (
        box.start[0] == window.start[0],
        box.start[1] == window.start[1],
        box.stop[0] == window.stop[0],
        box.stop[1] == window.stop[1],
    )
    return any(touching and cut for touching, cut in zip(at, edges, strict=True))
