"""Ratios as a bar chart, with a mark at each target."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from comparison.results import Run

# Okabe and Ito's palette, which people with any colour vision can tell apart
_REACHED, _MISSED, _MARK = "#0072b2", "#e69f00", "#000000"


def plot_ratios(run: Run, path: Path) -> None:
    """Draw the works that have a ratio, from top to bottom."""
    results = [result for result in run.works if result.ratio is not None]
    ratios = [result.ratio or 0.0 for result in results]
    targets = [result.work.target.ratio for result in results]
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(results)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    reached = [t is None or ratio >= t for ratio, t in zip(ratios, targets, strict=True)]
    colors = [_REACHED if is_reached else _MISSED for is_reached in reached]
    # on a logarithmic axis a bar begins at 1: as fast as the reference
    bars = axes.barh(
        range(len(results)), [ratio - 1 for ratio in ratios], left=1, height=0.6, color=colors
    )
    labels = axes.bar_label(bars, [f"{ratio:.3g}x" for ratio in ratios], padding=4)
    for label in labels:  # readable where a target lies beside the end of the bar
        label.set(zorder=4, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    for row, target in enumerate(targets):
        if target is not None:
            axes.plot([target, target], [row - 0.4, row + 0.4], color=_MARK, linewidth=2)
    axes.set_yticks(
        range(len(results)),
        [f"{result.work.name}\nagainst {result.work.against}" for result in results],
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.15)
    axes.set_xlabel("times as fast as the reference; black: target, orange: below it")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
