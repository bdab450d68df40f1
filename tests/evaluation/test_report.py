"""The evaluation protocol end to end, with a small random model and with perfect masks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from map_model import draw_discs, map_sam, true_labels
from napari_sam.core.errors import ConfigError, OutputError
from napari_sam.evaluation import (
    EvaluationConfig,
    ImageScores,
    evaluate,
    list_pairs,
    score_interactive,
    summarize,
    write_report,
)
from napari_sam.predict import ImageEmbedding, MaskPrediction, SamPredictor
from tiny_models import tiny_sam


class _OraclePredictor(SamPredictor):
    """Answers each prompt with the true object under it, less some columns for few clicks."""

    def __init__(self, labels: np.ndarray, full_after: int) -> None:
        super().__init__(tiny_sam("compact"))
        self.labels, self.full_after = labels, full_after

    def predict(self, embedding: ImageEmbedding, **prompts: object) -> MaskPrediction:  # type: ignore[override]
        boxes, points = prompts.get("box_xyxy"), prompts.get("points_xy")
        count = len(boxes if boxes is not None else points)
        n_masks = 3 if prompts.get("multimask", True) else 1
        masks = np.zeros((count, n_masks, *self.labels.shape), bool)
        for index in range(count):
            if boxes is not None:
                x0, y0, x1, y1 = boxes[index]
                x, y = int((x0 + x1) / 2), int((y0 + y1) / 2)
                clicks = self.full_after
            else:
                x, y = points[index][0].astype(int)
                clicks = len(points[index])
            mask = self.labels == self.labels[y, x]
            if clicks < self.full_after:
                mask[:, x + 1 :] = False
            masks[index] = mask
        iou = np.tile(np.linspace(0.9, 0.5, n_masks, dtype=np.float32), (count, 1))
        return MaskPrediction(masks, iou, iou, np.zeros((count, n_masks, 4, 4), np.float32), iou)


@pytest.fixture
def squares() -> np.ndarray:
    labels = np.zeros((40, 60), np.int32)
    labels[4:15, 4:15], labels[20:31, 30:41] = 1, 2
    return labels


def test_clicks_until_the_object_is_found_are_counted(squares: np.ndarray) -> None:
    predictor = _OraclePredictor(squares, full_after=3)
    embedding = predictor.encode(squares.astype(np.uint8))
    truth = squares == np.array([1, 2])[:, None, None]
    scores = score_interactive(predictor, embedding, truth)
    assert np.allclose(scores.click, 6 / 11)
    assert (scores.click_jitter < 1).all()
    assert scores.clicks_3.tolist() == scores.box.tolist() == [1.0, 1.0]
    assert scores.noc_85.tolist() == scores.noc_90.tolist() == [3.0, 3.0]
    assert np.allclose([scores.predicted_iou, scores.predicted_iou_3], 0.9)
    assert np.allclose(scores.predicted_iou_box, 0.9)
    never = score_interactive(_OraclePredictor(squares, 99), embedding, truth)
    assert never.noc_85.tolist() == [20.0, 20.0]
    assert np.allclose(never.clicks_5, 6 / 11)


def test_evaluate_writes_a_report(tmp_path: Path, squares: np.ndarray) -> None:
    for kind, data in (("images", squares * 90), ("labels", squares)):
        (tmp_path / kind).mkdir()
        for name in ("a.png", "b.png"):
            Image.fromarray(data.astype(np.uint8)).save(tmp_path / kind / name)
    config = EvaluationConfig(max_images=1, max_objects=1, max_clicks=5)
    predictor = SamPredictor(tiny_sam("compact"))
    results = list(
        evaluate(
            predictor,
            list_pairs(tmp_path),
            config,
            points_per_side=4,
            pred_iou_thresh=0.0,
            stability_score_thresh=0.0,
        )
    )
    assert [result.name for result in results] == ["a.png"]
    scores = results[0].scores
    assert {"click", "box", "noc_90", "SA50", "mSA", "PQ", "AR100", "iou_error"} <= set(scores)
    assert all(0 <= scores[name] <= 1 for name in ("click", "click_best", "box", "SA50", "mSA"))
    assert scores["click_best"] >= scores["click"]
    write_report(tmp_path / "report", results)
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary[tmp_path.name]["box"] == pytest.approx(scores["box"])
    (row,) = csv.DictReader((tmp_path / "report" / "images.csv").read_text().splitlines())
    assert float(row["SA50"]) == pytest.approx(scores["SA50"], abs=1e-4)
    rows = csv.DictReader((tmp_path / "report" / "reliability.csv").read_text().splitlines())
    by_prompt = {row["prompt"]: row for row in rows}
    assert [row["masks"] for row in by_prompt.values()] == ["1", "1", "1", "3"]
    bias = scores["predicted_iou_box"] - scores["box"]
    assert float(by_prompt["box"]["bias"]) == pytest.approx(bias, abs=1e-4)
    bias = scores["predicted_iou_3"] - scores["clicks_3"]
    assert float(by_prompt["clicks_3"]["bias"]) == pytest.approx(bias, abs=1e-4)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(tmp_path / "file", results)


def test_a_watershed_is_scored_by_the_objects_that_it_labels(tmp_path: Path) -> None:
    discs = [(30.0, 40.0, 20.0), (90.0, 50.0, 22.0)]
    image, truth = draw_discs((96, 128), discs), true_labels((96, 128), discs)
    missed = np.where(truth == 2, 0, truth) + np.where(np.arange(128) > 120, 3, 0)
    for kind, pictures in (("images", (image, image)), ("labels", (truth, missed))):
        (tmp_path / kind).mkdir()
        for name, data in zip(("all.png", "half.png"), pictures, strict=True):
            Image.fromarray(data.astype(np.uint8)).save(tmp_path / kind / name)
    config = EvaluationConfig(interactive=False)
    whole, half = evaluate(SamPredictor(map_sam()), list_pairs(tmp_path), config, mode="watershed")
    assert whole.scores["SA50"] == whole.scores["PQ"] / whole.scores["SQ"] == 1
    assert whole.scores["AR100"] > 0.9
    assert half.scores["SA50"] == pytest.approx(1 / 3)  # one found, one missed, one invented
    assert half.scores["AR100"] == pytest.approx(whole.scores["AR100"] / 2, abs=0.06)


def test_groups_weigh_the_same_in_the_mean() -> None:
    results = [
        ImageScores("a", "one", {"box": 0.2}),
        ImageScores("b", "one", {"box": 0.4}),
        ImageScores("c", "two", {"box": 0.9, "SA50": 0.5}),
    ]
    summary = summarize(results)
    assert summary["one"] == {"box": pytest.approx(0.3), "images": 2}
    assert summary["mean"]["box"] == pytest.approx(0.6)
    assert summary["mean"]["images"] == 3


@pytest.mark.parametrize("options", [{"max_clicks": 4}, {"max_clicks": 21}, {"max_objects": 0}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        EvaluationConfig(**options)
