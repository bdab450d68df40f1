"""Slices stitched from tiles on disk: as in memory, but in the memory of a few tiles."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_sam.core.errors import OutputError
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_writer import LabelWriter
from napari_sam.labels import TileLabels, stitch_tiles
from napari_sam.pipeline import stitching
from napari_sam.pipeline.events import Stitching
from napari_sam.pipeline.segmenters import TileObjects
from napari_sam.pipeline.stitch_jobs import StitchingTools
from napari_sam.pipeline.stitching import SliceStitcher, jobs_here
from napari_sam.pipeline.tile_results import TileResults
from napari_sam.tiling import Tile, TileGrid, tile_grid


def uncertain(tile: Tile, truth: NDArray[np.int32], seed: int) -> TileObjects:
    """See discs as this tile would: outlines shifted a little, some missed, ids of its own."""
    rng = np.random.default_rng([seed, tile.index])
    shift = rng.integers(-1, 2, 2)
    seen = np.roll(truth, shift, (0, 1))[tile.read.slices].copy()
    seen[np.isin(seen, rng.choice(np.unique(truth), 2))] = 0
    ids, labels = np.unique(seen, return_inverse=True)
    scores = rng.random(len(ids) - 1).astype(np.float32)
    return TileObjects(labels.reshape(seen.shape).astype(np.int32), scores)


def discs(shape: tuple[int, int], radius: int, step: int) -> NDArray[np.int32]:
    rows, cols = np.indices(shape)
    inside = np.hypot(rows % step - step // 2, cols % step - step // 2) < radius
    number = rows // step * (shape[1] // step + 1) + cols // step + 1
    return np.where(inside, number, 0).astype(np.int32)


def create_output(path: Path, shape: tuple[int, int], chunk: int) -> None:
    layout = LabelLayout("ZYX", (2, *shape), (1.0,) * 3, (None,) * 3, chunk=chunk)
    LabelWriter.create(path, layout)


def stitcher_for(target: Path, tiles: TileGrid, min_size: int, **options: int) -> SliceStitcher:
    tools = StitchingTools(tiles, target)
    return SliceStitcher(tools, min_size, jobs_here(tools), **options)


def saved(folder: Path, tiles: TileGrid, truth: NDArray[np.int32]) -> TileResults:
    results = TileResults(folder, tiles)
    for tile in tiles:
        results.save(tile.index, uncertain(tile, truth, seed=1), n_invalid=tile.index)
    return results


@pytest.mark.parametrize(
    ("tile", "halo", "chunk", "job_size"), [(60, 20, 64, 1), (37, 9, 100, 7), (200, 8, 33, 1000)]
)
def test_blocks_from_disk_equal_stitching_in_memory(
    tmp_path: Path, tile: int, halo: int, chunk: int, job_size: int
) -> None:
    truth = discs((331, 290), radius=11, step=27)
    tiles = tile_grid(truth.shape, tile, halo)
    saved(tmp_path / "tiles", tiles, truth)
    create_output(tmp_path / "a.zarr", truth.shape, chunk)
    stitcher = stitcher_for(tmp_path / "a.zarr", tiles, 30, job_size=job_size)
    steps = stitcher.steps(tmp_path / "tiles", 0, (1,), offset=1000)
    events = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            notes = end.value
            break
    assert events[-1] == Stitching(0, len(events), len(events))
    in_memory = [
        TileLabels(part.read, part.write, *uncertain(part, truth, seed=1)) for part in tiles
    ]
    expected = stitch_tiles(in_memory, truth.shape, min_area=30)
    assert len(notes) == len(expected.scores) > 50
    np.testing.assert_array_equal(notes["score"], expected.scores)
    assert notes["id"].tolist() == list(range(1001, 1001 + len(notes)))
    for note in notes[::7]:
        rows, columns = np.nonzero(expected.labels == note["id"] - 1000)
        assert note["area_px"] == len(rows)
        assert note["box"].tolist() == [
            rows.min(),
            columns.min(),
            rows.max() + 1,
            columns.max() + 1,
        ]
        np.testing.assert_allclose(note["centroid"], [rows.mean(), columns.mean()])
        owners = {
            part.index
            for part in tiles
            if (expected.labels[part.write.slices] == note["id"] - 1000).any()
        }
        assert bool(note["crosses_seam"]) == (len(owners) > 1)
        assert tiles[note["tile"]].read.start[0] <= rows.min()
    level = zarr.open_array(tmp_path / "a.zarr" / "0", mode="r")
    ids = np.where(expected.labels, expected.labels + 1000, 0)
    np.testing.assert_array_equal(level[1], ids)
    assert not np.asarray(level[0]).any()
    half = zarr.open_array(tmp_path / "a.zarr" / "1", mode="r")
    np.testing.assert_array_equal(half[1], ids[::2, ::2])


def test_tiles_come_back_and_damaged_ones_are_done_again(tmp_path: Path) -> None:
    truth = discs((120, 120), radius=9, step=24)
    tiles = tile_grid(truth.shape, 30, 10)
    results = saved(tmp_path / "tiles", tiles, truth)
    assert results.count() == len(tiles) == 16
    again = TileResults(tmp_path / "tiles", tiles)
    assert [again.n_invalid(number) for number in range(16)] == list(range(16))
    for number in (0, 5, 15):
        np.testing.assert_array_equal(again.load(number).labels, results.load(number).labels)
        np.testing.assert_array_equal(again.load(number).scores, results.load(number).scores)
    path = tmp_path / "tiles" / "3.npz"
    path.write_bytes(path.read_bytes()[:-40])
    (tmp_path / "tiles" / "4.npz").write_bytes(b"")
    (tmp_path / "tiles" / "6.npz").unlink()
    third = TileResults(tmp_path / "tiles", tiles)
    assert [third.n_invalid(number) for number in (3, 4, 6)] == [None] * 3
    with pytest.raises(OutputError, match="cannot be read"):
        third.load(6)
    results.remove()
    assert not (tmp_path / "tiles").exists()


def test_memory_does_not_grow_with_the_slice(tmp_path: Path) -> None:
    peaks = []
    for number, side in enumerate((600, 1800)):
        truth = discs((side, side), radius=20, step=100)
        tiles = tile_grid(truth.shape, 150, 50)
        saved(tmp_path / f"tiles{number}", tiles, truth)
        create_output(tmp_path / f"{number}.zarr", truth.shape, 128)
        stitcher = stitcher_for(tmp_path / f"{number}.zarr", tiles, 1)
        tracemalloc.start()
        for _ in stitcher.steps(tmp_path / f"tiles{number}", 0, (0,), 0):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.5 * peaks[0]  # nine times the pixels and objects
    assert peaks[1] < 4 * 1800 * 1800 / 2


def test_more_objects_than_ids_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = discs((120, 120), radius=9, step=24)
    tiles = tile_grid(truth.shape, 30, 10)
    saved(tmp_path / "tiles", tiles, truth)
    create_output(tmp_path / "a.zarr", truth.shape, 64)
    monkeypatch.setattr(stitching, "MAX_LABEL", 20)
    with pytest.raises(OutputError, match="more than 20 objects"):
        list(stitcher_for(tmp_path / "a.zarr", tiles, 1).steps(tmp_path / "tiles", 0, (0,), 10))
