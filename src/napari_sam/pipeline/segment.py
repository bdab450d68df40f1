"""Segment every object of a volume: slice by slice, tile by tile, stitched, written as it goes.

Label ids are unique over the whole volume: objects of different slices never share an id, so that
nothing looks linked that was not. The ids of a slice follow those of the slice before without gaps.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from napari_sam.core.errors import ConfigError
from napari_sam.core.memory import give_back_free_memory
from napari_sam.io import Volume, open_volume
from napari_sam.io.location import as_location, local_target
from napari_sam.io.output_files import check_target
from napari_sam.pipeline.completion import RunFolder, complete
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.events import (
    Event,
    Finished,
    Resumed,
    SliceDone,
    TileDone,
    Warned,
)
from napari_sam.pipeline.journal import Journal
from napari_sam.pipeline.link_stack import link_axis
from napari_sam.pipeline.plan import (
    SettledPlan,
    content_signature,
    file_signature,
    settle_plan,
)
from napari_sam.pipeline.process_pool import ProcessPool
from napari_sam.pipeline.segment_target import SegmentTarget
from napari_sam.pipeline.segmenters import (
    TileSegmenter,
    load_segmenter,
)
from napari_sam.pipeline.source import SliceSource
from napari_sam.pipeline.stitch_jobs import StitchingTools
from napari_sam.pipeline.stitching import SliceStitcher, jobs_here
from napari_sam.pipeline.target_lock import locked
from napari_sam.pipeline.tile_queue import Pool, TileQueue
from napari_sam.pipeline.tile_run import TileRun, segment_tiles
from napari_sam.pipeline.worker import WorkOrder, leave_token

__all__ = ["segment_volume"]

DASK_JOB_SIZE = 64
"""Tiles or blocks that a worker of a cluster stitches at once: a second or so of work."""


def segment_volume(
    source: str | Path | Volume,
    target: str | Path,
    config: SegmentConfig | None = None,
    segmenter: TileSegmenter | None = None,
) -> Generator[Event, None, None]:
    """Segment every object of a volume into a label image on disk.

    A generator: work is done while it is iterated, and every tile gives an event, and every batch
    of points within it where the segmenter works in steps. Closing it, or Ctrl-C, stops there;
    finished slices stay in the output, finished tiles of the next in a folder beside it, and the
    output says that it is unfinished until a run with ``resume`` completes it. A run that ends
    before its first tile leaves nothing, and a store that it should have replaced is left as it
    was. Who leaves it waiting has paused it.

    Parameters
    ----------
    source : str, Path or Volume
        Any image that :func:`napari_sam.io.open_volume` opens, also by its URL as text; or an open
        volume, which stays open.
        Of a volume only a sample of its pixels tells whether a run that is resumed has the same.
    target : str or Path
        Directory of the OME-Zarr image-label to write; ``IMAGE/labels/NAME`` to add it to the
        labels of the OME-Zarr image that is segmented.
    config : SegmentConfig, optional
        Defaults to the bundled model with its own settings.
    segmenter : TileSegmenter, optional
        What segments a tile, such as a :class:`ModelSegmenter` of a model that is loaded; by
        default the model that `config` names.

    Yields
    ------
    Event
        Planned first, or after contrast and diameter where that is estimated; Finished last.

    Raises
    ------
    InputError
        When the image cannot be used. A tile of it that fails twice is warned of, and the others
        go on, unless it is the first or the third in a row.
    ConfigError
        When options do not fit the image.
    OutputError
        When the output exists, cannot be written, or cannot be resumed; at the end, when tiles
        have failed.
    CheckpointError, DeviceError
        When the model cannot be loaded or run.
    """
    path = local_target(target)
    config = config or SegmentConfig()
    begun = time.monotonic()
    if config.resume:
        RunFolder(path).mend()
    check_target(path, overwrite=config.overwrite, resume=config.resume)
    with _opened(source, config) as volume:
        output = SegmentTarget.choose(path, volume, config)
        slices = SliceSource(volume, config)
        if config.link is not None:
            link_axis(slices.label_axes, config.link)  # says what is wrong, before the work
        given, segmenter = segmenter, segmenter or load_segmenter(config)
        begun_plan = Journal(path).planned() if config.resume else {}
        plan = yield from settle_plan(slices, config, segmenter, volume.dtype, begun_plan)
        if (halo := _short_halo(plan)) is not None:
            yield halo
        is_file = isinstance(source, (str, Path))
        signature = file_signature(volume) if is_file else content_signature(volume)
        run = TileRun(slices, plan.segmenter, plan.tiles, plan.contrast)
        with output.tidied(), locked(path), run:
            decided = _plan(run, signature, config, plan.estimate)
            job = _Job(run, volume, output, plan.config, decided)
            if config.workers > 1 or config.dask is not None:
                sent = None if given is None else plan.segmenter
                run.processes = TileQueue(_pool(source, sent, job))
            n_objects = yield from _segment_slices(job)
    if n_objects == 0:
        yield Warned(
            "No object was found. Check the contrast and the channel, lower the thresholds, or "
            "choose another model."
        )
    seconds = time.monotonic() - begun
    yield Finished(path, n_objects, len(slices.positions), seconds)


@dataclass(frozen=True)
class _Job:
    """What a run works on, and with what."""

    run: TileRun
    volume: Volume
    output: SegmentTarget
    config: SegmentConfig
    plan: dict[str, Any]

    @property
    def journal(self) -> Journal:
        return Journal(self.output.path)

    @property
    def path(self) -> Path:
        """Directory of the output, as other processes find it too."""
        return self.output.path.absolute()

    @property
    def token(self) -> str:
        """Names the run; the same for one that is resumed."""
        return hashlib.sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.output.path)


def _segment_slices(job: _Job) -> Generator[Event, None, int]:
    """Segment what is not done yet; return the number of objects in all slices."""
    run, path = job.run, job.path
    done: dict[tuple[int, ...], int] = {}
    with ExitStack() as until_first_tile:
        if job.config.resume:
            if job.output.is_finished:  # and was killed before all marks of work were removed
                return _tidied(job)
            done = job.journal.resume(job.plan)
            job.output.mend(next((p for p in run.source.positions if p not in done), None))
            numbers = range(len(done), len(run.source.positions))
            n_tiles = sum(run.results(path, number).count() for number in numbers)
            yield Resumed(len(done), n_tiles)
        else:
            until_first_tile.enter_context(job.output.replacing(job.journal))
            job.output.create(run.source, job.volume)
            job.journal.start(job.plan)
        leave_token(path, job.token)
        stitcher = _stitcher(job)
        run.begin(path, done)
        for number, position in enumerate(run.source.positions):
            if position in done:
                continue
            with closing(segment_tiles(run, number, position, run.results(path, number))) as events:
                for event in events:
                    if isinstance(event, TileDone):
                        until_first_tile.close()
                    yield event
            if not run.failed:  # ids follow those of the slices before, so the rest waits as tiles
                offset = sum(done.values())
                done[position] = yield from _stitch(job, stitcher, number, position, offset)
        run.require_all(path)
        n_objects = yield from complete(
            job.output, run.source, job.volume, job.config, sum(done.values())
        )
        job.journal.record_end(n_objects)
        job.output.finish()
    _tidied(job)
    if run.n_invalid:
        yield Warned(f"{run.n_invalid} pixels in all were not finite; they are background.")
    return n_objects


def _tidied(job: _Job) -> int:
    """Remove what a finished output does not need; return the number of its objects."""
    n_objects = job.journal.n_objects_at_end()
    job.output.register()
    job.output.remove_marks(job.journal)
    return n_objects


def _stitcher(job: _Job) -> SliceStitcher:
    """Stitch in this process, which has little else to do; or on a cluster, which may be large."""
    tools = StitchingTools(job.run.tiles, job.path)
    if job.config.dask is not None and isinstance(job.run.processes, TileQueue):
        return SliceStitcher(tools, job.config.min_size, job.run.processes.run, DASK_JOB_SIZE)
    return SliceStitcher(tools, job.config.min_size, jobs_here(tools))


def _stitch(
    job: _Job, stitcher: SliceStitcher, number: int, position: tuple[int, ...], offset: int
) -> Generator[Event, None, int]:
    """Stitch a slice, note that it is done, and return the number of its objects."""
    results = job.run.results(job.path, number)
    notes = yield from stitcher.steps(results.folder, number, position, offset)
    job.folder.notes.save(number, notes)
    job.journal.record(position, len(notes))
    results.remove()
    give_back_free_memory()
    yield SliceDone(number, position, len(notes))
    return len(notes)


def _pool(source: str | Path | Volume, segmenter: TileSegmenter | None, job: _Job) -> Pool:
    config = job.config
    if not isinstance(source, (str, Path)):
        raise ConfigError(
            "Workers were asked for with an open volume",
            rule="Each worker opens the image by itself, so it has to be a file or a URL",
            cure="Give the path of the image, or use one worker and no cluster",
        )
    place = as_location(source)
    order = WorkOrder(
        source=place.absolute() if isinstance(place, Path) else place,
        target=job.path,
        config=config,
        segmenter=segmenter,
        digest=job.run.segmenter.digest,
        grid=job.run.tiles,
        contrast=job.run.contrast,
        token=job.token,
    )
    if config.dask is None:
        return ProcessPool(order, config.workers)
    from napari_sam.pipeline.dask_pool import DaskPool

    return DaskPool(order)


@contextmanager
def _opened(source: str | Path | Volume, config: SegmentConfig) -> Iterator[Volume]:
    """Open a file for the time of the block, or lend a volume that the caller has opened."""
    if isinstance(source, (str, Path)):
        with closing(open_volume(as_location(source), config.axes)) as volume:
            yield volume
        return
    if config.axes is not None:
        raise ConfigError(
            f"The axes {config.axes} were given with an open volume",
            rule="An open volume says itself what its axes are",
            cure="Leave out the axes, or give them where the volume is opened",
        )
    yield source


def _short_halo(plan: SettledPlan) -> Warned | None:
    """Warn where objects of the diameter that was given are longer than the halo of the tiles."""
    diameter, halo = plan.config.automatic.diameter, plan.config.halo
    if len(plan.tiles) == 1 or not isinstance(diameter, Real) or diameter <= halo:
        return None
    return Warned(
        f"Objects of {diameter:.0f} pixels are longer than the halo of {halo} pixels, so tiles may "
        f"cut them in different ways. A halo of {math.ceil(1.5 * diameter)} pixels shows them "
        "whole (`--halo`)."
    )


def _plan(
    run: TileRun,
    signature: dict[str, Any],
    config: SegmentConfig,
    estimate: dict[str, float | None],
) -> dict[str, Any]:
    """Everything that decides the labels; a resumed run must agree with it."""
    estimated = {"estimate": estimate} if estimate else {}
    return estimated | {
        "source": signature,
        "options": config.fingerprint(),
        "segmenter": run.segmenter.digest,
        "n_tiles": len(run.tiles),
        "contrast": {"low": run.contrast.low, "high": run.contrast.high},
    }
