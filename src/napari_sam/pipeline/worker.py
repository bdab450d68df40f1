"""What a process does that works for a run: it opens the image, loads the model, and does jobs.

Jobs and their answers are a few numbers and paths; images, labels and notes pass through the disk,
which all processes of a run share.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from napari_sam.core.errors import CheckpointError, DeviceError, InputError, OutputError
from napari_sam.core.steps import result_of, timed
from napari_sam.io import open_volume
from napari_sam.io.output_files import output_errors
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.segmenters import TileSegmenter, load_segmenter
from napari_sam.pipeline.source import SliceSource
from napari_sam.pipeline.stitch_jobs import StitchingTools, StitchJob
from napari_sam.pipeline.tile_results import TileResults, tile_folder
from napari_sam.pipeline.tile_run import ATTEMPTS, FailedTile, SavedTile, TileRun, tile_steps
from napari_sam.tiling import Contrast, TileGrid

__all__ = ["SegmentTile", "WorkOrder", "Worker", "leave_token"]

TOKEN_FILE = "run"
"""In the folder of tiles: says which run it belongs to."""


class SegmentTile(NamedTuple):
    """One tile to do.

    Attributes
    ----------
    slice_number : int
        Position of the slice in the run.
    position : tuple of int
        Index of the slice along the axes before YX.
    tile : int
        Number of the tile.
    folder : Path
        Of the tiles of the slice.
    """

    slice_number: int
    position: tuple[int, ...]
    tile: int
    folder: Path


@dataclass(frozen=True)
class WorkOrder:
    """What a process needs to know to work for a run.

    Attributes
    ----------
    source : str or Path
        The image; a path that all processes understand, or a URL.
    target : Path
        Directory of the output.
    config : SegmentConfig
    segmenter : TileSegmenter or None
        What is sent to the process; None to load the model there.
    digest : str
        Of the segmenter, which must be the same everywhere.
    grid : TileGrid
        The tiles of a slice.
    contrast : Contrast
        Of the whole volume.
    token : str
        Names the run; it lies in the folder of tiles, see :func:`leave_token`.
    """

    source: str | Path
    target: Path
    config: SegmentConfig
    segmenter: TileSegmenter | None
    digest: str
    grid: TileGrid
    contrast: Contrast
    token: str


def leave_token(target: Path, token: str) -> None:
    """Say in the folder of tiles which run it belongs to.

    A process that does not find it there does not see the disk of the run, or has been left behind
    by a run that is gone.

    Parameters
    ----------
    target : Path
        Directory of the output.
    token : str

    Raises
    ------
    OutputError
        When the folder cannot be written.
    """
    path = tile_folder(target) / TOKEN_FILE
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(token, encoding="utf-8")


class Worker:
    """Does the jobs of a run in this process, one at a time.

    Parameters
    ----------
    order : WorkOrder
    n_threads : int
        Threads that the model may use.

    Raises
    ------
    InputError
        When the image cannot be opened here.
    """

    def __init__(self, order: WorkOrder, n_threads: int) -> None:
        self._order = order
        self._lock = threading.Lock()
        os.environ["OMP_NUM_THREADS"] = str(n_threads)
        self._volume = open_volume(order.source, order.config.axes)
        self._n_threads = n_threads
        self._run: TileRun | None = None
        self._tools = StitchingTools(order.grid, order.target)

    def do(self, job: SegmentTile | StitchJob[Any]) -> Any:
        """Do a job.

        Parameters
        ----------
        job : SegmentTile or StitchJob

        Returns
        -------
        SavedTile or FailedTile
            Of a tile; of another job what it returns.

        Raises
        ------
        OutputError
            When a result cannot be written, or this process does not see the disk of the run.
        CheckpointError, DeviceError
            When the model cannot be loaded for the first tile.
        """
        with self._lock:
            self._check_disk()
            return self._segment(job) if isinstance(job, SegmentTile) else job.do(self._tools)

    def close(self) -> None:
        """Close the image."""
        self._volume.close()

    def _tiles(self) -> TileRun:
        """Load the model, unless it is: what only stitches needs none, and no GPU."""
        if self._run is None:
            order = self._order
            segmenter = order.segmenter or load_segmenter(order.config)
            if segmenter.digest != order.digest:
                raise CheckpointError(
                    f"A worker has the model {segmenter.digest}, the run has {order.digest}",
                    rule="All processes of a run use the same weights",
                    cure="Install the same napari_sam and the same model for all workers",
                )
            source = SliceSource(self._volume, order.config)
            self._run = TileRun(source, segmenter, order.grid, order.contrast)
            if "torch" in sys.modules:
                import torch

                torch.set_num_threads(self._n_threads)
        return self._run

    def _segment(self, job: SegmentTile) -> SavedTile | FailedTile:
        run = self._tiles()
        failures: list[InputError | DeviceError] = []
        while len(failures) < ATTEMPTS:
            try:
                steps = timed(tile_steps(run, job.position, job.tile))
                (objects, n_invalid), seconds = result_of(steps)
            except (InputError, DeviceError) as error:
                failures.append(error)
            else:
                self._check_disk()
                TileResults(job.folder, self._order.grid).save(job.tile, objects, n_invalid)
                return SavedTile(job.tile, len(objects.scores), n_invalid, seconds, tuple(failures))
        return FailedTile(job.tile, tuple(failures))

    def _check_disk(self) -> None:
        path = tile_folder(self._order.target) / TOKEN_FILE
        try:
            found = path.read_text(encoding="utf-8")
        except OSError:
            found = "nothing"
        if found != self._order.token:
            raise OutputError(
                f"A worker found {found} instead of its run in {path}",
                rule="All workers see the image and the output at the same paths, on a shared disk",
                cure="Put both on storage that all workers mount at the same place; if the run is "
                "over, nothing is wrong",
            )
