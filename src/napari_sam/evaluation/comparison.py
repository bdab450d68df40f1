"""Two reports on the same images: what differs, and how sure that is."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError

__all__ = ["Comparison", "Difference", "compare_reports"]

DRAWS = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles between which a difference lies in 95 of 100 draws of images."""

Scores = dict[tuple[str, str], dict[str, float]]


class Difference(NamedTuple):
    """Mean difference of a metric over images, and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """What two reports differ in.

    Attributes
    ----------
    images : int
        Images that both hold.
    left_out : int
        Images that only one of them holds.
    differences : dict
        Group to metric to difference, with the mean of the groups as ``mean``.
    """

    images: int
    left_out: int
    differences: dict[str, dict[str, Difference]]


def compare_reports(before: Path, after: Path) -> Comparison:
    """Compare two reports image by image.

    Intervals are those of a bootstrap over the images of each group (Efron 1979): how far the
    difference would move with other images of the same kind.

    Parameters
    ----------
    before, after : Path
        Folders that ``napari-sam evaluate --output`` wrote.

    Returns
    -------
    Comparison
        Differences are those of ``after`` minus ``before``.

    Raises
    ------
    InputError
        If a report is missing, or the two share no image.
    """
    first, second = _read(before), _read(after)
    common = sorted(first.keys() & second.keys())
    if not common:
        raise InputError(
            f"The reports {before} and {after} share no image",
            rule="Reports are compared image by image",
            cure="Run both models on the same split of the same data",
        )
    metrics = [name for name in first[common[0]] if any(name in second[key] for key in common)]
    rng = np.random.default_rng(0)
    draws = {}
    for group in sorted({group for group, _ in common}):
        keys = [key for key in common if key[0] == group]
        rows = [[second[k].get(m, np.nan) - first[k].get(m, np.nan) for m in metrics] for k in keys]
        draws[group] = _draw_means(np.array(rows), rng)
    if len(draws) > 1:
        draws["mean"] = np.mean(list(draws.values()), axis=0)
    differences = {group: _summarize(metrics, values) for group, values in draws.items()}
    return Comparison(len(common), len(first.keys() ^ second.keys()), differences)


def _draw_means(differences: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Means over the images (I, M): first as they are, then of draws with replacement, (D, M)."""
    count = len(differences)
    times = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)  # how often each is drawn
    times = np.concatenate([np.ones((1, count)), times])
    is_there = ~np.isnan(differences)
    with np.errstate(invalid="ignore"):  # a draw may lack a metric that few images have
        means: NDArray[np.float64] = (times @ np.nan_to_num(differences)) / (times @ is_there)
    return means


def _summarize(metrics: list[str], draws: NDArray[np.float64]) -> dict[str, Difference]:
    summary = {}
    for metric, values in zip(metrics, draws.T, strict=True):
        if not np.isnan(values[0]):
            low, high = np.nanpercentile(values[1:], INTERVAL)
            summary[metric] = Difference(float(values[0]), float(low), float(high))
    return summary


def _read(folder: Path) -> Scores:
    path = folder / "images.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {
            (row.pop("group"), row.pop("name")): {
                metric: float(value) for metric, value in row.items() if value
            }
            for row in rows
        }
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"There is no report in {folder} ({error!r})",
            rule="A report is a folder with the images.csv of `napari-sam evaluate --output`",
            cure="Give two such folders",
        ) from error
