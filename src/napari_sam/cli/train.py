"""``napari-sam train``: train a model from a configuration file, or fine-tune it on a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from napari_sam.cli.training_runs import run_options, run_progress, with_options

if TYPE_CHECKING:
    from rich.table import Table

    from napari_sam.training import TrainConfig
    from napari_sam.training.fine_tuning import FineTuneEvent, Offered

__all__ = ["train"]


@click.command()
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
@run_options
def train(
    source: Path,
    start: str | None,
    parts: Literal["all", "decoder", "head"] | None,
    iterations: int | None,
    data: Path | None,
    output: Path | None,
    device: str | None,
    threads: int | None,
) -> None:
    """Train a model as SOURCE says, a TOML file; or fine-tune one on SOURCE, a folder.

    A folder has images/ and labels/ with files of the same names. The compact model, or the one
    that --from names, is trained on three quarters of the images; what it gains is measured on the
    others.

    Progress is saved every few minutes and on Ctrl-C; the same command goes on. At the end
    model.safetensors is in the run's folder, beside the log and its curves: the weights of the
    best validation; or the last, where DATA has no index with a split val, and of a folder.
    """
    if source.is_dir():
        from napari_sam.training.fine_tuning import fine_tune, fine_tune_config

        if data is not None:
            raise click.UsageError(
                "--data goes with a TOML file; SOURCE is a folder of data already"
            )
        folder = output or Path("runs") / source.absolute().name
        tuned = fine_tune_config(
            source, folder, start or "compact", parts=parts, iterations=iterations
        )
        config = with_options(tuned, None, None, device, threads)
        _run(config, fine_tune(config))
        return
    from napari_sam.training import train as train_events
    from napari_sam.training.config import load_config

    config = with_options(load_config(source), data, output, device, threads)
    changes = {
        "model": start and str(_weights_of(start)),
        "train_parts": parts,
        "iterations": iterations,
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
    from napari_sam.training import Started, StepDone, Stopped, Validated, export_model
    from napari_sam.training.fine_tuning import Measured, Offered

    measured: list[Measured] = []
    with run_progress(events) as progress:
        console = progress.console
        for event in events:
            if isinstance(event, Started):
                progress.say_start(event)
                progress.show("training", event.iteration, event.iterations)
            elif isinstance(event, StepDone):
                figures = f"loss {event.loss:.3f}  IoU {event.train_iou:.3f}"
                progress.show("training", event.iteration, options.iterations, figures)
            elif isinstance(event, Validated):
                mark = ", the best so far" if event.is_best else ""
                console.print(f"step {event.iteration}{mark}, mean IoU: 1 click / best of 3 / box")
                for group, score in event.scores.items():
                    console.print(
                        f"  {score.click:.3f} / {score.click_best:.3f} / {score.box:.3f}  {group}",
                        highlight=False,
                    )
            elif isinstance(event, Measured):
                measured.append(event)
                console.print(f"{event.images} held-out images measured, {event.stage} training")
            elif isinstance(event, Offered):
                console.print(_gain_table(*(each.scores for each in measured)))
                console.print(_verdict(event), soft_wrap=True)
            elif isinstance(event, Stopped) and not measured:  # else the new model is offered
                path = export_model(event.best, event.best.parent / "model.safetensors")
                console.print(f"Model: {path} (step {event.best_iteration})")


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
