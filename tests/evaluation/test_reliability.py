"""Predicted against true IoU: figures worked out by hand, and the files of a report."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam.evaluation import ImageScores, IouPairs, collect_pairs, measure_reliability
from napari_sam.evaluation.reliability import reliability_bins, write_reliability


def _pairs(predicted: list[float], true: list[float]) -> IouPairs:
    return IouPairs(np.array(predicted), np.array(true))


def test_figures_are_those_worked_out_by_hand() -> None:
    pairs = _pairs([0.42, 0.48, 0.46, 0.95], [0.1, 0.3, 0.8, 0.9])
    measured = measure_reliability(pairs)
    # bins: three masks of mean 0.45333 predicted and 0.4 true, one of 0.95 and 0.9
    expected = 0.75 * (1.36 / 3 - 0.4) + 0.25 * 0.05
    assert measured.masks == 4
    assert measured.calibration_error == pytest.approx(expected)
    assert measured.bias == pytest.approx((2.31 - 2.1) / 4)
    assert measured.rank_correlation == pytest.approx(1 - 6 * 2 / (4 * 15))  # two ranks changed
    assert measured.low_precision == pytest.approx(2 / 3)
    assert measured.low_recall == 1.0


def test_a_perfect_prediction_has_no_error() -> None:
    iou = np.linspace(0, 1, 41)
    measured = measure_reliability(IouPairs(iou, iou))
    assert measured.calibration_error == pytest.approx(0, abs=1e-12)
    assert (measured.bias, measured.low_precision, measured.low_recall) == (0, 1, 1)
    assert measured.rank_correlation == pytest.approx(1)


def test_what_cannot_be_counted_is_nan() -> None:
    measured = measure_reliability(_pairs([0.9, 0.9], [0.8, 0.7]))
    assert np.isnan([measured.low_precision, measured.low_recall]).all()
    assert np.isnan(measured.rank_correlation)


def test_predictions_beyond_0_and_1_go_to_the_outer_bins() -> None:
    bins = reliability_bins(_pairs([-0.2, 0.05, 1.0, 1.3], [0.0, 0.2, 0.9, 0.7]))
    assert bins.masks.tolist() == [2, 2]
    np.testing.assert_allclose(bins.predicted, [-0.075, 1.15])
    np.testing.assert_allclose(bins.true, [0.1, 0.8])


def test_masks_of_images_are_joined_and_written(tmp_path: Path) -> None:
    click, box = _pairs([0.9], [0.8]), _pairs([0.4, 0.7], [0.2, 0.6])
    results = [
        ImageScores("a", "nuclei", {}, {"click": click, "box": box}),
        ImageScores("b", "nuclei", {}, {"click": click}),
        ImageScores("c", "axons", {}, {"click": click}),
        ImageScores("d", "empty", {}),
    ]
    table = collect_pairs(results)
    assert {group: len(prompts["all"].true) for group, prompts in table.items()} == {
        "axons": 1,
        "nuclei": 4,
        "all": 5,
    }
    write_reliability(tmp_path, table)
    rows = list(csv.DictReader((tmp_path / "reliability.csv").read_text().splitlines()))
    names = [(row["group"], row["prompt"], row["masks"]) for row in rows]
    assert names[2:5] == [("nuclei", "click", "2"), ("nuclei", "box", "2"), ("nuclei", "all", "4")]
    assert rows[3]["low_precision"] == "1.00000"
    assert rows[2]["low_precision"] == ""
    with Image.open(tmp_path / "reliability.png") as drawn:
        assert len(drawn.getcolors(1 << 20)) > 4  # lines in colours, not an empty sheet
