"""Metrics against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from napari_sam.evaluation import (
    average_recall,
    label_iou_matrix,
    mask_iou,
    mean_segmentation_accuracy,
    panoptic_quality,
    segmentation_accuracy,
)

LABELS = st_numpy.arrays(np.int32, (6, 7), elements=st.integers(0, 4))


def _bar(start: int, stop: int, label: int = 1, size: int = 20) -> np.ndarray:
    row = np.zeros((1, size), np.int32)
    row[0, start:stop] = label
    return row


def test_iou_of_shifted_bars() -> None:
    assert label_iou_matrix(_bar(0, 10), _bar(5, 15)).tolist() == [[pytest.approx(5 / 15)]]
    assert mask_iou(_bar(0, 10) > 0, _bar(5, 15) > 0) == pytest.approx(5 / 15)
    assert mask_iou(_bar(0, 0) > 0, _bar(0, 0) > 0) == 1.0


def test_segmentation_accuracy_counts_misses_and_extras() -> None:
    truth = _bar(0, 4, 1) + _bar(6, 10, 2) + _bar(12, 16, 3)
    prediction = _bar(0, 4, 7) + _bar(6, 9, 8) + _bar(17, 20, 9)
    # IoU 1 and 0.75 match; one true object is missed, one predicted object is extra
    assert segmentation_accuracy(prediction, truth) == pytest.approx(2 / 4)
    assert segmentation_accuracy(prediction, truth, threshold=0.75) == pytest.approx(2 / 4)
    assert segmentation_accuracy(prediction, truth, threshold=0.8) == pytest.approx(1 / 5)
    # 0.50 .. 0.75 give 2 / 4 six times, 0.80 .. 0.95 give 1 / 5 four times
    assert mean_segmentation_accuracy(prediction, truth) == pytest.approx((6 * 0.5 + 4 * 0.2) / 10)


def test_at_iou_one_half_an_object_matches_once() -> None:
    truth = _bar(0, 10)
    prediction = _bar(0, 5, 1) + _bar(5, 10, 2)  # each half has an IoU of exactly 0.5
    assert segmentation_accuracy(prediction, truth) == pytest.approx(1 / 2)


def test_panoptic_quality() -> None:
    truth = _bar(0, 4, 1) + _bar(6, 10, 2)
    prediction = _bar(0, 3, 1)
    quality = panoptic_quality(prediction, truth)
    assert quality.segmentation_quality == pytest.approx(0.75)
    assert quality.recognition_quality == pytest.approx(2 / 3)
    assert quality.quality == pytest.approx(0.5)


def test_empty_label_images() -> None:
    empty, full = _bar(0, 0), _bar(0, 5)
    assert segmentation_accuracy(empty, empty) == 1.0
    assert panoptic_quality(empty, empty).quality == 1.0
    assert segmentation_accuracy(full, empty) == 0.0
    assert segmentation_accuracy(empty, full) == 0.0
    assert panoptic_quality(empty, full).quality == 0.0


def test_average_recall_averages_over_thresholds() -> None:
    assert average_recall([1.0, 1.0]) == 1.0
    assert average_recall([0.72, 0.0]) == pytest.approx(0.5 * 5 / 10)
    assert average_recall([]) == 1.0


@given(LABELS, LABELS)
def test_properties(prediction: np.ndarray, truth: np.ndarray) -> None:
    assert segmentation_accuracy(truth, truth) == 1.0
    score = segmentation_accuracy(prediction, truth)
    assert 0.0 <= score <= 1.0
    assert score == pytest.approx(segmentation_accuracy(truth, prediction))
    renamed = np.where(prediction > 0, 11 - prediction, 0)
    assert score == pytest.approx(segmentation_accuracy(renamed, truth))
    assert mean_segmentation_accuracy(prediction, truth) <= score + 1e-12
