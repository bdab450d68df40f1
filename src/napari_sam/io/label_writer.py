"""Label images on disk: an NGFF image-label with a multiscale pyramid, written slice by slice.

The store stands under its final name from the start, so that finished slices can be looked at while
the rest is computed. Until :meth:`LabelWriter.finish` its attributes say that it is unfinished.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import zarr
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError, OutputError

__all__ = ["LabelLayout", "LabelWriter", "NgffVersion", "check_target"]

NgffVersion = Literal["0.4", "0.5"]

COARSEST = 256
"""The pyramid ends when a level's rows and columns both fit into this many pixels."""
MAX_LEVELS = 32
EXISTS_CURE = "Choose another name, or use `--resume` to go on or `--overwrite` to replace it"
AXIS_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
STATE_KEY = "napari_sam"
STORE_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


@dataclass(frozen=True)
class LabelLayout:
    """Shape and meaning of a label store.

    Parameters
    ----------
    axes : str
        Letters of TCZYX in this order, ending in YX.
    shape : tuple of int
        Length along each axis.
    scale : tuple of float
        Pixel size along each axis.
    units : tuple of (str or None)
        Unit of each axis as NGFF spells it.
    chunk : int
        Rows and columns of a chunk, in pixels; one chunk is one slice thick.
    ngff_version : str
        ``"0.5"`` on Zarr 3, or ``"0.4"`` on Zarr 2.
    translate : tuple of float, optional
        Position of the first pixel along each axis, in `units`; the origin when not given.
    names : tuple of str, optional
        Name of each axis; by default its letter in lower case.
    dtype : str
        Type of the ids: ``"uint32"``, or ``"uint64"`` where those do not suffice.
    max_levels : int
        The pyramid has no more levels than this.

    Raises
    ------
    ConfigError
        When the version is another one or the chunk has no pixels.
    """

    axes: str
    shape: tuple[int, ...]
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    chunk: int = 512
    ngff_version: NgffVersion = "0.5"
    translate: tuple[float, ...] | None = None
    names: tuple[str, ...] | None = None
    dtype: str = "uint32"
    max_levels: int = MAX_LEVELS

    def __post_init__(self) -> None:
        if self.ngff_version not in ("0.4", "0.5") or self.chunk < 1:
            raise ConfigError(
                f"NGFF version {self.ngff_version} with chunks of {self.chunk} was asked for",
                rule="Labels are written as NGFF 0.4 or 0.5, in chunks of at least one pixel",
                cure="Use version 0.5 and chunks of 512",
            )

    @property
    def level_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each pyramid level; only rows and columns shrink."""
        shapes = [self.shape]
        while (
            len(shapes) < self.max_levels
            and max(shapes[-1][-2:]) > COARSEST
            and min(shapes[-1][-2:]) > 1
        ):
            rows, columns = shapes[-1][-2:]
            shapes.append((*self.shape[:-2], -(-rows // 2), -(-columns // 2)))
        return tuple(shapes)

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Name of each axis as it stands in the metadata."""
        return self.names or tuple(self.axes.lower())

    def attributes(self, name: str, source_image: str | None) -> dict[str, Any]:
        """Build the NGFF metadata.

        Parameters
        ----------
        name : str
            Name of the label image.
        source_image : str, optional
            Path of the OME-Zarr image that the labels belong to, relative to the label store.

        Returns
        -------
        dict
            Attributes of the group, without the state.
        """
        multiscale: dict[str, Any] = {
            "name": name,
            "axes": [self._axis(i) for i in range(len(self.axes))],
            "datasets": [self._dataset(level) for level in range(len(self.level_shapes))],
            "type": "nearest",  # how levels were made; labels are never averaged
        }
        image_label: dict[str, Any] = {"version": self.ngff_version}
        if source_image is not None:
            image_label["source"] = {"image": source_image}
        if self.ngff_version == "0.4":
            multiscale["version"] = "0.4"
            return {"multiscales": [multiscale], "image-label": image_label}
        ome = {"version": "0.5", "multiscales": [multiscale], "image-label": image_label}
        return {"ome": ome}

    def _axis(self, i: int) -> dict[str, str]:
        axis = {"name": self.axis_names[i], "type": AXIS_TYPES[self.axes[i]]}
        unit = self.units[i]
        return axis | ({"unit": unit} if unit else {})

    def _dataset(self, level: int) -> dict[str, Any]:
        factors = [1] * (len(self.axes) - 2) + [2**level] * 2
        scale = [size * factor for size, factor in zip(self.scale, factors, strict=True)]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if self.translate is not None and any(self.translate):
            # Level by level the same: pixel 0 of all levels stands at the same place.
            transforms.append({"type": "translation", "translation": list(self.translate)})
        return {"path": str(level), "coordinateTransformations": transforms}


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
    def reopen(cls, path: Path) -> LabelWriter:
        """Open an unfinished store to go on writing.

        Parameters
        ----------
        path : Path

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
        if state != "unfinished":
            found = "is finished" if state == "finished" else "was not written by napari_sam"
            raise _nothing_to_resume(path, f"it {found}")
        return cls(path, group)

    def write_slice(self, index: tuple[int, ...], labels: NDArray[Any]) -> None:
        """Write one slice into every level.

        A level holds every second row and column of the one before, so a label never changes and
        pixel 0 of all levels stands at the same place.

        Parameters
        ----------
        index : tuple of int
            Position along the axes before YX.
        labels : ndarray of int, shape (H, W)

        Raises
        ------
        OutputError
            When the disk is full or the store cannot be written.
        """
        plane = labels.astype(self._levels[0].dtype)
        with output_errors(self.path):
            for array in self._levels:
                array[index] = plane
                plane = plane[::2, ::2]

    def finish(self) -> None:
        """Mark the store as finished.

        Raises
        ------
        OutputError
            When the store cannot be written.
        """
        with output_errors(self.path):
            self._group.attrs[STATE_KEY] = {"state": "finished"}


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
    if not any((path / name).exists() for name in STORE_FILES):
        raise OutputError(
            f"The output {path} exists and is no Zarr store",
            rule="Only a Zarr store is replaced, never other files or folders",
            cure="Choose another name for the output",
        )


@contextmanager
def set_aside(path: Path) -> Iterator[None]:
    """Move an existing store away, and put it back when the block fails.

    Parameters
    ----------
    path : Path
        Store that will be replaced; nothing happens when it does not exist.
    """
    backup = path.with_name(f".{path.name}.replaced")
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
