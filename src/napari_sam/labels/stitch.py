"""Merge the labels of overlapping tiles into one label image without seams.

1. Labels of different tiles get different global ids, ``tile << 32 | label``.
2. Two tiles whose windows overlap, diagonal neighbours included, are compared in the *shared band*,
   the pixels that both have read. Two labels are the same object when their IoU in the band is over
   0.5; labels are disjoint within a tile, so at most one partner can exceed that and no order or
   tie decides. A label that a window cut off inside the band is also the same object as the one
   that contains over 0.8 of it. Labels that merely touch are never merged.
3. Union-find collects matches into objects, named by their smallest global id, so the result does
   not depend on the order of tiles or matches.
4. An object that some tile saw whole is painted whole from one such tile: the tile that owns its
   centroid, otherwise the best score. An object that no tile saw whole is painted piece by piece,
   from each tile the pixels that the tile owns. A label that no other tile confirms, and whose
   centroid lies in another tile's part, is dropped: its owner saw it better and found nothing.
5. Where objects still collide the better score wins, and an object that loses more than half of its
   pixels is dropped, as in :mod:`napari_sam.labels.compose`.
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

__all__ = ["Stitched", "TileLabels", "stitch_tiles"]

MIN_IOU = 0.5
MIN_CONTAINMENT = 0.8
MIN_VISIBLE = 0.5
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


class _Piece(NamedTuple):
    """One label of one tile, in coordinates of the slice."""

    gid: int
    tile: int
    score: float
    box: Region
    mask: NDArray[np.bool_]
    is_truncated: bool
    owns_centroid: bool


class _Painting(NamedTuple):
    """What an object puts on the slice, with its place in the order of painting."""

    rank: tuple[float, int]
    parts: list[tuple[Region, NDArray[np.bool_]]]


def stitch_tiles(
    tiles: Sequence[TileLabels], shape_yx: tuple[int, int], *, min_area: int = 1
) -> Stitched:
    """Merge the labels of overlapping tiles; the rules are in the docstring of this module.

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
    pieces = {piece.gid: piece for piece in _all_pieces(tiles, shape_yx)}
    groups = _groups(pieces, _all_matches(tiles, shape_yx))
    paintings = [
        painting
        for members in groups
        if (painting := _painting([pieces[gid] for gid in members], tiles)) is not None
    ]
    return _paint(paintings, shape_yx, min_area)


def _all_pieces(tiles: Sequence[TileLabels], shape_yx: tuple[int, int]) -> Iterator[_Piece]:
    for number, tile in enumerate(tiles):
        cut_edges = _cut_edges(tile.read, shape_yx)
        for label, box, mask in _objects(tile.labels):
            place = Region(
                tuple(a + o for a, o in zip(box.start, tile.read.start, strict=True)),
                tuple(b + o for b, o in zip(box.stop, tile.read.start, strict=True)),
            )
            center = [int(c.mean() + a) for c, a in zip(np.nonzero(mask), place.start, strict=True)]
            owned = zip(tile.write.start, center, tile.write.stop, strict=True)
            yield _Piece(
                gid=(number << TILE_SHIFT) | label,
                tile=number,
                score=float(tile.scores[label - 1]),
                box=place,
                mask=mask,
                is_truncated=_touches(place, tile.read, cut_edges),
                owns_centroid=all(a <= c < b for a, c, b in owned),
            )


def _objects(labels: NDArray[np.int32]) -> Iterator[tuple[int, Region, NDArray[np.bool_]]]:
    """Yield each label with its box and its mask in that box, in one pass over the pixels."""
    rows, columns = np.nonzero(labels)
    values = labels[rows, columns]
    order = np.argsort(values, kind="stable")
    rows, columns, values = rows[order], columns[order], values[order]
    ids, starts = np.unique(values, return_index=True)
    stops = np.append(starts, len(values))[1:]
    for label, first, last in zip(ids, starts, stops, strict=True):
        y, x = rows[first:last], columns[first:last]
        top, left = int(y[0]), int(x.min())  # rows stay sorted within a label
        box = Region((top, left), (int(y[-1]) + 1, int(x.max()) + 1))
        mask = np.zeros(box.shape, dtype=np.bool_)
        mask[y - top, x - left] = True
        yield int(label), box, mask


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


def _all_matches(
    tiles: Sequence[TileLabels], shape_yx: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    for i, j in _neighbors([tile.read for tile in tiles]):
        first, second = tiles[i], tiles[j]
        band = first.read.intersect(second.read)
        a, b = (tile.labels[band.relative_to(tile.read).slices] for tile in (first, second))
        cut_a = _cut_labels(a, band, first.read, shape_yx)
        cut_b = _cut_labels(b, band, second.read, shape_yx)
        for label_a, label_b in _matches(a, b, cut_a, cut_b):
            yield (i << TILE_SHIFT) | label_a, (j << TILE_SHIFT) | label_b


def _neighbors(windows: Sequence[Region]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of windows that share pixels, by a sweep down the rows."""
    order = sorted(range(len(windows)), key=lambda i: windows[i].start)
    open_windows: list[int] = []
    for j in order:
        top = windows[j].start[0]
        open_windows = [i for i in open_windows if windows[i].stop[0] > top]
        for i in open_windows:
            if not windows[i].intersect(windows[j]).is_empty:
                yield min(i, j), max(i, j)
        open_windows.append(j)


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


def _groups(gids: Iterable[int], matches: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Collect matched ids by union-find; the smallest id of a group is its root."""
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


def _painting(members: list[_Piece], tiles: Sequence[TileLabels]) -> _Painting | None:
    """Choose what an object paints, or None when its owner did not see it."""
    rank = (-max(piece.score for piece in members), members[0].gid)
    if len(members) == 1:
        piece = members[0]
        return _Painting(rank, [(piece.box, piece.mask)]) if piece.owns_centroid else None
    whole = [piece for piece in members if not piece.is_truncated]
    if whole:
        best = min(whole, key=lambda piece: (not piece.owns_centroid, -piece.score, piece.gid))
        return _Painting(rank, [(best.box, best.mask)])
    parts = []
    for piece in members:
        owned = piece.box.intersect(tiles[piece.tile].write)
        if not owned.is_empty:
            parts.append((owned, piece.mask[owned.relative_to(piece.box).slices]))
    return _Painting(rank, parts)


def _paint(paintings: list[_Painting], shape_yx: tuple[int, int], min_area: int) -> Stitched:
    labels = np.zeros(shape_yx, dtype=np.int32)
    kept: list[tuple[int, float]] = []
    # Provisional ids follow the group order, so that the last step keeps that order
    names = sorted(range(len(paintings)), key=lambda i: paintings[i].rank)
    for i in names:
        (negative_score, _), parts = paintings[i]
        free = [mask & (labels[box.slices] == 0) for box, mask in parts]
        total = sum(int(np.count_nonzero(mask)) for _, mask in parts)
        visible = sum(int(np.count_nonzero(mask)) for mask in free)
        if visible >= max(min_area, 1) and visible >= MIN_VISIBLE * total:
            for (box, _), mask in zip(parts, free, strict=True):
                labels[box.slices][mask] = i + 1
            kept.append((i + 1, -negative_score))
    kept.sort()
    new_ids = np.zeros(len(paintings) + 1, dtype=np.int32)
    new_ids[[name for name, _ in kept]] = np.arange(1, len(kept) + 1)
    return Stitched(new_ids[labels], np.array([score for _, score in kept], dtype=np.float32))
