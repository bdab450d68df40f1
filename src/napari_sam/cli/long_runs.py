"""What the commands share that run for long: a bar of progress, and how they are stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["EXIT_INTERRUPTED", "progress_bar", "terminated_as_interrupted"]

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells expect."""


@contextmanager
def progress_bar(unit: str) -> Iterator[Progress]:
    """Show a bar on a terminal; elsewhere nothing but what is printed.

    Parameters
    ----------
    unit : str
        What is counted, such as "tiles".

    Yields
    ------
    Progress
        For tasks and lines above them.
    """
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
        TextColumn(f"{unit},"),
        TimeElapsedColumn(),
        TextColumn("so far,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        yield progress


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Stop as at Ctrl-C when the system asks for it, as schedulers of clusters do.

    Yields
    ------
    None
        Nothing.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
