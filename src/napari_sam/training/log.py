"""The log of a training run: CSV files, and their curves as PNG."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.training.step import StepLosses
from napari_sam.training.validation import GroupScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["StepLog", "TrainingLog"]

LOSS_PARTS = ("mask", "iou", "proposals")
STEP_COLUMNS = ("loss", *LOSS_PARTS, "train_iou", "seconds")
SCORE_COLUMNS = ("iteration", "group", *(f.name for f in dataclasses.fields(GroupScores)))


class StepLog:
    """Writes ``steps.csv`` into a folder: a row a step.

    Parameters
    ----------
    folder : Path
        The run's output folder.
    columns : sequence of str
        Names of the figures beside the iteration.
    """

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self.folder = folder
        self.columns = ("iteration", *columns)
        self.steps_path = folder / "steps.csv"
        self._pending: list[list[Any]] = []

    def add_row(self, iteration: int, figures: Sequence[float]) -> None:
        """Note one step; it is written with the next :meth:`flush`."""
        self._pending.append([iteration, *(f"{value:.5g}" for value in figures)])

    def flush(self) -> None:
        """Write the steps noted so far."""
        _append(self.steps_path, self.columns, self._pending)
        self._pending = []

    def truncate(self, iteration: int) -> None:
        """Drop what was logged after ``iteration``: a resumed run does it again."""
        _truncate(self.steps_path, iteration)


class TrainingLog(StepLog):
    """Writes ``steps.csv``, ``validation.csv`` and ``curves.png`` into a folder.

    Parameters
    ----------
    folder : Path
        The run's output folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, STEP_COLUMNS)
        self.scores_path = folder / "validation.csv"

    def add_step(self, iteration: int, losses: StepLosses, seconds: float) -> None:
        """Note one step; it is written with the next :meth:`flush`."""
        total = float(losses.total.detach())
        row = [total, losses.mask, losses.iou, losses.proposals, losses.train_iou, seconds]
        self.add_row(iteration, row)

    def add_validation(
        self, iteration: int, scores: dict[str, GroupScores], best_iteration: int
    ) -> None:
        """Write the scores of each group, and draw the curves anew with the best step marked."""
        rows = [
            [iteration, group, *(f"{value:.4f}" for value in dataclasses.astuple(score))]
            for group, score in scores.items()
        ]
        _append(self.scores_path, SCORE_COLUMNS, rows)
        self.flush()
        self.draw_curves(best_iteration)

    def truncate(self, iteration: int) -> None:
        """Drop what was logged after ``iteration``: a resumed run does it again."""
        super().truncate(iteration)
        _truncate(self.scores_path, iteration)

    def draw_curves(self, best_iteration: int = 0) -> None:
        """Draw ``curves.png``: training IoU, the parts of the loss, then validation by group.

        A dashed line marks ``best_iteration``, unless it is 0.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 13), layout="constrained")
        FigureCanvasAgg(figure)  # draws into memory, whatever screen there is
        top, losses, *below = figure.subplots(4, 1, sharex=True)
        top.plot(*zip(*_smooth(_read(self.steps_path, "train_iou")), strict=True))
        top.set_ylabel("training IoU, first prompt")
        self._draw_losses(losses)
        groups = sorted({row["group"] for row in _rows(self.scores_path)})
        for axes, column, title in zip(below, ("click", "box"), ("1 click", "box"), strict=True):
            for group in groups:
                curve = _read(self.scores_path, column, group=group)
                axes.plot(*zip(*curve, strict=True), marker=".", label=group)
            if best_iteration:
                label = f"best, step {best_iteration}"
                axes.axvline(best_iteration, color="grey", linestyle="--", label=label)
            axes.set_ylabel(f"validation IoU, {title}")
            axes.set_ylim(0, 1)
        if groups:
            below[0].legend(fontsize="small")
        below[-1].set_xlabel("iteration")
        figure.savefig(self.folder / "curves.png", dpi=100)

    def _draw_losses(self, axes: Axes) -> None:
        """Draw each part of the loss that is there, on a scale of logarithms."""
        for part in LOSS_PARTS:
            curve = _smooth(_read(self.steps_path, part))
            if any(value > 0 for _, value in curve):
                axes.plot(*zip(*curve, strict=True), label=part)
        axes.set_yscale("log")
        axes.set_ylabel("parts of the loss")
        axes.legend(fontsize="small")


Curve = list[tuple[float, float]]


def _append(path: Path, header: Any, rows: list[list[Any]]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(header)
        writer.writerows(rows)


def _truncate(path: Path, iteration: int) -> None:
    if path.exists():
        header, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        path.unlink()
        _append(path, header, [row for row in rows if int(row[0]) <= iteration])


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _read(path: Path, column: str, group: str | None = None) -> Curve:
    return [
        (float(row["iteration"]), float(row[column]))
        for row in _rows(path)
        if group is None or row["group"] == group
    ]


def _smooth(curve: Curve, width: int = 50) -> Curve:
    """Mean over consecutive steps, one point for each ``width``."""
    return [
        (curve[start][0], float(np.mean([y for _, y in curve[start : start + width]])))
        for start in range(0, len(curve), width)
    ]
