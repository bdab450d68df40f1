"""What the commands share that show the events of a run, or tell what it would cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from napari_sam.cli.long_runs import progress_bar

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.progress import Progress

__all__ = ["RunView", "position_text", "print_pairs", "shape_text", "show_run"]


class RunView:
    """Shows the events of a run: here those that runs of several commands have.

    Parameters
    ----------
    progress : Progress
        For bars, and for lines above them.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._n_slices = 0

    def show(self, event: Any) -> None:
        """Show one event."""
        from napari_sam import pipeline

        match event:
            case pipeline.ContrastMeasured(low=low, high=high):
                spans = ", ".join(f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True))
                self._print(f"Contrast: {spans}")
            case pipeline.Warned(message=message):
                self._print(f"Warning: {message}")
            case pipeline.Finished(path=path, n_objects=count, n_slices=n_slices, seconds=seconds):
                self._end(f"{count} objects in {n_slices} slices, {seconds:.1f} s: {path}")

    def _print(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _end(self, text: str) -> None:
        """Say the result, on the standard output; the bars are done."""
        self._progress.stop()
        click.echo(text)


def show_run(
    events: Generator[Any, None, None], unit: str, view: Callable[[Progress], RunView]
) -> None:
    """Run to the end, with a bar.

    Parameters
    ----------
    events : generator
        The run; it is closed in the end.
    unit : str
        What the bar counts, such as "tiles".
    view : callable
        Makes what shows the events.
    """
    from contextlib import closing

    with progress_bar(unit) as progress, closing(events):
        shown = view(progress)
        for event in events:
            shown.show(event)


def shape_text(shape: Iterable[int]) -> str:
    """Write a shape as `7 x 512 x 512`."""
    return " x ".join(map(str, shape))


def position_text(position: Iterable[int]) -> str:
    """Write the index of a slice along the axes before YX; `0` where there are none."""
    return " ".join(map(str, position)) or "0"


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print a table of names and values on the standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for what, value in pairs:
        table.add_row(what, value)
    Console(soft_wrap=True, highlight=False, markup=False).print(table)
