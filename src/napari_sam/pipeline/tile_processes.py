"""Tiles segmented by several processes of this machine.

Each process opens the image and loads the model once, then segments tiles and writes their results;
only a few numbers travel. What comes out does not depend on their number, nor on the order.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from napari_sam.core.errors import ConfigError, DeviceError, InputError
from napari_sam.core.steps import result_of, timed
from napari_sam.io import Volume, open_volume
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.segmenters import TileSegmenter, load_segmenter
from napari_sam.pipeline.source import SliceSource
from napari_sam.pipeline.tile_results import TileResults
from napari_sam.pipeline.tile_run import ATTEMPTS, FailedTile, SavedTile, TileRun, tile_steps
from napari_sam.tiling import Contrast, TileGrid

__all__ = ["TileProcesses"]

TILES_AHEAD = 2
"""Tiles that wait for each process, so that none has nothing to do."""


class _Job(NamedTuple):
    """One tile to do."""

    slice_number: int
    position: tuple[int, ...]
    tile: int
    folder: Path


_Outcome = tuple[int, SavedTile | FailedTile]
"""Number of the slice, and what became of the tile."""


class TileProcesses:
    """Processes that segment the tiles of a run.

    They work ahead: while the tiles of one slice are awaited or stitched, those of the next are
    segmented.

    Parameters
    ----------
    source : str or Path
        What they open.
    config : SegmentConfig
        With the number of workers.
    segmenter : TileSegmenter, optional
        What is given to them; it must pass to another process. By default each loads the model.
    run : TileRun
        Its tiles and contrast.
    """

    def __init__(
        self,
        source: str | Path,
        config: SegmentConfig,
        segmenter: TileSegmenter | None,
        run: TileRun,
    ) -> None:
        self._n_waiting = TILES_AHEAD * config.workers
        self._jobs: Iterator[_Job] = iter(())
        self._known: dict[int, dict[int, int | None]] = {}
        self._running: set[Future[_Outcome]] = set()
        self._ended: defaultdict[int, list[SavedTile | FailedTile]] = defaultdict(list)
        self._pool = ProcessPoolExecutor(
            config.workers,
            mp_context=get_context("spawn"),  # a forked process cannot use torch or CUDA
            initializer=_begin,
            initargs=(source, config, segmenter, run.tiles, run.contrast),
        )

    def begin(self, slices: Iterable[tuple[int, tuple[int, ...], TileResults]]) -> None:
        """Say what is to be done.

        Parameters
        ----------
        slices : iterable of (int, tuple of int, TileResults)
            Number of each slice, its index along the axes before YX, and where its tiles are kept.
        """
        self._jobs = self._missing_tiles(slices)

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
        with _said_when_broken():
            self._submit()
        return self._known[number]

    def outcomes(self, number: int) -> Generator[SavedTile | FailedTile, None, None]:
        """Wait for the tiles of a slice that are to be done.

        Parameters
        ----------
        number : int
            As for :meth:`known`.

        Yields
        ------
        SavedTile or FailedTile
            As they end, in any order.

        Raises
        ------
        DeviceError
            When a process has ended by itself.
        """
        left = sum(count is None for count in self.known(number).values())
        while left:
            while not self._ended[number]:
                with _said_when_broken():
                    self._wait()
            yield self._ended[number].pop(0)
            left -= 1

    def _missing_tiles(
        self, slices: Iterable[tuple[int, tuple[int, ...], TileResults]]
    ) -> Iterator[_Job]:
        for number, position, results in slices:
            known = self._known[number] = results.known()
            for index in (index for index, count in known.items() if count is None):
                yield _Job(number, position, index, results.folder)

    def _submit(self) -> None:
        """Give the processes enough to do."""
        room = self._n_waiting - len(self._running)
        for job in itertools.islice(self._jobs, room):
            self._running.add(self._pool.submit(_segment, job))

    def _wait(self) -> None:
        done, self._running = wait(self._running, return_when=FIRST_COMPLETED)
        for future in done:
            number, outcome = future.result()
            self._ended[number].append(outcome)
        self._submit()

    def close(self) -> None:
        """End the processes, at once: a tile that is not done leaves nothing."""
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
            rule="Each worker holds the model and, up to 512 MB, a slice of the image",
            cure="Repeat the command with `--resume` and fewer `--workers`",
        ) from error


_run: TileRun | None = None
"""What this process works on, if it is one of the workers."""


def _begin(
    source: str | Path,
    config: SegmentConfig,
    segmenter: TileSegmenter | None,
    tiles: TileGrid,
    contrast: Contrast,
) -> None:
    global _run
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process stops us
    n_threads = max((os.cpu_count() or 1) // config.workers, 1)
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    volume: Volume = open_volume(source, config.axes)
    _run = TileRun(
        SliceSource(volume, config), segmenter or load_segmenter(config), tiles, contrast
    )
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(n_threads)


def _segment(job: _Job) -> _Outcome:
    if _run is None:
        raise ConfigError(
            "A tile was given to a process that works on no image",
            rule="A worker opens the image when it begins",
            cure="Please report this",
        )
    failures: list[InputError | DeviceError] = []
    while len(failures) < ATTEMPTS:
        try:
            steps = timed(tile_steps(_run, job.position, job.tile))
            (objects, n_invalid), seconds = result_of(steps)
        except (InputError, DeviceError) as error:
            failures.append(error)
        else:
            TileResults(job.folder, _run.tiles).save(job.tile, objects, n_invalid)
            n_objects = len(objects.scores)
            saved = SavedTile(job.tile, n_objects, n_invalid, seconds, tuple(failures))
            return job.slice_number, saved
    return job.slice_number, FailedTile(job.tile, tuple(failures))
