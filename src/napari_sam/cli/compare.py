"""``napari-sam compare``: what two reports of ``napari-sam evaluate`` differ in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from napari_sam.evaluation.comparison import Difference

__all__ = ["compare"]


@click.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
def compare(before: Path, after: Path) -> None:
    """Compare AFTER with BEFORE, two folders that `evaluate --output` wrote.

    For each figure and group: the mean difference over the images that both hold, and the interval
    that it lies in, with 95 % confidence, for other images of the same kind.
    """
    from rich.console import Console
    from rich.table import Table

    from napari_sam.evaluation.comparison import compare_reports

    comparison = compare_reports(before, after)
    table = Table()
    table.add_column("difference", no_wrap=True)
    for group in comparison.differences:
        table.add_column(group, justify="right", overflow="fold")
    columns = comparison.differences.values()
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(_cell(column.get(name)) for column in columns))
    console = Console()
    console.print(table)
    left_out = f", {comparison.left_out} only in one" if comparison.left_out else ""
    console.print(f"{comparison.images} images in both{left_out}")


def _cell(difference: Difference | None) -> str:
    if difference is None:
        return ""
    return f"{difference.mean:+.3f}\n({difference.low:+.3f} to {difference.high:+.3f})"
