"""Label images on disk: an NGFF image-label with a multiscale pyramid, written slice by slice.

The store stands under its final name from the start, so that finished slices can be looked at while
the rest is computed. Until :meth:`LabelWriter.finish` its attributes say that it is unfinished.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.core.errors import OutputError
from napari_sam.core.region import Region
from napari_sam.io.label_layout import LabelLayout

__all__ = [
    "LabelWriter",
    "check_target",
    "forget_set_aside",
    "output_errors",
    "remove_partial_files",
    "remove_store",
    "set_aside",
    "sync_path",
]

EXISTS_CURE = "Choose another name, or use `--resume` to go on or `--overwrite` to replace it"
STATE_KEY = "napari_sam"
PARTIAL = ".partial"
"""How Zarr ends the name of a file until it is whole."""
STORE_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


class LabelWriter:
    """Writes the slices of a label image and its pyramid.

    Use :meth:`create` or :meth:`reopen`.

    Parameters
    ----------
    path : Path
        Directory of the store.
    group : zarr.Group
        Its root, with one array per level.
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group
        count = len([key for key in group.array_keys() if key.isdigit()])
        self._levels = [cast("zarr.Array[Any]", group[str(level)]) for level in range(count)]

    @classmethod
    def create(
        cls,
        path: Path,
        layout: LabelLayout,
        *,
        source_image: str | None = None,
        name: str | None = None,
    ) -> LabelWriter:
        """Create an empty store that is marked unfinished.

        Parameters
        ----------
        path : Path
            Must not exist yet; missing parent folders are created.
        layout : LabelLayout
        source_image : str, optional
            Path of the OME-Zarr image that the labels belong to, relative to `path`.
        name : str, optional
            Name of the label image; by default that of the directory up to its first dot.

        Returns
        -------
        LabelWriter

        Raises
        ------
        OutputError
            When the store cannot be written there.
        """
        zarr_format: Literal[2, 3] = 2 if layout.ngff_version == "0.4" else 3
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            group = zarr.open_group(path, mode="w-", zarr_format=zarr_format)
            for level, shape in enumerate(layout.level_shapes):
                _create_level(group, str(level), shape, layout)
            name = name or path.name.split(".")[0] or "labels"
            attributes = layout.attributes(name, source_image)
            group.attrs.update({**attributes, STATE_KEY: {"state": "unfinished"}})
        return cls(path, group)

    @classmethod
    def reopen(cls, path: Path, *, may_be_finished: bool = False) -> LabelWriter:
        """Open an unfinished store to go on writing.

        Parameters
        ----------
        path : Path
        may_be_finished : bool
            Open one that is finished too.

        Returns
        -------
        LabelWriter

        Raises
        ------
        OutputError
            When there is no unfinished store of ours at `path`.
        """
        try:
            group = zarr.open_group(path, mode="r+")
            state = cast("dict[str, Any]", group.attrs.get(STATE_KEY, {})).get("state")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _nothing_to_resume(path, str(error)) from error
        if state != "unfinished" and not (may_be_finished and state == "finished"):
            found = "is finished" if state == "finished" else "was not written by napari_sam"
            raise _nothing_to_resume(path, f"it {found}")
        return cls(path, group)

    @property
    def is_finished(self) -> bool:
        """Whether the store says that it is complete."""
        state = cast("dict[str, Any]", self._group.attrs.get(STATE_KEY, {}))
        return state.get("state") == "finished"

    def remove_partial_files(self, index: tuple[int, ...] | None) -> None:
        """Remove what a process that was killed had begun to write.

        Parameters
        ----------
        index : tuple of int, optional
            Position along the axes before YX of the slice that it was at.

        Raises
        ------
        OutputError
            When they cannot be removed.
        """
        with output_errors(self.path):
            remove_partial_files(self.path)
            for array in self._levels:
                remove_partial_files(self.path / array.basename)
                if index is not None:
                    for folder in (at := self._folder(array, index), *at.rglob("*")):
                        if folder.is_dir():
                            remove_partial_files(folder)

    def _folder(self, array: zarr.Array[Any], index: tuple[int, ...]) -> Path:
        """Where the chunks of one slice lie."""
        keys = [str(number) for number in index]
        if array.metadata.zarr_format == 3:
            keys.insert(0, "c")
        return self.path.joinpath(array.basename, *keys)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the ids."""
        dtype: np.dtype[Any] = self._levels[0].dtype
        return dtype

    @property
    def chunk_yx(self) -> tuple[int, int]:
        """Rows and columns of a chunk of the full resolution."""
        rows, columns = self._levels[0].chunks[-2:]
        return int(rows), int(columns)

    def write_block(self, index: tuple[int, ...], region_yx: Region, labels: NDArray[Any]) -> None:
        """Write a part of one slice at full resolution.

        Parameters
        ----------
        index : tuple of int
            Position along the axes before YX.
        region_yx : Region
            The part; where it is made of whole chunks, no other block has to be read.
        labels : ndarray of int, shape ``region_yx.shape``

        Raises
        ------
        OutputError
            When the disk is full or the store cannot be written.
        """
        with output_errors(self.path):
            at: tuple[int | slice, ...] = (*index, *region_yx.slices)
            self._levels[0][at] = labels

    def write_pyramid(self, index: tuple[int, ...]) -> None:
        """Write the further levels of one slice, whose full resolution is written.

        A level holds every second row and column of the one before, so a label never changes and
        pixel 0 of all levels stands at the same place. It is written chunk by chunk, in the memory
        of four.

        Parameters
        ----------
        index : tuple of int
            Position along the axes before YX.

        Raises
        ------
        OutputError
            When the disk is full or the store cannot be written.
        """
        with output_errors(self.path):
            for finer, coarser in itertools.pairwise(self._levels):
                shape, chunk = coarser.shape[-2:], coarser.chunks[-2:]
                for start in itertools.product(*map(range, (0, 0), shape, chunk)):
                    stop = (min(a + c, n) for a, c, n in zip(start, chunk, shape, strict=True))
                    _halve(finer, coarser, index, Region(start, tuple(stop)))

    def sync(self, index: tuple[int, ...]) -> None:
        """Wait until one slice is on the disk and would survive a loss of power.

        Parameters
        ----------
        index : tuple of int
            Position along the axes before YX.

        Raises
        ------
        OutputError
            When the disk is full or fails.
        """
        with output_errors(self.path):
            for array in self._levels:
                folder = self._folder(array, index)
                for path in [folder, *folder.rglob("*")] if folder.exists() else []:
                    sync_path(path)

    def finish(self) -> None:
        """Mark the store as finished.

        Raises
        ------
        OutputError
            When the store cannot be written.
        """
        with output_errors(self.path):
            self._group.attrs[STATE_KEY] = {"state": "finished"}


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


def _halve(
    finer: zarr.Array[Any], coarser: zarr.Array[Any], index: tuple[int, ...], block: Region
) -> None:
    """Write a block of a level from the level before."""
    above = [slice(2 * a, 2 * b) for a, b in zip(block.start, block.stop, strict=True)]
    read: tuple[int | slice, ...] = (*index, *above)
    written: tuple[int | slice, ...] = (*index, *block.slices)
    coarser[written] = np.asarray(finer[read])[::2, ::2]


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
            raise _nothing_to_resume(path, "there is nothing")
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


def _create_level(
    group: zarr.Group, name: str, shape: tuple[int, ...], layout: LabelLayout
) -> None:
    is_v2 = layout.ngff_version == "0.4"
    rows, columns = (min(layout.chunk, length) for length in shape[-2:])
    group.create_array(
        name,
        shape=shape,
        dtype=layout.dtype,
        chunks=(*(1,) * (len(shape) - 2), rows, columns),
        fill_value=0,
        chunk_key_encoding={"name": "v2" if is_v2 else "default", "separator": "/"},
        dimension_names=None if is_v2 else list(layout.axis_names),
    )


def _nothing_to_resume(path: Path, found: str) -> OutputError:
    return OutputError(
        f"The output {path} cannot be resumed: {found}",
        rule="Only an unfinished result of `napari-sam segment` can be completed",
        cure="Leave out `--resume`, or check the path",
    )
