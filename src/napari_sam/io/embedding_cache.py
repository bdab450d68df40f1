"""Image embeddings on disk: one file each, half precision, compressed, without pickle.

A file is a Zarr 3 group in a zip archive, so that any Zarr reader opens it:
``zarr.open_group(zarr.storage.ZipStore(path))``. The key is a hash of all that an embedding depends
on, so nothing needs to be invalidated, and a file may be copied to a colleague's cache as it is.
"""

from __future__ import annotations

import os
import time
import uuid
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError, NapariSamWarning

__all__ = ["DEFAULT_BUDGET_BYTES", "EmbeddingCache", "embedding_directory"]

DEFAULT_BUDGET_BYTES = 5 * 2**30
"""Disk space that a cache takes by default."""

_SUFFIX = ".zarr.zip"
_PART_SUFFIX = ".part"
_PART_AGE_S = 3600.0
"""Age from which an unfinished file is taken for the rest of a process that died."""

# Chunks of 4 MiB: fewer cost less per chunk, and one is decoded in a few milliseconds. The codecs
# let go of the interpreter lock, so other threads work on meanwhile.
_CHUNK_BYTES = 4 * 2**20
_COMPRESSION_LEVEL = 1  # features are nearly noise: higher levels save 1 % and take twice the time


def embedding_directory() -> Path:
    """Return the directory of cached embeddings; it need not exist yet.

    It is ``embeddings`` in the directory that the environment variable NAPARI_SAM_HOME names, or
    in the operating system's directory for caches.
    """
    home = os.environ.get("NAPARI_SAM_HOME")
    if home:
        return Path(home).expanduser() / "embeddings"
    import platformdirs

    return platformdirs.user_cache_path("napari_sam", appauthor=False) / "embeddings"


class EmbeddingCache:
    """A folder of embeddings that forgets the least recently used ones.

    Several threads and processes may use one folder. A file appears whole or not at all; a damaged
    one is removed and counts as absent. When the folder cannot be written, this is said once, and
    nothing is stored from then on.

    Parameters
    ----------
    directory : path-like, optional
        The folder; :func:`embedding_directory` by default. It is made when first written to.
    budget_bytes : int
        Size that all files together keep to.

    Raises
    ------
    ConfigError
        When the budget is negative.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        budget_bytes: int = DEFAULT_BUDGET_BYTES,
    ) -> None:
        if budget_bytes < 0:
            raise ConfigError(
                f"A cache of {budget_bytes} bytes was asked for",
                rule="The size of a cache is 0 bytes or more",
                cure="Give for example 5 * 2**30 bytes",
            )
        self.directory = Path(directory) if directory is not None else embedding_directory()
        self.budget_bytes = int(budget_bytes)
        self._is_writable = True

    def get(self, key: str) -> dict[str, NDArray[np.float16]] | None:
        """Read an embedding, and mark it as used.

        Parameters
        ----------
        key : str
            As it was given to :meth:`put`.

        Returns
        -------
        dict of ndarray of float16, or None
            The arrays by name; None when there is no such embedding, or its file is damaged.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            arrays = _read(path, key)
        except (FileNotFoundError, PermissionError, MemoryError):
            return None  # removed meanwhile, or not ours to judge
        except Exception:  # whatever zip, Zarr and the codecs make of damaged bytes
            _remove(path)
            return None
        _mark_used(path)
        return arrays

    def put(
        self,
        key: str,
        arrays: Mapping[str, NDArray[np.float16]],
        attributes: Mapping[str, Any] | None = None,
    ) -> bool:
        """Store an embedding, and remove the least recently used ones that are too many.

        Parameters
        ----------
        key : str
            Hexadecimal hash of all that the embedding depends on.
        arrays : mapping of str to ndarray of float16
            Its arrays by name.
        attributes : mapping, optional
            What a reader may want to know; JSON values.

        Returns
        -------
        bool
            Whether it is stored now. Not so when it alone is larger than the budget.

        Warns
        -----
        NapariSamWarning
            The first time that the folder cannot be written.
        """
        if not self._is_writable or sum(a.nbytes for a in arrays.values()) > self.budget_bytes:
            return False
        path = self._path(key)
        part = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex}{_PART_SUFFIX}")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                _write(part, arrays, {**(attributes or {}), "key": key})
                os.replace(part, path)
            finally:
                _remove(part)
        except OSError as error:
            if path.is_file():  # another process has it open, and so has stored the same
                return True
            self._give_up(error)
            return False
        self._trim(keep=path)
        return True

    def size_bytes(self) -> int:
        """Return the size of all stored embeddings."""
        return sum(size for _, size, _ in self._files())

    def clear(self) -> int:
        """Remove all embeddings.

        Returns
        -------
        int
            The bytes set free.
        """
        freed = 0
        for path, size, _ in self._files():
            freed += size if _remove(path) else 0
        self._is_writable = True  # there may be room now
        return freed

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}{_SUFFIX}"

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        """Path, size and time of last use of each embedding and each unfinished file."""
        try:
            entries = list(os.scandir(self.directory))
        except OSError:
            return
        for entry in entries:
            if entry.name.endswith((_SUFFIX, _PART_SUFFIX)):
                try:
                    status = entry.stat()
                except OSError:  # another process was faster
                    continue
                yield Path(entry.path), status.st_size, status.st_mtime

    def _trim(self, keep: Path) -> None:
        files = sorted(self._files(), key=lambda file: file[2])
        total = sum(size for _, size, _ in files)
        for path, size, used in files:
            if path.name.endswith(_PART_SUFFIX):
                is_surplus = used < time.time() - _PART_AGE_S
            else:
                is_surplus = total > self.budget_bytes and path != keep
            if is_surplus and _remove(path):
                total -= size

    def _give_up(self, error: OSError) -> None:
        self._is_writable = False
        warnings.warn(
            f"Image embeddings cannot be stored in {str(self.directory)!r} "
            f"({error.strerror or error}); they are computed again when needed. To change this, "
            "free some space there, or set NAPARI_SAM_HOME to a directory that you may write to.",
            NapariSamWarning,
            stacklevel=3,
        )


def _write(
    path: Path, arrays: Mapping[str, NDArray[np.float16]], attributes: Mapping[str, Any]
) -> None:
    import zarr
    from zarr.codecs import BloscCodec
    from zarr.storage import ZipStore

    blosc = BloscCodec(cname="zstd", clevel=_COMPRESSION_LEVEL, shuffle="bitshuffle")
    store = ZipStore(path, mode="w", compression=zipfile.ZIP_STORED)
    try:
        group = zarr.create_group(store, attributes=dict(attributes))
        for name, values in arrays.items():
            stored = group.create_array(
                name,
                shape=values.shape,
                dtype=np.float16,
                chunks=_chunks(values.shape),
                compressors=blosc,
            )
            stored[...] = values
    finally:
        store.close()


def _read(path: Path, key: str) -> dict[str, NDArray[np.float16]]:
    import zarr
    from zarr.storage import ZipStore

    store = ZipStore(path, mode="r")
    try:
        group = zarr.open_group(store, mode="r")
        if group.attrs["key"] != key:
            raise ValueError("The file holds another embedding than its name says.")
        return {name: np.asarray(array[...]) for name, array in group.arrays()}
    finally:
        store.close()


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Whole maps, as many channels as fit; parts of a map where one is too large."""
    chunks, room = [], _CHUNK_BYTES // np.dtype(np.float16).itemsize
    for length in reversed(shape):
        chunks.append(max(min(length, room), 1))
        room //= chunks[-1]
    return tuple(reversed(chunks))


def _mark_used(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:  # removed meanwhile, or a folder that is only read
        return


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:  # gone already, or open in another process
        return False
    return True
