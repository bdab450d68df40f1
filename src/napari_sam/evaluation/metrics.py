"""Metrics of instance segmentation, one definition each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment

__all__ = [
    "MEAN_THRESHOLDS",
    "PanopticQuality",
    "average_recall",
    "label_iou_matrix",
    "mask_iou",
    "mean_segmentation_accuracy",
    "panoptic_quality",
    "segmentation_accuracy",
]

MEAN_THRESHOLDS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
"""IoU thresholds 0.50, 0.55, ... 0.95 of the mean segmentation accuracy."""

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class PanopticQuality:
    """Panoptic quality (Kirillov et al. 2019) at IoU 0.5.

    Attributes
    ----------
    quality : float
        PQ, the product of the other two.
    segmentation_quality : float
        SQ, the mean IoU of matched objects.
    recognition_quality : float
        RQ, the F1 score of matching.
    """

    quality: float
    segmentation_quality: float
    recognition_quality: float


def mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union over the last two axes; the others broadcast.

    Parameters
    ----------
    first, second : ndarray of bool
        Masks (..., H, W).

    Returns
    -------
    ndarray of float64
        (...); 1 where both masks are empty.
    """
    intersection = (first & second).sum(axis=(-2, -1))
    union = (first | second).sum(axis=(-2, -1))
    iou: NDArray[np.float64] = np.where(union > 0, intersection / np.maximum(union, 1), 1.0)
    return iou


def label_iou_matrix(prediction: Labels, truth: Labels) -> NDArray[np.float64]:
    """IoU of each predicted with each true object, (P, T), in order of their ids.

    Parameters
    ----------
    prediction, truth : ndarray of int
        Label images of one shape, 2D or 3D; 0 is background.
    """
    predicted_ids, predicted_index = np.unique(prediction, return_inverse=True)
    true_ids, true_index = np.unique(truth, return_inverse=True)
    overlap = sparse.coo_matrix(
        (np.ones(prediction.size), (predicted_index.ravel(), true_index.ravel())),
        shape=(len(predicted_ids), len(true_ids)),
    ).toarray()
    union = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0, keepdims=True) - overlap
    iou: NDArray[np.float64] = (overlap / union)[predicted_ids != 0][:, true_ids != 0]
    return iou


def segmentation_accuracy(prediction: Labels, truth: Labels, threshold: float = 0.5) -> float:
    """SA(t) = TP / (TP + FP + FN), objects matched one to one at IoU >= t.

    This is the average precision of the Data Science Bowl 2018 and of StarDist. Two empty label
    images agree: 1.

    Parameters
    ----------
    prediction, truth : ndarray of int
        Label images of one shape.
    threshold : float
        IoU from which two objects match.
    """
    return _accuracy(label_iou_matrix(prediction, truth), threshold)


def mean_segmentation_accuracy(
    prediction: Labels, truth: Labels, thresholds: Sequence[float] = MEAN_THRESHOLDS
) -> float:
    """MSA: the mean of :func:`segmentation_accuracy` over thresholds 0.50 to 0.95."""
    iou = label_iou_matrix(prediction, truth)
    return float(np.mean([_accuracy(iou, threshold) for threshold in thresholds]))


def panoptic_quality(prediction: Labels, truth: Labels) -> PanopticQuality:
    """Panoptic quality of two label images of one shape."""
    iou = label_iou_matrix(prediction, truth)
    if iou.shape == (0, 0):
        return PanopticQuality(1.0, 1.0, 1.0)
    matched = _matched_iou(iou, 0.5)
    segmentation = float(matched.mean()) if matched.size else 0.0
    recognition = 2 * matched.size / sum(iou.shape)
    return PanopticQuality(segmentation * recognition, segmentation, recognition)


def average_recall(best_iou: Sequence[float]) -> float:
    """AR: the recall of true objects, averaged over IoU thresholds 0.50 to 0.95.

    Parameters
    ----------
    best_iou : sequence of float
        For each true object, its highest IoU with any proposal.
    """
    if len(best_iou) == 0:
        return 1.0
    best = np.asarray(best_iou, dtype=float)
    return float(np.mean([(best >= threshold).mean() for threshold in MEAN_THRESHOLDS]))


def _accuracy(iou: NDArray[np.float64], threshold: float) -> float:
    true_positive = _matched_iou(iou, threshold).size
    total = sum(iou.shape) - true_positive
    return true_positive / total if total else 1.0


def _matched_iou(iou: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """IoU of the pairs of the largest one-to-one matching at IoU >= threshold."""
    possible = iou >= threshold
    if not possible.any():
        return np.zeros(0)
    # count first, IoU second: a pair more always outweighs any sum of IoU
    benefit = possible + np.where(possible, iou, 0.0) / (2 * min(iou.shape))
    rows, cols = linear_sum_assignment(benefit, maximize=True)
    values: NDArray[np.float64] = iou[rows, cols]
    matched: NDArray[np.float64] = values[possible[rows, cols]]
    return matched
