"""Runs that are killed at any moment and resumed give the same bytes as one that was left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile

import volume_runs
from killed_runs import Ending, KilledRuns
from napari_sam.core.errors import OutputError
from napari_sam.pipeline import FunctionSegmenter, SegmentConfig, TileDone, segment_volume
from volume_runs import bytes_of, write_stack

KILLS = 30
LINKED = 0.2
"""IoU from which slices are linked."""
CONFIG = SegmentConfig(axes="ZYX", tile=40, halo=16, min_size=2, contrast_limits=(0, 255))
NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no SIGKILL")


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[KilledRuns]:
    with KilledRuns(write_stack(tmp_path / "stack.tif", n_slices=2, shape_yx=(75, 70))) as started:
        yield started


def undisturbed(runs: KilledRuns, folder: Path, min_iou: float | None) -> Ending:
    """Run once to load what is loaded late, and once to see how long it takes."""
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)
        ending = runs.run(folder, min_iou=min_iou)
        assert not ending.error, ending.error
    return ending


@NEEDS_FORK
def test_killed_at_random_moments_and_resumed(runs: KilledRuns, tmp_path: Path) -> None:
    rng, n_killed, n_whole = random.Random(0), 0, 0
    whole = {link: undisturbed(runs, tmp_path / f"whole {link}", link) for link in (None, LINKED)}
    link: float | None = None
    while n_killed < KILLS or (tmp_path / "killed").exists():
        # short delays are drawn more often, so that a run is killed several times on its way
        delay = whole[link].seconds * rng.random() ** 2 if n_killed < KILLS else None
        ending = runs.run(tmp_path / "killed", min_iou=link, after_s=delay)
        assert not ending.error, ending.error
        n_killed += ending.is_killed
        if not ending.is_killed:
            assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / f"whole {link}")
            shutil.rmtree(tmp_path / "killed")
            n_whole, link = n_whole + 1, None if link else LINKED
    assert n_whole >= 2


def moments(changes: list[str]) -> list[tuple[str, int]]:
    """Choose the first change of each kind, and the last where metadata are written.

    Folders are left out, but for the store's own: whether they are there changes nothing.
    """
    counts = Counter(kind for kind in changes if "mkdir" not in kind and "link" not in kind[:8])
    first = [("os.mkdir /labels.zarr", 1), *((kind, 1) for kind in counts)]
    return first + [(kind, n) for kind, n in counts.items() if n > 1 and "zarr.ID" in kind]


def assert_whole_after_each_kill(
    runs: KilledRuns, killed: list[tuple[str, int]], folder: Path, before: Path | None = None
) -> None:
    """Kill a run at each of these moments, run it again, and compare its output."""
    whole, wrong = next(folder.glob("whole*")), []
    for moment in killed:
        min_iou = LINKED if "linked" in whole.name else None
        if before is not None:
            shutil.copytree(before, folder / "killed")
        ending = runs.run(folder / "killed", min_iou=min_iou, before_change=moment)
        assert ending.is_killed, (moment, ending.error)
        again = runs.run(folder / "killed", min_iou=min_iou)
        found, expected = bytes_of(folder / "killed"), bytes_of(whole)
        if again.error or found != expected:
            differing = sorted(dict(found.items() ^ expected.items()))
            wrong.append(f"before {moment}: {again.error.splitlines()[-1:]} {differing[:4]}")
        shutil.rmtree(folder / "killed")
    assert not wrong, "\n".join(wrong)


@NEEDS_FORK
def test_killed_before_each_kind_of_change_to_files(runs: KilledRuns, tmp_path: Path) -> None:
    changes = undisturbed(runs, tmp_path / "whole", None).changes
    assert_whole_after_each_kill(runs, moments(changes), tmp_path)


@NEEDS_FORK
def test_killed_before_each_kind_of_change_while_linking(runs: KilledRuns, tmp_path: Path) -> None:
    changes = undisturbed(runs, tmp_path / "whole linked", LINKED).changes
    first = next(number for number, kind in enumerate(changes) if "linked.zarr" in kind)
    here = [moment for moment in moments(changes) if moment[0] in changes[first:]]
    here = [(kind, n) for kind, n in here if kind not in changes[:first]]
    assert_whole_after_each_kill(runs, here, tmp_path)


@NEEDS_FORK
def test_killed_while_an_older_output_is_replaced(runs: KilledRuns, tmp_path: Path) -> None:
    undisturbed(runs, tmp_path / "whole", None)
    shutil.copytree(tmp_path / "whole", tmp_path / "older")
    next((tmp_path / "older" / "labels.zarr" / "0").rglob("c/0/*/0")).unlink()
    shutil.copytree(tmp_path / "older", tmp_path / "replaced")
    changes = runs.run(tmp_path / "replaced").changes
    assert bytes_of(tmp_path / "replaced") == bytes_of(tmp_path / "whole")
    shutil.rmtree(tmp_path / "replaced")
    last = max(number for number, kind in enumerate(changes) if ".replaced" in kind)
    assert_whole_after_each_kill(runs, moments(changes[: last + 1]), tmp_path, tmp_path / "older")


WITH_WORKERS = """
import dataclasses, multiprocessing, sys, threading
from pathlib import Path
from napari_sam.pipeline import TileDone, segment_volume
from volume_runs import Blobs, output_of

if __name__ == "__main__":
    target, config = output_of(Path(sys.argv[2]), workers=2)
    for event in segment_volume(sys.argv[1], target, config, Blobs()):
        if isinstance(event, TileDone):
            print(*(process.pid for process in multiprocessing.active_children()), flush=True)
            threading.Event().wait()
"""


@NEEDS_FORK
def test_workers_of_a_killed_run_end(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(WITH_WORKERS)
    image = write_stack(tmp_path / "stack.tif")
    command = [sys.executable, tmp_path / "run.py", image, tmp_path / "out"]
    found_at = [str(Path(volume_runs.__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, found_at))}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    process.kill()
    try:
        process.communicate(timeout=20)  # the workers hold its output open until they end
    finally:
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.stdout.close()


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


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, discs(4, 180), photometric="minisblack")
    return path


def test_a_second_process_on_the_same_output_is_refused(image: Path, tmp_path: Path) -> None:
    events = segment_volume(image, tmp_path / "a.zarr", CONFIG, threshold())
    assert any(isinstance(event, TileDone) for event in events)  # it goes on, and stands still
    again = SegmentConfig(**{**vars(CONFIG), "overwrite": True})
    with pytest.raises(OutputError, match="Another process is writing"):
        list(segment_volume(image, tmp_path / "a.zarr", again, threshold()))
    list(events)
    list(segment_volume(image, tmp_path / "a.zarr", again, threshold()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "stack.tif"]
