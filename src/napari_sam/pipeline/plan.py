"""What is known of a run before its first tile: the tiles, the contrast, what identifies it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.core.errors import ConfigError
from napari_sam.core.object_scale import NATIVE, Diameter
from napari_sam.core.region import Region
from napari_sam.io import ArrayVolume, Volume
from napari_sam.io.location import location_name
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.events import ContrastMeasured, Event, Planned
from napari_sam.pipeline.object_size import estimates_diameter, settle_diameter
from napari_sam.pipeline.segmenters import TileSegmenter
from napari_sam.pipeline.source import SliceSource
from napari_sam.tiling import Contrast, TileGrid, tile_grid

__all__ = [
    "SettledPlan",
    "choose_contrast",
    "content_signature",
    "file_signature",
    "is_on_disk",
    "plan_tiles",
    "settle_plan",
    "volume_files",
]

SIGNATURE_BLOCKS = 8
SIGNATURE_SIDE = 64
"""Blocks that stand for a volume's content, and their rows and columns."""
ZARR_METADATA = ("zarr.json", ".zattrs", ".zarray")


@dataclass(frozen=True)
class SettledPlan:
    """What is the same for all tiles of a run.

    Attributes
    ----------
    segmenter : TileSegmenter
        With its diameter of objects, where that was estimated.
    config : SegmentConfig
        Likewise.
    tiles : TileGrid
        Of a slice.
    contrast : Contrast
        Of the volume.
    estimate : dict
        The ``diameter`` that was estimated, where it was; None for one that could not be.
    """

    segmenter: TileSegmenter
    config: SegmentConfig
    tiles: TileGrid
    contrast: Contrast
    estimate: dict[str, float | None]


def plan_tiles(slices: SliceSource, config: SegmentConfig, segmenter: TileSegmenter) -> TileGrid:
    """Cut a slice into the tiles that a run works on.

    Parameters
    ----------
    slices : SliceSource
    config : SegmentConfig
    segmenter : TileSegmenter
        Whose window a tile and its halo fill, unless the configuration gives a tile.

    Returns
    -------
    TileGrid

    Raises
    ------
    ConfigError
        When several tiles have no halo.
    """
    tile = config.tile or max(segmenter.window - 2 * config.halo, 1)
    return tile_grid(slices.shape_yx, tile, config.halo)


def choose_contrast(
    slices: SliceSource, config: SegmentConfig, segmenter: TileSegmenter, dtype: np.dtype[Any]
) -> Contrast:
    """Take the contrast that was given, or measure it on the whole volume.

    Parameters
    ----------
    slices : SliceSource
    config : SegmentConfig
    segmenter : TileSegmenter
        Some take 8-bit images as they are.
    dtype : dtype
        Of the volume.

    Returns
    -------
    Contrast

    Raises
    ------
    ConfigError
        When the number of contrast limits does not fit the channels.
    InputError
        When the whole volume is constant.
    """
    pairs = config.limit_pairs
    if pairs:
        if len(pairs) not in (1, slices.n_maps):
            raise ConfigError(
                f"{len(pairs)} pairs of contrast limits were given for {slices.n_maps} channel(s)",
                rule="One pair serves all channels, or each channel has its own",
                cure="Give `--contrast-limits` once, or as often as `--channel`",
            )
        return Contrast(tuple(low for low, _ in pairs), tuple(high for _, high in pairs))
    measured = slices.measure_contrast(config.contrast_percentiles)
    if segmenter.keeps_8bit and dtype == np.uint8 and config.contrast_percentiles is None:
        return Contrast((0.0,), (255.0,))
    return measured


def settle_plan(
    slices: SliceSource,
    config: SegmentConfig,
    segmenter: TileSegmenter,
    dtype: np.dtype[Any],
    begun: Mapping[str, Any],
) -> Generator[Event, None, SettledPlan]:
    """Find out what is the same for all tiles: contrast, diameter of objects, and the tiles.

    Parameters
    ----------
    slices : SliceSource
    config : SegmentConfig
    segmenter : TileSegmenter
    dtype : dtype
        Of the volume.
    begun : mapping
        The plan of a run that is resumed, which knows the diameter; else empty.

    Yields
    ------
    Event
        Planned, as soon as it is known, and what is measured.

    Returns
    -------
    SettledPlan

    Raises
    ------
    ConfigError, InputError, DeviceError
        As :func:`plan_tiles`, :func:`choose_contrast` and :func:`settle_diameter` do.
    """
    is_estimated = estimates_diameter(segmenter)
    estimate: dict[str, float | None] = {}
    tiles = plan_tiles(slices, config, segmenter)
    if not is_estimated:
        yield _planned(slices, tiles)
    contrast = choose_contrast(slices, config, segmenter, dtype)
    yield ContrastMeasured(contrast.low, contrast.high)
    if is_estimated:
        known = begun.get("estimate") or ({"diameter": None} if begun else None)
        segmenter, diameter = yield from settle_diameter(segmenter, slices, contrast, known)
        estimate = {"diameter": diameter}
        settled: Diameter = NATIVE if diameter is None else diameter
        config = replace(config, automatic=replace(config.automatic, diameter=settled))
        tiles = plan_tiles(slices, config, segmenter)  # larger where objects are large
        yield _planned(slices, tiles)
    return SettledPlan(segmenter, config, tiles, contrast, estimate)


def _planned(slices: SliceSource, tiles: TileGrid) -> Planned:
    return Planned(
        slices.label_axes,
        slices.label_shape,
        len(slices.positions),
        len(tiles),
        tiles.window_yx,
    )


def file_signature(volume: Volume) -> dict[str, Any]:
    """Tell one file from another: cheap for any size of volume.

    Parameters
    ----------
    volume : Volume

    Returns
    -------
    dict
        Name, axes, shape and dtype; size and time of the file, or of the metadata of a Zarr; of a
        series of files their number and size, and a digest of their names, sizes and times; of an
        image at a URL a digest of its metadata, or the file's size and what the storage says of it.
    """
    path = volume.path
    if isinstance(path, str):
        identity = volume.identity if isinstance(volume, ArrayVolume) else None
        return {"path": location_name(path), **_form(volume), **(identity() if identity else {})}
    if files := volume_files(volume):
        return {"path": path.name, **_form(volume), **_series_signature(files)}
    candidates = [path] if path.is_file() else [path / name for name in ZARR_METADATA]
    statistics = [candidate.stat() for candidate in candidates if candidate.exists()]
    return {
        "path": path.name,
        **_form(volume),
        "bytes": sum(entry.st_size for entry in statistics),
        "modified": max((entry.st_mtime_ns for entry in statistics), default=0),
    }


def content_signature(volume: Volume) -> dict[str, Any]:
    """Tell one volume from another where there is no file, such as a layer of a viewer.

    A few blocks, spread evenly along every axis, stand for the whole; a change between them goes
    unnoticed.

    Parameters
    ----------
    volume : Volume

    Returns
    -------
    dict
        Axes, shape, dtype, and a digest of the blocks.
    """
    digest = hashlib.blake2b(digest_size=16)
    for region in _spread_blocks(volume):
        digest.update(np.ascontiguousarray(volume.read(region)).tobytes())
    return {**_form(volume), "sample": digest.hexdigest()}


def is_on_disk(volume: Volume) -> bool:
    """Tell whether a volume is a file or Zarr at its path, and not only named like one.

    Parameters
    ----------
    volume : Volume

    Returns
    -------
    bool
    """
    path = volume.path
    if isinstance(path, str):
        return False
    if volume_files(volume):
        return True
    return path.is_file() or any((path / name).is_file() for name in ZARR_METADATA)


def volume_files(volume: Volume) -> tuple[Path, ...]:
    """List the files of a volume that is made of several.

    Parameters
    ----------
    volume : Volume

    Returns
    -------
    tuple of Path
        Empty for one that lies in a single place, or in none.
    """
    return volume.files if isinstance(volume, ArrayVolume) else ()


def _series_signature(files: tuple[Path, ...]) -> dict[str, Any]:
    digest = hashlib.blake2b(digest_size=16)
    n_bytes = 0
    for file in files:
        entry = file.stat()
        n_bytes += entry.st_size
        # No file name holds a null character, so no two lists of names give the same text.
        text = f"{file.name}\0{entry.st_size} {entry.st_mtime_ns}\0"
        digest.update(text.encode(errors="surrogateescape"))
    return {"files": len(files), "bytes": n_bytes, "digest": digest.hexdigest()}


def _form(volume: Volume) -> dict[str, Any]:
    return {"axes": volume.axes, "shape": volume.shape, "dtype": str(volume.dtype)}


def _spread_blocks(volume: Volume) -> Iterator[Region]:
    """Blocks at even steps along each axis, in another order on each; all of a small volume."""
    sides = [
        min(length, {"Y": SIGNATURE_SIDE, "X": SIGNATURE_SIDE, "S": length}.get(axis, 1))
        for axis, length in zip(volume.axes, volume.shape, strict=True)
    ]
    last = [length - side for length, side in zip(volume.shape, sides, strict=True)]
    seen = set()
    for number in range(SIGNATURE_BLOCKS):
        # an odd factor permutes the steps
        shares = [number * (2 * i + 1) % SIGNATURE_BLOCKS for i in range(len(sides))]
        start = tuple(
            math.floor(end * share / (SIGNATURE_BLOCKS - 1))
            for end, share in zip(last, shares, strict=True)
        )
        if start not in seen:
            seen.add(start)
            yield Region(start, tuple(a + b for a, b in zip(start, sides, strict=True)))
