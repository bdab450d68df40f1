"""Link the labels of successive slices into 3D objects or tracks, in the memory of a few slices.

1. Each slice has ids of its own: an object is an id in a slice, and the same id in another slice
   says nothing. So labels that were numbered anew in each slice are linked as well as others.
2. One contingency table holds the pixels that each object of a slice shares with each of the slice
   before. A pair whose IoU is over `min_iou` is a candidate; with `max_shift` only if the centres
   lie near enough.
3. Candidates are accepted from the highest IoU down, then by the smaller ids, each object once. So
   an object has at most one partner on either side, and two chains are never joined into one. Over
   an IoU of 0.5 no two candidates exclude each other, because labels are disjoint in a slice.
4. With `max_gap`, what found no partner looks for one in the slice before that, among the objects
   that no nearer slice continues.
5. Linked objects are a chain, named by its first object. As each object joins the chain of an
   earlier one, the root of this union-find is known at once, and no path is ever to be shortened.

The result depends on neither the ids nor the order of objects, unless two candidates of IoU 0.5 or
less tie.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError, InputError

__all__ = ["LinkRule", "SliceLinker", "link_slices", "number_chains", "relabel_slice"]


@dataclass(frozen=True)
class LinkRule:
    """When two objects of two slices are the same.

    Parameters
    ----------
    min_iou : float
        Objects are linked when their IoU is higher, 0 to 1. Thick slices change more from one to
        the next and need a lower one.
    max_gap : int
        Slices in which an object may be missing between two in which it is seen.
    max_shift : float, optional
        How far the centre of an object may move from one slice to the next, in the unit of
        `pixel_size_yx`; over a gap of n slices, n + 1 times as far. Any distance when not given.
    pixel_size_yx : tuple of float
        Height and width of a pixel.

    Raises
    ------
    ConfigError
        When a value is out of range.
    """

    min_iou: float = 0.5
    max_gap: int = 0
    max_shift: float | None = None
    pixel_size_yx: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not 0 <= self.min_iou < 1:
            raise ConfigError(
                f"A smallest IoU of {self.min_iou} was given",
                rule="Objects are linked when their IoU is higher; it is from 0 to below 1",
                cure="Use for example `--min-iou 0.5`",
            )
        if self.max_gap < 0:
            raise ConfigError(
                f"A gap of {self.max_gap} slices was given",
                rule="A gap is a number of missing slices, 0 or more",
                cure="Use for example `--max-gap 1`",
            )
        if self.max_shift is not None and not 0 < self.max_shift < math.inf:
            raise ConfigError(
                f"A largest shift of {self.max_shift} was given",
                rule="A shift is a length over zero, in the unit of the pixel size",
                cure="Use for example `--max-shift 2.5`, or leave it out to allow any",
            )


@dataclass(frozen=True)
class _Slice:
    """A slice that later ones may link to; its objects have places 1..n in order of their ids."""

    places: NDArray[np.int32]
    areas: NDArray[np.int64]
    centers_yx: NDArray[np.float64]
    chains: NDArray[np.int64]
    is_continued: NDArray[np.bool_]


class SliceLinker:
    """Links slices as they come.

    Holds `max_gap` + 1 earlier slices and nothing of those before.

    Parameters
    ----------
    rule : LinkRule, optional
    """

    def __init__(self, rule: LinkRule | None = None) -> None:
        self._rule = rule or LinkRule()
        self._earlier: deque[_Slice] = deque(maxlen=self._rule.max_gap + 1)
        self.n_chains = 0

    def restart(self) -> None:
        """Forget the slices so far: the next one begins another stack."""
        self._earlier.clear()

    def add(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Link the objects of the next slice.

        Parameters
        ----------
        labels : ndarray of int, shape (H, W)
            0 is background.

        Returns
        -------
        ndarray of int64, shape (n,)
            The chain of each object, in the order of their ids. Chains count from 0 in the order
            in which they begin; those that were not there before begin here.

        Raises
        ------
        InputError
            When the slice is not 2D, not as large as those before, or its ids are no integers or
            negative.
        """
        self._check_shape(labels)
        ids, places = _as_places(labels)
        areas = np.bincount(places.ravel(), minlength=len(ids) + 1)
        centers = self._centers(places, areas)
        chains = np.full(len(ids), -1, dtype=np.int64)
        new = _Slice(places, areas, centers, chains, np.zeros(len(ids), dtype=np.bool_))
        for steps, old in enumerate(reversed(self._earlier), start=1):
            self._continue(old, new, steps)
        begins = chains < 0
        chains[begins] = self.n_chains + np.arange(np.count_nonzero(begins))
        self.n_chains += int(np.count_nonzero(begins))
        self._earlier.append(new)
        return chains.copy()

    def _check_shape(self, labels: NDArray[Any]) -> None:
        expected = self._earlier[-1].places.shape if self._earlier else labels.shape
        if labels.ndim != 2 or labels.shape != expected:
            raise InputError(
                f"A slice of shape {labels.shape} came after one of shape {expected}",
                rule="Slices have rows and columns, and all of them as many",
                cure="Give the 2D slices of one stack",
            )

    def _centers(self, places: NDArray[np.int32], areas: NDArray[np.int64]) -> NDArray[np.float64]:
        """Centre of each place in physical units, (n + 1, 2); that of place 0 means nothing."""
        if self._rule.max_shift is None:
            return np.zeros((len(areas), 2))  # no shift is too far
        flat = places.ravel()
        sums = []
        for axis, size in enumerate(self._rule.pixel_size_yx):
            at = np.arange(places.shape[axis], dtype=np.float64) * size
            along = at[:, np.newaxis] if axis == 0 else at
            spread = np.broadcast_to(along, places.shape).ravel()
            sums.append(np.bincount(flat, weights=spread, minlength=len(areas)))
        return np.stack(sums, axis=1) / np.maximum(areas, 1)[:, np.newaxis]

    def _continue(self, old: _Slice, new: _Slice, steps: int) -> None:
        """Let free objects of the new slice continue free ones of an old slice."""
        limit = math.inf if self._rule.max_shift is None else self._rule.max_shift * steps
        pairs, ious = _overlaps(old, new)  # (n, 2) places, (n,)
        shifts = new.centers_yx[pairs[:, 1]] - old.centers_yx[pairs[:, 0]]
        is_candidate = (ious > self._rule.min_iou) & (np.hypot(*shifts.T) <= limit)
        for a, b in _best_first(pairs[is_candidate], ious[is_candidate]):
            new.chains[b - 1] = old.chains[a - 1]
            old.is_continued[a - 1] = True


def link_slices(
    slices: Iterable[NDArray[Any]], rule: LinkRule | None = None, *, min_extent: int = 1
) -> NDArray[np.uint32]:
    """Link all slices of a stack that fits into memory.

    Parameters
    ----------
    slices : iterable of ndarray of int, shape (H, W)
        Such as an array of shape (Z, H, W); 0 is background.
    rule : LinkRule, optional
    min_extent : int
        Objects seen in fewer slices are dropped.

    Returns
    -------
    ndarray of uint32, shape (Z, H, W)
        Objects have ids 1..n in the order in which they first appear.

    Raises
    ------
    InputError
        When there are no slices, their shapes differ, or their ids are no integers or negative.
    """
    stack = list(slices)
    if not stack:
        raise InputError(
            "No slice was given",
            rule="At least one slice is linked",
            cure="Give the 2D slices of a stack in their order",
        )
    linker = SliceLinker(rule)
    chains = [linker.add(labels) for labels in stack]
    new_ids = number_chains(chains, linker.n_chains, min_extent=min_extent)
    table = new_ids.astype(np.uint32)
    return np.stack([relabel_slice(a, table[b]) for a, b in zip(stack, chains, strict=True)])


def number_chains(
    chains: Sequence[NDArray[np.int64]], n_chains: int, *, min_extent: int = 1
) -> NDArray[np.int64]:
    """Give chains consecutive ids, in the order in which they begin.

    Parameters
    ----------
    chains : sequence of ndarray of int64
        What :meth:`SliceLinker.add` returned for each slice.
    n_chains : int
        Number of chains.
    min_extent : int
        Chains of fewer slices are dropped.

    Returns
    -------
    ndarray of int64, shape (n_chains,)
        Id of each chain: 1..n, or 0 where it is dropped.
    """
    extent = np.zeros(n_chains, dtype=np.int64)
    for in_slice in chains:
        extent[in_slice] += 1  # a chain has one object in a slice at most
    is_kept = extent >= min_extent
    return np.where(is_kept, np.cumsum(is_kept), 0)


def relabel_slice(labels: NDArray[Any], new_ids: NDArray[Any]) -> NDArray[Any]:
    """Replace the ids of a slice.

    Parameters
    ----------
    labels : ndarray of int, shape (H, W)
        0 is background, and stays so.
    new_ids : ndarray of int, shape (n,)
        New id of each object, in the order of the old ids.

    Returns
    -------
    ndarray, shape (H, W)
        Of the type of `new_ids`.

    Raises
    ------
    InputError
        When the slice holds another number of objects.
    """
    ids, places = _as_places(labels)
    if len(ids) != len(new_ids):
        raise InputError(
            f"A slice holds {len(ids)} objects and held {len(new_ids)} before",
            rule="Labels stay as they are while they are linked",
            cure="Link them again when nothing else writes into them",
        )
    table = np.concatenate([np.zeros(1, dtype=new_ids.dtype), new_ids])
    relabelled: NDArray[Any] = table[places]
    return relabelled


def _as_places(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """List the ids of a slice in order, and say for each pixel which it has, from 1."""
    if labels.dtype.kind not in "ui" or labels.min(initial=0) < 0:
        low = labels.min(initial=0)
        raise InputError(
            f"Labels of type {labels.dtype} with a smallest value of {low} were given",
            rule="Label ids are whole numbers from 0, which is background",
            cure="Save the labels as unsigned integers",
        )
    objects = labels != 0
    if not objects.any():
        return labels[:0, 0], np.zeros(labels.shape, dtype=np.int32)
    low, high = int(labels[objects].min()), int(labels.max())
    if high - low > labels.size:
        return _places_by_sorting(labels)
    # Most ids lie close to each other: a table of those in between is faster than sorting pixels.
    # Differences are taken in the type of the ids, because those of 64 bits fit into no other.
    zeros = np.zeros_like(labels)
    ranks: NDArray[Any] = np.subtract(labels, labels.dtype.type(low - 1), out=zeros, where=objects)
    is_there = np.zeros(high - low + 2, dtype=np.bool_)
    is_there[ranks] = True
    is_there[0] = False
    ids: NDArray[Any] = np.flatnonzero(is_there).astype(labels.dtype)
    ids += labels.dtype.type(low - 1)
    table: NDArray[np.int32] = np.cumsum(
        is_there, dtype=np.int32
    )  # 0 at rank 0, which is background
    return ids, table[ranks]


def _places_by_sorting(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    ids, inverse = np.unique(labels, return_inverse=True)
    places: NDArray[np.int32] = inverse.reshape(labels.shape).astype(np.int32)
    return (ids[1:], places) if ids[0] == 0 else (ids, places + 1)


def _overlaps(old: _Slice, new: _Slice) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the pairs of free places that share pixels, (n, 2), and their IoU, (n,)."""
    is_free_old = np.append(False, ~old.is_continued)  # place 0 is background
    is_free_new = np.append(False, new.chains < 0)
    both = is_free_old[old.places] & is_free_new[new.places]
    base = len(new.areas)
    joint = old.places[both].astype(np.int64) * base + new.places[both]
    # Along a row a pair goes on for many pixels, and runs are faster to sort than pixels
    starts = np.flatnonzero(np.diff(joint, prepend=0))  # no pair is 0
    values, pair_of_run = np.unique(joint[starts], return_inverse=True)
    lengths = np.diff(starts, append=len(joint))
    shared = np.bincount(pair_of_run, weights=lengths, minlength=len(values))
    a, b = np.divmod(values, base)
    return np.stack([a, b], axis=1), shared / (old.areas[a] + new.areas[b] - shared)


def _best_first(pairs: NDArray[np.int64], ious: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Yield pairs from the best down, none with an object that an earlier pair has."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -ious))
    taken_a: set[int] = set()
    taken_b: set[int] = set()
    for a, b in pairs[order].tolist():
        if a not in taken_a and b not in taken_b:
            taken_a.add(a)
            taken_b.add(b)
            yield a, b
