"""Jobs given to other processes, so that each always has something to do, and no more than that.

Tiles are done ahead: while one slice is awaited or stitched, those of the next are segmented. What
comes out does not depend on the number of processes, nor on the order.
"""

from __future__ import annotations

import itertools
import queue
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Protocol

from napari_sam.core.errors import DeviceError
from napari_sam.pipeline.events import Warned
from napari_sam.pipeline.stitch_jobs import StitchJob
from napari_sam.pipeline.tile_results import TileResults
from napari_sam.pipeline.tile_run import FailedTile, SavedTile
from napari_sam.pipeline.worker import SegmentTile

__all__ = ["JobFuture", "Pool", "TileQueue", "WorkerLostError"]

JOBS_AHEAD = 2
"""Jobs that are given out for each process, so that none has nothing to do."""
PATIENCE_S = 5.0
"""After so long without any answer it is asked what is wrong."""


class WorkerLostError(DeviceError):
    """Processes died while they worked on a job."""


class JobFuture(Protocol):
    """A job that is given out."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> Any:
        """Call a function with this object when the job has ended."""
        ...


class Pool(Protocol):
    """Processes that do jobs."""

    def n_processes(self) -> int:
        """Count the processes that there are now."""
        ...

    def submit(self, job: SegmentTile | StitchJob[Any]) -> JobFuture:
        """Give out a job."""
        ...

    def result(self, future: Any) -> Any:
        """Return what a job that has ended gave, or raise its error.

        Raises
        ------
        WorkerLostError
            When processes died while they worked on it.
        """
        ...

    def problem(self) -> str | None:
        """Say why nothing may be going on, in a whole sentence; None when nothing is wrong."""
        ...

    def close(self) -> None:
        """End the processes, or what they do for this run."""
        ...


class TileQueue:
    """The jobs of a run for a pool of processes.

    Parameters
    ----------
    pool : Pool
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tiles: Iterator[SegmentTile] = iter(())
        self._known: dict[int, dict[int, int | None]] = {}
        self._running: dict[JobFuture, SegmentTile | StitchJob[Any]] = {}
        self._done: queue.SimpleQueue[JobFuture] = queue.SimpleQueue()
        self._ended: defaultdict[int, list[SavedTile | FailedTile]] = defaultdict(list)
        self._answered: list[JobFuture] = []
        self._problem: str | None = None

    def begin(self, slices: Iterable[tuple[int, tuple[int, ...], TileResults]]) -> None:
        """Say what is to be done.

        Parameters
        ----------
        slices : iterable of (int, tuple of int, TileResults)
            Number of each slice, its index along the axes before YX, and where its tiles are kept.
        """
        self._tiles = self._missing_tiles(slices)

    def known(self, number: int) -> dict[int, int | None]:
        """Tell which tiles of a slice were on the disk before.

        Parameters
        ----------
        number : int
            Number of the slice; the tiles of those before it are done.

        Returns
        -------
        dict of int to (int or None)
            Pixels that were not finite, by tile; None for a tile that is to be done.
        """
        self._give_tiles()
        return self._known[number]

    def outcomes(self, number: int) -> Generator[SavedTile | FailedTile | Warned, None, None]:
        """Wait for the tiles of a slice that are to be done.

        Parameters
        ----------
        number : int
            As for :meth:`known`.

        Yields
        ------
        SavedTile or FailedTile
            As they end, in any order.
        Warned
            When nothing is going on, and why.

        Raises
        ------
        DeviceError
            When no process is left.
        """
        left = sum(count is None for count in self.known(number).values())
        while left:
            while not self._ended[number]:
                if warning := self._wait():
                    yield warning
            yield self._ended[number].pop(0)
            left -= 1
        self._known.pop(number)
        self._ended.pop(number, None)  # nothing was awaited of a slice that was done before

    def run(self, jobs: Iterable[StitchJob[Any]]) -> Generator[Any, None, None]:
        """Let the processes do other jobs, before the tiles that wait.

        Parameters
        ----------
        jobs : iterable of StitchJob

        Yields
        ------
        object
            What each job returns, as they end, in any order; and Warned when nothing is going on.
        """
        waiting, given = iter(jobs), set[JobFuture]()
        while True:
            for job in itertools.islice(waiting, max(self._n_wanted() - len(given), 0)):
                given.add(self._give(job))
            if not given:
                return
            if warning := self._wait():
                yield warning
            answered, self._answered = self._answered, []
            for future in answered:
                given.discard(future)
                yield self._pool.result(future)

    def close(self) -> None:
        """End the processes, or what they do for this run: a tile that is not done leaves nothing.

        Called at the end of a run, however it ends.
        """
        self._pool.close()

    def _missing_tiles(
        self, slices: Iterable[tuple[int, tuple[int, ...], TileResults]]
    ) -> Iterator[SegmentTile]:
        for number, position, results in slices:
            known = self._known[number] = results.known()
            for index in (index for index, count in known.items() if count is None):
                yield SegmentTile(number, position, index, results.folder)

    def _n_wanted(self) -> int:
        return JOBS_AHEAD * max(self._pool.n_processes(), 1)

    def _give_tiles(self) -> None:
        """Give the processes enough to do."""
        for job in itertools.islice(self._tiles, max(self._n_wanted() - len(self._running), 0)):
            self._give(job)

    def _give(self, job: SegmentTile | StitchJob[Any]) -> JobFuture:
        future = self._pool.submit(job)
        self._running[future] = job
        future.add_done_callback(self._done.put)
        return future

    def _wait(self) -> Warned | None:
        """Wait for an answer; return a warning where none comes, and something new is wrong."""
        try:
            future = self._done.get(timeout=PATIENCE_S)
        except queue.Empty:
            before, self._problem = self._problem, self._pool.problem()
            self._give_tiles()  # to workers that were added
            is_new = self._problem is not None and self._problem != before
            return Warned(self._problem) if is_new and self._problem else None
        job = self._running.pop(future)
        if isinstance(job, SegmentTile):
            self._ended[job.slice_number].append(self._outcome(future, job))
        else:
            self._answered.append(future)
        self._give_tiles()
        return None

    def _outcome(self, future: JobFuture, job: SegmentTile) -> SavedTile | FailedTile:
        try:
            outcome: SavedTile | FailedTile = self._pool.result(future)
        except WorkerLostError as error:
            return FailedTile(job.tile, (error,))
        return outcome
