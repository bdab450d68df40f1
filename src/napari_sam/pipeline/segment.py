"""Segment every object of a volume: slice by slice, tile by tile, stitched, written as it goes.

Label ids are unique over the whole volume: objects of different slices never share an id, so that
nothing looks linked that was not. The ids of a slice follow those of the slice before without gaps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from napari_sam.core.errors import ConfigError, OutputError
from napari_sam.io import Volume, open_volume
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_writer import LabelWriter, check_target, remove_store, set_aside
from napari_sam.io.location import as_location, local_target
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.events import (
    ContrastMeasured,
    Event,
    Finished,
    Planned,
    Resumed,
    SliceDone,
    TileDone,
    Warned,
)
from napari_sam.pipeline.journal import Journal
from napari_sam.pipeline.plan import (
    choose_contrast,
    content_signature,
    file_signature,
    is_on_disk,
    plan_tiles,
    volume_files,
)
from napari_sam.pipeline.segmenters import (
    TileSegmenter,
    load_segmenter,
)
from napari_sam.pipeline.source import SliceSource
from napari_sam.pipeline.stitching import SliceStitcher
from napari_sam.pipeline.target_lock import locked
from napari_sam.pipeline.tile_processes import TileProcesses
from napari_sam.pipeline.tile_results import tile_folder
from napari_sam.pipeline.tile_run import TileRun, segment_tiles
from napari_sam.tiling import Tile

__all__ = ["segment_volume"]


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
        Directory of the OME-Zarr image-label to write.
    config : SegmentConfig, optional
        Defaults to the bundled model with its own settings.
    segmenter : TileSegmenter, optional
        What segments a tile, such as a :class:`ModelSegmenter` of a model that is loaded; by
        default the model that `config` names.

    Yields
    ------
    Event
        Planned first, Finished last.

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
    target = local_target(target)
    config = config or SegmentConfig()
    begun = time.monotonic()
    check_target(target, overwrite=config.overwrite, resume=config.resume)
    with _opened(source, target, config) as volume:
        slices = SliceSource(volume, config)
        given, segmenter = segmenter, segmenter or load_segmenter(config)
        tiles = plan_tiles(slices, config, segmenter)
        yield _planned(slices, tiles)
        contrast = choose_contrast(slices, config, segmenter, volume.dtype)
        yield ContrastMeasured(contrast.low, contrast.high)
        is_file = isinstance(source, (str, Path))
        signature = file_signature(volume) if is_file else content_signature(volume)
        run = TileRun(slices, segmenter, tiles, contrast)
        if config.workers > 1:
            run.processes = _processes(source, config, given, run)
        with locked(target), run:
            n_objects = yield from _segment_slices(
                run, _plan(run, signature, config), volume, target, config
            )
    if n_objects == 0:
        yield Warned(
            "No object was found. Check the contrast and the channel, lower the thresholds, or "
            "choose another model."
        )
    seconds = time.monotonic() - begun
    yield Finished(target, n_objects, len(slices.positions), seconds)


def _segment_slices(
    run: TileRun, plan: dict[str, Any], volume: Volume, target: Path, config: SegmentConfig
) -> Generator[Event, None, int]:
    """Segment what is not done yet; return the number of objects in all slices."""
    journal = Journal(target)
    done: dict[tuple[int, ...], int] = {}
    with ExitStack() as until_first_tile:
        if config.resume:
            done = journal.resume(plan)
            writer = LabelWriter.reopen(target)
            numbers = range(len(done), len(run.source.positions))
            n_tiles = sum(run.results(target, number).count() for number in numbers)
            yield Resumed(len(done), n_tiles)
        else:
            until_first_tile.enter_context(_replacing(target, journal))
            writer = _create(run, volume, target, config)
            journal.start(plan)
        stitcher = SliceStitcher(run.tiles, run.source.shape_yx, config.min_size, writer)
        run.begin(target, done)
        offset = 0
        for number, position in enumerate(run.source.positions):
            if position not in done:
                results = run.results(target, number)
                with closing(segment_tiles(run, number, position, results)) as events:
                    for event in events:
                        if isinstance(event, TileDone):
                            until_first_tile.close()
                        yield event
                if run.failed:  # ids follow those of the slices before, so the rest waits as tiles
                    continue
                done[position] = yield from stitcher.steps(results, number, position, offset)
                writer.sync(position)
                journal.record(position, done[position])
                results.remove()
                yield SliceDone(number, position, done[position])
            offset += done[position]
        run.require_all(target)
        writer.finish()
    journal.remove()
    remove_store(tile_folder(target))
    if run.n_invalid:
        yield Warned(f"{run.n_invalid} pixels in all were not finite; they are background.")
    return offset


def _processes(
    source: str | Path | Volume,
    config: SegmentConfig,
    segmenter: TileSegmenter | None,
    run: TileRun,
) -> TileProcesses:
    if not isinstance(source, (str, Path)):
        raise ConfigError(
            f"{config.workers} workers were asked for with an open volume",
            rule="Each worker opens the image by itself, so it has to be a file or a URL",
            cure="Give the path of the image, or use one worker",
        )
    return TileProcesses(source, config, segmenter, run)


def _planned(slices: SliceSource, tiles: tuple[Tile, ...]) -> Planned:
    window = max(tile.read.shape[0] for tile in tiles), max(tile.read.shape[1] for tile in tiles)
    return Planned(slices.label_axes, slices.label_shape, len(slices.positions), len(tiles), window)


def _create(run: TileRun, volume: Volume, target: Path, config: SegmentConfig) -> LabelWriter:
    layout = LabelLayout(
        axes=run.source.label_axes,
        shape=run.source.label_shape,
        scale=run.source.of_label_axes(volume.scale),
        units=run.source.of_label_axes(volume.units),
        ngff_version=config.ngff_version,
    )
    return LabelWriter.create(target, layout, source_image=_relative_image(volume, target))


def _relative_image(volume: Volume, target: Path) -> str | None:
    if not (volume.is_ngff and is_on_disk(volume)):
        return None
    try:
        return Path(os.path.relpath(Path(volume.path).resolve(), target.resolve())).as_posix()
    except ValueError:  # another drive on Windows: no relative path leads there
        return None


@contextmanager
def _replacing(target: Path, journal: Journal) -> Iterator[None]:
    """Put back an older store, its journal and its tiles when the block fails."""
    before = journal.path.read_bytes() if journal.path.exists() else None
    with set_aside(target), set_aside(tile_folder(target)):
        try:
            yield
        except BaseException:
            journal.remove()
            if before is not None:
                journal.path.write_bytes(before)
            raise


@contextmanager
def _opened(source: str | Path | Volume, target: Path, config: SegmentConfig) -> Iterator[Volume]:
    """Open a file for the time of the block, or lend a volume that the caller has opened."""
    if isinstance(source, (str, Path)):
        place = as_location(source)
        if isinstance(place, Path):
            _check_apart(place, target)
        with closing(open_volume(place, config.axes)) as volume:
            _check_apart_from_files(volume, target)
            yield volume
        return
    if config.axes is not None:
        raise ConfigError(
            f"The axes {config.axes} were given with an open volume",
            rule="An open volume says itself what its axes are",
            cure="Leave out the axes, or give them where the volume is opened",
        )
    if is_on_disk(source):
        _check_apart(Path(source.path), target)
        _check_apart_from_files(source, target)
    yield source


def _check_apart_from_files(volume: Volume, target: Path) -> None:
    for file in volume_files(volume):
        _check_apart(file, target)


def _check_apart(source: Path, target: Path) -> None:
    here, there = source.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise OutputError(
            f"The output {target} and the input {source} lie one in the other",
            rule="Labels are written beside their image, never into or over it",
            cure="Choose another name for the output, in another folder",
        )


def _plan(run: TileRun, signature: dict[str, Any], config: SegmentConfig) -> dict[str, Any]:
    """Everything that decides the labels; a resumed run must agree with it."""
    return {
        "source": signature,
        "options": config.fingerprint(),
        "segmenter": run.segmenter.digest,
        "n_tiles": len(run.tiles),
        "contrast": {"low": run.contrast.low, "high": run.contrast.high},
    }
