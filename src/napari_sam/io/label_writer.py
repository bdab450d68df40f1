"""Label images on disk: an NGFF image-label with a multiscale pyramid, written slice by slice.

The store stands under its final name from the start, so that finished slices can be looked at while
the rest is computed. Until :meth:`LabelWriter.finish` its attributes say that it is unfinished.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.core.region import Region
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.output_files import (
    nothing_to_resume,
    output_errors,
    remove_partial_files,
    sync_path,
)

__all__ = ["LabelWriter"]

STATE_KEY = "napari_sam"


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
            raise nothing_to_resume(path, str(error)) from error
        if state != "unfinished" and not (may_be_finished and state == "finished"):
            found = "is finished" if state == "finished" else "was not written by napari_sam"
            raise nothing_to_resume(path, f"it {found}")
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


def _halve(
    finer: zarr.Array[Any], coarser: zarr.Array[Any], index: tuple[int, ...], block: Region
) -> None:
    """Write a block of a level from the level before."""
    above = [slice(2 * a, 2 * b) for a, b in zip(block.start, block.stop, strict=True)]
    read: tuple[int | slice, ...] = (*index, *above)
    written: tuple[int | slice, ...] = (*index, *block.slices)
    coarser[written] = np.asarray(finer[read])[::2, ::2]


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
