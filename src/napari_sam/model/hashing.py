"""Hashes of weight files."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

__all__ = ["FileHash", "HashAlgorithm", "HashMemory", "hash_file"]

HashAlgorithm = Literal["sha256", "xxh128"]

_CHUNK_BYTES = 1 << 20
SETTLED_SECONDS = 2.0
"""A file that changed later than this before it was hashed may change again at the same time, as
far as its clock tells: some file systems count in steps of two seconds."""


@dataclass(frozen=True)
class FileHash:
    """The published hash of a file.

    Attributes
    ----------
    algorithm : {"sha256", "xxh128"}
        SHA-256, or the fast non-cryptographic XXH128, which finds damage but is no proof against
        a forged file.
    hexdigest : str
        The whole digest, hexadecimal, lower case.
    """

    algorithm: HashAlgorithm
    hexdigest: str


def hash_file(path: Path, algorithms: Collection[HashAlgorithm]) -> dict[HashAlgorithm, str]:
    """Compute several hashes of a file while reading it once.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    algorithms : collection of {"sha256", "xxh128"}
        The hashes to compute.

    Returns
    -------
    dict
        Hexadecimal digest of each algorithm.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    hashers = {algorithm: _new_hasher(algorithm) for algorithm in algorithms}
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            for hasher in hashers.values():
                hasher.update(chunk)
    return {algorithm: hasher.hexdigest() for algorithm, hasher in hashers.items()}


class HashMemory:
    """Hashes of files, computed once for as long as a file stays as it is.

    A file is the same while its path, device, inode, size, and the times of its last change and of
    the last change of its status are. The last of these cannot be set back by a program.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[_State, dict[HashAlgorithm, str]]] = {}

    def hashes(self, path: Path, algorithms: Collection[HashAlgorithm]) -> dict[HashAlgorithm, str]:
        """Return hashes of a file, computed unless they are known.

        Parameters
        ----------
        path : pathlib.Path
            The file.
        algorithms : collection of {"sha256", "xxh128"}
            The hashes to return; there may be others besides.

        Returns
        -------
        dict
            Hexadecimal digest of each algorithm.

        Raises
        ------
        OSError
            The file cannot be read.
        """
        name = os.path.abspath(path)
        before, now = _state(path), time.time()
        with self._lock:
            state, known = self._known.get(name, (None, {}))
        if state == before and known.keys() >= set(algorithms):
            return dict(known)
        digests = hash_file(path, algorithms)
        is_settled = now - max(before.changed_ns, before.status_ns) / 1e9 > SETTLED_SECONDS
        with self._lock:
            self._known.pop(name, None)
            if is_settled and _state(path) == before:
                self._known[name] = before, digests
        return dict(digests)


class _State(NamedTuple):
    """What tells whether a file has changed."""

    device: int
    inode: int
    n_bytes: int
    changed_ns: int
    status_ns: int


def _state(path: Path) -> _State:
    status = path.stat()
    return _State(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def _new_hasher(algorithm: HashAlgorithm) -> Any:
    if algorithm == "sha256":
        return hashlib.sha256()
    import xxhash  # only micro-sam's models need it

    return xxhash.xxh128()
