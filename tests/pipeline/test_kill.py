"""Runs that are killed at any moment and resumed give the same bytes as one that was left alone."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam.core.errors import OutputError
from napari_sam.pipeline import FunctionSegmenter, SegmentConfig, TileDone, segment_volume

KILLS = 12
CONFIG = SegmentConfig(axes="ZYX", tile=40, halo=16, min_size=2, contrast_limits=(0, 255))
RUNNER = """
import dataclasses, runpy, sys, time
from pathlib import Path
from napari_sam.pipeline import segment_volume

shared = runpy.run_path(sys.argv[3])
source, target = Path(sys.argv[1]), Path(sys.argv[2])
is_begun = target.with_name(target.name + ".journal").exists()
config = dataclasses.replace(shared["CONFIG"], resume=is_begun, overwrite=not is_begun)
print("begun", flush=True)
for event in segment_volume(source, target, config, shared["threshold"]()):
    time.sleep(0.002)
print("done", flush=True)
"""


def discs(n_slices: int, side: int) -> np.ndarray:
    rows, cols = np.indices((side, side))
    stack = np.zeros((n_slices, side, side), np.uint8)
    for number in range(n_slices):
        step = 17 + 3 * number
        stack[number][np.hypot(rows % step - step // 2, cols % step - step // 2) < 6] = 200
    return stack


def threshold() -> FunctionSegmenter:
    from scipy import ndimage

    return FunctionSegmenter(
        lambda tile: ndimage.label(tile[..., 0] > 100)[0], digest="threshold", window=72
    )


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, discs(4, 180), photometric="minisblack")
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_and_resumed_runs_give_the_same_bytes(image: Path, tmp_path: Path) -> None:
    list(segment_volume(image, tmp_path / "whole.zarr", CONFIG, threshold()))
    (tmp_path / "killed").mkdir()
    target = tmp_path / "killed" / "whole.zarr"
    command = [sys.executable, "-c", RUNNER, str(image), str(target), __file__]
    rng, n_killed, is_done = random.Random(0), 0, False
    while not is_done:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n", process.communicate()[1].decode()
        if n_killed < KILLS:
            time.sleep(rng.uniform(0.0, 0.25))
            process.send_signal(signal.SIGKILL)
        rest, errors = process.communicate(timeout=120)
        is_done = b"done" in rest
        n_killed += process.returncode == -signal.SIGKILL
        assert is_done or process.returncode == -signal.SIGKILL, errors.decode()
    assert n_killed >= KILLS // 3
    assert bytes_of(target) == bytes_of(tmp_path / "whole.zarr")
    assert [path.name for path in target.parent.iterdir()] == ["whole.zarr"]


def test_a_second_process_on_the_same_output_is_refused(image: Path, tmp_path: Path) -> None:
    events = segment_volume(image, tmp_path / "a.zarr", CONFIG, threshold())
    assert any(isinstance(event, TileDone) for event in events)  # it goes on, and stands still
    again = SegmentConfig(**{**vars(CONFIG), "overwrite": True})
    with pytest.raises(OutputError, match="Another process is writing"):
        list(segment_volume(image, tmp_path / "a.zarr", again, threshold()))
    list(events)
    list(segment_volume(image, tmp_path / "a.zarr", again, threshold()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "stack.tif"]
