"""A disk that is full at any moment: what was wrong is said, and the run is completed later."""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_sam.core.errors import OutputError
from napari_sam.pipeline import LinkConfig, segment_volume
from volume_runs import Blobs, bytes_of, output_of, small_and_quick, write_stack

LINK = LinkConfig(min_iou=0.2)
KINDS = {
    "labels.zarr.journal",
    "labels.zarr/zarr.ID.partial",
    "labels.zarr.tiles/run",
    "labels.zarr.tiles/N/N.part",
    "labels.zarr.tiles/N/paintings-N.npz",
    "labels.zarr/N/c/N/N/N.ID.partial",
    "labels.zarr.tiles/objects/N.part",
    "labels.zarr.tiles/linked.zarr/N/c/N/N/N.ID.partial",
    "labels.zarr.tiles/linked.part",
    ".objects.csv.partial",
    ".objects.parquet.partial",
    ".labels.tif.partial",
}
"""Some of the files that are written on the way: of tiles, chunks, notes, tables and more."""


class QuotaFile(io.FileIO):
    """A file on a disk with a quota: what still fits of a write is written, as disks do."""

    quota: Quota

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        fits = self.quota.take(Path(self.name), len(view))
        written = super().write(view[:fits]) if fits else 0
        if fits < len(view):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written


class Quota:
    """Bytes that may still be written into a folder, whatever is removed from it.

    Parameters
    ----------
    folder : Path
    size : int
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self._size, self._used = folder, size, 0
        self.writes: list[tuple[str, int, int]] = []
        self._open = io.open

    def take(self, file: Path, wanted: int) -> int:
        """Note a write to a kind of file, and tell how much of it fits."""
        kind = re.sub(r"[0-9a-f]{32}", "ID", file.relative_to(self.folder).as_posix())
        fits = min(wanted, self._size - self._used)
        self.writes.append((re.sub(r"\d+", "N", kind), self._used, wanted))
        self._used += fits
        return fits

    def moments(self) -> list[tuple[str, int]]:
        """Choose sizes with which the first, or the last, write to each kind of file fits half."""
        first = {kind: start + n // 2 for kind, start, n in reversed(self.writes)}
        last = {kind: start + n // 2 for kind, start, n in self.writes}
        return sorted({*first.items(), *last.items()}, key=lambda moment: moment[1])

    def open(self, file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        """Open a file as the built-in function does."""
        is_inside = isinstance(file, (str, Path)) and str(file).startswith(str(self.folder))
        if not is_inside or not set(mode) & set("wax+"):
            return self._open(file, mode, *rest, **named)
        raw = QuotaFile(file, mode.replace("b", "").replace("t", ""))
        raw.quota = self
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_and_quick(monkeypatch)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_stack(tmp_path / "stack.tif", n_slices=2, shape_yx=(94, 85))


def run(image: Path, folder: Path, quota: Quota | None = None, **options: Any) -> None:
    """Run, or go on with a run that has begun; with a quota, on a disk that has one."""
    target, config = output_of(folder, link=LINK, **options)
    is_begun = target.with_name(f"{target.name}.journal").exists()
    config = dataclasses.replace(config, resume=is_begun)
    with pytest.MonkeyPatch.context() as patch:
        if quota is not None:
            patch.setattr(io, "open", quota.open)
            patch.setattr("builtins.open", quota.open)
        list(segment_volume(image, target, config, Blobs()))


def test_full_while_each_kind_of_file_is_written(image: Path, tmp_path: Path) -> None:
    unlimited = Quota(tmp_path / "whole", 2**40)
    run(image, tmp_path / "whole", unlimited)
    expected, moments = bytes_of(tmp_path / "whole"), unlimited.moments()
    assert {kind for kind, _ in moments} >= KINDS
    for kind, size in moments:
        folder = tmp_path / f"full {size}"
        quota = Quota(folder, size)
        with pytest.raises(OutputError, match=r"disk or quota is full.* with `--resume`"):
            run(image, folder, quota)
        left = bytes_of(folder)
        assert not left or "labels.zarr.journal" in left, (kind, left)  # all or nothing
        run(image, folder)
        assert bytes_of(folder) == expected, (kind, size)


def test_full_again_and_again(image: Path, tmp_path: Path) -> None:
    """Each time a little is free, and each time the run comes a little further."""
    run(image, tmp_path / "whole")
    folder, n_runs, is_done = tmp_path / "full", 0, False
    while not is_done:
        try:
            run(image, folder, Quota(folder, 9000 + 2000 * n_runs))
            is_done = True
        except OutputError as error:
            assert "disk or quota is full" in error.rule  # noqa: PT017
            n_runs += 1
            assert n_runs < 100
    assert n_runs > 3
    assert bytes_of(folder) == bytes_of(tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MB in memory, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("Only Linux mounts a disk in memory")
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("Only root mounts disks")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_indeed(image: Path, tmp_path: Path, small_disk: Path) -> None:
    run(image, tmp_path / "whole")
    ballast, n_full, is_done = small_disk / "ballast", 0, False
    ballast.write_bytes(bytes(960 * 1024))
    while not is_done:
        try:
            run(image, small_disk / "run")
            is_done = True
        except OutputError as error:
            assert "disk or quota is full" in error.rule  # noqa: PT017
            n_full += 1
            os.truncate(ballast, ballast.stat().st_size - 32 * 1024)  # fails when nothing is left
    assert n_full > 2
    assert bytes_of(small_disk / "run") == bytes_of(tmp_path / "whole")
