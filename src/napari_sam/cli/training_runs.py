"""What the commands share that train: options, a bar of progress, and how they are stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from napari_sam.training import DistillConfig, Started, TrainConfig

    Config = TypeVar("Config", TrainConfig, DistillConfig)

__all__ = ["RunProgress", "run_options", "run_progress", "with_options"]

Command = TypeVar("Command", bound=Callable[..., object])


def run_options(command: Command) -> Command:
    """Add what is trained on or the configuration file, and what is often given beside it."""
    for decorate in (
        click.option("--threads", type=click.IntRange(min=1), help="Threads that compute."),
        click.option("--device", help="auto, cpu, cuda or mps."),
        click.option("--output", type=click.Path(path_type=Path), help="Folder of the run."),
        click.option("--data", type=click.Path(path_type=Path), help="Folder of images."),
        click.argument("source", type=click.Path(path_type=Path)),
    ):
        command = decorate(command)
    return command


def with_options(
    config: Config,
    data: Path | None,
    output: Path | None,
    device: str | None,
    threads: int | None,
) -> Config:
    """Put what the command line says into a configuration, and make the process ready for it."""
    from napari_sam.core.memory import keep_freed_memory

    keep_freed_memory()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return dataclasses.replace(
        config,
        data=str(data or config.data),
        output=str(output or config.output),
        device=device or config.device,
    )


class RunProgress:
    """Bars of progress with figures beside them, and lines above.

    Parameters
    ----------
    progress : Progress
        Where the bars are.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    @property
    def console(self) -> Console:
        """For lines above the bars."""
        return self._progress.console

    def say_start(self, event: Started) -> None:
        """Say what begins, and where."""
        self.console.print(
            f"{event.images} images, step {event.iteration} of {event.iterations}, "
            f"on {event.device}"
        )

    def show(self, word: str, done: int, total: int, figures: str = "") -> None:
        """Set the bar of a kind of work, which appears when it is first set."""
        if word not in self._tasks:
            self._tasks[word] = self._progress.add_task(word, total=total, figures="")
        self._progress.update(self._tasks[word], completed=done, total=total, figures=figures)


@contextmanager
def run_progress(events: Iterator[object]) -> Iterator[RunProgress]:
    """Show the progress of a training run; on Ctrl-C the run is saved.

    Parameters
    ----------
    events : generator
        The run, which saves itself when it is closed.

    Yields
    ------
    RunProgress
        For figures and lines.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console()) as progress:
        try:
            yield RunProgress(progress)
        except KeyboardInterrupt:
            events.close()  # type: ignore[attr-defined]
            progress.console.print(
                "Stopped; the run is saved, and the same command goes on with it."
            )
            raise
