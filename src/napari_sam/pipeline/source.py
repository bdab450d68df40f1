"""The input of a run: which slices a volume has, its contrast, and the pixels of a tile."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError, InputError
from napari_sam.core.region import Region
from napari_sam.io import Volume
from napari_sam.pipeline.chunk_cache import ChunkCache
from napari_sam.pipeline.config import SegmentConfig, chosen_channels
from napari_sam.pipeline.contrast_sample import (
    SAMPLE_SLICES,
    FiniteRange,
    is_constant,
    maps_of,
    position_of,
    sample_contrast,
    sample_level,
    sample_windows,
    spread,
    thinned,
)
from napari_sam.tiling import Contrast, check_intensity_dtype, to_rgb

__all__ = ["Pixels", "SliceSource"]

SLICE_CACHE_BYTES = 2**29
"""Decoded chunks of a slice that are kept at once, at most."""
SCAN_SIDE = 2048
"""Rows and columns that are looked at together where every pixel counts."""
COLOR_SAMPLES = 3


@dataclass(frozen=True)
class Pixels:
    """The pixels of a tile as the segmenter takes them.

    Attributes
    ----------
    rgb : ndarray of uint8, shape (h, w, 3)
    invalid : ndarray of bool, shape (h, w), or None
        Pixels that were NaN or infinite; None when all were finite.
    """

    rgb: NDArray[np.uint8]
    invalid: NDArray[np.bool_] | None

    @property
    def is_even(self) -> bool:
        """Whether all pixels are equal, so that there is no object to find."""
        return bool((self.rgb == self.rgb[0, 0]).all())


class SliceSource:
    """A volume as a sequence of 2D slices.

    Parameters
    ----------
    volume : Volume
    config : SegmentConfig

    Raises
    ------
    InputError
        When the image has no intensities, is too small, or has a number of colour samples that is
        neither gray, RGB nor RGBA.
    ConfigError
        When a channel is missing or no slice is chosen.
    """

    def __init__(self, volume: Volume, config: SegmentConfig) -> None:
        check_intensity_dtype(volume.dtype)
        self._volume = volume
        self._lengths = dict(zip(volume.axes, volume.shape, strict=True))
        self.shape_yx = self._lengths["Y"], self._lengths["X"]
        self._check_size()
        self._channels = chosen_channels(config.channels, self._lengths.get("C", 1))
        self.is_color = self._lengths.get("S", 1) >= COLOR_SAMPLES
        if self.is_color and len(self._channels) > 1:
            raise ConfigError(
                f"The channels {self._channels} of an image in RGB were chosen",
                rule="The model sees three colours at most, and one RGB channel has three",
                cure="Choose one channel",
            )
        self.stack_axes = "".join(axis for axis in volume.axes if axis in "TZ")
        self.positions = self._positions(config)
        self._channel_groups = self._grouped_channels()
        self._cache = self._make_cache()
        self._n_pixels_read = 0

    @property
    def n_maps(self) -> int:
        """Contrast limits that the pixels can have: one per channel, or per colour of RGB."""
        return COLOR_SAMPLES if self.is_color else len(self._channels)

    @property
    def pixel_bytes(self) -> int:
        """Size of a pixel with all channels and samples that are read."""
        count = max(len(self._channels), self._lengths.get("S", 1))
        return count * self._volume.dtype.itemsize

    def cached_bytes(self, windows: Iterable[Region]) -> int:
        """Tell what is kept of the image while the windows of a slice are read.

        Parameters
        ----------
        windows : iterable of Region
            In row-major order.

        Returns
        -------
        int
            Size of the decoded chunks that a row of windows lies in; 0 where windows are read by
            themselves.
        """
        return 0 if self._cache is None else self._cache.band_bytes(windows)

    @property
    def n_pixels_read(self) -> int:
        """Pixels that were read of slices so far, with those that are only decoded along."""
        return self._n_pixels_read if self._cache is None else self._cache.n_pixels_read

    def n_pixels_to_read(self, windows: Iterable[Region]) -> int:
        """Tell how many pixels are read of a slice, as `n_pixels_read` counts them.

        Parameters
        ----------
        windows : iterable of Region
            All windows of the slice, in row-major order.

        Returns
        -------
        int
        """
        if self._cache is None:
            return sum(math.prod(window.shape) for window in windows)
        return math.prod(self.shape_yx)

    @property
    def label_axes(self) -> str:
        """Axes of the label image: those of the volume without channels and samples."""
        return f"{self.stack_axes}YX"

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of the label image."""
        return tuple(self._lengths[axis] for axis in self.label_axes)

    def of_label_axes(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Pick the values, such as scales or units, of the label image's axes.

        Parameters
        ----------
        values : tuple
            One per axis of the volume.

        Returns
        -------
        tuple
        """
        return tuple(values[self._volume.axes.index(axis)] for axis in self.label_axes)

    def measure_contrast(self, percentiles: tuple[float, float] | None) -> Contrast:
        """Measure the contrast on a sample of the whole volume.

        All samples of a colour image share one map, so that its colours stay; channels have
        nothing in common, so each has its own.

        Parameters
        ----------
        percentiles : tuple of float, optional
            1 and 99.8 when not given.

        Returns
        -------
        Contrast

        Raises
        ------
        InputError
            When the whole volume is constant.
        """
        sample = np.concatenate(list(self._sample()))  # (N, C)
        if is_constant(sample):
            return self._full_range()  # what looks even in a sample may hold a rare object
        return sample_contrast(sample, percentiles, is_color=self.is_color)

    def read_tile(self, position: tuple[int, ...], window: Region, contrast: Contrast) -> Pixels:
        """Read a tile and make it what the segmenter takes.

        Parameters
        ----------
        position : tuple of int
            Index along the axes before YX.
        window : Region
            Rows and columns.
        contrast : Contrast

        Returns
        -------
        Pixels
        """
        raw = self._read_cached(position, window)  # (h, w, C)
        finite = np.isfinite(raw) if raw.dtype.kind == "f" else None
        invalid = None if finite is None or finite.all() else ~finite.all(axis=-1)
        rgb = to_rgb(contrast.apply(raw))
        if invalid is not None:
            rgb[invalid] = 0
        return Pixels(rgb, invalid)

    def _check_size(self) -> None:
        if min(self.shape_yx) < 2:
            raise InputError(
                f"The image {self._volume.path} has {self.shape_yx[0]} rows and "
                f"{self.shape_yx[1]} columns",
                rule="A slice needs at least two rows and two columns",
                cure="Check the order of the axes; state it with `--axes` if it is wrong",
            )
        samples = self._lengths.get("S", 1)
        if samples not in (1, 3, 4):
            raise InputError(
                f"The image {self._volume.path} has {samples} colour samples per pixel",
                rule="Colour samples (S) are RGB or RGBA",
                cure="Call that axis a channel with `--axes`, and choose with `--channel`",
            )

    def _positions(self, config: SegmentConfig) -> tuple[tuple[int, ...], ...]:
        ranges = []
        for axis in self.stack_axes:
            is_time_of_volume = axis == "T" and "Z" in self.stack_axes
            chosen = config.times if is_time_of_volume else config.slices
            ranges.append(chosen.indices(self._lengths[axis]))
        positions = tuple(product(*ranges))
        if not positions:
            raise InputError(
                f"None of the slices of {self._volume.path} is chosen; its shape is "
                f"{self._volume.shape} along {self._volume.axes}",
                rule="At least one slice is segmented",
                cure="Choose slices inside the stack, for example `--slices 0:1`",
            )
        return positions

    def _sample(self) -> Iterator[NDArray[Any]]:
        """Yield pixels of slices spread over the volume, (n, C) each."""
        lengths = [self._lengths[axis] for axis in self.stack_axes]
        chosen = spread(math.prod(lengths), SAMPLE_SLICES)
        level, shape_yx = self._sample_level()
        for number in chosen:
            position = position_of(number, lengths)
            for window in sample_windows(shape_yx):
                if level or window.shape == shape_yx:
                    rows = _as_rows(self._read(position, window, level))
                else:  # blocks may lie in one chunk
                    rows = _as_rows(self._read_cached(position, window))
                yield thinned(rows, len(chosen))

    def _sample_level(self) -> tuple[int, tuple[int, int]]:
        rows, columns = self._volume.axes.index("Y"), self._volume.axes.index("X")
        shapes = [(shape[rows], shape[columns]) for shape in self._volume.levels]
        stack = [self._lengths[axis] for axis in self.stack_axes]
        usable = [
            level
            for level, shape in enumerate(self._volume.levels)
            if [shape[self._volume.axes.index(axis)] for axis in self.stack_axes] == stack
        ]
        level = usable[sample_level([shapes[level] for level in usable])]
        return level, shapes[level]

    def _full_range(self) -> Contrast:
        limits = FiniteRange()
        lengths = [range(self._lengths[axis]) for axis in self.stack_axes]
        windows = list(_blocks(self.shape_yx, SCAN_SIDE))
        for position, window in product(product(*lengths), windows):
            pixels = _as_rows(self._read_cached(position, window))
            limits.add(maps_of(pixels, is_color=self.is_color))
        if not limits.is_open:
            raise InputError(
                f"The image {self._volume.path} holds {limits.found} everywhere",
                rule="An image without contrast holds no objects",
                cure="Check the file, and the channel chosen with `--channel`",
            )
        return limits.contrast()

    def _make_cache(self) -> ChunkCache | None:
        """Keep chunks that are decoded as a whole; nothing where any window is read by itself."""
        chunks = self._volume.chunks
        if chunks is not None:
            axes = self._volume.axes
            lengths_yx = chunks[axes.index("Y")], chunks[axes.index("X")]
            if max(*lengths_yx[0], *lengths_yx[1]) == 1:
                return None
        elif math.prod(self.shape_yx) * self.pixel_bytes <= SLICE_CACHE_BYTES:
            lengths_yx = self.shape_yx[:1], self.shape_yx[1:]  # each window may decode all of it
        else:
            return None
        return ChunkCache(
            lambda position, window: self._read(position, window, 0),
            lengths_yx,
            self.pixel_bytes,
            SLICE_CACHE_BYTES,
        )

    def _read_cached(self, position: tuple[int, ...], window: Region) -> NDArray[Any]:
        if self._cache is not None:
            return self._cache.get(position, window)
        self._n_pixels_read += math.prod(window.shape)
        return self._read(position, window, 0)

    def _grouped_channels(self) -> tuple[tuple[int, ...], ...]:
        """Put channels together that lie in the same chunks, so that these are decoded once."""
        chunks = self._volume.chunks
        if chunks is None or "C" not in self._volume.axes:
            return tuple((channel,) for channel in self._channels)
        stops = list(accumulate(chunks[self._volume.axes.index("C")]))
        groups = groupby(sorted(self._channels), key=lambda channel: bisect_right(stops, channel))
        return tuple(tuple(group) for _, group in groups)

    def _read(self, position: tuple[int, ...], window: Region, level: int) -> NDArray[Any]:
        """Read (h, w, C): the chosen channels, or the colour samples without transparency."""
        if len(self._channels) == 1:
            pixels: NDArray[Any] = self._read_channels(position, self._channels, window, level)[0]
            return pixels
        planes: dict[int, NDArray[Any]] = {}
        for group in self._channel_groups:
            block = self._read_channels(position, group, window, level)
            planes.update((channel, block[channel - group[0]]) for channel in group)
        return np.concatenate([planes[channel] for channel in self._channels], axis=-1)

    def _read_channels(
        self, position: tuple[int, ...], channels: tuple[int, ...], window: Region, level: int
    ) -> NDArray[Any]:
        """Read all channels from the first to the last one, (C, h, w, S)."""
        spans = {axis: (i, i + 1) for axis, i in zip(self.stack_axes, position, strict=True)}
        spans["C"] = channels[0], channels[-1] + 1
        spans["Y"], spans["X"] = zip(window.start, window.stop, strict=True)
        spans["S"] = 0, min(self._lengths.get("S", 1), COLOR_SAMPLES)
        region = Region(
            tuple(spans[axis][0] for axis in self._volume.axes),
            tuple(spans[axis][1] for axis in self._volume.axes),
        )
        return self._volume.read(region, level).reshape(-1, *window.shape, spans["S"][1])


def _as_rows(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels.reshape(-1, pixels.shape[-1])


def _blocks(shape_yx: tuple[int, int], side: int) -> Iterator[Region]:
    """Yield the squares that cover a slice, row by row."""
    for start in product(*(range(0, length, side) for length in shape_yx)):
        stop = (min(first + side, n) for first, n in zip(start, shape_yx, strict=True))
        yield Region(start, tuple(stop))
