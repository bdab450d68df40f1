"""Outputs on disk: what may be replaced, what is set aside meanwhile, and errors with a cure."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sam.core.errors import OutputError

__all__ = [
    "check_apart",
    "check_target",
    "forget_set_aside",
    "nothing_to_resume",
    "output_errors",
    "remove_partial_files",
    "remove_store",
    "set_aside",
    "sync_path",
]

EXISTS_CURE = "Choose another name, or use `--resume` to go on or `--overwrite` to replace it"
PARTIAL = ".partial"
"""How Zarr ends the name of a file until it is whole."""
STORE_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


def check_target(
    path: Path, *, overwrite: bool, resume: bool = False, cure: str = EXISTS_CURE
) -> None:
    """Refuse a target before anything is computed.

    Parameters
    ----------
    path : Path
        Where the labels will be written.
    overwrite : bool
        Whether an existing store may be replaced.
    resume : bool
        Whether an unfinished store is to be completed.
    cure : str
        What the user can do where something is there already.

    Raises
    ------
    OutputError
        When something is there and may not be replaced, or nothing is there to resume.
    """
    if resume:
        if not path.exists():
            raise nothing_to_resume(path, "there is nothing")
        return
    if not path.exists():
        return
    if not overwrite:
        raise OutputError(
            f"The output {path} already exists",
            rule="Existing results are never replaced unasked",
            cure=cure,
        )
    if not _is_store(path):
        raise OutputError(
            f"The output {path} exists and is no Zarr store",
            rule="Only a Zarr store is replaced, never other files or folders",
            cure="Choose another name for the output",
        )


def check_apart(source: Path, target: Path, *, rule: str, cure: str) -> None:
    """Refuse an output that lies at, in or around its input.

    Parameters
    ----------
    source, target : Path
        Input and output.
    rule, cure : str
        Where such an output lies, and what the user can do.

    Raises
    ------
    OutputError
    """
    here, there = source.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise OutputError(
            f"The output {target} and the input {source} lie one in the other",
            rule=rule,
            cure=cure,
        )


def _is_store(path: Path) -> bool:
    """Whether a folder is a Zarr store, or the beginning of one whose writer was killed."""
    if any((path / name).exists() for name in STORE_FILES):
        return True
    return path.is_dir() and all(file.suffix == PARTIAL for file in path.iterdir())


@contextmanager
def set_aside(path: Path) -> Iterator[None]:
    """Move an existing store away, and put it back when the block fails.

    Parameters
    ----------
    path : Path
        Store that will be replaced; nothing happens when it does not exist.
    """
    backup = _backup(path)
    had_store = path.exists()
    if had_store:
        remove_store(backup)  # left by a run that was killed while it replaced a store
        with output_errors(path):
            path.rename(backup)
    try:
        yield
    except BaseException:
        remove_store(path)
        if had_store:
            backup.rename(path)
        raise
    remove_store(backup)


def forget_set_aside(path: Path) -> None:
    """Remove what a run that was killed has set aside, when its output is complete.

    Parameters
    ----------
    path : Path
        As it was given to :func:`set_aside`.
    """
    remove_store(_backup(path))


def _backup(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def remove_partial_files(folder: Path) -> None:
    """Remove files that a process began to write when it was killed.

    Parameters
    ----------
    folder : Path
        Only what lies directly in it is looked at.
    """
    for file in folder.glob(f"*{PARTIAL}"):
        file.unlink(missing_ok=True)


def remove_store(path: Path) -> None:
    """Remove a store that holds nothing worth keeping.

    Parameters
    ----------
    path : Path
    """
    shutil.rmtree(path, ignore_errors=True)


def sync_path(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a loss of power.

    Parameters
    ----------
    path : Path
    """
    if path.is_dir() and os.name == "nt":  # Windows knows no such thing for folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into messages with a cure.

    Parameters
    ----------
    path : Path
        What is being written.

    Raises
    ------
    OutputError
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            rule = "The disk or quota is full"
            cure = "Free space and repeat the command, with `--resume` if slices were finished"
        else:
            rule = "The output folder must exist or be creatable, and be writable by this user"
            cure = "Choose another folder, or change its permissions"
        reason = error.strerror or str(error)
        raise OutputError(f"{path} cannot be written: {reason}", rule=rule, cure=cure) from error


def nothing_to_resume(path: Path, found: str) -> OutputError:
    """Say that an output cannot be completed.

    Parameters
    ----------
    path : Path
        The output.
    found : str
        Why not: what there is instead.

    Returns
    -------
    OutputError
    """
    return OutputError(
        f"The output {path} cannot be resumed: {found}",
        rule="Only an unfinished result of `napari-sam segment` can be completed",
        cure="Leave out `--resume`, or check the path",
    )
