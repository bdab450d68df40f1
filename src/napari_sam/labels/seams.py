"""The objects of single tiles, and which objects of neighbouring tiles are the same.

1. Labels of different tiles get different global ids, ``tile << 32 | label``.
2. Two tiles whose windows overlap, diagonal neighbours included, are compared in the *shared band*,
   the pixels that both have read. Two labels are the same object when their IoU in the band is over
   0.5; labels are disjoint within a tile, so at most one partner can exceed that and no order or
   tie decides. A label that a window cut off inside the band is also the same object as the one
   that contains over 0.8 of it. Labels that merely touch are never merged.
3. Matches are collected into objects, named by their smallest global id, so the result does not
   depend on the order of tiles or matches.

Each function needs one tile, or two; what is known of an object takes some fifty bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.labels.measure import measure_labels

__all__ = [
    "NO_MATCHES",
    "PIECE",
    "TileLabels",
    "group_pieces",
    "match_tiles",
    "neighbors",
    "pieces_of",
    "tile_of",
]

MIN_IOU = 0.5
MIN_CONTAINMENT = 0.8
TILE_SHIFT = 32
LABEL_BITS = np.uint64((1 << TILE_SHIFT) - 1)

PIECE = np.dtype(
    [
        ("gid", np.uint64),
        ("score", np.float32),
        ("predicted_iou", np.float32),
        ("stability", np.float32),
        ("box", np.int32, (4,)),
        ("is_truncated", np.bool_),
        ("owns_centroid", np.bool_),
    ]
)
"""One label of one tile, without its pixels: its global id ``tile << 32 | label``; its score and
what the model says of it; the smallest rectangle around it in the slice as (top, left, bottom,
right), the last two not included; whether the edge of the tile's window cuts it off; and whether
its centroid lies in the part that the tile owns."""

NO_MATCHES: NDArray[np.uint64] = np.zeros((0, 2), dtype=np.uint64)


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
    predicted_ious, stability_scores : ndarray of float, shape (n,), optional
        What the model says of each object.

    Raises
    ------
    InputError
        When the labels do not fill `read`, or an object has no score.
    """

    read: Region
    write: Region
    labels: NDArray[np.int32]
    scores: NDArray[np.float32]
    predicted_ious: NDArray[np.float32] | None = None
    stability_scores: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        top = int(self.labels.max(initial=0))
        qualities = (self.scores, self.predicted_ious, self.stability_scores)
        short = any(values is not None and top > len(values) for values in qualities)
        if self.labels.shape != self.read.shape or short:
            raise InputError(
                f"Labels of shape {self.labels.shape} up to {top} came with {len(self.scores)} "
                f"scores for a window of shape {self.read.shape}",
                rule="A tile's labels fill its window, and each of its objects has a score",
                cure="Return labels as large as the tile that was given, and a score per label",
            )


def tile_of(gids: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the numbers of the tiles that global ids come from.

    Parameters
    ----------
    gids : ndarray of uint64

    Returns
    -------
    ndarray of int64
    """
    return (gids >> np.uint64(TILE_SHIFT)).astype(np.int64)


def label_of(gids: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the labels in their tiles that global ids stand for."""
    return (gids & LABEL_BITS).astype(np.int64)


def pieces_of(number: int, tile: TileLabels, shape_yx: tuple[int, int]) -> NDArray[Any]:
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
    ndarray of PIECE
        By label.
    """
    found = measure_labels(tile.labels, len(tile.scores), tile.read.start)
    pieces = np.zeros(len(found), dtype=PIECE)
    pieces["gid"] = np.uint64(number << TILE_SHIFT) | found["number"].astype(np.uint64)
    pieces["score"] = tile.scores[found["number"] - 1]
    for name, values in (
        ("predicted_iou", tile.predicted_ious),
        ("stability", tile.stability_scores),
    ):
        pieces[name] = np.nan if values is None else values[found["number"] - 1]
    pieces["box"] = found["box"]
    window = np.array([*tile.read.start, *tile.read.stop])
    cuts = np.array(_cut_edges(tile.read, shape_yx))
    pieces["is_truncated"] = ((found["box"] == window) & cuts).any(axis=1)
    center = found["sum_yx"] // found["area"][:, np.newaxis]
    inside = (center >= tile.write.start) & (center < tile.write.stop)
    pieces["owns_centroid"] = inside.all(axis=1)
    return pieces


def match_tiles(
    i: int, first: TileLabels, j: int, second: TileLabels, shape_yx: tuple[int, int]
) -> NDArray[np.uint64]:
    """Find the objects that two tiles share.

    Parameters
    ----------
    i, j : int
        Numbers of the tiles.
    first, second : TileLabels
        The tiles, whose windows overlap.
    shape_yx : tuple of int
        Rows and columns of the slice.

    Returns
    -------
    ndarray of uint64, shape (n, 2)
        Global ids of the same object in both tiles.
    """
    band = first.read.intersect(second.read)
    a, b = (tile.labels[band.relative_to(tile.read).slices] for tile in (first, second))
    both = (a > 0) & (b > 0)
    if not both.any():
        return NO_MATCHES
    joint = a[both].astype(np.int64) << TILE_SHIFT | b[both]
    pairs, shared = np.unique(joint, return_counts=True)
    in_first, in_second = pairs >> TILE_SHIFT, pairs & int(LABEL_BITS)
    area_a = np.bincount(a.ravel())[in_first]
    area_b = np.bincount(b.ravel())[in_second]
    cut_a = np.isin(in_first, _cut_labels(a, band, first.read, shape_yx))
    cut_b = np.isin(in_second, _cut_labels(b, band, second.read, shape_yx))
    is_match = (
        (shared > MIN_IOU * (area_a + area_b - shared))
        | (cut_a & (shared > MIN_CONTAINMENT * area_a))
        | (cut_b & (shared > MIN_CONTAINMENT * area_b))
    )
    gids: NDArray[np.uint64] = np.stack((in_first, in_second), axis=1)[is_match].astype(np.uint64)
    return gids | np.array([i << TILE_SHIFT, j << TILE_SHIFT], dtype=np.uint64)


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


def group_pieces(gids: NDArray[np.uint64], matches: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Collect matched ids into objects.

    Union-find over the ids that have a match. Parents only ever become smaller, and all of them at
    once: so the smallest id of an object ends as its root, whatever the order of the matches.

    Parameters
    ----------
    gids : ndarray of uint64, shape (n,)
        All global ids, in increasing order.
    matches : ndarray of uint64, shape (m, 2)
        Pairs that are the same object, in any order.

    Returns
    -------
    ndarray of int64, shape (n,)
        Position in `gids` of the smallest id of the object that each id belongs to.
    """
    ends = np.searchsorted(gids, matches)
    is_at_seam = np.zeros(len(gids), dtype=np.bool_)
    is_at_seam[ends] = True
    ends = (np.cumsum(is_at_seam) - 1)[ends]  # counted among those at seams, which are few
    at_seams = np.flatnonzero(is_at_seam)
    parent = _smallest_linked(len(at_seams), *ends.T)
    roots = np.arange(len(gids), dtype=np.int64)
    roots[at_seams] = at_seams[parent]
    return roots


def _smallest_linked(count: int, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Smallest number that each of `count` numbers is linked to, over any number of links."""
    parent = np.arange(count, dtype=np.int64)
    while len(a):
        root_a, root_b = parent[a], parent[b]
        is_open = root_a != root_b
        a, b, root_a, root_b = a[is_open], b[is_open], root_a[is_open], root_b[is_open]
        np.minimum.at(parent, np.maximum(root_a, root_b), np.minimum(root_a, root_b))
        while not np.array_equal(above := parent[parent], parent):
            parent = above
    return parent


def _cut_labels(
    labels: NDArray[np.int32], band: Region, read: Region, shape_yx: tuple[int, int]
) -> NDArray[np.int32]:
    """Labels that the edge of their window cuts off inside the band."""
    top, left, bottom, right = _cut_edges(read, shape_yx)
    lines = [
        (top and band.start[0] == read.start[0], labels[0]),
        (left and band.start[1] == read.start[1], labels[:, 0]),
        (bottom and band.stop[0] == read.stop[0], labels[-1]),
        (right and band.stop[1] == read.stop[1], labels[:, -1]),
    ]
    cut = [line for is_cut, line in lines if is_cut]
    return np.unique(np.concatenate(cut)) if cut else np.zeros(0, dtype=np.int32)


def _cut_edges(read: Region, shape_yx: tuple[int, int]) -> tuple[bool, bool, bool, bool]:
    """Whether the top, left, bottom and right edge of a window cut the slice."""
    before = [a > 0 for a in read.start]
    after = [b < n for b, n in zip(read.stop, shape_yx, strict=True)]
    return before[0], before[1], after[0], after[1]
