"""The work of stitching a slice, in jobs that need the memory of a few tiles each.

A job finds what it needs in the folder of the slice's tiles, and in the output: so any process that
sees both can do it, and jobs of one kind can be done in any order. No two of them write the same
chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sam.io.label_writer import LabelWriter
from napari_sam.io.output_files import output_errors
from napari_sam.labels import (
    MEASURE,
    NO_MATCHES,
    BlockParts,
    Paintings,
    Visibility,
    count_visible,
    match_tiles,
    measure_labels,
    merge_measures,
    paint,
)
from napari_sam.pipeline.tile_results import TileResults
from napari_sam.tiling import TileGrid

__all__ = [
    "CountVisible",
    "MatchTiles",
    "PaintBlocks",
    "StitchJob",
    "StitchingTools",
    "WritePyramid",
    "save_paintings",
]

Result_co = TypeVar("Result_co", covariant=True)


@dataclass
class StitchingTools:
    """What a process keeps at hand between jobs.

    Parameters
    ----------
    grid : TileGrid
        The tiles of each slice.
    target : Path
        The output, once it is there.
    """

    grid: TileGrid
    target: Path
    _writer: LabelWriter | None = field(default=None, init=False, repr=False)
    _results: TileResults | None = field(default=None, init=False, repr=False)
    _blocks: tuple[tuple[Path, int], BlockParts] | None = field(
        default=None, init=False, repr=False
    )

    @property
    def writer(self) -> LabelWriter:
        """The output."""
        if self._writer is None:
            self._writer = LabelWriter.reopen(self.target)
        return self._writer

    def results(self, folder: Path) -> TileResults:
        """Return the tiles of a slice.

        Parameters
        ----------
        folder : Path
            Where they lie.

        Returns
        -------
        TileResults
        """
        if self._results is None or self._results.folder != folder:
            self._results = TileResults(folder, self.grid)
        return self._results

    def blocks(self, folder: Path, stage: int) -> BlockParts:
        """Return what is painted in each block of a slice; a block is a chunk of the output.

        Parameters
        ----------
        folder : Path
            Where its tiles lie.
        stage : int
            As :func:`save_paintings` was told.

        Returns
        -------
        BlockParts
        """
        if self._blocks is None or self._blocks[0] != (folder, stage):
            self._blocks = None
            parts = Paintings.load(_paintings_path(folder, stage)).parts
            blocks = BlockParts(parts, self.grid.shape_yx, self.writer.chunk_yx)
            self._blocks = (folder, stage), blocks
        return self._blocks[1]


def save_paintings(folder: Path, stage: int, paintings: Paintings) -> None:
    """Lay down what is painted, for the jobs that follow.

    Parameters
    ----------
    folder : Path
        Of the tiles of the slice.
    stage : int
        0 for all objects, 1 for those that are kept.
    paintings : Paintings

    Raises
    ------
    OutputError
        When the disk is full.
    """
    path = _paintings_path(folder, stage)
    with output_errors(path):
        paintings.save(path)


def _paintings_path(folder: Path, stage: int) -> Path:
    return folder / f"paintings-{stage}.npz"


class StitchJob(Protocol[Result_co]):
    """A part of the work on one slice."""

    def do(self, tools: StitchingTools) -> Result_co:
        """Do it, and return what is small of its result."""
        ...


@dataclass(frozen=True)
class MatchTiles:
    """Compare tiles with those of their neighbours that come after them.

    Attributes
    ----------
    folder : Path
        Of the tiles of the slice.
    numbers : range
        Of the tiles.
    """

    folder: Path
    numbers: range

    def do(self, tools: StitchingTools) -> NDArray[np.uint64]:
        """Return pairs of global ids, (n, 2)."""
        load, shape_yx = tools.results(self.folder).load, tools.grid.shape_yx
        matches = [
            match_tiles(i, load(i), j, load(j), shape_yx)
            for i in self.numbers
            for j in tools.grid.later_neighbors(i)
        ]
        return np.concatenate([NO_MATCHES, *matches])


@dataclass(frozen=True)
class CountVisible:
    """Count the pixels that objects keep in blocks, before any object is dropped.

    Attributes
    ----------
    folder : Path
        Of the tiles of the slice.
    numbers : range
        Of the blocks.
    """

    folder: Path
    numbers: range

    def do(self, tools: StitchingTools) -> list[Visibility]:
        """Return the counts of each block."""
        load, blocks = tools.results(self.folder).load, tools.blocks(self.folder, 0)
        return [count_visible(*blocks[number], load) for number in self.numbers]


@dataclass(frozen=True)
class PaintBlocks:
    """Paint and write blocks, and measure the objects in them.

    Attributes
    ----------
    folder : Path
        Of the tiles of the slice.
    numbers : range
        Of the blocks.
    position : tuple of int
        Index of the slice along the axes before YX.
    offset : int
        The ids of the slice follow this one.
    """

    folder: Path
    numbers: range
    position: tuple[int, ...]
    offset: int

    def do(self, tools: StitchingTools) -> NDArray[Any]:
        """Return a MEASURE of each object, which is numbered by its place in the paintings."""
        load, blocks = tools.results(self.folder).load, tools.blocks(self.folder, 1)
        measures = [np.zeros(0, dtype=MEASURE)]
        for number in self.numbers:
            region, parts = blocks[number]
            labels, objects = paint(region, parts, load)
            ids = np.concatenate(([0], objects + self.offset + 1)).astype(np.uint32)
            tools.writer.write_block(self.position, region, ids[labels])
            found = measure_labels(labels, len(objects), region.start)
            found["number"] = objects[found["number"] - 1]
            measures.append(found)
        return merge_measures(np.concatenate(measures))


@dataclass(frozen=True)
class WritePyramid:
    """Write the coarser levels of a slice, and wait until all of it is on the disk.

    Attributes
    ----------
    position : tuple of int
        Index of the slice along the axes before YX.
    """

    position: tuple[int, ...]

    def do(self, tools: StitchingTools) -> None:
        """Do it."""
        tools.writer.write_pyramid(self.position)
        tools.writer.sync(self.position)
