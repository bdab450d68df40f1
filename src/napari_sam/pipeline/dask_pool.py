"""Workers of a Dask cluster that work for a run.

Tiles are plain futures, a few for each worker at a time, never a graph of the whole volume. The
scheduler sends each to a worker, and again to another when that one dies; workers that join later
get their share. Each loads the model with its first job and keeps it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.core.errors import ConfigError, DeviceError
from napari_sam.pipeline.stitch_jobs import StitchJob
from napari_sam.pipeline.tile_queue import WorkerLostError
from napari_sam.pipeline.worker import SegmentTile, Worker, WorkOrder

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

__all__ = ["LOCAL", "DaskPool"]

LOCAL = "local"
"""Instead of an address: a cluster on this machine, which ends with the run."""
CONNECT_S = 30
COUNT_AGAIN_S = 1.0
STITCH_PRIORITY = 10
"""Slices are stitched before further tiles are segmented, so that few tiles wait on the disk."""


class DaskPool:
    """Workers of a Dask cluster that do the jobs of a run.

    Parameters
    ----------
    order : WorkOrder
        Its paths must mean the same to all workers; its segmenter, if any, must be picklable.

    Raises
    ------
    ConfigError
        When Dask is not installed, the scheduler cannot be reached, or no worker offers what each
        tile asks for.
    """

    def __init__(self, order: WorkOrder) -> None:
        self._resources = dict(order.config.dask_resources)
        self._cluster, self._client = _connect(order.config.dask or LOCAL, order.config.workers)
        import cloudpickle  # comes with Dask

        self._name = f"napari-sam-{uuid.uuid4().hex}"
        self._counted_at, self._n_workers = -COUNT_AGAIN_S, 0
        self._n_given = 0
        self._order: bytes = cloudpickle.dumps(order)

    def n_processes(self) -> int:
        """Count the workers that the scheduler knows now.

        Returns
        -------
        int
        """
        if time.monotonic() - self._counted_at >= COUNT_AGAIN_S:
            self._n_workers = len(self._client.nthreads())
            self._counted_at = time.monotonic()
        return self._n_workers

    def submit(self, job: SegmentTile | StitchJob[Any]) -> Future:
        """Give out a job.

        Parameters
        ----------
        job : SegmentTile or StitchJob

        Returns
        -------
        Future
        """
        is_tile = isinstance(job, SegmentTile)
        self._n_given += 1
        what = f"stitch-{self._n_given}"
        if isinstance(job, SegmentTile):
            what = f"tile-{job.slice_number}-{job.tile}"
        return self._client.submit(
            _do,
            self._name,
            self._order,
            job,
            key=f"{self._name}-{what}",
            pure=False,
            priority=0 if is_tile else STITCH_PRIORITY,
            resources=self._resources if is_tile else None,
        )

    def result(self, future: Future) -> Any:
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
        WorkerLostError
            When several workers died one after the other while they worked on it.
        DeviceError
            When the connection to the scheduler is lost.
        """
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise WorkerLostError(
                "Several workers died one after the other while they worked on it",
                rule="Each worker holds the model and a part of the image",
                cure="Give the workers more memory, and repeat the command with `--resume`",
            ) from error
        except (CancelledError, asyncio.CancelledError) as error:
            raise DeviceError(
                "The Dask scheduler gave up a job, or the connection to it was lost",
                rule="The scheduler runs as long as the work lasts",
                cure="Start it again, and repeat the command with `--resume`",
            ) from error

    def problem(self) -> str | None:
        """Say why nothing may be going on.

        Returns
        -------
        str or None
        """
        workers = self._client.scheduler_info()["workers"]
        if not workers:
            return "The Dask scheduler has no workers. The run waits until some join."
        offered = [worker.get("resources", {}) for worker in workers.values()]
        for name, amount in self._resources.items():
            if not any(one.get(name, 0) >= amount for one in offered):
                return (
                    f"No Dask worker offers {name}={amount:g}, which each tile asks for. The run "
                    f"waits for one: start workers with `--resources {name}={amount:g}`."
                )
        return None

    def close(self) -> None:
        """Take back what is not done, and leave the cluster as it was; a local one ends."""
        with suppress(Exception):  # nothing here may hide why a run ended
            self._client.cancel(list(self._client.futures), force=True)
            self._client.run(_forget, self._name)
        with suppress(Exception):
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _connect(place: str, n_workers: int) -> tuple[LocalCluster | None, Client]:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ConfigError(
            "A Dask cluster was asked for, and Dask is not installed",
            rule="It is an extra of napari_sam",
            cure="Install it with `pip install 'napari-sam[distributed]'`",
        ) from error
    logging.getLogger("tornado.application").addFilter(_cancelled_before_begun)
    if place == LOCAL:
        with _interrupts_ignored():  # Ctrl-C reaches all processes; the first one stops the others
            cluster = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                dashboard_address=":0",
                processes=True,
                silence_logs=logging.ERROR,
            )
        return cluster, Client(cluster)
    is_file = Path(place).is_file()
    try:
        client = Client(
            **({"scheduler_file": place} if is_file else {"address": place}), timeout=CONNECT_S
        )
    except (TimeoutError, OSError, ValueError) as error:
        raise ConfigError(
            f"The Dask scheduler at {place} cannot be reached: {error}",
            rule="An address such as tcp://host:8786, the scheduler's file, or `local` is needed",
            cure="Check that the scheduler runs, and that this machine may connect to it",
        ) from error
    return None, client


class _CancelledBeforeBegun(logging.Filter):
    """Drops what is logged where Ctrl-C comes between giving a request and beginning it.

    Distributed then cancels a future that it has not made yet, and tornado, which calls it, logs
    the NameError. The request is given up all the same.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, NameError) and "free variable 'future'" in str(error))


_cancelled_before_begun = _CancelledBeforeBegun()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let processes that are started in the block ignore Ctrl-C; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_workers: dict[str, Worker] = {}
"""What this process is, if it belongs to a cluster: by run."""
_forgotten: set[str] = set()
"""Runs that have ended."""
_lock = threading.Lock()


def _do(run: str, order: bytes, job: SegmentTile | StitchJob[Any]) -> Any:
    """Do a job in a worker, which opens the image and loads the model with its first one.

    The order comes as bytes, which are read once: what goes wrong then is the error of a job, which
    reaches the user, and not the silent end of a worker.
    """
    import cloudpickle
    from distributed import get_worker

    with _lock:
        if run in _forgotten:  # this job was on its way when its run ended, and nobody asks for it
            return None
        if run not in _workers:
            _workers[run] = Worker(cloudpickle.loads(order), get_worker().state.nthreads)
    return _workers[run].do(job)


def _forget(run: str) -> None:
    """Let go of the image and the model of a run that has ended."""
    with _lock:
        _forgotten.add(run)
        worker = _workers.pop(run, None)
    if worker is not None:
        worker.close()
