"""The tiles of a run: segmented here or by other processes, tried again, and kept on disk."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from napari_sam.core.errors import DeviceError, InputError, OutputError
from napari_sam.core.steps import timed
from napari_sam.pipeline.events import Event, TileDone, Warned, Working
from napari_sam.pipeline.read_ahead import ReadAhead
from napari_sam.pipeline.segmenters import (
    TileObjects,
    TileSegmenter,
    TileStep,
    segmentation_steps,
)
from napari_sam.pipeline.source import Pixels, SliceSource
from napari_sam.pipeline.tile_results import TileResults, tile_folder
from napari_sam.pipeline.write_behind import WriteBehind
from napari_sam.tiling import Contrast, TileGrid

__all__ = [
    "ATTEMPTS",
    "FailedTile",
    "SavedTile",
    "TileOutcomes",
    "TileRun",
    "segment_tiles",
    "tile_steps",
]

ATTEMPTS = 2
"""How often a tile is tried."""
GIVE_UP_AFTER = 3
"""Tiles that fail one after the other: what is wrong is not in the tile."""
NAMED_FAILURES = 10
SLOW_SECONDS = 1.0
"""After work of this time, writing a tile takes next to nothing, and it is told at once."""


@dataclass(frozen=True)
class SavedTile:
    """A tile whose result is on the disk.

    Attributes
    ----------
    index : int
        Number of the tile.
    n_objects : int
        Objects in the tile and its halo.
    n_invalid : int
        Pixels that the tile owns and that were not finite.
    seconds : float
        Time of work.
    failures : tuple of error
        Of the attempts before.
    """

    index: int
    n_objects: int
    n_invalid: int
    seconds: float
    failures: tuple[InputError | DeviceError, ...] = ()


@dataclass(frozen=True)
class FailedTile:
    """A tile all attempts of which have failed.

    Attributes
    ----------
    index : int
        Number of the tile.
    failures : tuple of error
        Of all attempts.
    """

    index: int
    failures: tuple[InputError | DeviceError, ...]


class TileOutcomes(Protocol):
    """Processes that segment tiles."""

    def begin(self, slices: Iterable[tuple[int, tuple[int, ...], TileResults]]) -> None:
        """Say what is to be done: number, index and results of each slice."""
        ...

    def known(self, number: int) -> dict[int, int | None]:
        """Pixels that were not finite, by tile; None for one that was not on the disk before."""
        ...

    def outcomes(self, number: int) -> Generator[SavedTile | FailedTile | Warned, None, None]:
        """Wait for the other tiles of a slice, in any order."""
        ...

    def close(self) -> None:
        """End the processes."""
        ...


@dataclass
class TileRun:
    """What stays the same over the slices of a run, and what it has counted.

    Parameters
    ----------
    source : SliceSource
    segmenter : TileSegmenter
    tiles : TileGrid
        The grid of a slice.
    contrast : Contrast
        Of the whole volume.
    processes : TileOutcomes, optional
        What segments tiles; by default this process does.
    """

    source: SliceSource
    segmenter: TileSegmenter
    tiles: TileGrid
    contrast: Contrast
    processes: TileOutcomes | None = None
    n_invalid: int = 0
    n_segmented: int = 0
    failed: list[str] = field(default_factory=list)
    n_failed_in_a_row: int = 0
    reads: ReadAhead[Pixels] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.reads = ReadAhead(
            lambda position, window: self.source.read_tile(position, window, self.contrast)
        )

    def __enter__(self) -> TileRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.processes is not None:
            self.processes.close()
        self.reads.__exit__(kind, error, trace)

    def begin(self, target: Path, done: Container[tuple[int, ...]]) -> None:
        """Set the processes to work on the slices that are not done.

        Parameters
        ----------
        target : Path
            Directory of the output.
        done : container of tuple of int
            Indices of finished slices along the axes before YX.
        """
        if self.processes is not None:
            self.processes.begin(
                (number, position, self.results(target, number))
                for number, position in enumerate(self.source.positions)
                if position not in done
            )

    def results(self, target: Path, number: int) -> TileResults:
        """Return where the tiles of a slice are kept."""
        return TileResults(tile_folder(target) / str(number), self.tiles)

    def require_all(self, target: Path) -> None:
        """Name the tiles that have failed.

        Parameters
        ----------
        target : Path
            Directory of the output.

        Raises
        ------
        OutputError
            When there are any.
        """
        if not self.failed:
            return
        named = "; ".join(self.failed[:NAMED_FAILURES])
        n_more = len(self.failed) - NAMED_FAILURES
        more = f"; and {n_more} more" if n_more > 0 else ""
        raise OutputError(
            f"{len(self.failed)} tiles of {target} could not be segmented: {named}{more}",
            rule="A slice is stitched when all its tiles are done",
            cure="See to what the warnings say, then repeat the command with `--resume`: only what "
            "is missing is done again",
        )

    def take(self, saved: SavedTile) -> None:
        """Count a tile that is done."""
        self.n_segmented, self.n_failed_in_a_row = self.n_segmented + 1, 0

    def warn_of(
        self, position: tuple[int, ...], number: int, error: InputError | DeviceError, left: int
    ) -> Warned:
        """Count a failure after which `left` attempts are left; raise what is no tile's fault."""
        tile = self.tiles[number]
        name = f"slice {' '.join(map(str, position)) or 0}, tile {number} at {tile.write.start}"
        if not left:
            self.n_failed_in_a_row += 1
            if not self.n_segmented or self.n_failed_in_a_row == GIVE_UP_AFTER:
                raise error
            self.failed.append(name)
        what_next = "it is tried again" if left else "the others go on"
        return Warned(f"{name.capitalize()} failed, {what_next}: {error.given}")


def segment_tiles(
    run: TileRun, number: int, position: tuple[int, ...], results: TileResults
) -> Generator[Event, None, None]:
    """Segment the tiles of one slice that are not on the disk yet.

    Parameters
    ----------
    run : TileRun
    number : int
        Position of the slice in the run.
    position : tuple of int
        Index along the axes before YX.
    results : TileResults
        Of this slice.

    Yields
    ------
    Event
        Working, TileDone and Warned.

    Raises
    ------
    InputError, DeviceError
        When tiles fail for a reason that is not theirs.
    OutputError
        When a result cannot be written.
    """
    known = results.known() if run.processes is None else run.processes.known(number)
    n_invalid = sum(count for count in known.values() if count is not None)
    if run.processes is None:
        missing = [index for index, count in known.items() if count is None]
        work = _here(run, number, position, missing, results)
    else:
        work = _elsewhere(run, run.processes, number, position)
    with closing(work) as events:
        for event in events:
            if isinstance(event, SavedTile):
                run.take(event)
                n_invalid += event.n_invalid
                yield TileDone(number, event.index, event.n_objects, event.seconds)
            else:
                yield event
    if n_invalid and not run.n_invalid:
        yield Warned(
            f"Slice {position or 0} holds {n_invalid} pixels that are NaN or infinite. Such pixels "
            "are shown to the model as black and stay background, here and in later slices."
        )
    run.n_invalid += n_invalid


def _here(
    run: TileRun,
    number: int,
    position: tuple[int, ...],
    missing: list[int],
    results: TileResults,
) -> Generator[Event | SavedTile, None, None]:
    """Segment tiles one after the other; meanwhile write the last and read the next.

    The next may be of the next slice. A tile is told when it is on the disk, so while the next one
    is under way, at its first step or its end; all are there when this ends, however it ends.
    """
    in_slice = ((position, run.tiles[index].read) for index in missing[1:])
    beyond = [(other, run.tiles[0].read) for other in run.source.positions[number + 1 : number + 2]]
    with WriteBehind[SavedTile]() as behind:
        for index, following in zip(missing, chain(in_slice, beyond, [None]), strict=False):
            for left in reversed(range(ATTEMPTS)):
                if following is not None:
                    run.reads.expect(*following)
                try:
                    with closing(timed(tile_steps(run, position, index))) as steps:
                        while True:
                            step = next(steps)
                            yield from behind.wait()  # a tile is told before steps of the next
                            yield Working(number, index, step.done, step.total)
                except StopIteration as finished:
                    before = list(behind.wait())
                    behind.begin(partial(_save, results, index, *finished.value))
                    yield from before  # whoever stops here keeps this tile too
                    is_slow = finished.value[1] > SLOW_SECONDS
                    if is_slow or not run.n_segmented:  # with its first tile an output is begun
                        yield from behind.wait()
                    break
                except (InputError, DeviceError) as error:
                    yield from behind.wait()  # it comes, and counts, before the failure
                    yield run.warn_of(position, index, error, left)
        yield from behind.wait()


def _save(
    results: TileResults, index: int, found: tuple[TileObjects, int], seconds: float
) -> SavedTile:
    objects, n_invalid = found
    results.save(index, objects, n_invalid)
    return SavedTile(index, len(objects.scores), n_invalid, seconds)


def _elsewhere(
    run: TileRun, processes: TileOutcomes, number: int, position: tuple[int, ...]
) -> Generator[Event | SavedTile, None, None]:
    """Let the processes segment tiles."""
    with closing(processes.outcomes(number)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Warned):
                yield outcome
                continue
            left = len(outcome.failures) - isinstance(outcome, FailedTile)
            for error in outcome.failures:
                yield run.warn_of(position, outcome.index, error, left)
                left -= 1
            if isinstance(outcome, SavedTile):
                yield outcome


def tile_steps(
    run: TileRun, position: tuple[int, ...], number: int
) -> Generator[TileStep, None, tuple[TileObjects, int]]:
    """Read and segment one tile.

    Parameters
    ----------
    run : TileRun
    position : tuple of int
        Index of the slice along the axes before YX.
    number : int
        Number of the tile.

    Yields
    ------
    TileStep
        As the segmenter does.

    Returns
    -------
    tuple of (TileObjects, int)
        What was found, and how many pixels that the tile owns were not finite.
    """
    tile = run.tiles[number]
    pixels = run.reads.get(position, tile.read)
    invalid = pixels.invalid
    n_invalid = 0 if invalid is None else int(np.count_nonzero(invalid[tile.crop.slices]))
    if pixels.is_even:  # an even tile holds no object
        labels = np.zeros(pixels.rgb.shape[:2], dtype=np.int32)
        return TileObjects(labels, np.zeros(0, dtype=np.float32)), n_invalid
    objects = yield from segmentation_steps(run.segmenter, pixels.rgb)
    if invalid is not None:
        objects = objects._replace(labels=np.where(invalid, 0, objects.labels))
    return objects, n_invalid
