"""``napari-sam train``: train a model from a configuration file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from rich.table import Table

    from napari_sam.training import TrainConfig
    from napari_sam.training.fine_tuning import FineTuneEvent, Offered

__all__ = ["train"]


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Folder of labelled images.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "--from", "start", metavar="MODEL", help="Weights to start from: a model's name or a file."
)
@click.option(
    "--parts",
    type=click.Choice(["all", "decoder", "head"]),
    help="What is trained: everything; prompt encoder, mask decoder and instance head; or the "
    "instance head alone. [default: all for the compact model, decoder for others]",
)
@click.option("--iterations", type=click.IntRange(min=1), help="Optimiser steps.")
@click.option("--device", help="auto, cpu, cuda or mps.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads that compute.")
def train(
    source: Path,
    data: Path | None,
    output: Path | None,
    start: str | None,
    parts: Literal["all", "decoder", "head"] | None,
    iterations: int | None,
    device: str | None,
    threads: int | None,
) -> None:
    """Train a model as SOURCE says, a TOML file; or fine-tune one on SOURCE, a folder.

    A folder has images/ and labels/ with files of the same names. The compact model, or the one
    that --from names, is trained on three quarters of the images; what it gains is measured on the
    others.

    Progress is saved every few minutes and on Ctrl-C; the same command goes on. At the end
    model.safetensors is in the run's folder, beside the log and its curves.
    """
    import dataclasses

    from napari_sam.core.memory import keep_freed_memory

    keep_freed_memory()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if source.is_dir():
        from napari_sam.training.fine_tuning import fine_tune, fine_tune_config

        if data is not None:
            raise click.UsageError(
                "--data goes with a TOML file; SOURCE is a folder of data already"
            )

        folder = output or Path("runs") / source.absolute().name
        config = fine_tune_config(
            source, folder, start or "compact", parts=parts, iterations=iterations,
            device=device or "auto",
        )  # fmt: skip
        _run(config, fine_tune(config))
        return
    from napari_sam.training import train as train_events
    from napari_sam.training.config import load_config

    config = load_config(source)
    changes = {
        "data": data and str(data),
        "output": output and str(output),
        "model": start and str(_weights_of(start)),
        "train_parts": parts,
        "iterations": iterations,
        "device": device,
    }
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    config = dataclasses.replace(config, **given)
    _run(config, train_events(config))


def _weights_of(model: str) -> Path:
    from napari_sam.model.checkpoints import locate_weights
    from napari_sam.model.store import verify_file

    entry, path = locate_weights(model)
    verify_file(path, entry)
    return path


def _run(options: TrainConfig, events: Iterator[FineTuneEvent]) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from napari_sam.training import Started, StepDone, Stopped, Validated, export_model
    from napari_sam.training.fine_tuning import Measured, Offered

    console = Console()
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  IoU {task.fields[iou]:.3f}"),
        TimeRemainingColumn(),
    )
    before: dict[str, float] = {}
    is_fine_tuning = False
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=options.iterations, loss=0.0, iou=0.0)
        try:
            for event in events:
                if isinstance(event, Started):
                    console.print(
                        f"{event.images} images, step {event.iteration} of {event.iterations}, "
                        f"on {event.device}"
                    )
                elif isinstance(event, StepDone):
                    progress.update(
                        task, completed=event.iteration, loss=event.loss, iou=event.train_iou
                    )
                elif isinstance(event, Validated):
                    console.print(f"step {event.iteration}, mean IoU: 1 click / best of 3 / box")
                    for group, score in event.scores.items():
                        console.print(
                            f"  {score.click:.3f} / {score.click_best:.3f} / {score.box:.3f}  "
                            f"{group}",
                            highlight=False,
                        )
                elif isinstance(event, Measured):
                    is_fine_tuning = True
                    before = before or event.scores
                    console.print(f"{event.images} held-out images measured, {event.stage}")
                    scores = event.scores
                elif isinstance(event, Offered):
                    console.print(_gain_table(before, scores))
                    console.print(_verdict(event))
                elif isinstance(event, Stopped) and not is_fine_tuning:
                    path = export_model(
                        event.checkpoint, event.checkpoint.parent / "model.safetensors"
                    )
                    console.print(f"Model: {path}")
        except KeyboardInterrupt:
            events.close()  # type: ignore[attr-defined]
            console.print("Stopped; the run is saved, and the same command goes on with it.")
            raise


_SHOWN = {
    "click": "one click, IoU",
    "clicks_3": "three clicks, IoU",
    "box": "box, IoU",
    "SA50": "segment everything, SA50",
    "mSA": "segment everything, mSA",
}


def _gain_table(before: dict[str, float], after: dict[str, float]) -> Table:
    from rich.table import Table

    table = Table("on held-out images", "before", "after", "gain")
    for name, words in _SHOWN.items():
        if name in after:
            old, new = before.get(name), after[name]
            gain = "" if old is None else f"{new - old:+.3f}"
            table.add_row(words, "" if old is None else f"{old:.3f}", f"{new:.3f}", gain)
    return table


def _verdict(offer: Offered) -> str:
    gains = [gain for name, gain in offer.gains.items() if name in _SHOWN]
    if sum(gains) > 0:
        return f"Model: {offer.path}"
    return (
        "On the held-out images the new model is no better than the one it came from. Label more "
        f"images, or keep the old one. The new one: {offer.path}"
    )
