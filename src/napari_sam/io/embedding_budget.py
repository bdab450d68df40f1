"""The size that the cache of image embeddings keeps to, remembered beside the embeddings.

Whoever stores an embedding removes those that are too many. So all of them have to know when the
cache may be larger than usual, also tomorrow.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from napari_sam.core.errors import ConfigError, OutputError
from napari_sam.io.embedding_cache import DEFAULT_BUDGET_BYTES, embedding_directory

__all__ = ["store_budget", "stored_budget"]

_FILE = "budget_bytes.txt"


def stored_budget(directory: str | os.PathLike[str] | None = None) -> int:
    """Return the size that a cache keeps to.

    Parameters
    ----------
    directory : path-like, optional
        Its folder; :func:`~napari_sam.io.embedding_cache.embedding_directory` by default.

    Returns
    -------
    int
        Bytes: what :func:`store_budget` was given last, or else the default of 5 GiB.
    """
    try:
        stored = int(_path(directory).read_text(encoding="ascii"))
    except (OSError, ValueError):  # never stored, or a folder that is not to be read
        return DEFAULT_BUDGET_BYTES
    return stored if stored >= 0 else DEFAULT_BUDGET_BYTES


def store_budget(budget_bytes: int, directory: str | os.PathLike[str] | None = None) -> None:
    """Remember the size that a cache keeps to from now on.

    Nothing is removed at once. Caches that are in use already keep to what they began with.

    Parameters
    ----------
    budget_bytes : int
        Size that all embeddings together keep to.
    directory : path-like, optional
        The cache's folder, which is made when it is missing; see :func:`stored_budget`.

    Raises
    ------
    ConfigError
        When the size is negative.
    OutputError
        When the folder cannot be written.
    """
    if budget_bytes < 0:
        raise ConfigError(
            f"A cache of {budget_bytes} bytes was asked for",
            rule="The size of a cache is 0 bytes or more",
            cure="Give for example 5 * 2**30 bytes",
        )
    path = _path(directory)
    part = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(f"{budget_bytes}\n", encoding="ascii")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"The size of the cache cannot be stored in {str(path.parent)!r} "
            f"({error.strerror or error})",
            rule="The folder of the cache must be one that you may write to",
            cure="Free some space there, or set NAPARI_SAM_HOME to another directory",
        ) from error


def _path(directory: str | os.PathLike[str] | None) -> Path:
    return (Path(directory) if directory is not None else embedding_directory()) / _FILE
