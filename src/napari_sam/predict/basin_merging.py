"""Basins that belong to one object: neighbours between which the model sees hardly a boundary.

A long or branched object has several peaks of the centre map, so a watershed from all peaks breaks
it. Between two of its pieces the boundary map is low along their whole *frontier*, the pairs of
neighbouring foreground pixels that lie in both. So the two basins with the lowest mean boundary
along their frontier become one, as long as it is below :data:`MAX_INNER_BOUNDARY`; what they become
meets its neighbours along the frontiers of both (the greedy merging of region adjacency graphs:
Arbelaez et al. 2011, section 4.1, with the model's boundary map for a contour detector).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_INNER_BOUNDARY", "merge_basins"]

MAX_INNER_BOUNDARY = 0.2
"""Mean boundary probability along a frontier below which it parts no objects.

On 20 training images of four kinds it raised the mean SA50 of a watershed from .51 to .57 and its
mSA from .30 to .34; from .15 to .25 the mSA stayed within .012 of that.
"""


@dataclass
class _Frontier:
    """Boundary probability along a frontier, summed up, and its pairs of pixels."""

    total: float
    count: int

    @property
    def mean(self) -> float:
        return self.total / self.count

    def extend(self, other: _Frontier) -> None:
        self.total += other.total
        self.count += other.count


def merge_basins(
    basins: NDArray[np.int32],
    boundary: NDArray[np.float32],
    is_foreground: NDArray[np.bool_],
    max_inner_boundary: float = MAX_INNER_BOUNDARY,
) -> NDArray[np.int64]:
    """Find the basins that are pieces of one object.

    Parameters
    ----------
    basins : ndarray of int32, shape (H, W)
        Basins from 1 to K; 0 is none.
    boundary : ndarray of float32, shape (H, W)
        Probability of a boundary.
    is_foreground : ndarray of bool, shape (H, W)
        Where frontiers count.
    max_inner_boundary : float
        Mean boundary probability, 0 to 1, below which a frontier parts no objects.

    Returns
    -------
    ndarray of int64, shape (K + 1,)
        For each basin the one that it is a piece of: the largest of them, itself where it stands
        alone.
    """
    areas = np.bincount(basins.ravel())
    graph = _frontiers(basins, boundary, is_foreground)
    owner = np.arange(len(areas))
    queue = [(front.mean, a, b) for a, others in graph.items() for b, front in others.items()]
    queue = [(mean, a, b) for mean, a, b in queue if a < b and mean < max_inner_boundary]
    heapq.heapify(queue)
    while queue:
        mean, a, b = heapq.heappop(queue)
        known = graph.get(a, {}).get(b)
        if known is None or known.mean != mean:
            continue  # one of the two is a piece of another by now, or their frontier has grown
        kept, piece = (a, b) if (areas[a], -a) >= (areas[b], -b) else (b, a)
        owner[owner == piece] = kept
        areas[kept] += areas[piece]
        for other in _join(graph, kept, piece):
            grown = graph[kept][other].mean
            if grown < max_inner_boundary:
                heapq.heappush(queue, (grown, min(kept, other), max(kept, other)))
    return owner


def _frontiers(
    basins: NDArray[np.int32], boundary: NDArray[np.float32], is_foreground: NDArray[np.bool_]
) -> dict[int, dict[int, _Frontier]]:
    """Measure the frontiers of all neighbours, each under both of them."""
    firsts, seconds, values = [], [], []
    for here, there in (
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        a, b = basins[here], basins[there]
        meets = (a != b) & (a > 0) & (b > 0) & (is_foreground[here] | is_foreground[there])
        firsts.append(np.minimum(a[meets], b[meets]))
        seconds.append(np.maximum(a[meets], b[meets]))
        values.append(np.maximum(boundary[here][meets], boundary[there][meets]))
    pairs = np.stack([np.concatenate(firsts), np.concatenate(seconds)], axis=1)
    neighbours, which = np.unique(pairs, axis=0, return_inverse=True)
    totals = np.bincount(which.ravel(), np.concatenate(values), minlength=len(neighbours))
    counts = np.bincount(which.ravel(), minlength=len(neighbours))
    graph: dict[int, dict[int, _Frontier]] = {}
    for (a, b), total, count in zip(
        neighbours.tolist(), totals.tolist(), counts.tolist(), strict=True
    ):
        graph.setdefault(a, {})[b] = graph.setdefault(b, {})[a] = _Frontier(total, count)
    return graph


def _join(graph: dict[int, dict[int, _Frontier]], kept: int, piece: int) -> list[int]:
    """Give the frontiers of a piece to what it is a piece of; tell whose have changed."""
    del graph[kept][piece]
    changed = []
    for other, frontier in graph.pop(piece).items():
        if other == kept:
            continue
        del graph[other][piece]
        known = graph[kept].get(other)
        if known is None:
            graph[kept][other] = graph[other][kept] = frontier
        else:
            known.extend(frontier)
        changed.append(other)
    return changed
