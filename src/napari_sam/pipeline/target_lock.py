"""One process at a time for an output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from napari_sam.core.errors import OutputError
from napari_sam.io.output_files import output_errors

__all__ = ["locked"]


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Keep other processes from writing an output for the time of the block.

    The operating system holds the lock, so that a process that is killed holds none; the file
    ``NAME.lock`` that it may leave stands in nobody's way.

    Parameters
    ----------
    target : Path
        Directory of the label store; missing parent folders are created.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    OutputError
        When another process writes it, or the folder cannot be written.
    """
    path = target.with_name(f"{target.name}.lock")
    # a generator may be closed by another thread than the one that began it
    lock = FileLock(path, thread_local=False)
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(
                f"Another process is writing {target}",
                rule="An output is written by one process at a time",
                cure="Wait until that run has ended, stop it, or choose another output",
            ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # it must not hide why a run ended
            path.unlink(missing_ok=True)
        lock.release()
