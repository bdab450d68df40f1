"""How far predicted IoU can be trusted: its calibration, and what low values find."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_sam.evaluation.report import ImageScores

__all__ = [
    "ALL",
    "IouPairs",
    "Reliability",
    "collect_pairs",
    "concatenate",
    "measure_reliability",
    "reliability_bins",
    "write_reliability",
]

ALL = "all"
"""Name of the row over all prompts, and of that over all groups."""

BINS = 10
LOW_IOU = 0.5
"""Below it, a mask is bad, and a predicted IoU asks for a look."""

FloatArray = NDArray[np.float64]
PairTable = dict[str, dict[str, "IouPairs"]]


class IouPairs(NamedTuple):
    """Predicted and true IoU of N masks, each (N,)."""

    predicted: FloatArray
    true: FloatArray


@dataclass(frozen=True)
class Reliability:
    """How predicted IoU relates to true IoU over some masks; NaN where there is nothing to count.

    Attributes
    ----------
    masks : int
        Number of masks.
    calibration_error : float
        Expected calibration error (Guo et al. 2017, eq. 5), with IoU in place of confidence and
        accuracy: the distance between mean predicted and mean true IoU of ten bins of predicted
        IoU, weighted by their masks.
    bias : float
        Mean predicted IoU minus mean true IoU.
    rank_correlation : float
        Spearman's.
    low_precision : float
        Of the masks with a predicted IoU under 0.5, the share whose true IoU is under 0.5.
    low_recall : float
        Of the masks with a true IoU under 0.5, the share whose predicted IoU is under 0.5.
    """

    masks: int
    calibration_error: float
    bias: float
    rank_correlation: float
    low_precision: float
    low_recall: float


class ReliabilityBins(NamedTuple):
    """The bins of predicted IoU that hold masks: means and number of masks, each (B,)."""

    predicted: FloatArray
    true: FloatArray
    masks: NDArray[np.int64]


def measure_reliability(pairs: IouPairs) -> Reliability:
    """Measure how predicted IoU relates to true IoU.

    Parameters
    ----------
    pairs : IouPairs
        Of one mask at least.
    """
    bins = reliability_bins(pairs)
    error = np.average(np.abs(bins.predicted - bins.true), weights=bins.masks)
    is_low, is_bad = pairs.predicted < LOW_IOU, pairs.true < LOW_IOU
    found = float((is_low & is_bad).sum())
    return Reliability(
        masks=len(pairs.true),
        calibration_error=float(error),
        bias=float((pairs.predicted - pairs.true).mean()),
        rank_correlation=_rank_correlation(pairs),
        low_precision=found / is_low.sum() if is_low.any() else float("nan"),
        low_recall=found / is_bad.sum() if is_bad.any() else float("nan"),
    )


def reliability_bins(pairs: IouPairs) -> ReliabilityBins:
    """Average the masks of ten equal bins of predicted IoU; the outer ones take what is beyond."""
    index = np.clip(np.floor(pairs.predicted * BINS), 0, BINS - 1).astype(np.int64)
    masks = np.bincount(index, minlength=BINS)
    filled = masks > 0
    predicted = np.bincount(index, pairs.predicted, BINS)[filled] / masks[filled]
    true = np.bincount(index, pairs.true, BINS)[filled] / masks[filled]
    return ReliabilityBins(predicted, true, masks[filled])


def collect_pairs(results: list[ImageScores]) -> PairTable:
    """Join the masks of images.

    Parameters
    ----------
    results : list of ImageScores
        From :func:`~napari_sam.evaluation.report.evaluate`.

    Returns
    -------
    dict
        Group to prompt to the pairs of its masks, with the prompt ``all`` in each group, and with
        the group ``all`` where there are more groups than one. Empty without prompts.
    """
    table: PairTable = {}
    for group in sorted({result.group for result in results if result.pairs}):
        table[group] = _join([result.pairs for result in results if result.group == group])
    if len(table) > 1:
        table[ALL] = _join([result.pairs for result in results])
    return table


def concatenate(parts: list[IouPairs]) -> IouPairs:
    """Put the masks of several parts behind each other."""
    return IouPairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def write_reliability(folder: Path, table: PairTable) -> None:
    """Write ``reliability.csv`` and ``reliability.png`` into a folder that exists.

    Parameters
    ----------
    folder : Path
        The folder.
    table : dict
        From :func:`collect_pairs`.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    names = [field.name for field in dataclasses.fields(Reliability)]
    with (folder / "reliability.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["group", "prompt", *names])
        for group, prompts in table.items():
            for prompt, pairs in prompts.items():
                values = dataclasses.astuple(measure_reliability(pairs))
                writer.writerow([group, prompt, values[0], *map(_cell, values[1:])])
    _draw(folder / "reliability.png", {group: prompts[ALL] for group, prompts in table.items()})


def _join(parts: list[dict[str, IouPairs]]) -> dict[str, IouPairs]:
    prompts = dict.fromkeys(prompt for part in parts for prompt in part)
    joined = {
        prompt: concatenate([part[prompt] for part in parts if prompt in part])
        for prompt in prompts
    }
    return joined | {ALL: concatenate(list(joined.values()))}


def _rank_correlation(pairs: IouPairs) -> float:
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in pairs]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.5f}"


def _draw(path: Path, groups: dict[str, IouPairs]) -> None:
    """Draw mean true IoU by mean predicted IoU of each bin, over the number of masks."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 8), layout="constrained")
    FigureCanvasAgg(figure)  # draws into memory, whatever screen there is
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    for group, pairs in groups.items():
        bins = reliability_bins(pairs)
        width = 2.5 if group == ALL else 1.2
        (line,) = top.plot(bins.predicted, bins.true, marker=".", linewidth=width, label=group)
        below.plot(bins.predicted, bins.masks, marker=".", color=line.get_color(), linewidth=width)
    top.set_ylabel("mean true IoU")
    top.set_ylim(0, 1)
    top.legend(fontsize="small")
    below.set_ylabel("masks")
    below.set_yscale("log")
    below.set_xlabel("mean predicted IoU, ten bins")
    figure.savefig(path, dpi=100)
