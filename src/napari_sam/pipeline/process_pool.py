"""Processes of this machine that work for a run. Each loads the model once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any

from napari_sam.core.errors import ConfigError, DeviceError
from napari_sam.core.memory import keep_memory_together
from napari_sam.pipeline.stitch_jobs import StitchJob
from napari_sam.pipeline.worker import SegmentTile, Worker, WorkOrder

__all__ = ["ProcessPool"]


class ProcessPool:
    """Processes that do the jobs of a run.

    Parameters
    ----------
    order : WorkOrder
        Its segmenter, if any, must pass to another process.
    n_processes : int
        The processors of this machine are shared among them.
    """

    def __init__(self, order: WorkOrder, n_processes: int) -> None:
        self._n_processes = n_processes
        self._pool = ProcessPoolExecutor(
            n_processes,
            mp_context=get_context("spawn"),  # a forked process cannot use torch or CUDA
            initializer=_begin,
            initargs=(order, max((os.cpu_count() or 1) // n_processes, 1)),
        )

    def n_processes(self) -> int:
        """Count the processes.

        Returns
        -------
        int
        """
        return self._n_processes

    def submit(self, job: SegmentTile | StitchJob[Any]) -> Future[Any]:
        """Give out a job.

        Parameters
        ----------
        job : SegmentTile or StitchJob

        Returns
        -------
        Future

        Raises
        ------
        DeviceError
            When a process has ended by itself.
        """
        with _said_when_broken():
            return self._pool.submit(_do, job)

    def result(self, future: Future[Any]) -> Any:
        """Return what a job gave, or raise its error.

        Parameters
        ----------
        future : Future
            As :meth:`submit` returned it.

        Returns
        -------
        object

        Raises
        ------
        DeviceError
            When a process has ended by itself.
        """
        with _said_when_broken():
            return future.result()

    def problem(self) -> str | None:
        """Say what is wrong: nothing, or it would have been raised.

        Returns
        -------
        None
        """
        return None

    def close(self) -> None:
        """End the processes, at once."""
        # a public way to do so comes with Python 3.14
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def _said_when_broken() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise DeviceError(
            "A worker process ended by itself",
            rule="Each worker holds the model and a part of the image",
            cure="Repeat the command with `--resume` and fewer `--workers`",
        ) from error


_worker: Worker | None = None
"""What this process is, if it works for a run."""


def _begin(order: WorkOrder, n_threads: int) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_memory_together()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process stops us
    _worker = Worker(order, n_threads)


def _end_with_parent() -> None:
    """End when the run's process is gone: one that was killed cannot say so."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _do(job: SegmentTile | StitchJob[Any]) -> Any:
    if _worker is None:
        raise ConfigError(
            "A job was given to a process that works on no image",
            rule="A worker opens the image when it begins",
            cure="Please report this",
        )
    return _worker.do(job)
