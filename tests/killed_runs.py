"""Runs that are killed, each in a process of its own, and cheaply.

A helper process imports everything once and forks a child for each run. Not for Windows.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Ending", "KilledRuns"]

WRITES = os.O_WRONLY | os.O_RDWR
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree")
"""What Python tells of when files change, besides opening them."""


class Ending(NamedTuple):
    """How a run ended: by itself, by an error, or killed.

    `changes` are the kinds of what it did to files, in their order; `error` is empty where there
    was none.
    """

    is_killed: bool
    seconds: float
    error: str
    changes: list[str]


class KilledRuns:
    """Starts runs of :func:`napari_sam.pipeline.segment_volume` and kills them.

    Parameters
    ----------
    image : Path
    """

    def __init__(self, image: Path) -> None:
        self._image = image
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def __enter__(self) -> KilledRuns:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.communicate()  # it ends with its input
        assert kind is not None or self._server.returncode == 0

    def run(
        self,
        folder: Path,
        *,
        min_iou: float | None = None,
        after_s: float | None = None,
        before_change: tuple[str, int] | None = None,
    ) -> Ending:
        """Begin a run anew, or resume it where it has begun, and wait for its end.

        Parameters
        ----------
        folder : Path
            Where its output goes, see :func:`volume_runs.output_of`.
        min_iou : float, optional
            Link slices.
        after_s : float, optional
            Kill it after a time, counted from its first event.
        before_change : tuple of str and int, optional
            Kill it before it changes files in this way for the n-th time, counted from 1.

        Returns
        -------
        Ending
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        asked = (str(self._image), str(folder), min_iou, after_s, before_change)
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        return Ending(*json.loads(self._server.stdout.readline()))


def _serve() -> None:
    import pytest

    import volume_runs

    volume_runs.small_and_quick(pytest.MonkeyPatch())
    _import_what_is_loaded_late()
    for line in sys.stdin:
        print(json.dumps(_fork_run(*json.loads(line))), flush=True)


def _import_what_is_loaded_late() -> None:
    import numcodecs.zstd
    import pandas
    import pyarrow.parquet
    import scipy.ndimage
    import tifffile
    import zarr.codecs

    from napari_sam.pipeline import segment_volume

    del numcodecs, pandas, pyarrow, scipy, tifffile, zarr, segment_volume


def _fork_run(
    image: str,
    folder: str,
    min_iou: float | None,
    after_s: float | None,
    before_change: list[Any] | None,
) -> Ending:
    told, tell = os.pipe()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(told)
        try:
            _child(Path(image), Path(folder), min_iou, before_change, tell)
        except BaseException:
            os.write(tell, b"error " + traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(tell)
    text = os.read(told, 1)  # a byte comes with the first event; none when it has ended before
    if text and after_s is not None and not select.select([told], [], [], after_s)[0]:
        os.kill(child, signal.SIGKILL)
    while piece := os.read(told, 2**16):
        text += piece
    os.close(told)
    status = os.waitpid(child, 0)[1]
    kind, _, rest = text.decode().strip().partition(" ")
    is_killed = os.WIFSIGNALED(status)
    error = rest if kind == "error" else ""
    changes = rest.splitlines() if kind == "done" else []
    return Ending(is_killed, time.monotonic() - begun, error, changes)


def _child(
    image: Path, folder: Path, min_iou: float | None, before_change: list[Any] | None, tell: int
) -> None:
    from napari_sam.pipeline import LinkConfig, segment_volume
    from volume_runs import Blobs, output_of

    changes: list[str] = []

    def watch(name: str, values: tuple[Any, ...]) -> None:
        is_change = name in CHANGES or (name == "open" and values[2] & WRITES)
        if is_change and str(values[0]).startswith(f"{folder}{os.sep}"):
            kind = _kind_of(name, str(values[0])[len(str(folder)) :])
            changes.append(kind)
            if [kind, changes.count(kind)] == before_change:
                os.kill(os.getpid(), signal.SIGKILL)

    link = None if min_iou is None else LinkConfig(min_iou=min_iou)
    target, config = output_of(folder, link=link)
    is_begun = target.with_name(f"{target.name}.journal").exists()
    config = dataclasses.replace(config, resume=is_begun, overwrite=not is_begun)
    sys.addaudithook(watch)
    for number, _ in enumerate(segment_volume(image, target, config, Blobs())):
        if number == 0:
            os.write(tell, b" ")
    os.write(tell, b"done " + "\n".join(changes).encode())


def _kind_of(name: str, path: str) -> str:
    """Leave out what differs between slices, tiles and chunks."""
    return f"{name} " + re.sub(r"\d+", "N", re.sub(r"[0-9a-f]{32}", "ID", path))


if __name__ == "__main__":
    _serve()
