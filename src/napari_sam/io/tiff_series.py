"""A series of TIFF files of one shape, one after another along a new axis, as one volume."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam.core.axes import guess_axes, normalize_axes
from napari_sam.core.errors import InputError
from napari_sam.io.chunks import ChunkLengths, chunk_lengths
from napari_sam.io.tiff import checked_series, level_array, pixel_sizes, stated_axes
from napari_sam.io.volume import TIFF_SIGNATURES, ArrayVolume, Volume, unreadable

__all__ = ["find_tiff_files", "is_pattern", "natural_key", "open_tiff_series"]

TIFF_SUFFIXES = (".tif", ".tiff")
STACKING_AXES = "ZTC"
SLICE_AXES = "CYXS"
"""What a file may hold without `--axes`: a single slice, with channels or colours."""


class _Header(NamedTuple):
    """What a file says of itself before its pixels are read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    scale: dict[str, float]
    units: dict[str, str]


@dataclass(frozen=True)
class _FileStack:
    """The files as one array; each is opened when it is read, and closed again."""

    files: tuple[Path, ...]
    file_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    file_chunks: ChunkLengths | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.files), *self.file_shape

    @property
    def chunks(self) -> ChunkLengths | None:
        """Blocks that are decoded as a whole, one file after the other."""
        if self.file_chunks is None:
            return None
        return (1,) * len(self.files), *self.file_chunks

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        spans = (span.indices(n) for span, n in zip(index, self.shape, strict=True))
        block = np.empty([len(range(*span)) for span in spans], dtype=self.dtype)
        for number, path in enumerate(self.files[index[0]]):
            block[number] = self._read(path, index[1:])
        return block

    def _read(self, path: Path, index: tuple[slice, ...]) -> NDArray[Any]:
        with tifffile.TiffFile(path) as file:
            array = level_array(file.series[0])
            if tuple(array.shape) != self.file_shape:
                raise ValueError(f"{path} has changed since the series was opened")
            return np.asarray(array[index])


def is_pattern(path: Path) -> bool:
    """Tell whether a path stands for several files, such as ``scan/*.tif``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
        False for a file that exists and merely has such signs in its name.
    """
    return glob.has_magic(str(path)) and not path.exists()


def find_tiff_files(path: Path) -> tuple[Path, ...]:
    """List the TIFF files of a folder or of a pattern.

    Parameters
    ----------
    path : Path
        A folder, of which hidden files and files without a suffix of TIFF are left out; or a
        pattern with ``*``, ``?``, ``[]`` or ``**``.

    Returns
    -------
    tuple of Path
        In natural order, 2 before 10; empty when there are none.
    """
    if path.is_dir():
        found = [
            file
            for file in path.iterdir()
            if file.suffix.lower() in TIFF_SUFFIXES
            and not file.name.startswith(".")
            and file.is_file()
        ]
    else:
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]
    return tuple(sorted(found, key=natural_key))


def natural_key(path: Path) -> list[tuple[list[str | int], str]]:
    """Build a key that sorts paths as people count: 2 before 10.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list
        A pair for each part of the path.
    """
    return [(_split_numbers(part), part) for part in path.parts]


def open_tiff_series(path: Path, axes: str | None = None) -> Volume:
    """Open the TIFF files of a folder or pattern as slices of one volume.

    The headers of all files are read at once, so that one that does not fit is found before
    anything is computed; pixels are read file by file.

    Parameters
    ----------
    path : Path
        As for :func:`find_tiff_files`.
    axes : str, optional
        Axes of the whole: first the one along which the files are stacked (Z, T or C), then those
        of a file in its order. Z before the axes of the file when not given.

    Returns
    -------
    Volume
        Its first axis counts the files in natural order. Pixel sizes are those of the first file.

    Raises
    ------
    InputError
        When there is no file, one is no TIFF or damaged, shapes or types differ, or each file is
        itself a stack and `axes` does not say of what.
    """
    files = find_tiff_files(path)
    if not files:
        raise InputError(
            f"No file matches {path}",
            rule="A pattern stands for the TIFF files of one volume",
            cure="Check the folder, and put the pattern in quotes: 'scan/*.tif'",
        )
    first = _read_header(files[0])
    for file in files[1:]:
        _check_alike(files[0], first, file, _read_header(file), axes)
    stack = _FileStack(files, first.shape, first.dtype, _read_chunks(files[0]))
    letters = _series_axes(path, stack, first.axes, axes)
    return ArrayVolume(path, [stack], letters, scale=first.scale, units=first.units, files=files)


def _split_numbers(text: str) -> list[str | int]:
    parts = re.split(r"([0-9]+)", text.casefold())
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]


def _read_header(path: Path) -> _Header:
    _check_is_tiff(path)
    file, series = checked_series(path)
    with file:
        if any(page.parent is not file for page in series.pages):
            raise InputError(
                f"{path} is part of an OME-TIFF in several files",
                rule="A series is made of files that each hold their own pixels only",
                cure=f"Open the file by its own name, {path}: it names the others",
            )
        scale, units = pixel_sizes(file, series.keyframe)
        dtype = np.dtype(series.dtype).newbyteorder("=")
        return _Header(tuple(series.shape), dtype, stated_axes(path, series), scale, units)


def _read_chunks(path: Path) -> ChunkLengths | None:
    """Tell how a file is cut into strips or tiles; the others are taken to be like it."""
    file, series = checked_series(path)
    with file:
        return chunk_lengths(level_array(series))


def _check_is_tiff(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_tiff = file.read(4) in TIFF_SIGNATURES
    except OSError as error:
        raise unreadable(path, error) from error
    if not is_tiff:
        raise InputError(
            f"{path} is no TIFF file",
            rule="A series of files is a series of TIFF files",
            cure="Take it out of the folder, or give a pattern that leaves it out: 'scan/*.tif'",
        )


def _check_alike(
    path: Path, first: _Header, other_path: Path, other: _Header, stated: str | None
) -> None:
    # The axes that the files name matter only where nobody states them.
    n_compared = 3 if stated is None else 2
    if first[:n_compared] != other[:n_compared]:
        raise InputError(
            f"The file {other_path} has shape {other.shape} ({other.axes}) of {other.dtype}, but "
            f"the first one, {path}, has shape {first.shape} ({first.axes}) of {first.dtype}",
            rule="All files of a series have the same shape and data type",
            cure="Take files that do not belong to it out of the folder, or give a pattern that "
            "leaves them out: 'scan/*.tif'",
        )


def _series_axes(path: Path, stack: _FileStack, hint: str, stated: str | None) -> str:
    if stated is not None:
        letters = normalize_axes(stated, len(stack.shape))
        if letters[0] not in STACKING_AXES:
            raise InputError(
                f"The axes {stated!r} were given for the series of files {path}",
                rule="The first axis is the one along which the files are stacked: Z, T or C",
                cure="Name it before the axes of a file, for example `--axes ZYX` or `--axes TYX`",
            )
        return letters
    _check_slices(path, stack, hint)
    return guess_axes(stack.shape, f"Z{hint}")


def _check_slices(path: Path, stack: _FileStack, hint: str) -> None:
    """Refuse files that are themselves stacks, or could be."""
    lengths = stack.file_shape
    extra = [n for axis, n in zip(hint, lengths, strict=True) if axis not in SLICE_AXES]
    n_unnamed_yx = 2 - sum(axis in hint for axis in "YX")
    n_stacked = sum(n > 1 for n in extra) - n_unnamed_yx
    if n_stacked > 0 or "Z" in hint or "T" in hint:
        example = "TZYX" if len(lengths) == 3 else "TZCYX"
        raise InputError(
            f"Each file of the series {path} is itself a stack, of shape {lengths} ({hint})",
            rule="Files are slices along Z, unless the axes of the whole are stated",
            cure=f"Say it with `--axes`, the axis along the files first: `--axes {example}` for a "
            "stack per time, `--axes ZCYX` for a slice with channels per file",
        )
