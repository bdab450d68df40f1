"""The weight files on this computer: where they are, which are there, import and removal."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_sam.core.errors import CheckpointError, ConfigError, OutputError
from napari_sam.model.hashing import HashMemory
from napari_sam.model.registry import MODELS, ModelEntry, find_model

__all__ = [
    "ModelStatus",
    "import_model",
    "install_file",
    "model_directory",
    "model_path",
    "model_status",
    "partial_path",
    "remove_model",
    "translate_os_errors",
    "verify_file",
]

_BUNDLED = Path(__file__).resolve().parent.parent / "weights"
_HASHES = HashMemory()


@dataclass(frozen=True)
class ModelStatus:
    """A model and its weights on this computer.

    Attributes
    ----------
    entry : ModelEntry
        The registered model.
    state : {"bundled", "installed", "partial", "absent"}
        Part of the package; in the model directory; partly downloaded; not there.
    path : pathlib.Path
        Where the weights are, or would be.
    bytes_on_disk : int
        Size of the file or of its part.
    """

    entry: ModelEntry
    state: Literal["bundled", "installed", "partial", "absent"]
    path: Path
    bytes_on_disk: int


def model_directory() -> Path:
    """Return the directory of downloaded and imported weights; it need not exist yet.

    It is ``models`` in the directory that the environment variable NAPARI_SAM_HOME names, or
    in the operating system's directory for application data.
    """
    home = os.environ.get("NAPARI_SAM_HOME")
    if home:
        return Path(home).expanduser() / "models"
    import platformdirs

    return platformdirs.user_data_path("napari_sam", appauthor=False) / "models"


def model_path(entry: ModelEntry) -> Path:
    """Return where the weights of a model are, or would be."""
    return (_BUNDLED if entry.is_bundled else model_directory()) / entry.file_name


def partial_path(path: Path) -> Path:
    """Return where an unfinished copy of `path` is kept."""
    return path.with_name(path.name + ".part")


def model_status() -> list[ModelStatus]:
    """List all registered models and what of each is on this computer."""
    return [_status(entry) for entry in MODELS.values()]


def import_model(name: str, source: str | Path) -> Path:
    """Install weights from a file, for computers that cannot download them.

    The file is copied beside its final place, checked against the published hash, and only then
    given its name.

    Parameters
    ----------
    name : str
        The registered model.
    source : str or pathlib.Path
        The weights file as published.

    Returns
    -------
    pathlib.Path
        The installed file.

    Raises
    ------
    ConfigError
        The model is unknown, or part of the package.
    CheckpointError
        The file cannot be read, or is not the published one.
    OutputError
        The model directory cannot be written.
    """
    entry = find_model(name)
    refuse_bundled(entry, "imported")
    source = Path(source).expanduser()
    if not source.is_file():
        raise CheckpointError(
            f"There is no file {str(source)!r}",
            rule="The weights have to be a file on this computer",
            cure=f"Download {entry.url} elsewhere, copy it here and give its path",
        )
    verify_file(source, entry)
    target = model_path(entry)
    with translate_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = target.with_name(target.name + ".import")
        try:
            shutil.copyfile(source, copy)
            os.replace(copy, target)
        finally:
            copy.unlink(missing_ok=True)
    return target


def remove_model(name: str) -> int:
    """Delete the weights of a model, and what a broken-off download left of them.

    Parameters
    ----------
    name : str
        The registered model.

    Returns
    -------
    int
        The bytes set free; 0 if nothing was there.

    Raises
    ------
    ConfigError
        The model is unknown, or part of the package.
    OutputError
        A file cannot be deleted.
    """
    entry = find_model(name)
    refuse_bundled(entry, "removed")
    path = model_path(entry)
    freed = 0
    with translate_os_errors(path):
        for file in (path, partial_path(path)):
            if file.exists():
                freed += file.stat().st_size
                file.unlink()
    return freed


def install_file(part: Path, target: Path, entry: ModelEntry) -> None:
    """Check a complete `part` and give it its final name; a wrong one is deleted.

    Raises
    ------
    CheckpointError
        Its hash is not the published one.
    OutputError
        It cannot be renamed.
    """
    try:
        verify_file(part, entry)
    except CheckpointError:
        part.unlink(missing_ok=True)
        raise
    with translate_os_errors(target):
        os.replace(part, target)


def verify_file(path: Path, entry: ModelEntry | None) -> str:
    """Check a file against the published hash.

    In a process, a file is hashed again only when it has changed.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    entry : ModelEntry or None
        The model whose weights it should be. None, or a bundled model, which is checked when the
        package is installed: any file passes, and only its digest is computed.

    Returns
    -------
    str
        SHA-256 of the file, hexadecimal.

    Raises
    ------
    CheckpointError
        The file cannot be read, or its hash differs.
    """
    expected = entry.file_hash if entry else None
    try:
        digests = _HASHES.hashes(path, {"sha256", expected.algorithm} if expected else {"sha256"})
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(
            f"The file {str(path)!r} cannot be read ({error.strerror})",
            rule="The weights have to be a readable file",
            cure="Check the path and its permissions",
        ) from error
    if entry and expected and digests[expected.algorithm] != expected.hexdigest:
        known_size = f" and has {entry.size_bytes} bytes" if entry.size_is_exact else ""
        raise CheckpointError(
            f"{str(path)!r} ({size} bytes) has {expected.algorithm} {digests[expected.algorithm]}",
            rule=f"The published file of {entry.name} has {expected.hexdigest}{known_size}",
            cure=(
                f"The file is damaged, incomplete or another one: get it again from {entry.url}, "
                "or load it by its path if it is a model of your own"
            ),
        )
    return digests["sha256"]


def refuse_bundled(entry: ModelEntry, action: str) -> None:
    """Refuse what can only be done with a model that is not part of the package.

    Raises
    ------
    ConfigError
        The model is part of the package.
    """
    if entry.is_bundled:
        raise ConfigError(
            f"The model {entry.name!r} cannot be {action}",
            rule="Its weights are part of the package",
            cure=f"Use it as it is: load_model({entry.name!r})",
        )


@contextmanager
def translate_os_errors(target: Path) -> Iterator[None]:
    """Raise the operating system's errors while writing `target` as `OutputError`.

    Raises
    ------
    OutputError
        The disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise OutputError(
            f"{str(target)!r} cannot be written ({error.strerror or error})",
            rule="Weights are kept in the model directory, which has to be writable",
            cure=(
                "Free some space, or set NAPARI_SAM_HOME to a directory on a larger disk"
                if full
                else "Set NAPARI_SAM_HOME to a directory that you may write to"
            ),
        ) from error


def _status(entry: ModelEntry) -> ModelStatus:
    path = model_path(entry)
    if path.is_file():
        state: Literal["bundled", "installed"] = "bundled" if entry.is_bundled else "installed"
        return ModelStatus(entry, state, path, path.stat().st_size)
    part = partial_path(path)
    if part.is_file():
        return ModelStatus(entry, "partial", path, part.stat().st_size)
    return ModelStatus(entry, "absent", path, 0)
