"""Several processes give the same bytes as one, and end with the run."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam.core.errors import ConfigError, DeviceError, InputError, OutputError
from napari_sam.io import open_volume
from napari_sam.pipeline import SegmentConfig, TileDone, Warned, segment_volume
from napari_sam.pipeline.segmenters import TileObjects

CONFIG = SegmentConfig(axes="ZYX", tile=40, halo=16, min_size=2, contrast_limits=(0, 255))
TWO = dataclasses.replace(CONFIG, workers=2)
PIDS = "PIDS_OF_WORKERS"


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Finds discs; passes to other processes."""

    fails: str = ""
    slow_s: float = 0.04
    window, keeps_8bit, digest = 72, False, "threshold"

    def __call__(self, tile: np.ndarray) -> TileObjects:
        from scipy import ndimage

        with (Path(os.environ[PIDS]) / str(os.getpid())).open("a") as file:
            file.write("x")
        if self.fails == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails == "always" or (self.fails == "bright" and tile[0, 0, 0] > 210):
            raise InputError("The tile is bright", rule="", cure="")
        time.sleep(self.slow_s)  # so that there is something to share
        labels, count = ndimage.label(tile[..., 0] > 100)
        return TileObjects(labels.astype(np.int32), np.ones(count, np.float32))


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Discs; the upper left corner of slice 1 is bright."""
    (tmp_path / "pids").mkdir()
    monkeypatch.setenv(PIDS, str(tmp_path / "pids"))
    rows, cols = np.indices((150, 150))
    disc = np.hypot(rows % 19 - 9, cols % 19 - 9) < 6
    stack = np.where(disc, 200, 0).astype(np.uint8)[None].repeat(3, 0)
    stack[1, 0, 0] = 255
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, photometric="minisblack")
    return path


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_two_processes_give_the_same_bytes(image: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    one = list(segment_volume(image, tmp_path / "a.zarr", CONFIG, Threshold()))
    alone = {path.name for path in (tmp_path / "pids").iterdir()}
    assert alone == {str(os.getpid())}
    two = list(segment_volume(image, tmp_path / "two" / "a.zarr", TWO, Threshold()))
    workers = {path.name for path in (tmp_path / "pids").iterdir()} - alone
    assert len(workers) == 2
    assert bytes_of(tmp_path / "two" / "a.zarr") == bytes_of(tmp_path / "a.zarr")
    found = [
        sorted(event.index for event in events if isinstance(event, TileDone))
        for events in (one, two)
    ]
    assert found[0] == found[1]
    order = [
        [event.slice_number for event in events if hasattr(event, "slice_number")]
        for events in (one, two)
    ]
    assert [sorted(numbers) == numbers for numbers in order] == [True, True]
    assert not multiprocessing.active_children()


def test_slices_of_one_tile_are_shared_too(image: Path, tmp_path: Path) -> None:
    whole = dataclasses.replace(TWO, tile=200)
    events = list(segment_volume(image, tmp_path / "a.zarr", whole, Threshold(slow_s=2.0)))
    assert [event.index for event in events if isinstance(event, TileDone)] == [0, 0, 0]
    assert len(list((tmp_path / "pids").iterdir())) == 2


def test_closing_ends_the_processes_and_another_number_of_them_completes(
    image: Path, tmp_path: Path
) -> None:
    list(segment_volume(image, tmp_path / "whole.zarr", CONFIG, Threshold()))
    (tmp_path / "two").mkdir()
    target = tmp_path / "two" / "whole.zarr"
    events = segment_volume(image, target, TWO, Threshold())
    assert any(isinstance(event, TileDone) for event in events)
    events.close()
    assert not multiprocessing.active_children()
    config = dataclasses.replace(CONFIG, resume=True, workers=3)
    list(segment_volume(image, target, config, Threshold()))
    assert bytes_of(target) == bytes_of(tmp_path / "whole.zarr")


def test_tiles_that_fail_are_tried_again_and_named(image: Path, tmp_path: Path) -> None:
    seen = []
    with pytest.raises(OutputError, match=r"1 tiles .* slice 1, tile 0 at"):
        seen.extend(segment_volume(image, tmp_path / "a.zarr", TWO, Threshold("bright")))
    warnings = [event.message for event in seen if isinstance(event, Warned)]
    assert ["tried again" in message for message in warnings] == [True, False]
    config = dataclasses.replace(TWO, resume=True)
    events = list(segment_volume(image, tmp_path / "a.zarr", config, Threshold()))
    assert sum(isinstance(event, TileDone) for event in events) == 1


def test_what_fails_everywhere_ends_the_run(image: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bright"):
        list(segment_volume(image, tmp_path / "a.zarr", TWO, Threshold("always")))
    assert not multiprocessing.active_children()
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_process_that_dies_is_said(image: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="fewer `--workers`"):
        list(segment_volume(image, tmp_path / "a.zarr", TWO, Threshold("dies")))
    assert not multiprocessing.active_children()


def test_workers_need_a_file(image: Path, tmp_path: Path) -> None:
    volume = open_volume(image, "ZYX")
    with pytest.raises(ConfigError, match="Workers were asked for with an open volume"):
        list(segment_volume(volume, tmp_path / "a.zarr", dataclasses.replace(TWO, axes=None)))
    volume.close()
    with pytest.raises(ConfigError, match="0 workers"):
        SegmentConfig(workers=0)
