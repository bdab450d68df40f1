"""What every image format looks like to the rest of the package: a lazily read volume."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.axes import canonical_order, guess_axes, normalize_axes, transpose_to
from napari_sam.core.errors import InputError, NapariSamError
from napari_sam.core.region import Region
from napari_sam.io.chunks import ChunkLengths, chunk_lengths
from napari_sam.io.location import Location, as_location, looks_like_url

__all__ = ["ArrayVolume", "LazyArray", "Volume", "open_volume"]

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PICTURE_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff")
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


class LazyArray(Protocol):
    """An array that reads what is indexed: a Zarr array, a memory map, or a numpy array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the elements."""
        ...

    def __getitem__(self, index: Any, /) -> Any:
        """Read a block."""
        ...


class Volume(Protocol):
    """An image of any number of axes that is read block by block.

    Axes are always in the order TCZYXS, whatever the order in the file.
    """

    @property
    def path(self) -> Location:
        """Where the image lies: a path, or the text of a URL."""
        ...

    @property
    def axes(self) -> str:
        """One letter per axis, in the order TCZYXS."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis at full resolution."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the intensities."""
        ...

    @property
    def scale(self) -> tuple[float, ...]:
        """Size of a pixel along each axis, in `units`; 1 where the file does not say."""
        ...

    @property
    def units(self) -> tuple[str | None, ...]:
        """Unit of each axis as NGFF spells it, such as ``micrometer``; None where unknown."""
        ...

    @property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each resolution level, the full one first."""
        ...

    @property
    def chunks(self) -> ChunkLengths | None:
        """Lengths of the blocks that are decoded as a whole, along each axis of full resolution.

        As dask lists them, and all ones where any window can be read by itself; None where
        nothing is known.
        """
        ...

    @property
    def is_ngff(self) -> bool:
        """Whether the image is an OME-Zarr, to which label images can refer."""
        ...

    def read(self, region: Region, level: int = 0) -> NDArray[Any]:
        """Read a block of one resolution level."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class ArrayVolume:
    """A volume over arrays that read lazily; what all formats are turned into.

    Parameters
    ----------
    path : Path or str
        Where the image lies, for messages; text when it is a URL.
    arrays : sequence of LazyArray
        Resolution levels, the full one first, all with the axes of the file. Where they have
        `chunks`, as those of Zarr and dask do, each is read as a whole.
    axes : str
        Normalised axes in the order of the file.
    scale : dict of str to float
        Pixel size per axis letter, where known.
    units : dict of str to str
        Unit per axis letter, where known.
    is_ngff : bool
        Whether the image is an OME-Zarr, to which label images can refer.
    files : tuple of Path
        The files that make up the volume, in their order, when `path` is not the only one.
    identity : callable, optional
        For an image at a URL: returns what tells it from another, as JSON values.
    close : callable, optional
        Called once when the volume is closed.

    Raises
    ------
    InputError
        When the image has an axis of length zero.
    """

    def __init__(
        self,
        path: Location,
        arrays: Sequence[LazyArray],
        axes: str,
        *,
        scale: dict[str, float] | None = None,
        units: dict[str, str] | None = None,
        is_ngff: bool = False,
        files: tuple[Path, ...] = (),
        identity: Callable[[], dict[str, Any]] | None = None,
        close: Callable[[], object] | None = None,
    ) -> None:
        self._arrays = tuple(arrays)
        self._file_axes = axes
        self._close = close
        self.path: Location = path
        self.is_ngff = is_ngff
        self.files = files
        self.identity = identity
        self.axes = canonical_order(axes)
        self.dtype: np.dtype[Any] = np.dtype(self._arrays[0].dtype)
        self.levels = tuple(self._canonical_shape(array) for array in self._arrays)
        self.shape = self.levels[0]
        self.scale = tuple((scale or {}).get(axis, 1.0) for axis in self.axes)
        self.units = tuple((units or {}).get(axis) for axis in self.axes)
        if 0 in self.shape:
            self.close()
            raise InputError(
                f"The image {path} has shape {self.shape} along the axes {self.axes}",
                rule="An image has at least one pixel along every axis",
                cure="Check how the file was written; it holds no pixels",
            )

    @cached_property
    def chunks(self) -> ChunkLengths | None:
        """Lengths of the blocks that are decoded as a whole, along each axis of full resolution.

        As dask lists them, and all ones where any window can be read by itself; None where the
        array does not say.
        """
        lengths = chunk_lengths(self._arrays[0])
        if lengths is None:
            return None
        return tuple(lengths[self._file_axes.index(axis)] for axis in self.axes)

    def read(self, region: Region, level: int = 0) -> NDArray[Any]:
        """Read a block of one resolution level.

        Parameters
        ----------
        region : Region
            One span per axis, in the order of `axes`.
        level : int
            Index into `levels`.

        Returns
        -------
        ndarray, shape ``region.shape``

        Raises
        ------
        InputError
            When the block leaves the array, or its data cannot be read or decoded.
        """
        if region.intersect(Region.whole(self.levels[level])) != region:
            raise InputError(
                f"The block {region.start} to {region.stop} was asked for",
                rule=f"Level {level} has shape {self.levels[level]} along {self.axes}",
                cure="Ask for a block inside the image",
            )
        spans = region.slices
        index = tuple(spans[self.axes.index(axis)] for axis in self._file_axes)
        try:
            block = np.asarray(self._arrays[level][index])
        except MemoryError:
            raise
        except Exception as error:  # decoders raise anything, from OSError to RuntimeError
            raise self._unreadable_block(region, error) from error
        return transpose_to(block, self._file_axes, self.axes)

    def close(self) -> None:
        """Release the file; closing twice does nothing."""
        close, self._close = self._close, None
        if close is not None:
            close()

    def _unreadable_block(self, region: Region, error: Exception) -> InputError:
        if isinstance(self.path, str):
            rule = "The image must stay within reach while it is read, complete and undamaged"
            cure = "Check the network, or copy the image to this machine"
        else:
            rule = "The file must be complete and undamaged"
            cure = "Copy the file again from its origin, or export it again"
        found = f"The block {region.start} to {region.stop} of {self.path} cannot be read: {error}"
        return InputError(found, rule=rule, cure=cure)

    def _canonical_shape(self, array: LazyArray) -> tuple[int, ...]:
        return tuple(int(array.shape[self._file_axes.index(axis)]) for axis in self.axes)


def open_volume(path: str | Path, axes: str | None = None) -> Volume:
    """Open an image of any supported format without reading its pixels.

    Parameters
    ----------
    path : str or Path
        TIFF, OME-TIFF, ImageJ stack or BigTIFF; OME-Zarr 0.4 or 0.5; a Zarr array (v2 or v3); PNG
        or JPEG. The content decides, not the suffix. Or a folder of TIFF files, or a pattern such
        as ``scan/*.tif``: a series of slices along Z, in natural order. Or the URL of a Zarr or of
        one file, such as ``https://...`` or ``s3://...``, as text.
    axes : str, optional
        One letter of TCZYXS per axis, in the order of the file, when the file does not say or says
        it wrong. For a series of files the axis along which they are stacked comes first.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        When the file is missing, unreadable, damaged, of another format, without pixels, or when
        its axes are ambiguous.
    """
    path = as_location(path)
    if isinstance(path, str):
        from napari_sam.io.remote import open_remote

        return open_remote(path, axes)
    if path.is_dir() and any((path / name).exists() for name in ZARR_FILES):
        from napari_sam.io.ome_zarr import open_zarr

        return open_zarr(path, axes)
    if path.is_dir() or glob.has_magic(str(path)):
        from napari_sam.io.tiff_series import find_tiff_files, is_pattern, open_tiff_series

        if is_pattern(path) or (path.is_dir() and find_tiff_files(path)):
            return open_tiff_series(path, axes)
    if path.is_dir():
        raise unknown_format(path, "The directory")
    signature = _read_signature(path)
    if signature in TIFF_SIGNATURES:
        from napari_sam.io.tiff import open_tiff

        return open_tiff(path, axes)
    if signature.startswith(PICTURE_SIGNATURES):
        from napari_sam.io.image_file import open_image_file

        return open_image_file(path, axes)
    raise unknown_format(path, "The file")


def resolve_axes(
    shape: Sequence[int], stated: str | None, hint: str = "", *, is_color: bool = False
) -> str:
    """Take the axes that the user states, or else what the file says.

    Parameters
    ----------
    shape : sequence of int
    stated : str, optional
        From ``--axes``; wins over the file.
    hint : str
        From the file.
    is_color : bool
        Whether the last axis is known to hold RGB samples.

    Returns
    -------
    str
    """
    if stated is not None:
        return normalize_axes(stated, len(shape))
    return guess_axes(shape, hint, is_color=is_color)


def unreadable(path: Location, error: Exception) -> NapariSamError:
    """Say that a file could not be opened.

    Parameters
    ----------
    path : Path or str
    error : Exception
        What the reader raised; an error of this package is passed through.

    Returns
    -------
    NapariSamError
    """
    if isinstance(error, NapariSamError):
        return error
    return InputError(
        f"The image {path} cannot be opened: {error or type(error).__name__}",
        rule="The file must be complete, undamaged and readable",
        cure="Copy the file again from its origin, or export it again",
    )


def _read_signature(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except FileNotFoundError:
        raise InputError(
            f"The image {path} does not exist",
            rule="The input is a file, or the directory of a Zarr",
            cure="Give a URL as text: a Path loses one of its slashes"
            if looks_like_url(path)
            else "Check the spelling and the folder",
        ) from None
    except OSError as error:
        raise InputError(
            f"The image {path} cannot be read: {error.strerror or error}",
            rule="The input must be readable by this user",
            cure="Check the permissions of the file and its folders",
        ) from error


def unknown_format(path: Location, what: str) -> InputError:
    """Say that what was found is no image.

    Parameters
    ----------
    path : Path or str
    what : str
        What stands there, to begin the message with.

    Returns
    -------
    InputError
    """
    return InputError(
        f"{what} {path} holds no image format that is known here",
        rule="Images are TIFF, OME-TIFF, ImageJ stacks, BigTIFF, OME-Zarr, Zarr, PNG or JPEG",
        cure="Convert the image, for example with bioformats2raw or Fiji, to OME-Zarr or OME-TIFF",
    )
