"""The tiles of a slice to its labels in the output, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import OutputError
from napari_sam.labels import Paintings, choose_kept, merge_measures, plan_paintings
from napari_sam.pipeline.events import Stitching, Warned
from napari_sam.pipeline.object_notes import object_notes
from napari_sam.pipeline.stitch_jobs import (
    CountVisible,
    MatchTiles,
    PaintBlocks,
    StitchingTools,
    StitchJob,
    WritePyramid,
    save_paintings,
)

__all__ = ["RunJobs", "SliceStitcher", "jobs_here"]

MAX_LABEL = 2**32 - 1
"""Labels are written as unsigned 32-bit integers."""

T = TypeVar("T")
RunJobs = Callable[[Iterable[StitchJob[Any]]], Generator[Any, None, None]]
"""Does jobs, in any order; returns their results as they end, and Warned when they do not."""


def jobs_here(tools: StitchingTools) -> RunJobs:
    """Do jobs in this process, one after the other.

    Parameters
    ----------
    tools : StitchingTools

    Returns
    -------
    callable
    """

    def run(jobs: Iterable[StitchJob[Any]]) -> Generator[Any, None, None]:
        for job in jobs:
            yield job.do(tools)

    return run


@dataclass(frozen=True)
class SliceStitcher:
    """Stitches the slices of a run.

    Parameters
    ----------
    tools : StitchingTools
        The grid of a slice, and the output.
    min_size : int
        Objects of fewer pixels are dropped.
    run_jobs : callable
        What does the work.
    job_size : int
        Tiles or blocks in a job. One gives control back most often; more are for processes to which
        it takes time to send a job.
    """

    tools: StitchingTools
    min_size: int
    run_jobs: RunJobs
    job_size: int = 1

    def steps(
        self, folder: Path, number: int, position: tuple[int, ...], offset: int
    ) -> Generator[Stitching | Warned, None, NDArray[Any]]:
        """Stitch and write one slice.

        Parameters
        ----------
        folder : Path
            Of the tiles of the slice, which are all done.
        number : int
            Position of the slice in the run.
        position : tuple of int
            Index along the axes before YX.
        offset : int
            The ids of the slice follow this one.

        Yields
        ------
        Stitching or Warned
            After each job; when none ends, and why.

        Returns
        -------
        ndarray of OBJECT_NOTE
            The objects of the slice, by id. All of it is on the disk.

        Raises
        ------
        OutputError
            When the output cannot be written, or there are more objects than ids.
        """
        progress = _Progress(number, 1 + len(self._ranges(len(self.tools.grid))))
        matches = yield from self._collect(
            progress,
            [MatchTiles(folder, numbers) for numbers in self._ranges(len(self.tools.grid))],
        )
        paintings = plan_paintings(
            self.tools.results(folder).load_pieces(), np.concatenate(matches), self.tools.grid.owned
        )
        kept = yield from self._choose(paintings, folder, progress)
        if offset + len(kept) > MAX_LABEL:
            raise _too_many_objects()
        save_paintings(folder, 1, kept)
        painted = yield from self._collect(
            progress,
            [
                PaintBlocks(folder, numbers, position, offset)
                for numbers in self._ranges(len(self.tools.blocks(folder, 1)))
            ],
        )
        yield from self._collect(progress, [WritePyramid(position)])
        measures = merge_measures(np.concatenate(painted))
        return object_notes(kept, measures, offset, self.tools.grid)

    def _choose(
        self, paintings: Paintings, folder: Path, progress: _Progress
    ) -> Generator[Stitching | Warned, None, Paintings]:
        """Drop what better objects hide, and what is too small."""
        save_paintings(folder, 0, paintings)
        ranges = self._ranges(len(self.tools.blocks(folder, 0)))
        progress.total += 2 * len(ranges)
        counts = yield from self._collect(
            progress, [CountVisible(folder, numbers) for numbers in ranges]
        )
        visible = (item for part in counts for item in part)
        return paintings.select(choose_kept(visible, len(paintings), self.min_size))

    def _collect(
        self, progress: _Progress, jobs: Iterable[StitchJob[T]]
    ) -> Generator[Stitching | Warned, None, list[T]]:
        results = []
        with closing(self.run_jobs(jobs)) as done:
            for result in done:
                if isinstance(result, Warned):
                    yield result
                else:
                    results.append(result)
                    yield progress.step()
        return results

    def _ranges(self, count: int) -> list[range]:
        """Cut numbers into jobs."""
        starts: Iterator[int] = iter(range(0, count, self.job_size))
        return [range(start, min(start + self.job_size, count)) for start in starts]


@dataclass
class _Progress:
    """Counts the jobs of a slice."""

    slice_number: int
    total: int
    done: int = 0

    def step(self) -> Stitching:
        self.done += 1
        return Stitching(self.slice_number, self.done, self.total)


def _too_many_objects() -> OutputError:
    return OutputError(
        f"The volume holds more than {MAX_LABEL} objects",
        rule="Label ids are 32-bit numbers",
        cure="Segment the volume in parts with `--slices`",
    )
