"""``napari-sam segment``: a view of `napari_sam.pipeline.segment_volume` in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from napari_sam.pipeline import Event, Planned, SegmentConfig

__all__ = ["segment"]

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells expect."""


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUTPUT", type=click.Path(path_type=Path))
@click.option("--model", default="compact", show_default=True, help="Model name or checkpoint.")
@click.option("--axes", help="Axes of the input, such as ZYX, TCZYX, or YXS for RGB.")
@click.option(
    "--channel", "channels", type=int, multiple=True, help="Channel, from 0; up to three times."
)
@click.option(
    "--slices", metavar="START:STOP[:STEP]", help="Slices along Z, or along T when there is no Z."
)
@click.option("--times", metavar="START:STOP[:STEP]", help="Times of a volume with Z.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--tile", type=int, help="Side of a tile in pixels [default: the model's window].")
@click.option(
    "--halo", type=int, default=64, show_default=True, help="Margin in pixels read around a tile."
)
@click.option(
    "--points-per-side",
    type=int,
    help="Prompt with a grid of so many points along each side of a window. Unless given, the "
    "compact model proposes the points itself, and other models use 32.",
)
@click.option("--pred-iou-thresh", type=float, help="Smallest predicted IoU of a mask, 0 to 1.")
@click.option("--stability-score-thresh", type=float, help="Smallest stability of a mask, 0 to 1.")
@click.option("--box-nms-thresh", type=float, help="Box IoU that makes two masks duplicates.")
@click.option(
    "--min-size", type=int, default=16, show_default=True, help="Smallest object in pixels."
)
@click.option(
    "--contrast-percentiles",
    type=(float, float),
    help="Percentiles of the volume that become black and white [default: 1 99.8].",
)
@click.option(
    "--contrast-limits", type=(float, float), help="Intensities that become black and white."
)
@click.option(
    "--ngff-version",
    type=click.Choice(["0.5", "0.4"]),
    default="0.5",
    show_default=True,
    help="OME-Zarr version of the output.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished output.")
@click.pass_context
def segment(ctx: click.Context, /, source: Path, target: Path, **options: Any) -> None:
    """Segment every object of INPUT into the OME-Zarr label image OUTPUT.

    INPUT is a TIFF, OME-TIFF, ImageJ stack, OME-Zarr, Zarr array, PNG or JPEG, in 2D or with z, t,
    channels or RGB. OUTPUT opens in napari and any other OME-Zarr reader.
    """
    config = _config(options)
    try:
        _run(source, target, config)
    except KeyboardInterrupt:
        _say_what_is_kept(target)
        ctx.exit(EXIT_INTERRUPTED)


def _config(options: dict[str, Any]) -> SegmentConfig:
    from napari_sam.pipeline import AutomaticOptions, SegmentConfig, SliceRange, parse_slices

    automatic = AutomaticOptions(
        **{
            name: options.pop(name)
            for name in (
                "points_per_side",
                "pred_iou_thresh",
                "stability_score_thresh",
                "box_nms_thresh",
            )
        }
    )
    for name in ("slices", "times"):
        text = options.pop(name)
        options[name] = SliceRange() if text is None else parse_slices(text)
    return SegmentConfig(automatic=automatic, **options)


def _run(source: Path, target: Path, config: SegmentConfig) -> None:
    from contextlib import closing

    from napari_sam.pipeline import segment_volume

    events = segment_volume(source, target, config)
    with _progress() as progress, closing(events):
        view = _View(progress)
        for event in events:
            view.show(event)


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles,"),
        TimeElapsedColumn(),
        TextColumn("so far,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        yield progress


class _View:
    """Shows events; on a terminal as a bar, elsewhere as a line per slice."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._n_slices = 0
        self._n_tiles = 1

    def show(self, event: Event) -> None:
        """Show one event."""
        from napari_sam import pipeline

        match event:
            case pipeline.Planned():
                self._show_plan(event)
            case pipeline.ContrastMeasured(low=low, high=high):
                spans = ", ".join(f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True))
                self._print(f"Contrast: {spans}")
            case pipeline.Resumed(n_slices=n_slices):
                self._print(f"Going on after {n_slices} finished slices")
            case pipeline.TileDone(slice_number=number, index=index):
                self._advance(number * self._n_tiles + index + 1)
            case pipeline.SliceDone(slice_number=number, position=position, n_objects=n_objects):
                where = " ".join(map(str, position)) or "0"
                self._print(
                    f"Slice {where} ({number + 1} of {self._n_slices}): {n_objects} objects"
                )
            case pipeline.Warned(message=message):
                self._print(f"Warning: {message}")
            case pipeline.Finished(path=path, n_objects=count, n_slices=n_slices, seconds=seconds):
                self._progress.stop()
                click.echo(f"{count} objects in {n_slices} slices, {seconds:.1f} s: {path}")

    def _show_plan(self, plan: Planned) -> None:
        self._n_slices, self._n_tiles = plan.n_slices, plan.n_tiles_per_slice
        size = " x ".join(map(str, plan.shape))
        rows, columns = plan.window_yx
        self._print(
            f"{size} ({plan.axes}): {plan.n_slices} slices of {plan.n_tiles_per_slice} tiles, "
            f"windows of up to {rows} x {columns} pixels"
        )
        self._task = self._progress.add_task(
            "Segmenting", total=plan.n_slices * plan.n_tiles_per_slice
        )

    def _advance(self, completed: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=completed)

    def _print(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _say_what_is_kept(target: Path) -> None:
    from napari_sam.pipeline.journal import Journal

    journal = Journal(target)
    if journal.path.exists():
        count = journal.count_finished()
        click.echo(
            f"Stopped. {count} finished slices are kept in {target}, which is marked unfinished; "
            "repeat the command with --resume to go on.",
            err=True,
        )
    else:
        click.echo("Stopped before the first slice was finished; nothing was written.", err=True)
