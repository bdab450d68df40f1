"""What a run writes: each chunk once, each pixel once, and each object once."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.storage import LocalStore

from napari_sam.core.region import Region
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_writer import LabelWriter
from napari_sam.pipeline.segmenters import TileObjects
from napari_sam.pipeline.stitch_jobs import PaintBlocks, StitchingTools
from napari_sam.pipeline.stitching import SliceStitcher, jobs_here
from napari_sam.pipeline.tile_results import TileResults
from napari_sam.tiling import TileGrid, tile_grid

OFFSET = 70
"""Ids of the slice follow this one."""


class Written(NamedTuple):
    """What stitching a slice did.

    `blocks` are the regions given to the writer, each with the job that gave it; `keys` what was
    stored under which name, in order.
    """

    notes: NDArray[Any]
    labels: NDArray[Any]
    blocks: list[tuple[int, tuple[int, ...], Region]]
    keys: list[str]


@st.composite
def plans(draw: st.DrawFn) -> tuple[TileGrid, int, int, int]:
    shape = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    grid = tile_grid(shape, draw(st.integers(8, 40)), draw(st.integers(1, 20)))
    return grid, draw(st.integers(3, 60)), draw(st.integers(1, 9)), draw(st.integers(0, 2**32 - 1))


def objects_of(grid: TileGrid, number: int, seed: int) -> TileObjects:
    """Rectangles at random, in each tile others: so many collide, and some are hidden."""
    rng = np.random.default_rng([seed, number])
    labels = np.zeros(grid[number].read.shape, np.int32)
    count = int(rng.integers(0, 9))
    for label in range(1, count + 1):
        y, x = (rng.integers(n) for n in labels.shape)
        labels[y : y + rng.integers(1, 15), x : x + rng.integers(1, 15)] = label
    return TileObjects(labels, rng.random(count).astype(np.float32))


def stitch(folder: Path, grid: TileGrid, chunk: int, job_size: int, seed: int) -> Written:
    results = TileResults(folder / "tiles", grid)
    for number in range(len(grid)):
        results.save(number, objects_of(grid, number, seed), 0)
    layout = LabelLayout("ZYX", (2, *grid.shape_yx), (1.0,) * 3, (None,) * 3, chunk=chunk)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_sam.io.label_layout.COARSEST", 16)
        LabelWriter.create(folder / "a.zarr", layout)
    tools = StitchingTools(grid, folder / "a.zarr")
    jobs: list[PaintBlocks] = []
    blocks, keys = [], []
    do, write_block, put = PaintBlocks.do, LabelWriter.write_block, LocalStore.set

    def noted_do(job: PaintBlocks, tools: StitchingTools) -> NDArray[Any]:
        jobs.append(job)
        return do(job, tools)

    def noted_block(writer: LabelWriter, index: Any, region: Region, labels: Any) -> None:
        blocks.append((len(jobs), index, region))
        write_block(writer, index, region, labels)

    async def noted_put(store: LocalStore, key: str, value: Any) -> None:
        keys.append(key)
        await put(store, key, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PaintBlocks, "do", noted_do)
        patch.setattr(LabelWriter, "write_block", noted_block)
        patch.setattr(LocalStore, "set", noted_put)
        steps = SliceStitcher(tools, 2, jobs_here(tools), job_size).steps(
            results.folder, 0, (1,), OFFSET
        )
        while True:
            try:
                next(steps)
            except StopIteration as end:
                notes = end.value
                break
    level = zarr.open_array(folder / "a.zarr" / "0", mode="r")
    return Written(notes, np.asarray(level[1]), blocks, keys)


@pytest.fixture(autouse=True, scope="module")
def nothing_waits_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


def check(case: tuple[TileGrid, int, int, int]) -> Written:
    grid, chunk, job_size, seed = case
    with tempfile.TemporaryDirectory() as folder:
        written = stitch(Path(folder), grid, chunk, job_size, seed)
    assert_each_chunk_is_written_once(written, grid, chunk)
    assert_each_object_is_owned_once(written, grid)
    return written


def assert_each_chunk_is_written_once(written: Written, grid: TileGrid, chunk: int) -> None:
    cover = np.zeros(grid.shape_yx, np.int64)
    jobs_of_chunk = Counter[tuple[int, int]]()
    for _, index, region in written.blocks:
        assert index == (1,)
        cover[region.slices] += 1
        at = [range(a // chunk, (b - 1) // chunk + 1) for a, b in zip(*_ends(region), strict=True)]
        jobs_of_chunk.update((row, column) for row in at[0] for column in at[1])
    assert (cover == 1).all()
    assert set(jobs_of_chunk.values()) == {1}
    assert len(jobs_of_chunk) == np.prod([-(-n // chunk) for n in grid.shape_yx])
    assert all(key.split("/")[1:3] == ["c", "1"] for key in written.keys)
    assert max(Counter(written.keys).values(), default=1) == 1  # of the pyramid too


def _ends(region: Region) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return region.start, region.stop


def assert_each_object_is_owned_once(written: Written, grid: TileGrid) -> None:
    ids, areas = np.unique(written.labels[written.labels > 0], return_counts=True)
    assert ids.tolist() == [OFFSET + 1 + i for i in range(len(ids))]
    assert written.notes["id"].tolist() == ids.tolist()
    assert written.notes["area_px"].tolist() == areas.tolist()
    assert (areas >= 2).all()
    owned = [grid[number].read for number in written.notes["tile"]]
    for note, read in zip(written.notes, owned, strict=True):
        (top, left, _, _), rows = note["box"], np.nonzero(written.labels == note["id"])
        assert (top, left) == tuple(axis.min() for axis in rows)
        if not note["is_cut"]:  # painted whole from one tile, which saw all of it
            assert all(read.start[i] <= rows[i].min() for i in (0, 1))
            assert all(rows[i].max() < read.stop[i] for i in (0, 1))


@settings(max_examples=40)
@given(plans())
def test_each_chunk_pixel_and_object_once(case: tuple[TileGrid, int, int, int]) -> None:
    check(case)


def test_the_examples_hold_what_is_hard() -> None:
    """A plan like those above has objects that collide, are hidden, and are in several jobs."""
    grid = tile_grid((61, 53), 16, 7)
    written = check((grid, 10, 4, 0))
    assert len({job for job, _, _ in written.blocks}) == 11
    assert len(written.notes) > 15
    assert written.notes["crosses_seam"].any()
    assert written.notes["is_cut"].any()
    assert any(key.startswith("2/") for key in written.keys)


@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.integers(1, 50), st.integers(1, 30))
def test_tiles_own_each_pixel_once_and_read_what_they_own(
    shape: tuple[int, int], tile: int, halo: int
) -> None:
    grid = tile_grid(shape, tile, halo)
    cover = np.zeros(shape, np.int64)
    for part in grid:
        cover[part.write.slices] += 1
        assert part.read.intersect(part.write) == part.write
    assert (cover == 1).all()
