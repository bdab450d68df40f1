"""Hashes of weight files."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["FileHash", "HashAlgorithm", "hash_file"]

HashAlgorithm = Literal["sha256", "xxh128"]

_CHUNK_BYTES = 1 << 20


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


def _new_hasher(algorithm: HashAlgorithm) -> Any:
    if algorithm == "sha256":
        return hashlib.sha256()
    import xxhash  # only micro-sam's models need it

    return xxhash.xxh128()
