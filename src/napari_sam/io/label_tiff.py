"""Label images as tiled, compressed BigTIFF or OME-TIFF, copied tile by tile from OME-Zarr."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from uuid import uuid4

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError, InputError, OutputError
from napari_sam.core.region import Region
from napari_sam.io.label_store import LabelStore
from napari_sam.io.ome_zarr import Multiscale, open_zarr
from napari_sam.io.output_files import output_errors
from napari_sam.io.table_file import check_file_target, whole_file
from napari_sam.io.volume import Volume

__all__ = ["TiffCompression", "TiffProgress", "check_tiff_path", "write_label_tiff"]

TiffCompression = Literal["zlib", "lzw", "zstd"]
"""What tiles are compressed with: all programs read zlib (deflate) and LZW, few read zstd."""

TILE = 512
"""Longest rows and columns of a tile; a multiple of 16, as TIFF demands."""
BLOCK_PIXELS = 2**20
"""Pixels that are read at one time, where chunks are not larger than tiles."""
QUEUE_BYTES = 2**23
"""Tiles that wait to be compressed by several threads."""
ID_TYPES = tuple(np.dtype(name) for name in ("uint8", "uint16", "uint32", "uint64"))
SOFTWARE = "napari_sam"
AXES = tuple("TCZYX")

LENGTHS = {
    "picometer": ("pm", 1e-10),
    "angstrom": ("Å", 1e-8),
    "nanometer": ("nm", 1e-7),
    "micrometer": ("µm", 1e-4),
    "millimeter": ("mm", 0.1),
    "centimeter": ("cm", 1.0),
    "meter": ("m", 100.0),
}
"""How OME spells a unit of NGFF, and how many centimetres it has."""
TIMES = {
    "nanosecond": "ns",
    "microsecond": "µs",
    "millisecond": "ms",
    "second": "s",
    "minute": "min",
    "hour": "h",
    "day": "d",
}
"""How OME spells a unit of NGFF."""


@dataclass(frozen=True)
class TiffProgress:
    """How far writing has come.

    Parameters
    ----------
    done, total : int
        Slices, each of which is a page of the file.
    """

    done: int
    total: int


def write_label_tiff(
    source: str | Path,
    target: str | Path,
    *,
    compression: TiffCompression = "zlib",
    max_id: int | None = None,
) -> Generator[TiffProgress, None, None]:
    """Copy a label image from OME-Zarr into one tiled, compressed BigTIFF.

    A generator: work is done while it is iterated, in the memory of a row of chunks or less. The
    file stands beside `target` under a hidden name until it is whole, then it takes its place in
    one step. When the generator is closed or fails, nothing is left, and what stood at `target` is
    still there.

    Pixel sizes and units go with the labels; their pyramid, their table of objects and the
    position of the first pixel do not.

    Parameters
    ----------
    source : str or Path
        Directory of the label image. Its full resolution is copied.
    target : str or Path
        Ends in ``.ome.tif`` or ``.ome.tiff`` for an OME-TIFF, or else in ``.tif`` or ``.tiff`` for
        a BigTIFF with axes and pixel sizes as JSON, as tifffile has them, and its resolution in
        pixels per centimetre. What stands there is replaced; missing parent folders are created.
    compression : str
        ``"zlib"``, ``"lzw"`` or ``"zstd"``.
    max_id : int, optional
        The largest id, where it is known: ids are then stored in the smallest of ``uint8``,
        ``uint16``, ``uint32`` and ``uint64`` that holds it. By default in the type of `source`.

    Yields
    ------
    TiffProgress
        After each slice. The file takes its place after the last of them, when it is iterated on.

    Raises
    ------
    ConfigError
        When the name has another ending, or the compression another name.
    InputError
        When there is no label image at `source`, it cannot be read, or it holds an id that is
        negative or does not fit `max_id`.
    OutputError
        When the disk is full, the file cannot be written, or ids of 64 bits are to go into an
        OME-TIFF.
    """
    source, target = Path(source), Path(target)
    is_ome = _is_ome(target)
    if compression not in get_args(TiffCompression):
        raise ConfigError(
            f"The compression {compression!r} was asked for",
            rule=f"Tiles of labels are compressed with {', '.join(get_args(TiffCompression))}",
            cure="Use zlib, which all programs read",
        )
    labels = _Labels.open(source, max_id)
    if is_ome and labels.dtype.itemsize > 4:
        raise OutputError(
            f"The labels {source} have ids of 64 bits, and {target.name} is an OME-TIFF",
            rule="OME-TIFF knows integers of up to 32 bits",
            cure="Let the name end in `.tif` without `.ome`, which makes a BigTIFF",
        )
    options = labels.page_options | {"compression": compression, "software": SOFTWARE}
    description: bytes | None = labels.ome_xml() if is_ome else labels.json()
    indices = list(np.ndindex(labels.shape[:-2]))
    with whole_file(target) as file:
        with output_errors(target):
            # The description is ours: tifffile alone would make an image of each page.
            writer = tifffile.TiffWriter(file, bigtiff=True, ome=False, shaped=False)
        for done, index in enumerate(indices, start=1):
            with output_errors(target):
                writer.write(labels.tiles(index), description=description, **options)
            description = None  # that of the first page is for all
            yield TiffProgress(done, len(indices))
        with output_errors(target):
            writer.close()


def check_tiff_path(path: str | Path, overwrite: bool) -> None:
    """Refuse a name for a TIFF before anything is computed.

    Parameters
    ----------
    path : str or Path
        Where the labels will be written.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    ConfigError
        When the name ends neither in ``.tif`` nor in ``.tiff``.
    OutputError
        When something is there and may not be replaced.
    """
    _is_ome(Path(path))
    check_file_target(Path(path), overwrite=overwrite)


@dataclass(frozen=True)
class _Labels:
    """Labels that are copied: `dtype` holds their ids, chunks have `chunk_yx` rows and columns."""

    volume: Volume
    chunk_yx: tuple[int, int]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, source: Path, max_id: int | None) -> _Labels:
        multiscale = LabelStore.open(source).multiscale
        letters = _letters(multiscale)
        volume = open_zarr(source, letters)
        chunks = multiscale.levels[0].chunks
        rows, columns = (int(chunks[letters.index(axis)]) for axis in "YX")
        largest = 1 if volume.dtype.kind == "b" else int(np.iinfo(volume.dtype).max)
        if max_id is not None:
            largest = min(largest, max_id)
        dtype = next(dtype for dtype in ID_TYPES if largest <= np.iinfo(dtype).max)
        return cls(volume, (rows, columns), dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.volume.shape

    @property
    def tile_yx(self) -> tuple[int, int]:
        """Rows and columns of a tile, in whole multiples of 16."""
        rows, columns = (min(TILE, -(-length // 16) * 16) for length in self.shape[-2:])
        return rows, columns

    @property
    def page_options(self) -> dict[str, Any]:
        """What every page is written with."""
        options: dict[str, Any] = {
            "shape": self.shape[-2:],
            "dtype": self.dtype,
            "tile": self.tile_yx,
            "photometric": "minisblack",
            "metadata": None,
            "buffersize": QUEUE_BYTES,
        }
        densities = [_pixels_per_cm(*at) for at in (self._calibration("X"), self._calibration("Y"))]
        if None not in densities:
            options |= {"resolution": tuple(densities), "resolutionunit": "CENTIMETER"}
        return options

    def json(self) -> bytes:
        """Describe the file as tifffile does, with the pixel sizes under the names of OME."""
        fields = {"shape": self.shape, "axes": self.volume.axes, **self._pixel_sizes()}
        return json.dumps(fields).encode()

    def ome_xml(self) -> bytes:
        """Describe the file as OME does."""
        # Not tifffile's own kind of UUID, which tells the machine and the time.
        document = tifffile.OmeXml(Creator=SOFTWARE, UUID=str(uuid4()))
        n_pages = int(np.prod(self.shape[:-2]))
        stored = (n_pages, 1, 1, *self.shape[-2:], 1)
        fields = {"axes": self.volume.axes, **self._pixel_sizes()}
        document.addimage(self.dtype, self.shape, stored, **fields)
        return str(document.tostring(declaration=True)).encode()

    def tiles(self, index: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        """Read a slice and cut it into tiles, row by row; the last ones may be smaller."""
        rows, columns = self.tile_yx
        for block in self._blocks(index):
            for top in range(0, block.shape[0], rows):
                for left in range(0, block.shape[1], columns):
                    # A view of it would keep the block in memory while the next one is read.
                    yield block[top : top + rows, left : left + columns].copy()
            del block

    def _blocks(self, index: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        """Read a slice in blocks of whole tiles, so that a chunk is decoded about once.

        Where chunks have the rows of several tiles, a block is a whole row of chunks, because tiles
        go into the file row by row.
        """
        (height, width), (rows, columns) = self.shape[-2:], self.tile_yx
        several = self.chunk_yx[0] // rows
        if several > 1:
            rows, columns = several * rows, width
        else:
            columns *= max(BLOCK_PIXELS // (rows * columns), 1)
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                stop = (min(top + rows, height), min(left + columns, width))
                yield self._read(index, (top, left), stop)

    def _read(
        self, index: tuple[int, ...], start_yx: tuple[int, int], stop_yx: tuple[int, int]
    ) -> NDArray[Any]:
        region = Region((*index, *start_yx), (*(i + 1 for i in index), *stop_yx))
        block = self.volume.read(region).reshape(region.shape[-2:])
        low, high = int(block.min()), int(block.max())
        if low < 0 or high > np.iinfo(self.dtype).max:
            raise InputError(
                f"The labels {self.volume.path} hold the id {low if low < 0 else high}",
                rule=f"Ids are positive and fit into {self.dtype}, which `max_id` asks for",
                cure="Give the largest id, or none, and replace negative ids",
            )
        return block.astype(self.dtype, copy=False)

    def _calibration(self, axis: str) -> tuple[float, str | None]:
        at = self.volume.axes.index(axis)
        return self.volume.scale[at], self.volume.units[at]

    def _pixel_sizes(self) -> dict[str, float | str]:
        """Pixel sizes and their units, as OME calls and spells them; none where nothing is said."""
        fields: dict[str, float | str] = {}
        for axis in self.volume.axes:
            size, unit = self._calibration(axis)
            if axis == "C" or size <= 0:
                continue
            if axis == "T" and unit in TIMES:
                fields |= {"TimeIncrement": size, "TimeIncrementUnit": TIMES[unit]}
            elif axis != "T" and (unit is not None or size != 1):
                # "pixel" is OME's word for a size without a unit, which would mean micrometres.
                symbol = LENGTHS[unit][0] if unit in LENGTHS else "pixel"
                fields |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": symbol}
        return fields


def _is_ome(path: Path) -> bool:
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ConfigError(
            f"The name {path.name!r} was given for a TIFF",
            rule="Labels are written as `.tif` or `.tiff`, or `.ome.tif` or `.ome.tiff`",
            cure="Let the name end in one of these",
        )
    return Path(path.stem).suffix.lower() == ".ome"


def _letters(multiscale: Multiscale) -> str:
    """Name each axis by its letter, or by its kind where it has a name of its own."""
    kinds = {"time": "T", "channel": "C"}
    others = [kinds.get(kind, "Z") for kind in multiscale.types[:-2]]
    names = [name.upper() for name in multiscale.names]
    return "".join(
        name if name in AXES else other
        for name, other in zip(names, [*others, "Y", "X"], strict=False)
    )


def _pixels_per_cm(size: float, unit: str | None) -> float | None:
    """Turn a pixel size into a density that the tags of a TIFF can hold."""
    if unit not in LENGTHS or size <= 0:
        return None
    density = 1 / (size * LENGTHS[unit][1])
    return density if 1e-6 < density < 2**32 - 1 else None
