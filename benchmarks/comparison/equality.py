"""Whether two results are the same, up to the rounding of single precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from napari_sam.predict import MaskPrediction, MaskRecord

CERTAIN = 1e-4
"""A pixel whose logit is farther from the mask threshold is the same in both masks."""
SCORES = 1e-5
"""Largest difference of predicted IoUs and stability scores."""
LOGITS = 1e-5
"""Largest difference of logits, as a part of the largest logit."""
STABILITY_OFFSET = 1.0
"""How far the mask threshold moves for a stability score."""
ENOUGH = 10
"""What differs so often needs no further counting."""
EMBEDDINGS = 1e-4
"""Largest difference of embeddings, whose standard deviation is about 1."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Check:
    """Whether two results are equal.

    Parameters
    ----------
    equal : bool
        They are, up to rounding.
    figures : dict of str to float
        By how much they differ.
    """

    equal: bool
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """The figure to show when there is room for one: the first."""
        return next(iter(self.figures.values()), 0.0)


class Masks(NamedTuple):
    """Masks of a reference: boolean (..., H, W), predicted IoU (...), logits (..., hl, wl)."""

    masks: Array
    predicted_iou: Array
    low_res_logits: Array


def check_embeddings(ours: Tensor, other: Tensor) -> Check:
    """Compare two embeddings (1, C, h, w)."""
    if ours.shape != other.shape:
        return Check(False)
    difference = float((ours - other).abs().max())
    relative = difference / float(other.abs().max())
    figures = {"largest difference": difference, "relative": relative}
    return Check(difference <= EMBEDDINGS, figures)


def check_masks(ours: MaskPrediction, other: Masks, logits: Array) -> Check:
    """Compare predicted masks, where `logits` (..., H, W) of the other are certain."""
    if ours.masks.shape != other.masks.shape:
        return Check(False)
    certain = np.abs(logits) > CERTAIN
    low_res = _largest_difference(ours.low_res_logits, other.low_res_logits)
    relative = low_res / float(np.abs(other.low_res_logits).max())
    iou = _largest_difference(ours.predicted_iou, other.predicted_iou)
    wrong = float(np.mean((ours.masks != other.masks) & certain))
    figures = {
        "logits, largest difference": low_res,
        "logits, relative": relative,
        "predicted IoU, largest difference": iou,
        "share of certain mask pixels that differ": wrong,
    }
    return Check(relative <= LOGITS and iou <= SCORES and wrong == 0, figures)


def check_records(
    ours: Sequence[MaskRecord],
    other: Sequence[Mapping[str, Any]],
    logits_of: Callable[[Mapping[str, Any]], Array],
) -> Check:
    """Compare the masks that two generators found.

    Both lists have the best predicted IoU first; masks may change places only where these are equal
    up to rounding. Both are painted into a label image, each mask over those before.

    Among thousands of masks of a million pixels some have a pixel that rounding decides. So where
    the label images differ, and where a box or a stability score differs, the logits of the mask
    have to be uncertain there.

    Parameters
    ----------
    ours, other : sequence
        Our records, and the reference's with run lengths.
    logits_of : callable
        Computes the logits (H, W) of one of the reference's records.
    """
    counts = {"masks of ours": float(len(ours)), "masks of the other": float(len(other))}
    if len(ours) != len(other):
        return Check(False, counts)
    if not ours:
        return Check(True, counts)
    iou = _largest_difference(
        [record.predicted_iou for record in ours], [record["predicted_iou"] for record in other]
    )
    ours, n_moved = _in_the_order_of(ours, other)
    points = _largest_difference(
        [record.point_xy for record in ours], [record["point_coords"][0] for record in other]
    )
    painted = _paint(ours, other)
    wrong_pixels = _certain_pixels(painted, other, logits_of)
    wrong_masks, stability = _wrong_masks(ours, other, logits_of)
    figures = {
        "predicted IoU, largest difference": iou,
        "stability score, largest difference": stability,
        "points, largest difference": points,
        "share of mask pixels that differ": painted.share_of_masks,
        "certain label pixels that differ": float(wrong_pixels),
        "boxes and stability scores that differ beyond rounding": float(wrong_masks),
        "masks in another place": float(n_moved),
        **counts,
    }
    equal = iou <= SCORES and points <= SCORES and wrong_pixels == wrong_masks == 0
    return Check(equal, figures)


def _largest_difference(ours: ArrayLike, other: ArrayLike) -> float:
    mine, theirs = np.asarray(ours, np.float64), np.asarray(other, np.float64)
    if not np.array_equal(np.isnan(mine), np.isnan(theirs)):
        return float("inf")
    return float(np.abs(mine - theirs)[~np.isnan(mine)].max(initial=0.0))


def _in_the_order_of(
    ours: Sequence[MaskRecord], other: Sequence[Mapping[str, Any]]
) -> tuple[list[MaskRecord], int]:
    """Bring our records into the order of the other's, by point and predicted IoU.

    Also returns how many changed places.
    """
    mine = np.array([[*record.point_xy, record.predicted_iou] for record in ours])
    theirs = np.array([[*r["point_coords"][0], r["predicted_iou"]] for r in other])
    from_ours, to_other = (
        np.lexsort((keys[:, 2], *keys[:, :2].T.round(6))) for keys in (mine, theirs)
    )
    ordered = list(ours)
    for index, place in zip(from_ours.tolist(), to_other.tolist(), strict=True):
        ordered[place] = ours[index]
    return ordered, int(np.count_nonzero(from_ours != to_other))


def _wrong_masks(
    ours: Sequence[MaskRecord],
    other: Sequence[Mapping[str, Any]],
    logits_of: Callable[[Mapping[str, Any]], Array],
) -> tuple[int, float]:
    """Count masks whose box or stability score differs although the logits are certain.

    Also returns the largest difference of stability scores. Counting ends at `ENOUGH`.
    """
    wrong = 0
    stability = [
        (record.stability_score, r["stability_score"])
        for record, r in zip(ours, other, strict=True)
    ]
    differences = [_largest_difference(mine, theirs) for mine, theirs in stability]
    for record, expected, difference in zip(ours, other, differences, strict=True):
        same_box = list(record.bbox_xywh) == list(expected["bbox"])
        if wrong == ENOUGH or (same_box and difference <= SCORES):
            continue
        mask = record.mask.to_array(record.image_size_yx)
        if not same_box and list(record.bbox_xywh) != _box_of(mask):
            wrong += 1
            continue
        logits = logits_of(expected)
        at_stake = np.count_nonzero(np.abs(np.abs(logits) - STABILITY_OFFSET) <= CERTAIN)
        union = int(np.count_nonzero(logits > -STABILITY_OFFSET))
        certain = np.any(np.abs(logits[mask != unfold(expected)]) > CERTAIN)
        wrong += int(certain or difference > SCORES + at_stake / max(union, 1))
    return wrong, max(differences)


def _box_of(mask: NDArray[np.bool_]) -> list[int]:
    """Return first column and row of a mask (H, W), and the distances to the last ones."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [0, 0, 0, 0]
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x, int(rows[-1]) - y]


class _Painted(NamedTuple):
    ours: NDArray[np.int32]
    other: NDArray[np.int32]
    share_of_masks: float


def _paint(ours: Sequence[MaskRecord], other: Sequence[Mapping[str, Any]]) -> _Painted:
    """Paint both lists into label images, and count the pixels of masks that differ."""
    shape = tuple(other[0]["segmentation"]["size"])
    labels = np.zeros((2, *shape), np.int32)
    differing = area = 0
    for index, (record, expected) in enumerate(zip(ours, other, strict=True), start=1):
        mask, expected_mask = record.mask.to_array(record.image_size_yx), unfold(expected)
        labels[0][mask] = labels[1][expected_mask] = index
        differing += int(np.count_nonzero(mask != expected_mask))
        area += int(np.count_nonzero(expected_mask))
    return _Painted(labels[0], labels[1], differing / max(area, 1))


def unfold(record: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return a record's mask (H, W) from its run lengths, which go down the columns."""
    counts, (rows, cols) = record["segmentation"]["counts"], record["segmentation"]["size"]
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(cols, rows).T


def _certain_pixels(
    painted: _Painted,
    other: Sequence[Mapping[str, Any]],
    logits_of: Callable[[Mapping[str, Any]], Array],
) -> int:
    """Count label pixels that differ although the mask's logit is certain; ends at `ENOUGH`."""
    differs = painted.ours != painted.other
    top = np.maximum(painted.ours, painted.other)  # painted last, so by one of both alone
    wrong = 0
    for index in np.unique(top[differs]).tolist():
        here = differs & (top == index)
        wrong += int(np.count_nonzero(np.abs(logits_of(other[index - 1])[here]) > CERTAIN))
        if wrong >= ENOUGH:
            break
    return wrong
