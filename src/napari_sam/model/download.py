"""Download weights: with progress, resumable, cancellable, checked, and put in place at once."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sam.core.errors import CheckpointError, OutputError
from napari_sam.model.registry import ModelEntry, find_model
from napari_sam.model.store import (
    install_file,
    model_path,
    partial_path,
    refuse_bundled,
    translate_os_errors,
)

__all__ = ["DownloadProgress", "download_model"]

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = (10.0, 60.0)  # to connect, and between two packets


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download has come.

    Attributes
    ----------
    done_bytes : int
        Bytes on disk.
    total_bytes : int or None
        Size of the file; None where the server does not say.
    """

    done_bytes: int
    total_bytes: int | None


def download_model(name: str) -> Generator[DownloadProgress, None, None]:
    """Download the weights of a registered model.

    Nothing happens until the generator is run. Closing it cancels: what has come stays as a
    ``.part`` file and the next call goes on from there. The file gets its name only when it is
    complete and has the published hash. A model that is there already is not downloaded again.

    Parameters
    ----------
    name : str
        The registered model.

    Yields
    ------
    DownloadProgress
        After each piece.

    Raises
    ------
    ConfigError
        The model is unknown, or part of the package.
    CheckpointError
        The server cannot be reached or refuses, the connection broke, or the file is not the
        published one.
    OutputError
        The model directory cannot be written, or the disk is full.
    """
    entry = find_model(name)
    refuse_bundled(entry, "downloaded")
    target = model_path(entry)
    if target.is_file():
        size = target.stat().st_size
        yield DownloadProgress(size, size)
        return
    part = partial_path(target)
    with translate_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _translate_network_errors(entry):
        yield from _fetch(entry, part)
    install_file(part, target, entry)


def _fetch(entry: ModelEntry, part: Path) -> Iterator[DownloadProgress]:
    """Complete the file `part`."""
    have = part.stat().st_size if part.is_file() else 0
    if have:
        with _request(entry, have) as response:
            if response.status_code == 206 and _range_start(response) == have:
                yield from _append(response, part, have)
                return
            if response.status_code == 416 and _complete_length(response) == have:
                return
    # the server gives no part, or our part is not of its file: from the start
    with _request(entry, 0) as response:
        if response.status_code != 200:
            raise _refused(entry, response)
        yield from _append(response, part, 0)


def _request(entry: ModelEntry, have: int) -> Any:
    import requests

    # compressed transfer would make byte ranges and sizes those of the compressed stream
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    return requests.get(entry.url or "", headers=headers, stream=True, timeout=_TIMEOUT_S)


def _append(response: Any, part: Path, have: int) -> Iterator[DownloadProgress]:
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    if total is not None:
        _require_space(part, total - have)
    yield DownloadProgress(have, total)
    with translate_os_errors(part):
        file = part.open("ab" if have else "wb")
    with file:
        for chunk in response.iter_content(_CHUNK_BYTES):
            with translate_os_errors(part):
                file.write(chunk)
            have += len(chunk)
            yield DownloadProgress(have, total)


def _require_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise OutputError(
            f"{str(part.parent)!r} has {free} bytes free",
            rule=f"The download needs {needed} bytes",
            cure="Free some space, or set NAPARI_SAM_HOME to a directory on a larger disk",
        )


def _range_start(response: Any) -> int | None:
    """Return the first byte's position in an answer of part of the file."""
    content_range = response.headers.get("Content-Range", "")  # "bytes 100-199/200"
    start = content_range.removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdigit() else None


def _complete_length(response: Any) -> int | None:
    """Return the whole file's length from an answer that refuses a range."""
    length = response.headers.get("Content-Range", "").rpartition("/")[2]  # "bytes */200"
    return int(length) if length.isdigit() else None


def _refused(entry: ModelEntry, response: Any) -> CheckpointError:
    return CheckpointError(
        f"The server answered {response.status_code} {response.reason} to {entry.url}",
        rule="The weights are downloaded from their authors",
        cure=_other_way(entry),
    )


@contextmanager
def _translate_network_errors(entry: ModelEntry) -> Iterator[None]:
    import requests

    try:
        yield
    except requests.RequestException as error:
        raise CheckpointError(
            f"The download of {entry.url} broke off ({type(error).__name__})",
            rule="It needs a working connection; what has come is kept",
            cure=f"Try again to go on from there. {_other_way(entry)}",
        ) from error


def _other_way(entry: ModelEntry) -> str:
    return (
        "If this computer cannot reach the server, get the file on another one and run "
        f"napari-sam models import {entry.name} FILE"
    )
