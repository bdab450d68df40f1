"""``napari-sam train``: train a model from a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from napari_sam.training import TrainConfig

__all__ = ["train"]


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Folder of labelled images.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--device", help="auto, cpu, cuda or mps.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads that compute.")
def train(
    config: Path, data: Path | None, output: Path | None, device: str | None, threads: int | None
) -> None:
    """Train a model as CONFIG, a TOML file, says.

    Progress is saved every few minutes and on Ctrl-C; the same command goes on. At the end
    model.safetensors is in the run's folder, beside the log and its curves.
    """
    import dataclasses

    from napari_sam.core.memory import keep_freed_memory
    from napari_sam.training.config import load_config

    keep_freed_memory()
    options = load_config(config)
    options = dataclasses.replace(
        options,
        data=str(data or options.data),
        output=str(output or options.output),
        device=device or options.device,
    )
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    _run(options)


def _run(options: TrainConfig) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from napari_sam.training import Started, StepDone, Stopped, Validated, export_model
    from napari_sam.training import train as train_events

    console = Console()
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  IoU {task.fields[iou]:.3f}"),
        TimeRemainingColumn(),
    )
    events = train_events(options)
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
                elif isinstance(event, Stopped):
                    path = export_model(
                        event.checkpoint, event.checkpoint.parent / "model.safetensors"
                    )
                    console.print(f"Model: {path}")
        except KeyboardInterrupt:
            events.close()  # type: ignore[attr-defined]
            console.print("Stopped; the run is saved, and the same command goes on with it.")
            raise
