"""In which order the points of a crop are prompted, and which of them are skipped.

With ``skip_covered``, a grid is prompted from coarse to fine: every 4th point along both axes, then
every 2nd, then the rest. When a level is done, the points of the finer ones that it covers are
dropped. What covers a point is the smallest good mask of another one: the larger masks of a prompt
may be groups of objects, which would hide the others. Whole levels decide, so that the size of
batches changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.masks import PackedMask
from napari_sam.model.sam import InputSpec
from napari_sam.predict.candidates import CropCandidates
from napari_sam.predict.crops import Crop
from napari_sam.predict.records import AutomaticOptions
from napari_sam.predict.sharing import PromptedCrop

__all__ = ["PointSchedule", "PromptBatch", "coarse_to_fine", "point_schedules"]

_LATTICES = ((4, 2), (2, 0))
"""Step along both axes, and the first column and row, of each level but the last: the rest."""

_LARGEST_COVER = 0.4
"""Fraction of its crop that a mask covers at most to cover points; more is background.

As in :mod:`napari_sam.predict.everything`.
"""


def coarse_to_fine(points_xy: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Part the points of a grid into levels.

    Parameters
    ----------
    points_xy : ndarray of float64, shape (n, 2)
        Points as (x, y). Their columns and rows are the values of x and of y that occur, so that
        points that form no grid are parted too.

    Returns
    -------
    list of ndarray, shape (m, 2)
        The coarsest level first, without empty ones; each point belongs to one, and keeps its
        place among those of its level.
    """
    columns = np.unique(points_xy[:, 0], return_inverse=True)[1]
    rows = np.unique(points_xy[:, 1], return_inverse=True)[1]
    left = np.ones(len(points_xy), dtype=np.bool_)
    levels = []
    for stride, first in _LATTICES:
        chosen = left & (columns % stride == first) & (rows % stride == first)
        levels.append(points_xy[chosen])
        left &= ~chosen
    levels.append(points_xy[left])
    return [level for level in levels if len(level)]


class PromptBatch(NamedTuple):
    """What is decoded in one call.

    Attributes
    ----------
    points_xy : ndarray of float64, shape (n, 2)
        Points as (x, y) in crop pixels.
    masks : sequence of PackedMask, or None
        A mask prompt for each, in the image's frame.
    """

    points_xy: NDArray[np.float64]
    masks: Sequence[PackedMask] | None = None


class PointSchedule:
    """The points of one crop that are still to be prompted; its length is that of their batches.

    Parameters
    ----------
    crop : Crop
        Where the points stand.
    points_xy : ndarray of float64, shape (n, 2)
        Points as (x, y) in crop pixels.
    batch_size : int
        Points in a batch at most.
    good_from : tuple of float, optional
        Predicted IoU and stability score from which masks cover points, which are then skipped.
        Without it all points are prompted, in their order.
    masks : sequence of PackedMask, optional
        A mask prompt for each point, where none is skipped.
    """

    def __init__(
        self,
        crop: Crop,
        points_xy: NDArray[np.float64],
        batch_size: int,
        good_from: tuple[float, float] | None = None,
        masks: Sequence[PackedMask] | None = None,
    ) -> None:
        self.crop = crop
        self._masks = masks
        self._n_taken = 0
        self._batch_size = batch_size
        self._good_from = good_from
        levels = [points_xy] if good_from is None else coarse_to_fine(points_xy)
        self._levels = [self._in_batches(level) for level in levels]
        self._covering: list[PackedMask] = []

    def __len__(self) -> int:
        return sum(map(len, self._levels))

    def take(self) -> PromptBatch:
        """Take the next batch; to be called while there are any."""
        points_xy = self._levels[0].pop(0)
        if self._masks is None:
            return PromptBatch(points_xy)
        first = self._n_taken
        self._n_taken += len(points_xy)
        return PromptBatch(points_xy, self._masks[first : self._n_taken])

    def learn(self, found: CropCandidates) -> None:
        """Drop the points that are covered, when the level of the batch taken last is done.

        Parameters
        ----------
        found : CropCandidates
            The masks of that batch.
        """
        if self._good_from is not None:
            self._covering += self._cover(found.passing(*self._good_from))
        if self._levels[0]:
            return
        left = [np.concatenate(level) for level in self._levels[1:]]
        left = [level[~_is_covered(level + self._corner, self._covering)] for level in left]
        self._levels = [self._in_batches(level) for level in left if len(level)]
        self._covering.clear()

    def _in_batches(self, points_xy: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        size = self._batch_size
        return [points_xy[start : start + size] for start in range(0, len(points_xy), size)]

    def _cover(self, good: CropCandidates) -> list[PackedMask]:
        """Choose the smallest of the masks of each point, if it is no background."""
        smallest: dict[tuple[float, float], PackedMask] = {}
        for candidate in good.candidates:
            known = smallest.setdefault(candidate.point_xy, candidate.mask)
            if candidate.mask.area < known.area:
                smallest[candidate.point_xy] = candidate.mask
        largest = _LARGEST_COVER * self.crop.area
        return [mask for mask in smallest.values() if mask.area <= largest]

    @property
    def _corner(self) -> tuple[int, int]:
        return self.crop.box_xyxy[:2]


def point_schedules(
    prompted: Sequence[PromptedCrop],
    options: AutomaticOptions,
    spec: InputSpec,
    batch_size: int,
) -> list[PointSchedule]:
    """Plan the prompts of each crop; what the instance head proposes is never skipped.

    Parameters
    ----------
    prompted : sequence of PromptedCrop
    options : AutomaticOptions
    spec : InputSpec
        What the model expects, which decides thresholds that the options leave open.
    batch_size : int
        Points in a batch at most.

    Returns
    -------
    list of PointSchedule
    """
    first_grid = 0 if options.mode == "grid" else 1  # layer of crops
    good_from = options.thresholds(spec) if options.skip_covered else None
    return [
        PointSchedule(
            each.crop,
            each.points_xy,
            batch_size,
            good_from if each.crop.layer >= first_grid else None,
            each.masks,
        )
        for each in prompted
    ]


def _is_covered(points_xy: NDArray[np.float64], masks: Sequence[PackedMask]) -> NDArray[np.bool_]:
    """Tell of points in image pixels which of them, rounded, lie in one of the masks."""
    cols, rows = np.rint(points_xy).astype(np.int64).T
    covered = np.zeros(len(points_xy), dtype=np.bool_)
    for mask in masks:
        x0, y0, x1, y1 = mask.box_xyxy
        near = ~covered & (cols >= x0) & (cols <= x1) & (rows >= y0) & (rows <= y1)
        if mask.area and near.any():
            covered[near] = mask.crop()[rows[near] - y0, cols[near] - x0]
    return covered
