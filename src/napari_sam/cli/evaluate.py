"""``napari-sam evaluate``: measure a model on labelled images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from napari_sam.cli.diameter import DiameterType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from napari_sam.core.modes import Mode
    from napari_sam.core.object_scale import Diameter
    from napari_sam.evaluation.datasets import PairEntry
    from napari_sam.evaluation.reliability import PairTable

__all__ = ["evaluate"]


@click.command()
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--split", help="Rows of the index with this split, such as val.")
@click.option("--group", "groups", multiple=True, help="Only groups whose name has this in it.")
@click.option("--max-images", type=click.IntRange(min=1), help="Images a group at most.")
@click.option(
    "--max-objects", type=click.IntRange(min=1), default=40, show_default=True,
    help="Objects an image at most that are prompted for.",
)  # fmt: skip
@click.option(
    "--max-clicks", type=click.IntRange(5, 20), default=20, show_default=True,
    help="Clicks an object at most.",
)  # fmt: skip
@click.option("--no-interactive", is_flag=True, help="Leave clicks and boxes out.")
@click.option("--no-automatic", is_flag=True, help="Leave segment everything out.")
@click.option(
    "--mode", metavar="proposals|watershed|grid",
    help="How everything is segmented; by default proposals with the compact model, else a grid.",
)  # fmt: skip
@click.option("--points-per-side", type=click.IntRange(min=1), help="Prompt with a grid.")
@click.option(
    "--diameter", metavar="PIXELS|auto|native", type=DiameterType(),
    help="Diameter of the objects, as of `napari-sam segment`, for clicks and for segment "
    "everything; auto estimates it for each image. Unless given, clicks see images as they are, "
    "and segment everything does as `napari-sam segment`.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the report.")
def evaluate(
    model: str,
    data: Path,
    split: str | None,
    groups: tuple[str, ...],
    max_images: int | None,
    max_objects: int,
    max_clicks: int,
    no_interactive: bool,
    no_automatic: bool,
    mode: Mode | None,
    points_per_side: int | None,
    diameter: Diameter | None,
    device: str,
    output: Path | None,
) -> None:
    """Measure MODEL, a name or a file, on DATA, a folder of labelled images.

    DATA holds an index.csv, or images/ and labels/ with files of the same names. Scores are
    averaged per image, then per group (set and modality).
    """
    from rich.console import Console
    from rich.progress import track

    from napari_sam.evaluation.datasets import list_pairs
    from napari_sam.evaluation.reliability import collect_pairs
    from napari_sam.evaluation.report import (
        EvaluationConfig,
        summarize,
        write_report,
    )
    from napari_sam.evaluation.report import evaluate as evaluate_images
    from napari_sam.model import load_model
    from napari_sam.predict import SamPredictor, choose_mode
    from napari_sam.predict.object_diameter import require_diameter

    config = EvaluationConfig(
        interactive=not no_interactive,
        automatic=not no_automatic,
        max_images=max_images,
        max_objects=max_objects,
        max_clicks=max_clicks,
        diameter=diameter,
    )
    pairs = list_pairs(data, split=split)
    if groups:
        pairs = [pair for pair in pairs if any(name in pair.group for name in groups)]
    options = {"points_per_side": points_per_side}
    console = Console()
    predictor = SamPredictor(load_model(model, device=device))
    require_diameter(predictor.sam, diameter)  # refuses it before the first image
    if config.automatic:
        choose_mode(predictor.sam, mode, options)  # refuses them before the first image
    results = list(
        track(
            evaluate_images(predictor, pairs, config, mode=mode, **options),
            description="evaluating",
            total=_expected(pairs, max_images),
            console=console,
        )
    )
    console.print(_table(summarize(results)))
    if table := collect_pairs(results):
        console.print(_reliability_table(table))
    if output is not None:
        write_report(output, results)
        console.print(f"Report: {output}")


def _expected(pairs: list[PairEntry], max_images: int | None) -> int:
    counts = Counter(pair.group for pair in pairs)
    return sum(min(count, max_images or count) for count in counts.values())


def _table(summary: dict[str, dict[str, float]]) -> Table:
    table = _empty_table("metric", summary)
    for name in dict.fromkeys(name for row in summary.values() for name in row):
        cells = ["" if name not in row else _format(name, row[name]) for row in summary.values()]
        table.add_row(name, *cells)
    return table


def _reliability_table(pairs: PairTable) -> Table:
    """Predicted against true IoU, over all prompts of each group."""
    import dataclasses
    import math

    from napari_sam.evaluation.reliability import ALL, Reliability, measure_reliability

    table = _empty_table("predicted IoU", pairs)
    columns = [measure_reliability(prompts[ALL]) for prompts in pairs.values()]
    for field in dataclasses.fields(Reliability):
        values = [getattr(column, field.name) for column in columns]
        cells = ["" if math.isnan(value) else _format(field.name, value) for value in values]
        table.add_row(field.name, *cells)
    return table


def _empty_table(name: str, groups: Iterable[str]) -> Table:
    """Make a table with names in the first column, and a column of figures per group."""
    from rich.table import Table

    table = Table()
    table.add_column(name, no_wrap=True)
    for group in groups:
        table.add_column(group, justify="right", overflow="fold")
    return table


def _format(name: str, value: float) -> str:
    if name in ("images", "masks"):
        return f"{value:.0f}"
    return f"{value:.1f}" if name.startswith("noc") else f"{value:.3f}"
