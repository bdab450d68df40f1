"""``napari-sam segment``: a view of `napari_sam.pipeline.segment_volume` in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_sam.cli.long_runs import EXIT_INTERRUPTED, progress_bar, terminated_as_interrupted

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from napari_sam.pipeline import AutomaticOptions, CostEstimate, Event, Planned, SegmentConfig

__all__ = ["segment"]


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=str))
@click.argument("target", metavar="OUTPUT", type=click.Path(path_type=str))
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
    "--preset",
    metavar="NAME",
    help="Options for a kind of image: automatic, grid, small-objects or large-objects. What else "
    "is given wins.",
)
@click.option(
    "--point-source",
    metavar="grid|instance_head",
    help="Where prompts come from. Unless given, the compact model proposes points itself, and "
    "other models use a grid.",
)
@click.option(
    "--points-per-side",
    type=int,
    help="Prompt with a grid of so many points along each side of a window [default: 32].",
)
@click.option("--points-per-batch", type=int, help="Points in one call of the mask decoder.")
@click.option("--pred-iou-thresh", type=float, help="Smallest predicted IoU of a mask, 0 to 1.")
@click.option("--stability-score-thresh", type=float, help="Smallest stability of a mask, 0 to 1.")
@click.option(
    "--stability-score-offset", type=float, help="Shift of the threshold for it [default: 1]."
)
@click.option(
    "--box-nms-thresh", type=float, help="Box IoU that makes two masks duplicates [default: 0.7]."
)
@click.option(
    "--crop-n-layers", type=int, help="Layers of smaller crops, for small objects [default: 0]."
)
@click.option(
    "--crop-nms-thresh", type=float, help="As --box-nms-thresh, across crops [default: 0.7]."
)
@click.option("--crop-overlap-ratio", type=float, help="Overlap of crops [default: 0.34].")
@click.option(
    "--crop-n-points-downscale-factor",
    type=int,
    help="Division of the points per side from layer to layer [default: 1].",
)
@click.option(
    "--min-mask-region-area",
    type=int,
    help="Remove holes and islands of a mask with fewer pixels [default: 0].",
)
@click.option(
    "--min-size", type=int, default=16, show_default=True, help="Smallest object in pixels."
)
@click.option(
    "--contrast-percentiles",
    type=(float, float),
    help="Percentiles of the volume that become black and white [default: 1 99.8].",
)
@click.option(
    "--contrast-limits",
    type=(float, float),
    multiple=True,
    help="Intensities that become black and white; once, or once for each --channel.",
)
@click.option(
    "--ngff-version",
    type=click.Choice(["0.5", "0.4"]),
    default="0.5",
    show_default=True,
    help="OME-Zarr version of the output.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that segment tiles; each holds the model.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished output.")
@click.option(
    "--dry-run", is_flag=True, help="Time one tile, print what the run will cost, and stop."
)
@click.pass_context
def segment(ctx: click.Context, /, source: str, target: str, **options: Any) -> None:
    """Segment every object of INPUT into the OME-Zarr label image OUTPUT.

    INPUT is a TIFF, OME-TIFF, ImageJ stack, OME-Zarr, Zarr array, PNG or JPEG, in 2D or with z, t,
    channels or RGB; or a series of TIFF files: their folder, or a pattern in quotes; or the URL of
    a Zarr or of one file. OUTPUT opens in napari and any other OME-Zarr reader.
    """
    from napari_sam.io.location import local_target

    is_dry_run = options.pop("dry_run")
    place = local_target(target)
    config = _config(options)
    try:
        with terminated_as_interrupted():
            if is_dry_run:
                _show_cost(source, place, config)
            else:
                _run(source, place, config)
    except KeyboardInterrupt:
        if is_dry_run:
            click.echo("Stopped. Nothing was written.", err=True)
        else:
            _say_what_is_kept(place)
        ctx.exit(EXIT_INTERRUPTED)


def _config(options: dict[str, Any]) -> SegmentConfig:
    from napari_sam.pipeline import SegmentConfig, SliceRange, parse_slices

    for name in ("slices", "times"):
        text = options.pop(name)
        options[name] = SliceRange() if text is None else parse_slices(text)
    automatic = _automatic_options(options)
    options["contrast_limits"] = options["contrast_limits"] or None
    return SegmentConfig(automatic=automatic, **options)


def _automatic_options(options: dict[str, Any]) -> AutomaticOptions:
    """Take out the options of the mask generator: those of the preset, unless given."""
    from dataclasses import fields, replace

    from napari_sam.pipeline import AutomaticOptions, find_preset

    preset = options.pop("preset")
    given = {field.name: options.pop(field.name) for field in fields(AutomaticOptions)}
    base = AutomaticOptions() if preset is None else find_preset(preset).options
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def _run(source: str, target: Path, config: SegmentConfig) -> None:
    from contextlib import closing

    from napari_sam.pipeline import segment_volume

    events = segment_volume(source, target, config)
    with progress_bar("tiles") as progress, closing(events):
        view = _View(progress)
        for event in events:
            view.show(event)


def _show_cost(source: str, target: Path, config: SegmentConfig) -> None:
    from contextlib import closing

    from napari_sam.io import open_volume
    from napari_sam.io.label_writer import check_target
    from napari_sam.pipeline import estimate_cost

    check_target(target, overwrite=config.overwrite, resume=config.resume)
    with closing(open_volume(source, config.axes)) as volume:
        click.echo("Timing one tile ...", err=True)
        cost = estimate_cost(volume, config)
    _print_table(cost)
    click.echo("Nothing was written.", err=True)


def _print_table(cost: CostEstimate) -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for what, value in (
        ("slices", str(cost.n_slices)),
        ("tiles", str(cost.n_tiles)),
        ("one tile", f"{_duration(cost.seconds_per_tile)}, as measured"),
        ("time", f"about {_duration(cost.seconds)}"),
        ("memory", f"{decimal(cost.memory_bytes)} for images and labels; the model comes on top"),
        ("disk", f"at most {decimal(cost.disk_bytes)}"),
    ):
        table.add_row(what, value)
    Console(soft_wrap=True, highlight=False).print(table)


def _duration(seconds: float) -> str:
    """Write a time as people say it: in two units at most."""
    if seconds < 0.01:
        return "under 0.01 s"
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


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
            case pipeline.Resumed(n_slices=n_slices, n_tiles=n_tiles):
                tiles = f" and {n_tiles} finished tiles of the next" if n_tiles else ""
                self._print(f"Going on after {n_slices} finished slices{tiles}")
            case pipeline.Working(slice_number=number, index=index, done=done, total=total):
                self._advance(number * self._n_tiles + index + done / max(total, 1))
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

    def _advance(self, completed: float) -> None:
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
            f"Stopped. {count} finished slices are kept in {target}, and finished tiles of the "
            "next beside it. It is marked unfinished; repeat the command with --resume to go on.",
            err=True,
        )
    else:
        click.echo("Stopped before the first tile was finished; nothing was written.", err=True)
