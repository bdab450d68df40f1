"""What each object of a slice paints, decided from the pieces that the tiles saw of it.

All objects at once, in arrays: some hundred and fifty bytes an object at most, and no pixel. Pieces
of one object are gathered without sorting, so that the time grows with their number only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.labels.seams import group_pieces, label_of, tile_of

__all__ = ["PART", "BlockParts", "Paintings", "plan_paintings"]

PART = np.dtype(
    [
        ("painting", np.uint32),
        ("rank", np.uint32),
        ("tile", np.uint32),
        ("label", np.uint32),
        ("box", np.int32, (4,)),
    ]
)
"""One label of one tile to be painted: for which painting, in which turn, and in which rectangle of
the slice, (top, left, bottom, right), the last two not included."""

MAX_OBJECTS = 2**32 - 1
"""Paintings are numbered as label ids are, with 32 bits."""


@dataclass(frozen=True)
class Paintings:
    """What the objects of a slice paint, ordered by their smallest global id.

    Attributes
    ----------
    gid : ndarray of uint64, shape (n,)
        Smallest global id of each object.
    score : ndarray of float32, shape (n,)
        Best score over the tiles that saw the object.
    predicted_iou, stability : ndarray of float32, shape (n,)
        What the model says of the piece with that score; NaN where it says nothing.
    n_tiles : ndarray of int32, shape (n,)
        How many tiles saw it.
    is_cut : ndarray of bool, shape (n,)
        Whether no tile saw it whole.
    parts : ndarray of PART, shape (m,)
        Ordered by painting.
    """

    gid: NDArray[np.uint64]
    score: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    n_tiles: NDArray[np.int32]
    is_cut: NDArray[np.bool_]
    parts: NDArray[Any]

    def __len__(self) -> int:
        return len(self.gid)

    @property
    def tile(self) -> NDArray[np.int64]:
        """Number of the first tile that each object is painted from."""
        is_first = np.ones(len(self.parts), dtype=np.bool_)
        painting = self.parts["painting"]
        np.not_equal(painting[1:], painting[:-1], out=is_first[1:])
        tiles: NDArray[np.int64] = self.parts["tile"][is_first].astype(np.int64)
        return tiles

    def save(self, path: Path) -> None:
        """Write them to a file.

        Parameters
        ----------
        path : Path
            Ends in ``.npz``.
        """
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Paintings:
        """Read them from a file.

        Parameters
        ----------
        path : Path
            As it was given to :meth:`save`.

        Returns
        -------
        Paintings
        """
        with np.load(path) as file:
            return cls(**{field.name: file[field.name] for field in fields(cls)})

    def select(self, kept: NDArray[np.bool_]) -> Paintings:
        """Leave out objects.

        Parameters
        ----------
        kept : ndarray of bool, shape (n,)

        Returns
        -------
        Paintings
            In the same order, numbered anew; turns stay.
        """
        if kept.all():
            return self
        parts = self.parts[kept[self.parts["painting"]]]
        parts["painting"] = (np.cumsum(kept) - 1)[parts["painting"]]
        return Paintings(
            self.gid[kept],
            self.score[kept],
            self.predicted_iou[kept],
            self.stability[kept],
            self.n_tiles[kept],
            self.is_cut[kept],
            parts,
        )


def plan_paintings(
    pieces: NDArray[Any], matches: NDArray[np.uint64], owned: NDArray[np.int64]
) -> Paintings:
    """Decide what each object of a slice paints.

    Parameters
    ----------
    pieces : ndarray of PIECE
        Of all tiles, by global id.
    matches : ndarray of uint64, shape (m, 2)
        Global ids of the same object in two tiles, in any order.
    owned : ndarray of int, shape (n_tiles, 4)
        What each tile owns, as (top, left, bottom, right).

    Returns
    -------
    Paintings

    Raises
    ------
    InputError
        When there are more objects than ids.
    """
    groups = _number_groups(group_pieces(pieces["gid"], matches))
    if len(groups.heads) > MAX_OBJECTS:
        raise InputError(
            f"A slice with {len(groups.heads)} objects was given",
            rule=f"Label ids are 32-bit numbers, so a slice holds at most {MAX_OBJECTS} objects",
            cure="Segment the slice in parts, or drop small objects before",
        )
    best, source = _choose_pieces(pieces, groups)
    is_alone = groups.n_members == 1
    is_cut = pieces["is_truncated"][source]
    is_piecemeal = is_cut & ~is_alone
    is_whole = ~is_piecemeal & (~is_alone | pieces["owns_centroid"][source])
    n_parts, painted = _choose_parts(pieces, groups, owned, is_piecemeal, is_whole, source)
    heads, n_members = groups.heads, groups.n_members
    del groups, source, is_alone, is_whole  # the parts take their memory
    has_parts = n_parts > 0
    rank = _ranks(pieces["score"][best])[has_parts]
    best = best[has_parts]
    return Paintings(
        pieces["gid"][heads[has_parts]],
        pieces["score"][best],
        pieces["predicted_iou"][best],
        pieces["stability"][best],
        n_members[has_parts].astype(np.int32),
        is_cut[has_parts],
        _make_parts(pieces, painted, n_parts[has_parts], rank, is_piecemeal[has_parts], owned),
    )


class BlockParts:
    """What is painted in each block of a slice.

    Parameters
    ----------
    parts : ndarray of PART
    shape_yx : tuple of int
        Rows and columns of the slice.
    block_yx : tuple of int
        Rows and columns of a block; the last ones may be smaller.
    """

    def __init__(
        self, parts: NDArray[Any], shape_yx: tuple[int, int], block_yx: tuple[int, int]
    ) -> None:
        self._parts = parts
        self._shape, self._block = shape_yx, block_yx
        self._counts = tuple(-(-n // b) for n, b in zip(shape_yx, block_yx, strict=True))
        block = np.array(block_yx, dtype=np.int32)
        first = parts["box"][:, :2] // block
        spans = (parts["box"][:, 2:] - 1) // block - first + 1
        n_blocks = spans.prod(axis=1, dtype=np.int64)
        which = np.repeat(np.arange(len(parts)), n_blocks)
        within = np.arange(len(which))
        within -= np.repeat(np.cumsum(n_blocks) - n_blocks, n_blocks)
        down, across = np.divmod(within, spans[which, 1])
        del within, n_blocks, spans
        # numbers of few bits take little memory, and are sorted fast
        numbers = np.empty(len(which), dtype=np.min_scalar_type(len(self)))
        numbers[:] = (first[which, 0] + down) * self._counts[1] + first[which, 1] + across
        del first, down, across
        self._starts = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(np.bincount(numbers, minlength=len(self)), out=self._starts[1:])
        which = which.astype(np.min_scalar_type(len(parts)))
        self._which = which[np.argsort(numbers, kind="stable")]

    def __len__(self) -> int:
        return self._counts[0] * self._counts[1]

    def __getitem__(self, number: int) -> tuple[Region, NDArray[Any]]:
        """Return a block and what is painted in it."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        first, last = self._starts[number : number + 2]
        at = divmod(number, self._counts[1])
        start = tuple(i * b for i, b in zip(at, self._block, strict=True))
        stop = tuple(min(a + b, n) for a, b, n in zip(start, self._block, self._shape, strict=True))
        return Region(start, stop), self._parts[self._which[first:last]]

    def __iter__(self) -> Iterator[tuple[Region, NDArray[Any]]]:
        return map(self.__getitem__, range(len(self)))


class _Groups(NamedTuple):
    """Which pieces are the same object; groups are numbered by their smallest global id."""

    heads: NDArray[np.int64]
    """Position of the first piece of each group."""
    of_piece: NDArray[np.int64]
    """Group of each piece."""
    n_members: NDArray[np.int64]
    """Pieces of each group."""


def _number_groups(roots: NDArray[np.int64]) -> _Groups:
    is_head = roots == np.arange(len(roots))
    of_piece = (np.cumsum(is_head) - 1)[roots]
    heads = np.flatnonzero(is_head)
    return _Groups(heads, of_piece, np.bincount(of_piece, minlength=len(heads)))


def _choose_pieces(
    pieces: NDArray[Any], groups: _Groups
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the piece with the best score, and of the one to paint an object whole from."""
    best, source = groups.heads.copy(), groups.heads.copy()
    is_shared = groups.n_members > 1
    members = np.flatnonzero(is_shared[groups.of_piece])
    group = (np.cumsum(is_shared) - 1)[groups.of_piece[members]]
    cost = -pieces["score"][members]
    cost[np.isnan(cost)] = np.inf
    flaws = 2 * pieces["is_truncated"][members].astype(np.uint8)
    flaws += ~pieces["owns_centroid"][members]
    best[is_shared] = members[_first_of_groups(group, cost)]
    source[is_shared] = members[_first_of_groups(group, flaws, cost)]
    return best, source


def _first_of_groups(group: NDArray[np.int64], *keys: NDArray[Any]) -> NDArray[np.int64]:
    """Position of the least member of each group, by the first key first, then by position."""
    left = np.arange(len(group))
    n_groups = int(group.max(initial=-1)) + 1
    for key in (*keys, left):
        of_left, values = group[left], key[left]
        least = np.empty(n_groups, dtype=key.dtype)
        least[of_left] = values  # that of any member, to begin with
        np.minimum.at(least, of_left, values)
        left = left[values == least[of_left]]
    first: NDArray[np.int64] = least
    return first


def _choose_parts(
    pieces: NDArray[Any],
    groups: _Groups,
    owned: NDArray[np.int64],
    is_piecemeal: NDArray[np.bool_],
    is_whole: NDArray[np.bool_],
    source: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the parts of each group, and list their pieces, group by group."""
    bits = np.flatnonzero(is_piecemeal[groups.of_piece])
    box = _clip(pieces["box"][bits], owned[tile_of(pieces["gid"][bits])])
    bits = bits[(box[:, :2] < box[:, 2:]).all(axis=1)]
    bits = bits[np.argsort(groups.of_piece[bits], kind="stable")]
    n_parts = np.bincount(groups.of_piece[bits], minlength=len(is_whole))
    n_parts += is_whole
    places = np.cumsum(n_parts)[is_whole] - 1
    is_bit = np.ones(int(n_parts.sum()), dtype=np.bool_)
    is_bit[places] = False
    painted = np.empty(len(is_bit), dtype=np.int64)
    painted[places] = source[is_whole]
    painted[is_bit] = bits
    return n_parts, painted


def _ranks(score: NDArray[np.float32]) -> NDArray[np.uint32]:
    """In which turn objects are painted: the best score first."""
    rank = np.empty(len(score), dtype=np.uint32)
    rank[np.argsort(-score, kind="stable")] = np.arange(len(score), dtype=np.uint32)
    return rank


def _make_parts(
    pieces: NDArray[Any],
    painted: NDArray[np.int64],
    n_parts: NDArray[np.int64],
    rank: NDArray[np.uint32],
    is_piecemeal: NDArray[np.bool_],
    owned: NDArray[np.int64],
) -> NDArray[Any]:
    """Describe the parts; all but `pieces` and `owned` are of objects that have parts."""
    parts = np.zeros(len(painted), dtype=PART)
    parts["painting"] = np.repeat(np.arange(len(n_parts), dtype=np.uint32), n_parts)
    parts["rank"] = np.repeat(rank, n_parts)
    gid = pieces["gid"][painted]
    parts["tile"], parts["label"] = tile_of(gid), label_of(gid)
    for side in range(4):  # one at a time takes less memory
        parts["box"][:, side] = pieces["box"][painted, side]
    at_tile = np.flatnonzero(np.repeat(is_piecemeal, n_parts))
    parts["box"][at_tile] = _clip(parts["box"][at_tile], owned[parts["tile"][at_tile]])
    return parts


def _clip(boxes: NDArray[np.int32], within: NDArray[np.int64]) -> NDArray[np.int64]:
    """Intersect rectangles, pair by pair."""
    low = np.maximum(boxes[:, :2], within[:, :2])
    high = np.minimum(boxes[:, 2:], within[:, 2:])
    return np.concatenate((low, high), axis=1)
