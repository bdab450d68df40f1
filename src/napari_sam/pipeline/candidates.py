"""What the model offers for prompts: candidate masks, and which of them is shown. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError
from napari_sam.core.plane import Plane
from napari_sam.core.prompts import PromptSet
from napari_sam.core.region import Box, Region
from napari_sam.pipeline.logit_resampling import mask_above

__all__ = [
    "THRESHOLD_RANGE",
    "CandidateMask",
    "MaskPatch",
    "ObjectCandidates",
    "PredictionRequest",
    "Preference",
    "check_preference",
    "check_threshold",
]

THRESHOLD_RANGE = (-5.0, 5.0)
"""Thresholds of the mask logits that can be chosen; 0 is what the model was trained for."""

Preference = Literal["best", "whole", "part", "sub-part"]
"""Which of the three masks of an ambiguous point is taken: by rank, or by size."""


@dataclass(frozen=True, eq=False)
class MaskPatch:
    """A mask, cut to the smallest rectangle that holds it.

    Build it with :meth:`from_array`.

    Parameters
    ----------
    mask : ndarray of bool, shape (h, w)
        The pixels of the rectangle; of shape (0, 0) for an empty mask.
    origin_yx : tuple of int
        Row and column of the rectangle's first pixel in the plane.
    """

    mask: NDArray[np.bool_]
    origin_yx: tuple[int, int]

    @classmethod
    def from_array(cls, mask: NDArray[np.bool_], origin_yx: tuple[int, int] = (0, 0)) -> MaskPatch:
        """Trim a mask to its bounding box.

        Parameters
        ----------
        mask : ndarray of bool, shape (h, w)
            The mask, or a part of the plane that holds all of it.
        origin_yx : tuple of int
            Where that part starts in the plane.

        Returns
        -------
        MaskPatch
        """
        region = Region.around(mask)
        if region.is_empty:
            return cls(np.zeros((0, 0), np.bool_), origin_yx)
        top, left = region.start
        return cls(mask[region.slices].copy(), (origin_yx[0] + top, origin_yx[1] + left))

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is set."""
        return self.mask.size == 0

    @property
    def area(self) -> int:
        """Number of pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels of the plane; right and bottom are exclusive."""
        (top, left), (rows, cols) = self.origin_yx, self.mask.shape
        return left, top, left + cols, top + rows

    @property
    def region_yx(self) -> Region:
        """The rectangle as rows and columns of the plane."""
        return Box(*self.box_xyxy).region_yx

    def clipped(self, shape_yx: tuple[int, int]) -> MaskPatch:
        """Cut off what lies outside of the plane.

        Parameters
        ----------
        shape_yx : tuple of int
            Rows and columns of the plane.

        Returns
        -------
        MaskPatch
        """
        left, top, right, bottom = self.box_xyxy
        (rows, cols) = shape_yx
        if left >= 0 and top >= 0 and right <= cols and bottom <= rows:
            return self
        inside = self.mask[max(-top, 0) : max(rows - top, 0), max(-left, 0) : max(cols - left, 0)]
        return MaskPatch.from_array(inside, (max(top, 0), max(left, 0)))

    def to_plane(self, shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
        """Draw the mask on a plane.

        Parameters
        ----------
        shape_yx : tuple of int
            Rows and columns of the plane.

        Returns
        -------
        ndarray of bool, shape `shape_yx`
        """
        plane = np.zeros(shape_yx, np.bool_)
        patch = self.clipped(shape_yx)
        if not patch.is_empty:
            plane[patch.region_yx.slices] = patch.mask
        return plane


@dataclass(frozen=True, eq=False)
class CandidateMask:
    """One mask that the model offers, before the threshold.

    Parameters
    ----------
    logits : ndarray of float32, shape (h, w)
        Mask logits. Around them is background.
    origin_yx : tuple of int
        Row and column of the plane where they start.
    predicted_iou : float
        The model's own guess of the intersection over union with the truth.
    stability_score : float
        How little the mask changes when its threshold moves, 0 to 1.
    cells_per_pixel_yx : tuple of float
        Logits along a side of one pixel of the plane; 1 for logits at its resolution.
    size_yx : tuple of int, optional
        Rows and columns of the plane that the logits cover; as many as logits by default.
    rank : float, optional
        What the best of several masks is chosen by; the predicted IoU unless given.
    """

    logits: NDArray[np.float32]
    origin_yx: tuple[int, int]
    predicted_iou: float
    stability_score: float
    cells_per_pixel_yx: tuple[float, float] = (1.0, 1.0)
    size_yx: tuple[int, int] | None = None
    rank: float | None = None
    _last: dict[float, MaskPatch] = field(default_factory=dict, init=False, repr=False)

    def at(self, threshold: float = 0.0) -> MaskPatch:
        """Cut the mask out at a threshold.

        Parameters
        ----------
        threshold : float
            Pixels with logits above it belong to the mask.

        Returns
        -------
        MaskPatch
        """
        patch = self._last.get(threshold)
        if patch is None:
            (rows, cols), (top, left) = self.logits.shape, self.origin_yx
            mask, (y, x) = mask_above(
                self.logits, threshold, self.cells_per_pixel_yx, self.size_yx or (rows, cols)
            )
            patch = MaskPatch.from_array(mask, (top + y, left + x))
            self._last.clear()  # one is enough: the slider moves on, the view asks again
            self._last[threshold] = patch
        return patch


@dataclass(frozen=True, eq=False)
class ObjectCandidates:
    """The masks that the model offers for one object.

    Parameters
    ----------
    prompts : PromptSet
        What was asked.
    masks : tuple of CandidateMask
        Of an ambiguous point, the three masks of the multimask output. Otherwise the single mask
        first, then these three.
    is_ambiguous : bool
        Which of the two it is.
    factor : int
        Pixels of the plane along a side of one pixel that the model saw; 1 is full resolution.
    first_choice : int, optional
        Where later points followed on an ambiguous one: which of its three masks they went on from.
    """

    prompts: PromptSet
    masks: tuple[CandidateMask, ...]
    is_ambiguous: bool
    factor: int = 1
    first_choice: int | None = None

    def preferred(self, preference: Preference = "best") -> int:
        """Choose a mask.

        Parameters
        ----------
        preference : {"best", "whole", "part", "sub-part"}
            For an ambiguous point, the mask of the highest rank, or the largest, middle or smallest
            one at threshold 0. Otherwise it has no effect.

        Returns
        -------
        int
            Index into `masks`; 0 when the prompts are not ambiguous.
        """
        if not self.is_ambiguous:
            return 0
        if preference == "best":
            ranks = [m.predicted_iou if m.rank is None else m.rank for m in self.masks]
            return int(np.argmax(ranks))
        areas = [int(np.count_nonzero(mask.logits > 0)) for mask in self.masks]
        by_area = sorted(range(len(areas)), key=lambda i: -areas[i])
        return by_area[{"whole": 0, "part": len(areas) // 2, "sub-part": -1}[preference]]


@dataclass(frozen=True)
class PredictionRequest:
    """What a session wants from the model, as of one moment.

    Parameters
    ----------
    revision : int
        Counts the changes of the session; the answer to an older one is dropped.
    plane : Plane
        Where the prompts stand.
    objects : tuple of PromptSet
        The prompts of each object.
    preference : {"best", "whole", "part", "sub-part"}
        Which mask of an ambiguous first point the later points go on from, where none was chosen.
    """

    revision: int
    plane: Plane
    objects: tuple[PromptSet, ...]
    preference: Preference = "best"


def check_preference(preference: str) -> None:
    """Refuse an unknown preference.

    Parameters
    ----------
    preference : str

    Raises
    ------
    ConfigError
    """
    known: Sequence[str] = get_args(Preference)
    if preference not in known:
        raise ConfigError(
            f"The preference {preference!r} was given",
            rule=f"Masks are preferred by one of {', '.join(known)}",
            cure="Use for example 'best'",
        )


def check_threshold(threshold: float) -> None:
    """Refuse a threshold out of range.

    Parameters
    ----------
    threshold : float

    Raises
    ------
    ConfigError
    """
    low, high = THRESHOLD_RANGE
    if not low <= threshold <= high:
        raise ConfigError(
            f"The threshold {threshold} was given",
            rule=f"The threshold of mask logits lies between {low:g} and {high:g}",
            cure="Use 0, for which the model was trained, or a value near it",
        )
