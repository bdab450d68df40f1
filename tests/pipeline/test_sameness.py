"""One image gives the same bytes, whoever does the work, and in whatever order it is done."""

from __future__ import annotations

import csv
import dataclasses
import random
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from pyarrow import parquet

import volume_runs
from napari_sam.pipeline import LinkConfig, SegmentConfig, SliceDone, TileDone, segment_volume
from napari_sam.pipeline import segment as segment_module
from napari_sam.pipeline.process_pool import ProcessPool
from napari_sam.pipeline.stitch_jobs import StitchingTools, StitchJob
from napari_sam.pipeline.stitching import RunJobs, jobs_here
from napari_sam.pipeline.tile_results import TileResults
from napari_sam.pipeline.worker import Worker, WorkOrder
from volume_runs import Blobs, bytes_of, output_of, small_and_quick, write_stack

LINK = LinkConfig(min_iou=0.2)


class ShuffledPool:
    """Does jobs one at a time in a thread, always one of those given that is chosen at random."""

    def __init__(self, order: WorkOrder, seed: int) -> None:
        self._worker = Worker(order, 1)
        self._rng = random.Random(seed)
        self._given: list[tuple[Any, Future[Any]]] = []
        self._changed = threading.Condition()
        self._is_open = True
        self.done: list[Any] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def n_processes(self) -> int:
        return 4

    def submit(self, job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._changed:
            self._given.append((job, future))
            self._changed.notify()
        return future

    def result(self, future: Future[Any]) -> Any:
        return future.result()

    def problem(self) -> None:
        return None

    def close(self) -> None:
        with self._changed:
            self._is_open = False
            self._changed.notify()
        self._thread.join()
        self._worker.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._given or not self._is_open)
                if not self._is_open:
                    return
                job, future = self._given.pop(self._rng.randrange(len(self._given)))
            self.done.append(job)
            try:
                future.set_result(self._worker.do(job))
            except BaseException as error:
                future.set_exception(error)


def shuffled_jobs(seed: int) -> Callable[[StitchingTools], RunJobs]:
    """Stitch in this process, in another order."""
    rng = random.Random(seed)

    def jobs(tools: StitchingTools) -> RunJobs:
        def run(given: Iterable[StitchJob[Any]]) -> Generator[Any, None, None]:
            listed = list(given)
            rng.shuffle(listed)
            yield from jobs_here(tools)(listed)

        return run

    return jobs


def shuffle_tiles(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Segment the tiles of each slice in another order."""
    rng, known = random.Random(seed), TileResults.known

    def shuffled(results: TileResults) -> dict[int, int | None]:
        items = list(known(results).items())
        rng.shuffle(items)
        return dict(items)

    monkeypatch.setattr(TileResults, "known", shuffled)


def order_of(source: Path, segmenter: Any, job: Any) -> WorkOrder:
    return WorkOrder(
        source=source,
        target=job.path,
        config=job.config,
        segmenter=segmenter,
        digest=segmenter.digest,
        grid=job.run.tiles,
        contrast=job.run.contrast,
        token=job.token,
    )


def use_shuffled_pool(monkeypatch: pytest.MonkeyPatch, seed: int) -> list[ShuffledPool]:
    """Let a run that asks for workers have a pool that answers in random order."""
    pools: list[ShuffledPool] = []

    def make(source: Path, segmenter: Any, job: Any) -> ShuffledPool:
        pools.append(ShuffledPool(order_of(source, segmenter, job), seed))
        return pools[-1]

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the worker sets it, which here is this process
    monkeypatch.setattr(segment_module, "_pool", make)
    monkeypatch.setattr(segment_module, "DASK_JOB_SIZE", 3)
    return pools


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stack(tmp_path_factory.mktemp("image") / "stack.tif")


@pytest.fixture(scope="module")
def serial(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the image, tile after tile."""
    folder = tmp_path_factory.mktemp("serial")
    with pytest.MonkeyPatch.context() as patch:
        small_and_quick(patch)
        run(image, folder / "slices")
        run(image, folder / "linked", link=LINK)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_and_quick(monkeypatch)


def run(image: Path, folder: Path, **options: Any) -> list[Any]:
    target, config = output_of(folder, **options)
    return list(segment_volume(image, target, config, Blobs()))


def assert_same(found: Path, expected: Path) -> None:
    """Compare every file, names included; a Parquet also by what it holds, to say what differs."""
    tables = [parquet.read_table(folder / "objects.parquet") for folder in (found, expected)]
    assert tables[0].equals(tables[1])
    assert bytes_of(found) == bytes_of(expected)


def test_the_image_has_what_seams_do_to_objects(serial: Path) -> None:
    table = parquet.read_table(serial / "slices" / "objects.parquet").to_pandas()
    assert len(table) > 100
    assert table["score"].nunique() == len(table)
    assert table["crosses_seam"].sum() > 30
    assert (~table["crosses_seam"]).sum() > 30
    assert table["is_cut"].sum() >= 3
    side = volume_runs.CONFIG.tile
    over = (table[["y_min", "x_min"]] // side).to_numpy() != (
        (table[["y_max", "x_max"]] - 1) // side
    ).to_numpy()
    assert over.all(axis=1).sum() > 10  # on corners of four tiles
    with (serial / "slices" / "objects.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(table)
    store = zarr.open_group(serial / "slices" / "labels.zarr", mode="r")
    levels = [np.asarray(store[str(level)]) for level in range(3)]
    np.testing.assert_array_equal(np.unique(levels[0]), np.arange(len(table) + 1))
    np.testing.assert_array_equal(levels[2], levels[0][:, ::4, ::4])
    np.testing.assert_array_equal(
        tifffile.imread(serial / "slices" / "labels.tif"), levels[0].astype(np.uint8)
    )
    linked = zarr.open_array(serial / "linked" / "labels.zarr" / "0", mode="r")
    assert 0 < np.max(linked) < len(table)


def test_the_same_twice(image: Path, serial: Path, tmp_path: Path) -> None:
    run(image, tmp_path / "again", link=LINK)
    assert_same(tmp_path / "again", serial / "linked")


@pytest.mark.parametrize("seed", range(2))
def test_tiles_and_stitching_in_another_order(
    image: Path, serial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    shuffle_tiles(monkeypatch, seed)
    monkeypatch.setattr(segment_module, "jobs_here", shuffled_jobs(seed))
    events = run(image, tmp_path / "shuffled", link=LINK)
    order = [event.index for event in events if isinstance(event, TileDone)]
    assert order[:20] != sorted(order[:20])
    assert_same(tmp_path / "shuffled", serial / "linked")


@pytest.mark.parametrize("seed", range(2))
def test_a_pool_that_answers_in_random_order(
    image: Path, serial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    pools = use_shuffled_pool(monkeypatch, seed)
    run(image, tmp_path / "pool", link=LINK, dask="local")
    kinds = [type(job).__name__ for job in pools[0].done]
    assert len(set(kinds)) == 5  # tiles, and the four jobs of stitching
    tiles = [(job.slice_number, job.tile) for job in pools[0].done if hasattr(job, "tile")]
    assert len(tiles) == 60
    assert tiles != sorted(tiles)
    assert_same(tmp_path / "pool", serial / "linked")


def test_stopped_anywhere_and_resumed_by_another_kind_of_run(
    image: Path, serial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(0)
    use_shuffled_pool(monkeypatch, seed=0)
    target, config = output_of(tmp_path / "resumed", link=LINK)
    events, n_runs = [], 0
    while not target.exists() or target.with_name("labels.zarr.journal").exists():
        options = {"resume": n_runs > 0, "dask": rng.choice([None, "local"])}
        n_before = rng.randrange(10, 60)
        steps = segment_volume(image, target, dataclasses.replace(config, **options), Blobs())
        for _, event in zip(range(n_before), steps, strict=False):
            events.append(event)
        steps.close()
        n_runs += 1
    assert n_runs > 3
    assert [event.slice_number for event in events if isinstance(event, SliceDone)] == [0, 1, 2]
    assert_same(tmp_path / "resumed", serial / "linked")


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_processes(image: Path, serial: Path, tmp_path: Path, workers: int) -> None:
    run(image, tmp_path / "workers", workers=workers)
    assert_same(tmp_path / "workers", serial / "slices")


def test_one_other_process_that_stitches_too(
    image: Path, serial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        segment_module, "_pool", lambda *given: ProcessPool(order_of(*given), n_processes=1)
    )
    run(image, tmp_path / "workers", dask="local")
    assert_same(tmp_path / "workers", serial / "slices")


def test_a_dask_cluster(image: Path, serial: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules["volume_runs"])  # workers cannot import it
    try:
        run(image, tmp_path / "dask", dask="local", workers=2)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules["volume_runs"])
    assert_same(tmp_path / "dask", serial / "slices")


def test_options_that_say_where_the_work_is_done_are_not_in_the_plan() -> None:
    plain = SegmentConfig()
    moved = SegmentConfig(workers=3, device="cpu", tables=("a.csv",), tiff="a.tif")
    assert moved.fingerprint() == plain.fingerprint()
