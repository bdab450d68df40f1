"""``napari-sam segment``: a view of `napari_sam.pipeline.segment_volume` in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_sam.cli.diameter import DiameterType, diameter_text
from napari_sam.cli.long_runs import EXIT_INTERRUPTED, terminated_as_interrupted
from napari_sam.cli.run_view import RunView, position_text, print_pairs, shape_text, show_run

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from napari_sam.pipeline import CostEstimate, Event, Planned, SegmentConfig, Suggestion

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
@click.option(
    "--precision",
    type=click.Choice(["float32", "half"]),
    default="float32",
    show_default=True,
    help="Of the image encoder; half is used where a test shows that masks stay as they are.",
)
@click.option("--tile", type=int, help="Side of a tile in pixels [default: the model's window].")
@click.option(
    "--halo", type=int, default=64, show_default=True, help="Margin in pixels read around a tile."
)
@click.option(
    "--preset",
    metavar="NAME",
    help="One of small-objects, large-objects, automatic, watershed and grid: options for a kind "
    "of image. What else is given wins.",
)
@click.option(
    "--mode",
    metavar="proposals|watershed|grid",
    help="Masks of points that the model proposes, objects from a watershed of its maps, or masks "
    "of a grid of points. Unless given, proposals with the compact model and a grid with others.",
)
@click.option(
    "--diameter",
    metavar="PIXELS|auto|native",
    type=DiameterType(),
    help="Diameter of the objects: where they are much smaller or larger than the compact model "
    "learned, the image is magnified or shrunk for it. auto, the default with the compact model, "
    "estimates it once for the volume; native leaves the image as it is.",
)
@click.option(
    "--foreground-thresh",
    type=float,
    help="With a watershed: foreground probability from which a pixel is part of an object, 0.05 "
    "to 1 [default: 0.5].",
)
@click.option(
    "--points-per-side",
    type=int,
    help="Prompt with a grid of so many points along each side of a window [default: 32].",
)
@click.option(
    "--skip-covered",
    is_flag=True,
    default=None,
    help="Prompt the grid from coarse to fine, and skip points in masks found already: faster, "
    "but not exactly the same objects.",
)
@click.option(
    "--foreground-only",
    is_flag=True,
    default=None,
    help="Skip points of the grid where the compact model sees background: likewise.",
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
    help="OME-Zarr version of the output [default: 0.5, or that of the image it goes into].",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that segment tiles; each holds the model.",
)
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Segment with the workers of a Dask scheduler: its address, its scheduler file, or "
    "`local` for as many processes here as --workers says.",
)
@click.option(
    "--dask-resource",
    "dask_resources",
    metavar="NAME=AMOUNT",
    multiple=True,
    help="What each tile takes of the resources that Dask workers offer, such as GPU=1.",
)
@click.option(
    "--link", is_flag=True, help="Link the slices into 3D objects or tracks when all are done."
)
@click.option("--link-axis", type=click.Choice(["Z", "T"]), help="As --axis of `napari-sam link`.")
@click.option("--link-min-iou", type=float, help="As --min-iou of `napari-sam link`.")
@click.option("--link-max-gap", type=int, help="As --max-gap of `napari-sam link`.")
@click.option("--link-max-shift", type=float, help="As --max-shift of `napari-sam link`.")
@click.option("--link-min-extent", type=int, help="As --min-extent of `napari-sam link`.")
@click.option(
    "--table",
    "tables",
    metavar="FILE",
    multiple=True,
    help="Write a table of all objects: a name ending in .csv or .parquet; may be repeated.",
)
@click.option(
    "--tiff", metavar="FILE", help="Write the labels as tiled BigTIFF too: .tif or .ome.tif."
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
    a Zarr or of one file. OUTPUT opens in napari and any other OME-Zarr reader. Where it is
    INPUT/labels/NAME, the labels become a part of the OME-Zarr image INPUT.
    """
    from napari_sam.cli.segment_config import segment_config
    from napari_sam.core.memory import keep_memory_together
    from napari_sam.io.location import local_target

    is_dry_run = options.pop("dry_run")
    place = local_target(target)
    config = segment_config(options)
    try:
        keep_memory_together()
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


def _run(source: str, target: Path, config: SegmentConfig) -> None:
    from napari_sam.pipeline import segment_volume

    show_run(segment_volume(source, target, config), "tiles", _View)


def _show_cost(source: str, target: Path, config: SegmentConfig) -> None:
    from contextlib import closing

    from napari_sam.io import open_volume
    from napari_sam.io.output_files import check_target
    from napari_sam.pipeline import estimate_cost

    check_target(target, overwrite=config.overwrite, resume=config.resume)
    with closing(open_volume(source, config.axes)) as volume:
        click.echo("Timing a tile ...", err=True)
        cost = estimate_cost(volume, config, try_batches=True)
    _print_table(cost)
    click.echo("Nothing was written.", err=True)


def _print_table(cost: CostEstimate) -> None:
    from rich.filesize import decimal

    pairs = (
        ("slices", str(cost.n_slices)),
        ("tiles", str(cost.n_tiles)),
        *([] if cost.diameter is None else [("diameter", f"about {cost.diameter:.0f} pixels")]),
        ("one tile", f"{_duration(cost.seconds_per_tile)}, as measured"),
        ("time", f"about {_duration(cost.seconds)}"),
        ("memory", f"{decimal(cost.memory_bytes)} for images and labels; the model comes on top"),
        ("disk", f"at most {decimal(cost.disk_bytes)}"),
        ("suggested", _suggested(cost.suggestion)),
    )
    print_pairs(pairs)


def _suggested(found: Suggestion) -> str:
    """Write options as they would be given, and why."""
    words = [f"--tile {found.tile} --halo {found.halo}"]
    if found.points_per_batch is not None:
        words.append(f"--points-per-batch {found.points_per_batch}")
    words.append(f"--workers {found.workers}")
    why = f"objects are up to {found.object_side} pixels long" if found.object_side else ""
    return " ".join(words) + (f" ({why})" if why else "")


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


class _View(RunView):
    """Shows events; on a terminal as a bar, elsewhere as a line per slice."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self._task: TaskID | None = None
        self._n_tiles = 1
        self._n_done = 0
        self._part: tuple[str, TaskID] | None = None

    def show(self, event: Event) -> None:
        """Show one event."""
        from napari_sam import pipeline

        match event:
            case pipeline.Planned():
                self._show_plan(event)
            case pipeline.DiameterEstimated(diameter=diameter, scale=scale):
                self._print(diameter_text(diameter, scale))
            case pipeline.Resumed(n_slices=n_slices, n_tiles=n_tiles):
                self._n_done = n_slices * self._n_tiles + n_tiles
                self._advance(self._n_done)
                tiles = f" and {n_tiles} finished tiles of the next" if n_tiles else ""
                self._print(f"Going on after {n_slices} finished slices{tiles}")
            case pipeline.Working(done=done, total=total):
                self._advance(self._n_done + done / max(total, 1))
            case pipeline.TileDone():
                self._n_done += 1
                self._advance(self._n_done)
            case pipeline.Stitching(slice_number=number, done=done, total=total):
                self._show_part(f"Stitching slice {number + 1}", done, total)
            case pipeline.Completing(what=what, done=done, total=total):
                self._show_part(what, done, total)
            case pipeline.SliceDone(slice_number=number, position=position, n_objects=n_objects):
                where = position_text(position)
                self._print(
                    f"Slice {where} ({number + 1} of {self._n_slices}): {n_objects} objects"
                )
            case _:
                super().show(event)

    def _show_plan(self, plan: Planned) -> None:
        self._n_slices, self._n_tiles = plan.n_slices, plan.n_tiles_per_slice
        size = shape_text(plan.shape)
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

    def _show_part(self, what: str, done: int, total: int) -> None:
        """Show work on what is segmented as a second bar, while it lasts."""
        if self._part is None or self._part[0] != what:
            self._hide_part()
            self._part = what, self._progress.add_task(what, total=total)
        self._progress.update(self._part[1], completed=done, total=total)
        if done >= total:
            self._hide_part()

    def _hide_part(self) -> None:
        if self._part is not None:
            self._progress.remove_task(self._part[1])
            self._part = None


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
