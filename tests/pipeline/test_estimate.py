"""The cost of a run, held against what the run takes."""

import dataclasses
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_sam.core.errors import ConfigError, InputError
from napari_sam.io import ArrayVolume
from napari_sam.pipeline import (
    Finished,
    FunctionSegmenter,
    SegmentConfig,
    SliceRange,
    TileDone,
    TileObjects,
    estimate_cost,
    estimate_steps,
    segment_volume,
)

CONFIG = SegmentConfig(tile=100, halo=20, min_size=1, contrast_limits=(0, 255))


def squares(period, side):
    """A segmenter that finds a lattice of squares in whatever it is given."""

    def segment(tile):
        rows, columns = (np.arange(n, dtype=np.int32) for n in tile.shape[:2])
        n_columns = -(-tile.shape[1] // period)
        labels = rows[:, None] // period * n_columns + columns[None] // period + 1
        labels[rows % period >= side] = 0
        labels[:, columns % period >= side] = 0
        return labels

    return FunctionSegmenter(segment, digest="squares", window=140)


def volume_of(shape, dtype=np.uint16):
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    return ArrayVolume(Path("noise"), [values], "CZYX"[-len(shape) :])


class Chunked:
    """An array that decodes chunks, whatever part of them is asked for."""

    def __init__(self, values, side):
        self._values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.chunks = (*(1 for _ in values.shape[:-2]), side, side)

    def __getitem__(self, index):
        return self._values[index].copy()


def chunked_volume(shape, side, dtype=np.uint16):
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    return ArrayVolume(Path("noise"), [Chunked(values, side)], "CZYX"[-len(shape) :])


def bytes_on_disk(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.no_cover  # other tests reach the same lines, and memory is traced already
@pytest.mark.parametrize(
    ("shape", "dtype", "changes"),
    [
        ((3, 600, 600), np.uint16, {}),
        ((2, 500, 400), np.float32, {"tile": 4000}),
        ((3, 1, 500, 500), np.uint8, {"channels": (0, 1, 2)}),
    ],
    ids=["tiles", "one tile", "channels"],
)
@pytest.mark.parametrize("side", [10, 20])
def test_memory_and_disk_are_as_estimated(warmed, tmp_path, shape, dtype, changes, side):
    volume, segmenter = volume_of(shape, dtype), squares(20, side)
    config = dataclasses.replace(CONFIG, **changes)
    cost = estimate_cost(volume, config, segmenter)
    peak = peak_of_run(volume, tmp_path, config, segmenter)
    assert 0.8 * peak < cost.memory_bytes < 3 * peak
    assert bytes_on_disk(tmp_path / "a.zarr") < cost.disk_bytes


@pytest.mark.no_cover  # other tests reach the same lines, and memory is traced already
@pytest.mark.parametrize(
    ("shape", "chunk", "changes"),
    [
        ((1, 400, 3000), 100, {}),
        ((1, 1000, 3000), 1500, {}),
        ((2, 1, 300, 4000), 64, {"channels": (0, 1)}),
        ((2, 900, 900), 300, {"contrast_limits": None}),
    ],
    ids=["wide", "large chunks", "channels", "measured contrast"],
)
def test_memory_of_chunks_is_as_estimated(warmed, tmp_path, shape, chunk, changes):
    volume, segmenter = chunked_volume(shape, chunk), squares(50, 10)
    config = dataclasses.replace(CONFIG, **changes)
    cost = estimate_cost(volume, config, segmenter)
    peak = peak_of_run(volume, tmp_path, config, segmenter)
    assert 0.8 * peak < cost.memory_bytes < 3 * peak


@pytest.fixture(scope="module")
def warmed(tmp_path_factory):
    """Imports and caches that come with the first run count for none."""
    target = tmp_path_factory.mktemp("warm") / "warm.zarr"
    config = dataclasses.replace(CONFIG, contrast_limits=None)
    list(segment_volume(volume_of((2, 300, 300)), target, config, squares(20, 10)))


def peak_of_run(volume, folder, config, segmenter):
    tracemalloc.start()
    try:
        list(segment_volume(volume, folder / "a.zarr", config, segmenter))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_disk_follows_the_timed_tile_where_objects_are_tiny(tmp_path):
    volume, segmenter = volume_of((400, 400)), squares(3, 2)
    cost = estimate_cost(volume, CONFIG, segmenter)
    assert cost.disk_bytes > estimate_cost(volume, CONFIG, squares(50, 40)).disk_bytes
    rng = np.random.default_rng(0)
    noise = FunctionSegmenter(
        lambda tile: rng.integers(0, 2**16, tile.shape[:2]), digest="noise", window=140
    )
    assert estimate_cost(volume, CONFIG, noise).disk_bytes > 2 * 2 * 400 * 400


def test_the_estimate_counts_what_a_run_counts(tmp_path):
    volume, segmenter = volume_of((7, 230, 330)), squares(20, 10)
    config = dataclasses.replace(CONFIG, slices=SliceRange(1, 6, 2))
    cost = estimate_cost(volume, config, segmenter)
    events = list(segment_volume(volume, tmp_path / "a.zarr", config, segmenter))
    assert cost.n_tiles == sum(isinstance(event, TileDone) for event in events)
    assert cost.n_slices == next(e for e in events if isinstance(e, Finished)).n_slices == 3


class Clocked:
    """Takes a fixed time for each tile, by a clock of the test."""

    window, keeps_8bit, digest = 140, False, "clocked"

    def __init__(self, clock, seconds):
        self._clock = clock
        self._seconds = list(seconds)
        self.tiles = []

    def steps(self, tile):
        yield SimpleNamespace(done=0, total=1)
        return self(tile)

    def __call__(self, tile):
        self._clock.now += self._seconds[min(len(self.tiles), len(self._seconds) - 1)]
        self.tiles.append(tile)
        return TileObjects(np.zeros(tile.shape[:2], np.int32), np.zeros(0, np.float32))


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(monotonic=lambda: clock.now)
    monkeypatch.setattr("napari_sam.core.steps.time", fake)
    monkeypatch.setattr("napari_sam.pipeline.estimate.time", fake)
    return clock


def test_time_is_that_of_one_tile_times_their_number(clock):
    segmenter = Clocked(clock, [30.0])
    cost = estimate_cost(volume_of((4, 300, 300)), CONFIG, segmenter)
    assert len(segmenter.tiles) == 1
    assert (cost.seconds_per_tile, cost.seconds) == (30.0, 4 * 9 * 30.0)


def test_a_quick_tile_is_timed_again_as_the_first_call_sets_up(clock):
    segmenter = Clocked(clock, [19.9, 0.5])
    cost = estimate_cost(volume_of((300, 300)), CONFIG, segmenter)
    assert (cost.seconds_per_tile, cost.seconds) == (0.5, 9 * 0.5)


def slow_to_read(volume, clock):
    read = volume.read

    def slowly(region, level=0):
        clock.now += 10
        return read(region, level)

    volume.read = slowly
    return volume


def test_decoding_a_slice_counts_once_for_each_slice(clock):
    volume = slow_to_read(chunked_volume((4, 300, 300), 300), clock)
    cost = estimate_cost(volume, CONFIG, Clocked(clock, [30.0]))
    assert cost.seconds == 4 * (10 + 9 * 30.0)


def test_windows_that_are_read_by_themselves_count_by_their_pixels(clock):
    volume = slow_to_read(volume_of((4, 300, 300)), clock)
    cost = estimate_cost(volume, CONFIG, Clocked(clock, [30.0]))
    assert cost.seconds == pytest.approx(4 * (10 * (380 / 140) ** 2 + 9 * 30.0))


def test_the_timed_tile_lies_in_the_middle_and_is_not_even(clock):
    values = np.zeros((5, 500, 500), np.uint8)
    values[2, 240:260, 330:360] = 200  # right of the middle tile
    values[3] = 100
    segmenter = Clocked(clock, [30.0])
    config = dataclasses.replace(CONFIG, slices=SliceRange(1, 4))
    estimate_cost(ArrayVolume(Path("a"), [values], "ZYX"), config, segmenter)
    assert segmenter.tiles[0].max() == 200
    values[2] = 0
    estimate_cost(ArrayVolume(Path("a"), [values], "ZYX"), config, segmenter)
    assert segmenter.tiles[1].max() == 0  # nothing but even tiles


def test_estimating_can_be_stopped_within_the_tile(clock):
    segmenter = Clocked(clock, [30.0])
    steps = estimate_steps(volume_of((300, 300)), CONFIG, segmenter)
    assert next(steps).total == 1
    steps.close()
    assert segmenter.tiles == []


def test_what_a_run_refuses_is_refused_before():
    with pytest.raises(ConfigError, match="--channel"):
        estimate_cost(volume_of((2, 1, 90, 90)), CONFIG, squares(20, 10))
    empty = ArrayVolume(Path("a"), [np.zeros((90, 90), np.uint8)], "YX")
    with pytest.raises(InputError, match="constant"):
        estimate_cost(empty, SegmentConfig(), squares(20, 10))
