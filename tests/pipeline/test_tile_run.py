"""Tiles are written while the next are computed, and nobody can tell from what is on the disk."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam.core.errors import OutputError
from napari_sam.pipeline import Event, TileDone, Working, segment_volume, tile_run
from napari_sam.pipeline.segmenters import TileObjects
from napari_sam.pipeline.tile_results import TileResults, tile_folder
from volume_runs import CONFIG, Blobs, write_stack

WAIT_S = 20.0
N_TILES = 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_stack(tmp_path / "stack.tif", n_slices=1)


class Counted:
    """Counts the tiles that it has begun."""

    window, keeps_8bit, digest = Blobs.window, Blobs.keeps_8bit, "counted"

    def __init__(self) -> None:
        self.n_begun = 0

    def __call__(self, tile: NDArray[np.uint8]) -> TileObjects:
        self.n_begun += 1
        return Blobs()(tile)


def watch_saving(monkeypatch: pytest.MonkeyPatch, before: Any) -> None:
    """Call something with the number of a tile before it is saved."""
    save = TileResults.save

    def watched(results: TileResults, number: int, *found: Any) -> None:
        before(number)
        save(results, number, *found)

    monkeypatch.setattr(TileResults, "save", watched)


def test_a_tile_is_written_while_the_next_is_computed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third_begun = threading.Event()
    seen: list[bool] = []

    class Telling(Counted):
        def __call__(self, tile: NDArray[np.uint8]) -> TileObjects:
            found = super().__call__(tile)
            if self.n_begun == 3:
                third_begun.set()
            return found

    def before(number: int) -> None:
        if number == 1:
            seen.append(third_begun.wait(WAIT_S))

    watch_saving(monkeypatch, before)
    events = list(segment_volume(source, tmp_path / "labels.zarr", CONFIG, Telling()))
    assert seen == [True]
    done = [event.index for event in events if isinstance(event, TileDone)]
    assert done == list(range(N_TILES))


def test_a_tile_that_is_told_is_on_the_disk(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "labels.zarr"
    for event in segment_volume(source, target, CONFIG, Blobs()):
        if isinstance(event, TileDone):
            assert (tile_folder(target) / "0" / f"{event.index}.npz").is_file()


def test_at_most_one_tile_waits_to_be_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = Counted()
    ahead: list[int] = []
    watch_saving(monkeypatch, lambda number: ahead.append(segmenter.n_begun - number))
    for _ in segment_volume(source, tmp_path / "labels.zarr", CONFIG, segmenter):
        pass
    assert len(ahead) == N_TILES
    assert max(ahead) <= 2  # the one that is written, and the one that is computed


def test_a_disk_error_ends_the_run_at_the_next_tile(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = Counted()

    def fail(number: int) -> None:
        if number == 4:
            raise OutputError("nothing", rule="no rule", cure="no cure")

    watch_saving(monkeypatch, fail)
    target = tmp_path / "labels.zarr"
    with pytest.raises(OutputError, match="no rule"):
        list(segment_volume(source, target, CONFIG, segmenter))
    assert segmenter.n_begun <= 6
    kept = sorted(int(file.stem) for file in (tile_folder(target) / "0").glob("*.npz"))
    assert kept == [0, 1, 2, 3]


def test_who_stops_keeps_the_tile_that_was_computed(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "labels.zarr"
    with closing(segment_volume(source, target, CONFIG, Blobs())) as events:
        for event in events:
            if isinstance(event, TileDone) and event.index == 3:
                break
    kept = sorted(int(file.stem) for file in (tile_folder(target) / "0").glob("*.npz"))
    assert kept == [0, 1, 2, 3, 4]
    assert not any(thread.name == "napari-sam write behind" for thread in threading.enumerate())


class Step(NamedTuple):
    done: int
    total: int


class Stepping(Blobs):
    """Works in three steps a tile."""

    def steps(self, tile: NDArray[np.uint8]) -> Any:
        for number in range(3):
            yield Step(number + 1, 3)
        return self(tile)


def tiles_of(events: list[Event]) -> list[int]:
    return [event.index for event in events if isinstance(event, (TileDone, Working))]


def test_events_come_in_the_order_of_the_tiles(source: Path, tmp_path: Path) -> None:
    events = list(segment_volume(source, tmp_path / "labels.zarr", CONFIG, Stepping()))
    assert any(isinstance(event, Working) for event in events)
    assert tiles_of(events) == sorted(tiles_of(events))


def test_a_slow_tile_is_told_at_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_run, "SLOW_SECONDS", -1.0)
    segmenter = Counted()
    for event in segment_volume(source, tmp_path / "labels.zarr", CONFIG, segmenter):
        if isinstance(event, TileDone):
            assert segmenter.n_begun == event.index + 1
