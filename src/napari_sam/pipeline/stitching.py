"""The tiles of a slice to its labels in the output, in the memory of a few tiles."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from napari_sam.core.errors import OutputError
from napari_sam.core.region import Region
from napari_sam.io.label_writer import LabelWriter
from napari_sam.labels import Painting, count_visible, is_kept, paint, plan_paintings
from napari_sam.pipeline.events import Stitching
from napari_sam.pipeline.tile_results import TileResults
from napari_sam.tiling import Tile

__all__ = ["SliceStitcher"]

MAX_LABEL = 2**32 - 1
"""Labels are written as unsigned 32-bit integers."""

Numbered = list[tuple[int, Painting]]


@dataclass(frozen=True)
class SliceStitcher:
    """Stitches the slices of a run.

    Parameters
    ----------
    tiles : sequence of Tile
        The grid of a slice.
    shape_yx : tuple of int
        Rows and columns of a slice.
    min_size : int
        Objects of fewer pixels are dropped.
    writer : LabelWriter
        The output.
    """

    tiles: Sequence[Tile]
    shape_yx: tuple[int, int]
    min_size: int
    writer: LabelWriter

    def steps(
        self, results: TileResults, number: int, position: tuple[int, ...], offset: int
    ) -> Generator[Stitching, None, int]:
        """Stitch and write one slice.

        Parameters
        ----------
        results : TileResults
            All tiles of the slice.
        number : int
            Position of the slice in the run.
        position : tuple of int
            Index along the axes before YX.
        offset : int
            The ids of the slice follow this one.

        Yields
        ------
        Stitching
            After each block, in each of two rounds: one to see what is hidden, one to paint.

        Returns
        -------
        int
            Number of objects in the slice.

        Raises
        ------
        OutputError
            When the output cannot be written, or there are more objects than ids.
        """
        paintings = plan_paintings(
            [tile.read for tile in self.tiles],
            [tile.write for tile in self.tiles],
            results.load,
            self.shape_yx,
        )
        blocks = self._blocks()
        planned = self._by_block(list(enumerate(paintings)))
        visible: Counter[int] = Counter()
        total: Counter[int] = Counter()
        for done, block in enumerate(blocks):
            counts = count_visible(block, planned.get(block.start, []), results.load)
            for index, (seen, all_pixels) in counts.items():
                visible[index] += seen
                total[index] += all_pixels
            yield Stitching(number, done + 1, 2 * len(blocks))
        kept = [
            painting
            for index, painting in enumerate(paintings)
            if is_kept(visible[index], total[index], self.min_size)
        ]
        self._check_ids(offset + len(kept))
        painted = self._by_block(list(enumerate(kept, 1)))
        for done, block in enumerate(blocks):
            labels = paint(block, painted.get(block.start, []), results.load)
            ids = np.where(labels > 0, labels + np.int64(offset), 0).astype(np.uint32)
            self.writer.write_block(position, block, ids)
            yield Stitching(number, len(blocks) + done + 1, 2 * len(blocks))
        self.writer.write_pyramid(position)
        return len(kept)

    def _blocks(self) -> list[Region]:
        """Blocks of the slice that are whole chunks of the output, so that each is written once."""
        starts = product(
            *(range(0, n, c) for n, c in zip(self.shape_yx, self.writer.chunk_yx, strict=True))
        )
        return [
            Region(
                start,
                tuple(
                    min(a + c, n)
                    for a, c, n in zip(start, self.writer.chunk_yx, self.shape_yx, strict=True)
                ),
            )
            for start in starts
        ]

    def _by_block(self, numbered: Numbered) -> dict[tuple[int, ...], Numbered]:
        """Sort objects into the blocks that they reach into, by the blocks' first pixel."""
        rows, cols = self.writer.chunk_yx
        reaching: defaultdict[tuple[int, ...], Numbered] = defaultdict(list)
        for item in numbered:
            corners = {
                (y, x)
                for _, place in item[1].parts
                for y in range(place.start[0] // rows * rows, place.stop[0], rows)
                for x in range(place.start[1] // cols * cols, place.stop[1], cols)
            }
            for corner in corners:
                reaching[corner].append(item)
        return reaching

    def _check_ids(self, last: int) -> None:
        if last > MAX_LABEL:
            raise OutputError(
                f"The volume holds more than {MAX_LABEL} objects",
                rule="Label ids are 32-bit numbers",
                cure="Segment the volume in parts with `--slices`",
            )
