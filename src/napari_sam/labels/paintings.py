"""What each object of a slice paints, decided from the pieces that the tiles saw of it.

All objects at once, in arrays: some hundred bytes an object, and no pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.region import Region
from napari_sam.labels.seams import group_pieces, label_of, tile_of

__all__ = ["PART", "BlockParts", "Paintings", "plan_paintings"]

PART = np.dtype(
    [
        ("painting", np.int64),
        ("rank", np.int64),
        ("tile", np.int64),
        ("label", np.int64),
        ("box", np.int32, (4,)),
    ]
)
"""One label of one tile to be painted: for which painting, in which turn, and in which rectangle of
the slice, (top, left, bottom, right), the last two not included."""


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
        first = np.searchsorted(self.parts["painting"], np.arange(len(self)))
        tiles: NDArray[np.int64] = self.parts["tile"][first]
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
    """
    roots = group_pieces(pieces["gid"], matches)
    heads, group, n_members = np.unique(roots, return_inverse=True, return_counts=True)
    best = _first_of_groups(group, pieces["gid"], -pieces["score"])
    source = _first_of_groups(
        group,
        pieces["gid"],
        -pieces["score"],
        ~pieces["owns_centroid"],
        pieces["is_truncated"],
    )
    is_alone = n_members == 1
    is_cut = pieces["is_truncated"][source]
    is_piecemeal = is_cut & ~is_alone
    is_seen = ~is_alone | pieces["owns_centroid"][source]

    is_part = is_piecemeal[group]
    is_part[source] |= is_seen & ~is_piecemeal
    parts = np.zeros(np.count_nonzero(is_part), dtype=PART)
    painted = pieces[is_part]
    parts["painting"] = group[is_part]
    parts["tile"], parts["label"] = tile_of(painted["gid"]), label_of(painted["gid"])
    parts["box"] = painted["box"]
    at_tile = is_piecemeal[parts["painting"]]
    parts["box"][at_tile] = _clip(parts["box"][at_tile], owned[parts["tile"][at_tile]])
    parts = parts[(parts["box"][:, :2] < parts["box"][:, 2:]).all(axis=1)]
    parts = parts[np.argsort(parts["painting"], kind="stable")]

    turn = np.empty(len(heads), dtype=np.int64)
    turn[np.lexsort((heads, -pieces["score"][best]))] = np.arange(len(heads))
    parts["rank"] = turn[parts["painting"]]
    chosen = pieces[best]
    planned = Paintings(
        pieces["gid"][heads],
        chosen["score"].copy(),
        chosen["predicted_iou"].copy(),
        chosen["stability"].copy(),
        n_members.astype(np.int32),
        is_cut,
        parts,
    )
    has_parts = np.zeros(len(heads), dtype=np.bool_)
    has_parts[parts["painting"]] = True
    return planned.select(has_parts)


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
        block = np.array(block_yx)
        first = parts["box"][:, :2] // block
        spans = (parts["box"][:, 2:] - 1) // block - first + 1
        n_blocks = spans[:, 0] * spans[:, 1]
        which = np.repeat(np.arange(len(parts)), n_blocks)
        within = np.arange(len(which)) - np.repeat(np.cumsum(n_blocks) - n_blocks, n_blocks)
        row = first[which, 0] + within // spans[which, 1]
        column = first[which, 1] + within % spans[which, 1]
        numbers = row * self._counts[1] + column
        order = np.argsort(numbers, kind="stable")
        self._numbers, self._which = numbers[order], which[order]

    def __len__(self) -> int:
        return self._counts[0] * self._counts[1]

    def __getitem__(self, number: int) -> tuple[Region, NDArray[Any]]:
        """Return a block and what is painted in it."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        first, last = np.searchsorted(self._numbers, (number, number + 1))
        at = divmod(number, self._counts[1])
        start = tuple(i * b for i, b in zip(at, self._block, strict=True))
        stop = tuple(min(a + b, n) for a, b, n in zip(start, self._block, self._shape, strict=True))
        return Region(start, stop), self._parts[self._which[first:last]]

    def __iter__(self) -> Iterator[tuple[Region, NDArray[Any]]]:
        return map(self.__getitem__, range(len(self)))


def _first_of_groups(group: NDArray[np.int64], *keys: NDArray[Any]) -> NDArray[np.int64]:
    """Position of the least member of each group, by the last key first."""
    order = np.lexsort((*keys, group))
    ordered = group[order]
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = ordered[1:] != ordered[:-1]
    first: NDArray[np.int64] = order[is_first]
    return first


def _clip(boxes: NDArray[np.int32], within: NDArray[np.int64]) -> NDArray[np.int64]:
    """Intersect rectangles, pair by pair."""
    low = np.maximum(boxes[:, :2], within[:, :2])
    high = np.minimum(boxes[:, 2:], within[:, 2:])
    return np.concatenate((low, high), axis=1)
