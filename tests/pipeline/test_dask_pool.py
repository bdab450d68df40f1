"""Workers of a Dask cluster give the same bytes as one process, whatever happens to them."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam.core.errors import ConfigError, DeviceError, OutputError
from napari_sam.pipeline import Event, SegmentConfig, SliceDone, TileDone, Warned, segment_volume
from napari_sam.pipeline.segmenters import TileObjects
from napari_sam.pipeline.worker import leave_token

pytest.importorskip("distributed")

CONFIG = SegmentConfig(axes="ZYX", tile=40, halo=16, min_size=2, contrast_limits=(0, 255))
PIDS = "PIDS_OF_WORKERS"
DEATHS = 2
"""Workers that a task may kill until Dask gives it up; Dask's own choice is 4, and takes longer."""


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Finds discs; passes to other processes, which need not know this module."""

    digest: str = "threshold"
    dies_in: str = ""
    window, keeps_8bit = 72, False

    def __call__(self, tile: np.ndarray) -> TileObjects:
        from scipy import ndimage

        with (Path(os.environ[PIDS]) / str(os.getpid())).open("a") as file:
            file.write("x")
        if self.dies_in == "corner" and tile[0, 0, 0] > 210:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)  # so that there is something to share
        labels, count = ndimage.label(tile[..., 0] > 100)
        return TileObjects(labels.astype(np.int32), np.ones(count, np.float32))


@pytest.fixture(autouse=True)
def by_value() -> Iterator[None]:
    """Send this module's classes to the workers, which cannot import it."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Discs; the upper left corner of slice 1 is bright."""
    (tmp_path / "pids").mkdir()
    monkeypatch.setenv(PIDS, str(tmp_path / "pids"))
    rows, cols = np.indices((150, 170))
    disc = np.hypot(rows % 19 - 9, cols % 19 - 9) < 6
    stack = np.where(disc, 200, 0).astype(np.uint8)[None].repeat(3, 0)
    stack[1, 0, 0] = 255
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, photometric="minisblack")
    return path


class Cluster:
    """A scheduler and workers as people start them, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self._processes = [
            self._start("dask", "scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")
        ]
        while not (self.file.exists() and self.file.read_text().endswith("}")):
            assert self._processes[0].poll() is None
            time.sleep(0.05)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *command, "--scheduler-file", str(self.file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.file.parent,
            env={**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(DEATHS - 1)},
        )

    def add_worker(self, *options: str) -> subprocess.Popen[bytes]:
        process = self._start(
            "dask", "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", *options
        )
        self._processes.append(process)
        return process

    def end_scheduler(self) -> None:
        self._processes[0].kill()
        self._processes[0].wait()

    def close(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(image: Path, tmp_path: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path)
    yield started
    started.close()


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def on(cluster: Cluster, **options: object) -> SegmentConfig:
    return dataclasses.replace(CONFIG, dask=str(cluster.file), **options)


def workers_at_hand() -> int:
    from napari_sam.pipeline import dask_pool

    return len(dask_pool._workers)


def pids(folder: Path) -> set[str]:
    return {path.name for path in (folder / "pids").iterdir()}


def test_a_local_cluster_gives_the_same_bytes(image: Path, tmp_path: Path) -> None:
    list(segment_volume(image, tmp_path / "a.zarr", CONFIG, Threshold()))
    before = pids(tmp_path)
    (tmp_path / "dask").mkdir()
    target = tmp_path / "dask" / "a.zarr"
    local = dataclasses.replace(CONFIG, dask="local", workers=2)
    events = list(segment_volume(image, target, local, Threshold()))
    assert bytes_of(target) == bytes_of(tmp_path / "a.zarr")
    assert len(pids(tmp_path) - before) == 2
    assert sum(isinstance(event, TileDone) for event in events) == 60
    assert [event.slice_number for event in events if isinstance(event, SliceDone)] == [0, 1, 2]
    assert [path.name for path in target.parent.iterdir()] == ["a.zarr"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_workers_are_lost_and_added(image: Path, tmp_path: Path, cluster: Cluster) -> None:
    list(segment_volume(image, tmp_path / "a.zarr", CONFIG, Threshold()))
    (tmp_path / "dask").mkdir()
    target = tmp_path / "dask" / "a.zarr"
    first = cluster.add_worker()
    before = pids(tmp_path)
    n_done = 0
    for event in segment_volume(image, target, on(cluster), Threshold()):
        n_done += isinstance(event, TileDone)
        if n_done == 5 and first.poll() is None:
            first.kill()
            first.wait()
            cluster.add_worker()
            cluster.add_worker()
    assert bytes_of(target) == bytes_of(tmp_path / "a.zarr")
    assert len(pids(tmp_path) - before) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_tile_that_kills_workers_is_named(image: Path, tmp_path: Path, cluster: Cluster) -> None:
    for _ in range(DEATHS + 1):
        cluster.add_worker()
    seen: list[Event] = []
    deadly = Threshold(dies_in="corner")
    with pytest.raises(OutputError, match=r"1 tiles .* slice 1, tile 0"):
        seen.extend(segment_volume(image, tmp_path / "a.zarr", on(cluster), deadly))
    assert any("died" in event.message for event in seen if isinstance(event, Warned))
    assert sum(isinstance(event, TileDone) for event in seen) == 59
    resumed = dataclasses.replace(CONFIG, resume=True)
    events = list(segment_volume(image, tmp_path / "a.zarr", resumed, Threshold()))
    assert sum(isinstance(event, TileDone) for event in events) == 1


def test_a_run_that_is_closed_leaves_the_cluster_as_it_was(
    image: Path, tmp_path: Path, cluster: Cluster
) -> None:
    from distributed import Client

    cluster.add_worker()
    events = segment_volume(image, tmp_path / "a.zarr", on(cluster), Threshold())
    assert any(isinstance(event, TileDone) for event in events)
    events.close()
    with Client(scheduler_file=str(cluster.file)) as client:
        kept = client.run(workers_at_hand)
        assert list(kept.values()) == [0]
        assert not client.who_has()
    resumed = on(cluster, resume=True)
    list(segment_volume(image, tmp_path / "a.zarr", resumed, Threshold()))
    list(segment_volume(image, tmp_path / "b" / "a.zarr", CONFIG, Threshold()))
    assert bytes_of(tmp_path / "a.zarr") == bytes_of(tmp_path / "b" / "a.zarr")


def test_tiles_go_where_the_resource_is(
    image: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam.pipeline.tile_queue.PATIENCE_S", 0.2)
    plain = cluster.add_worker()
    config = on(cluster, dask_resources=(("GPU", 1.0),))
    warned, n_done = [], 0
    for event in segment_volume(image, tmp_path / "a.zarr", config, Threshold()):
        n_done += isinstance(event, TileDone)
        if isinstance(event, Warned):
            warned.append(event.message)
            if "GPU=1" in event.message:
                assert n_done == 0
                cluster.add_worker("--resources", "GPU=1")
    assert any("No Dask worker offers GPU=1" in message for message in warned)
    assert n_done == 60
    assert str(plain.pid) not in pids(tmp_path)


def test_workers_that_see_another_disk_are_refused(
    image: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(target: Path, token: str) -> None:
        leave_token(target, "another run")

    monkeypatch.setattr("napari_sam.pipeline.segment.leave_token", elsewhere)
    cluster.add_worker()
    with pytest.raises(OutputError, match="shared disk"):
        list(segment_volume(image, tmp_path / "a.zarr", on(cluster), Threshold()))
    assert not (tmp_path / "a.zarr").exists()


def test_a_scheduler_that_is_not_there(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam.pipeline.dask_pool.CONNECT_S", 0.5)
    config = dataclasses.replace(CONFIG, dask="tcp://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"tcp://127.0.0.1:9 cannot be reached"):
        list(segment_volume(image, tmp_path / "a.zarr", config, Threshold()))
    assert not (tmp_path / "a.zarr").exists()


def test_without_dask_it_is_said_how_to_get_it(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    config = dataclasses.replace(CONFIG, dask="local")
    with pytest.raises(ConfigError, match=r"Dask is not installed.*distributed"):
        list(segment_volume(image, tmp_path / "a.zarr", config, Threshold()))
    assert not (tmp_path / "a.zarr").exists()


def test_a_worker_that_only_stitches_needs_no_model(
    image: Path, tmp_path: Path, cluster: Cluster
) -> None:
    cluster.add_worker("--resources", "GPU=1")
    other = cluster.add_worker()
    config = on(cluster, dask_resources=(("GPU", 1.0),))
    list(segment_volume(image, tmp_path / "a.zarr", config, Threshold()))
    list(segment_volume(image, tmp_path / "b" / "a.zarr", CONFIG, Threshold()))
    assert bytes_of(tmp_path / "a.zarr") == bytes_of(tmp_path / "b" / "a.zarr")
    assert str(other.pid) not in pids(tmp_path)


def test_options_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="without a Dask cluster"):
        SegmentConfig(dask_resources=(("GPU", 1.0),))
    with pytest.raises(ConfigError, match=r"2 workers .* tcp"):
        SegmentConfig(dask="tcp://127.0.0.1:8786", workers=2)


def test_workers_with_another_model_are_refused(
    image: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_sam.core.errors import CheckpointError
    from napari_sam.pipeline import segment

    cluster.add_worker()
    here = Threshold("another")
    monkeypatch.setattr(segment, "load_segmenter", lambda config: here)
    with pytest.raises((CheckpointError, DeviceError), match="has the model"):
        list(segment_volume(image, tmp_path / "a.zarr", on(cluster)))


def test_a_request_that_ends_before_it_begins_leaves_no_log(
    cluster: Cluster, image: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.add_worker()
    list(segment_volume(image, tmp_path / "a.zarr", on(cluster), Threshold()))
    logger = logging.getLogger("tornado.application")

    def cancel() -> object:  # as distributed's own does
        return future

    def other() -> object:
        return unknown

    for call in (cancel, other):
        try:
            call()
        except NameError:
            logger.exception("Exception in callback")
    future = unknown = None
    (record,) = caplog.records
    assert "unknown" in str(record.exc_info[1])


STOPPED = """
import dataclasses, runpy, sys
from napari_sam.pipeline import TileDone, segment_volume

if __name__ == "__main__":
    import cloudpickle
    shared = runpy.run_path(sys.argv[3], run_name="shared")
    config = dataclasses.replace(shared["CONFIG"], dask="local", workers=2)
    events = segment_volume(sys.argv[1], sys.argv[2], config, shared["Threshold"]())
    try:
        for event in events:
            if isinstance(event, TileDone):
                print("tile", flush=True)
    except KeyboardInterrupt:
        events.close()
        print("stopped", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups like these")
def test_ctrl_c_ends_a_local_cluster_quietly(image: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(image), str(tmp_path / "a.zarr"), __file__],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "tile\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    told, errors = process.communicate(timeout=60)
    assert told.splitlines()[-1] == "stopped"
    assert errors == ""
    assert (tmp_path / "a.zarr.tiles").exists()


def test_a_scheduler_that_ends_is_said_and_another_one_completes(
    image: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam.pipeline.dask_pool.CONNECT_S", 3)  # also to connect again
    cluster.add_worker()
    seen: list[Event] = []

    def watch() -> None:
        for event in segment_volume(image, tmp_path / "a.zarr", on(cluster), Threshold()):
            seen.append(event)
            if sum(isinstance(item, TileDone) for item in seen) == 5:
                cluster.end_scheduler()

    with pytest.raises(DeviceError, match="Start it again"):
        watch()
    resumed = dataclasses.replace(CONFIG, resume=True)
    list(segment_volume(image, tmp_path / "a.zarr", resumed, Threshold()))
    list(segment_volume(image, tmp_path / "b" / "a.zarr", CONFIG, Threshold()))
    assert bytes_of(tmp_path / "a.zarr") == bytes_of(tmp_path / "b" / "a.zarr")
