"""Tiles segmented by several processes of this machine.

Each process opens the image and loads the model once, then segments tiles and writes their results;
only a few numbers travel. What comes out does not depend on their number, nor on the order.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from napari_sam.core.errors import ConfigError, DeviceError, InputError
from napari_sam.core.steps import result_of, timed
from napari_sam.io import Volume, open_volume
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.segmenters import TileSegmenter, load_segmenter
from napari_sam.pipeline.source import SliceSource
from napari_sam.pipeline.tile_results import TileResults
from napari_sam.pipeline.tile_run import ATTEMPTS, FailedTile, SavedTile, TileRun, tile_steps
from napari_sam.tiling import Contrast, Tile

__all__ = ["TileProcesses"]

TILES_AHEAD = 2
"""Tiles that wait for each process, so that none has nothing to do."""


class TileProcesses:
    """Processes that segment the tiles of a run.

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
        self._pool = ProcessPoolExecutor(
            config.workers,
            mp_context=get_context("spawn"),  # a forked process cannot use torch or CUDA
            initializer=_begin,
            initargs=(source, config, segmenter, run.tiles, run.contrast),
        )

    def outcomes(
        self, position: tuple[int, ...], numbers: list[int], results: TileResults
    ) -> Generator[SavedTile | FailedTile, None, None]:
        """Segment tiles of a slice, in any order.

        Parameters
        ----------
        position : tuple of int
            Index of the slice along the axes before YX.
        numbers : list of int
            The tiles.
        results : TileResults
            Where they are kept.

        Yields
        ------
        SavedTile or FailedTile
            As they end.

        Raises
        ------
        DeviceError
            When a process has ended by itself.
        """
        waiting, running = list(reversed(numbers)), set[Future[SavedTile | FailedTile]]()
        try:
            while waiting or running:
                while waiting and len(running) < self._n_waiting:
                    job = position, waiting.pop(), results.folder
                    running.add(self._pool.submit(_segment, *job))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise DeviceError(
                "A worker process ended by itself",
                rule="Each worker holds the model and, up to 512 MB, a slice of the image",
                cure="Repeat the command with `--resume` and fewer `--workers`",
            ) from error
        finally:
            for future in running:
                future.cancel()

    def close(self) -> None:
        """End the processes, at once: a tile that is not done leaves nothing."""
        # a public way to do so comes with Python 3.14
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(cancel_futures=True)


_run: TileRun | None = None
"""What this process works on, if it is one of the workers."""


def _begin(
    source: str | Path,
    config: SegmentConfig,
    segmenter: TileSegmenter | None,
    tiles: tuple[Tile, ...],
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


def _segment(position: tuple[int, ...], number: int, folder: Path) -> SavedTile | FailedTile:
    if _run is None:
        raise ConfigError(
            "A tile was given to a process that works on no image",
            rule="A worker opens the image when it begins",
            cure="Please report this",
        )
    failures: list[InputError | DeviceError] = []
    while len(failures) < ATTEMPTS:
        try:
            (objects, n_invalid), seconds = result_of(timed(tile_steps(_run, position, number)))
        except (InputError, DeviceError) as error:
            failures.append(error)
        else:
            TileResults(folder, _run.tiles).save(number, objects, n_invalid)
            return SavedTile(number, len(objects.scores), n_invalid, seconds, tuple(failures))
    return FailedTile(number, tuple(failures))
