"""``napari-sam embed``: a view of `napari_sam.pipeline.embed.embed_volume` in a terminal."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from napari_sam.cli.long_runs import EXIT_INTERRUPTED, progress_bar, terminated_as_interrupted
from napari_sam.cli.run_view import RunView, position_text, print_pairs, shape_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from napari_sam.pipeline.embed import EmbedConfig, EmbedEstimate, EmbedEvent, EmbedPlanned

__all__ = ["embed"]

GIGABYTE = 1e9


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=str))
@click.option("--model", default="compact", show_default=True, help="Model name or checkpoint.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--axes", help="Axes of the input, such as ZYX, TCZYX, or YXS for RGB.")
@click.option(
    "--channel",
    "channels",
    type=int,
    multiple=True,
    help="Channel, from 0; up to three times, as they will be chosen in napari.",
)
@click.option(
    "--slices", metavar="START:STOP[:STEP]", help="Slices along Z, or along T when there is no Z."
)
@click.option("--times", metavar="START:STOP[:STEP]", help="Times of a volume with Z.")
@click.option(
    "--contrast-percentiles",
    type=(float, float),
    help="Percentiles, where others are set in napari [default: 1 99.8].",
)
@click.option(
    "--contrast-limits",
    type=(float, float),
    multiple=True,
    help="Contrast limits of the layer, where these are chosen in napari; once, or once for each "
    "--channel.",
)
@click.option(
    "--cache-size",
    metavar="GB",
    type=float,
    help="Size that the cache keeps to from now on [default: as it is, at first 5.4].",
)
@click.option(
    "--dry-run", is_flag=True, help="Time one plane, print what the run will cost, and stop."
)
@click.pass_context
def embed(ctx: click.Context, /, source: str, **options: Any) -> None:
    """Prepare INPUT for clicks: embed its slices ahead of time.

    The embeddings of all chosen slices go into the cache that "Segment by clicks" in napari reads.
    Stop it at any time: the same command goes on.
    """
    is_dry_run = options.pop("dry_run")
    config = _config(options)
    progress: list[int] = []
    try:
        with terminated_as_interrupted():
            if is_dry_run:
                _show_cost(source, config)
            else:
                _run(source, config, progress)
    except KeyboardInterrupt:
        kept = f"{len(progress)} planes are in the cache; the same command goes on with the others."
        click.echo(f"Stopped. {'Nothing was stored.' if is_dry_run else kept}", err=True)
        ctx.exit(EXIT_INTERRUPTED)


def _config(options: dict[str, Any]) -> EmbedConfig:
    from napari_sam.cli.segment_config import read_slices
    from napari_sam.pipeline.embed import EmbedConfig

    read_slices(options)
    size = options.pop("cache_size")
    options["cache_bytes"] = None if size is None else round(size * GIGABYTE)
    options["contrast_limits"] = options["contrast_limits"] or None
    return EmbedConfig(**options)


def _run(source: str, config: EmbedConfig, done: list[int]) -> None:
    """Run; the numbers of the planes that are in the cache are added to `done`."""
    from contextlib import closing

    from napari_sam.pipeline.embed import SliceEmbedded, embed_volume

    events = embed_volume(source, config)
    with progress_bar("planes") as progress, closing(events):
        view = _View(progress)
        for event in events:
            if isinstance(event, SliceEmbedded):
                done.append(event.slice_number)
            view.show(event)


def _show_cost(source: str, config: EmbedConfig) -> None:
    from napari_sam.pipeline.embed import estimate_embedding

    click.echo("Timing one plane ...", err=True)
    _print_table(estimate_embedding(source, config))
    click.echo("Nothing was stored.", err=True)


def _print_table(cost: EmbedEstimate) -> None:
    from rich.filesize import decimal

    is_too_small = cost.disk_bytes > cost.budget_bytes
    size = -(-cost.disk_bytes // round(GIGABYTE))
    hint = f"; too small, give `--cache-size {size}`" if is_too_small else ""
    pairs = (
        ("planes", str(cost.n_slices)),
        ("one plane", f"{cost.seconds_per_slice:.2g} s, as measured"),
        ("time", f"about {_duration(cost.seconds)}"),
        ("disk", f"at most {decimal(cost.disk_bytes)}; {decimal(cost.free_bytes)} are free"),
        ("cache", f"keeps to {decimal(cost.budget_bytes)}{hint}"),
        ("folder", str(cost.directory)),
    )
    print_pairs(pairs)


def _duration(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))


class _View(RunView):
    """Shows events; on a terminal as a bar, elsewhere as a line per plane."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self._task: TaskID | None = None

    def show(self, event: EmbedEvent) -> None:
        """Show one event."""
        from rich.filesize import decimal

        from napari_sam.pipeline import embed as embedding

        match event:
            case embedding.EmbedPlanned():
                self._show_plan(event)
            case embedding.Encoding(slice_number=number, done=done, total=total):
                self._advance(number + done / max(total, 1))
            case embedding.SliceEmbedded(slice_number=number, position=position, origin=origin):
                where = position_text(position)
                found = "embedded" if origin == "computed" else "in the cache already"
                self._print(f"Plane {where} ({number + 1} of {self._n_slices}): {found}")
                self._advance(number + 1)
            case embedding.EmbedFinished(directory=directory, n_bytes=n_bytes, seconds=seconds):
                self._end(
                    f"{event.n_computed} planes embedded, {event.n_found} in the cache already, "
                    f"at most {decimal(n_bytes)} in all, {seconds:.1f} s: {directory}"
                )
            case _:
                super().show(event)

    def _show_plan(self, plan: EmbedPlanned) -> None:
        self._n_slices = plan.n_slices
        size = shape_text(plan.shape)
        self._print(f"{size} ({plan.axes}): {plan.n_slices} planes")
        self._task = self._progress.add_task("Embedding", total=plan.n_slices)

    def _advance(self, completed: float) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=completed)
