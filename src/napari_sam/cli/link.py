"""``napari-sam link``: a view of `napari_sam.pipeline.link.link_volume` in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_sam.cli.long_runs import EXIT_INTERRUPTED, terminated_as_interrupted
from napari_sam.cli.run_view import RunView, position_text, shape_text, show_run

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from napari_sam.pipeline.link import LinkConfig, LinkEvent, LinkPlanned

__all__ = ["link"]


@click.command()
@click.argument("source", metavar="LABELS", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUTPUT", type=click.Path(path_type=Path))
@click.option(
    "--axis",
    metavar="Z|T",
    help="Axis along which slices are linked [default: Z, or T when there is no Z].",
)
@click.option(
    "--min-iou",
    type=float,
    default=0.5,
    show_default=True,
    help="Link objects of two slices whose IoU is higher, 0 to 1; lower for thick slices.",
)
@click.option(
    "--max-gap",
    type=int,
    default=0,
    show_default=True,
    help="Slices in which an object may be missing in between.",
)
@click.option(
    "--max-shift",
    type=float,
    help="How far an object's centre may move from slice to slice, in the unit of the pixel size "
    "[default: any distance].",
)
@click.option(
    "--min-extent",
    type=int,
    default=1,
    show_default=True,
    help="Drop objects seen in fewer slices.",
)
@click.option("--axes", help="Axes of the input, such as ZYX or TZYX.")
@click.option(
    "--ngff-version",
    type=click.Choice(["0.5", "0.4"]),
    default="0.5",
    show_default=True,
    help="OME-Zarr version of the output.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.pass_context
def link(ctx: click.Context, /, source: Path, target: Path, **options: Any) -> None:
    """Link the labels of slices in LABELS into the objects of OUTPUT.

    LABELS is an OME-Zarr label image, or a TIFF of whole numbers, in which each slice was labelled
    by itself. In OUTPUT, an OME-Zarr label image, what belongs together has one id through all
    slices along Z, or through all times.
    """
    from napari_sam.core.memory import keep_memory_together
    from napari_sam.pipeline.link import LinkConfig

    axis = options.pop("axis")
    config = LinkConfig(axis=axis and axis.upper(), **options)
    try:
        keep_memory_together()
        with terminated_as_interrupted():
            _run(source, target, config)
    except KeyboardInterrupt:
        click.echo("Stopped. Nothing was written.", err=True)
        ctx.exit(EXIT_INTERRUPTED)


def _run(source: Path, target: Path, config: LinkConfig) -> None:
    from napari_sam.pipeline.link import link_volume

    show_run(link_volume(source, target, config), "slices", _View)


class _View(RunView):
    """Shows events; on a terminal as a bar for each pass, elsewhere as a line per slice."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self._tasks: dict[str, TaskID] = {}

    def show(self, event: LinkEvent) -> None:
        """Show one event."""
        from napari_sam import pipeline
        from napari_sam.pipeline import link as linking

        match event:
            case linking.LinkPlanned():
                self._show_plan(event)
            case linking.SliceLinked(slice_number=number, n_objects=count, n_linked=n_linked):
                where = position_text(event.position)
                self._print(
                    f"Slice {where} ({number + 1} of {self._n_slices}): {count} objects, "
                    f"{n_linked} of them linked"
                )
                self._advance("Linking", number + 1)
            case pipeline.SliceDone(slice_number=number):
                self._advance("Writing", number + 1)
            case _:
                super().show(event)

    def _show_plan(self, plan: LinkPlanned) -> None:
        self._n_slices = plan.n_slices
        size = shape_text(plan.shape)
        self._print(f"{size} ({plan.axes}): {plan.n_slices} slices, linked along {plan.axis}")

    def _advance(self, what: str, completed: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=self._n_slices)
        self._progress.update(self._tasks[what], completed=completed)
