"""TIFF, OME-TIFF, ImageJ stacks and BigTIFF as arrays that read lazily, never loaded whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, cast
from xml.etree import ElementTree

import tifffile
import zarr

from napari_sam.core.errors import InputError
from napari_sam.io.location import Location
from napari_sam.io.raw_tiff import raw_pages
from napari_sam.io.volume import ArrayVolume, LazyArray, Volume, resolve_axes, unreadable

__all__ = ["checked_series", "level_array", "open_tiff", "pixel_sizes", "stated_axes"]

PALETTE = 3
RGB = 2
SIGNS_OF_DAMAGE = ("invalid page offset", "corrupt", "TiffTag 270 ")
"""What tifffile logs on a broken chain of pages, or on a lost description (tag 270), which holds
the axes."""
UNIT_NAMES = {
    "µm": "micrometer",
    "μm": "micrometer",  # the Greek letter instead of the micro sign
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "\\u00B5m": "micrometer",
    "nm": "nanometer",
    "pm": "picometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "Å": "angstrom",
    "s": "second",
    "sec": "second",
    "ms": "millisecond",
    "µs": "microsecond",
    "ns": "nanosecond",
    "min": "minute",
    "h": "hour",
    "d": "day",
}


def open_tiff(
    path: Location,
    axes: str | None = None,
    stream: BinaryIO | None = None,
    identity: Callable[[], dict[str, Any]] | None = None,
) -> Volume:
    """Open the first series of a TIFF file.

    Parameters
    ----------
    path : Path or str
        Text when it is a URL.
    axes : str, optional
        Axes in the order of the file, instead of what the file says.
    stream : binary file, optional
        The open file at a URL; it is closed with the volume.
    identity : callable, optional
        As for :class:`napari_sam.io.ArrayVolume`.

    Returns
    -------
    Volume
        With the pyramid levels, pixel sizes and units that OME or ImageJ metadata give.

    Raises
    ------
    InputError
        When the file is truncated or damaged, holds palette colours, or has ambiguous axes.
    """
    file, series = checked_series(path, stream)

    def close() -> None:
        file.close()
        if stream is not None:  # tifffile closes only what it has opened itself
            stream.close()

    try:
        if stream is not None:
            _check_single(path, file, series)
        letters = resolve_axes(series.shape, axes, stated_axes(path, series))
        arrays = [level_array(series, n, stream is None) for n in range(len(series.levels))]
        scale, units = pixel_sizes(file, series.keyframe)
        return ArrayVolume(
            path, arrays, letters, scale=scale, units=units, identity=identity, close=close
        )
    except Exception as error:  # tifffile raises anything on damaged files
        close()
        raise unreadable(path, error) from error


def checked_series(path: Location, stream: BinaryIO | None = None) -> tuple[Any, Any]:
    """Open a TIFF and look whether all pixels of its first series are there.

    Parameters
    ----------
    path : Path or str
        For messages, where there is a stream.
    stream : binary file, optional
        The open file at a URL.

    Returns
    -------
    file : tifffile.TiffFile
        For the caller to close.
    series : tifffile.TiffPageSeries

    Raises
    ------
    InputError
        When the file is truncated or damaged.
    """
    file = None
    try:
        with _complaints() as complaints:
            file = tifffile.TiffFile(path if stream is None else stream)
            len(file.pages)  # walks the whole chain of pages, so that a truncated one is noticed
            series = file.series[0]
        _check_complete(path, file, series, complaints)
    except Exception as error:  # tifffile raises anything on damaged files
        if file is not None:
            file.close()
        raise unreadable(path, error) from error
    return file, series


def level_array(series: Any, level: int = 0, is_local: bool = True) -> LazyArray:
    """Make one resolution level of a series an array that reads what is indexed.

    Parameters
    ----------
    series : tifffile.TiffPageSeries
        Its file stays open.
    level : int
        0 for the full resolution.
    is_local : bool
        Whether the file lies on this machine.

    Returns
    -------
    LazyArray
        With `chunks`: strips or tiles where they are decoded as a whole, through tifffile's Zarr
        store; single pixels where they lie in the file as they are.
    """
    raw = raw_pages(series.levels[level], is_local=is_local)
    if raw is not None:
        return raw
    return cast(LazyArray, zarr.open_array(series.aszarr(level=level), mode="r"))


def stated_axes(path: Location, series: Any) -> str:
    """Read the axes of a series as far as the file can be trusted with them.

    Parameters
    ----------
    path : Path or str
        For the message.
    series : tifffile.TiffPageSeries

    Returns
    -------
    str
        One letter per axis; `Q`, `I` and `?` stand for unknown.

    Raises
    ------
    InputError
        When the file holds palette colours.
    """
    page = series.keyframe
    if page.photometric == PALETTE:
        raise InputError(
            f"The image {path} holds palette colours",
            rule="Pixels must be intensities or RGB; palette numbers are neither",
            cure="Save the image as RGB",
        )
    hint = str(series.axes if page.photometric == RGB else series.axes.replace("S", "C"))
    if series.kind == "shaped" and "S" in hint[:-1]:
        # tifffile's own writer has stored any three or four planes as RGB: the file cannot be
        # trusted, and a stack taken for colours would lose its fourth plane
        hint = hint.replace("S", "?")
    return hint


def pixel_sizes(file: Any, page: Any) -> tuple[dict[str, float], dict[str, str]]:
    """Read pixel sizes and their units from OME or ImageJ metadata, or from tifffile's own.

    Parameters
    ----------
    file : tifffile.TiffFile
    page : tifffile.TiffPage
        The first of the series.

    Returns
    -------
    scale : dict of str to float
        Size per axis letter, where the file says it.
    units : dict of str to str
        Unit per axis letter as NGFF spells it.
    """
    if file.is_ome:
        return _ome_pixel_sizes(file.ome_metadata)
    if file.is_imagej:
        return _imagej_pixel_sizes(file.imagej_metadata or {}, page)
    if file.is_shaped:
        return _stated_pixel_sizes((file.shaped_metadata or ({},))[0])
    return {}, {}


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile logs: it reports a broken chain of pages there and reads on."""
    messages: list[str] = []

    class _Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger = logging.getLogger("tifffile")
    collector, propagate = _Collector(level=logging.WARNING), logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate


def _check_single(path: Location, file: Any, series: Any) -> None:
    """Refuse a file at a URL that refers to others: they would be sought on this machine."""
    if any(page is not None and page.parent is not file for page in series.pages):
        raise InputError(
            f"The image {path} is part of an OME-TIFF in several files",
            rule="An image at a URL is one file, or an OME-Zarr",
            cure="Copy all its files into one folder of this machine and open one of them there",
        )


def _check_complete(path: Location, file: Any, series: Any, complaints: list[str]) -> None:
    """Refuse a file that ends before its data, before anything is computed."""
    n_absent = sum(page is None for page in series.pages)
    if n_absent:
        raise InputError(
            f"{n_absent} of the {len(series.pages)} pages that {path} lists are missing",
            rule="All files of a multi-file OME-TIFF must lie beside each other under their names",
            cure="Copy the missing files into the same folder",
        )
    overhangs = [
        offset + count - page.parent.filehandle.size  # pages may lie in several files
        for page in series.pages
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    ]
    if series.dataoffset is not None:
        overhangs.append(series.dataoffset + series.nbytes - file.filehandle.size)
    missing = max(overhangs, default=0)
    broken = [text for text in complaints if any(sign in text for sign in SIGNS_OF_DAMAGE)]
    if missing > 0 or broken:
        found = f"{missing} bytes of its pixels are missing" if missing > 0 else broken[0]
        raise InputError(
            f"The TIFF {path} is truncated or damaged: {found}",
            rule="All pages that it lists must lie within the file",
            cure="Copy the file again from its origin, or export it again",
        )


def _ome_pixel_sizes(xml: str) -> tuple[dict[str, float], dict[str, str]]:
    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    return ({}, {}) if pixels is None else _stated_pixel_sizes(pixels.attrib)


def _stated_pixel_sizes(pixels: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Read what OME calls them."""
    scale: dict[str, float] = {}
    units: dict[str, str] = {}
    for axis, name in {
        "X": "PhysicalSizeX",
        "Y": "PhysicalSizeY",
        "Z": "PhysicalSizeZ",
        "T": "TimeIncrement",
    }.items():
        value = _positive(pixels.get(name))
        if value is not None:
            scale[axis] = value
            unit = pixels.get(f"{name}Unit", "s" if axis == "T" else "µm")
            units |= {axis: UNIT_NAMES[unit]} if unit in UNIT_NAMES else {}
    return scale, units


def _imagej_pixel_sizes(
    metadata: dict[str, Any], page: Any
) -> tuple[dict[str, float], dict[str, str]]:
    unit = UNIT_NAMES.get(str(metadata.get("unit", "")))
    if unit is None:
        return {}, {}  # without a unit ImageJ's numbers are pixels
    scale: dict[str, float] = {}
    for axis, tag_name in {"X": "XResolution", "Y": "YResolution"}.items():
        tag = page.tags.get(tag_name)
        if tag is not None and tag.value[0] and tag.value[1]:
            scale[axis] = tag.value[1] / tag.value[0]
    spacing, interval = _positive(metadata.get("spacing")), _positive(metadata.get("finterval"))
    scale |= {"Z": spacing} if spacing else {}
    units = dict.fromkeys(scale, unit)
    if interval:
        scale["T"], units["T"] = interval, "second"
    return scale, units


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < float("inf") else None
