"""The curves of a run show what was logged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from napari_sam.training.log import TrainingLog
from napari_sam.training.step import StepLosses
from napari_sam.training.validation import GroupScores


@pytest.fixture
def log(tmp_path: Path) -> TrainingLog:
    log = TrainingLog(tmp_path)
    for step in range(1, 101):
        losses = StepLosses(torch.tensor(2.0), mask=1 / step, iou=0.25, proposals=0, train_iou=0.5)
        log.add_step(step, losses, seconds=0.1)
    log.flush()
    return log


def test_each_part_of_the_loss_is_drawn(log: TrainingLog) -> None:
    axes = Figure().subplots()
    log._draw_losses(axes)
    mask, iou = axes.get_lines()  # proposals were not trained
    assert (mask.get_label(), iou.get_label()) == ("mask", "iou")
    assert mask.get_xdata().tolist() == [1, 51]  # a point for fifty steps
    assert iou.get_ydata().tolist() == [0.25, 0.25]
    assert mask.get_ydata()[0] == pytest.approx(sum(1 / s for s in range(1, 51)) / 50, rel=1e-3)


def test_the_best_step_is_marked(log: TrainingLog, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))
    )
    scores = {"nuclei": GroupScores(0.4, 0.5, 0.4, 0.6)}
    log.add_validation(50, scores, 50)
    log.add_validation(100, scores, 50)
    with Image.open(log.folder / "curves.png") as curves:
        assert curves.size == (900, 1300)
    for axes in drawn[-1].axes[2:]:
        curve, best = axes.get_lines()
        assert curve.get_xdata().tolist() == [50, 100]
        assert list(best.get_xdata()) == [50, 50]
    assert "best, step 50" in [t.get_text() for t in drawn[-1].axes[2].get_legend().get_texts()]


def test_a_run_without_validation_has_curves_all_the_same(log: TrainingLog) -> None:
    log.add_validation(100, {}, 0)
    assert (log.folder / "curves.png").exists()
