"""The planes of an image file as the widget sees them once it is opened in napari."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.core.axes import CANONICAL_AXES, guess_axes, normalize_axes
from napari_sam.core.region import Region
from napari_sam.io import Volume
from napari_sam.io.ome_zarr import read_multiscale
from napari_sam.pipeline.config import SegmentConfig, chosen_channels
from napari_sam.pipeline.source import COLOR_SAMPLES, SliceSource
from napari_sam.pipeline.volume_contrast import elements_touched

__all__ = ["VolumePlane", "VolumePlanes"]

ZARR_ARRAY_FILES = ("zarr.json", ".zarray")


class VolumePlanes:
    """A volume as planes to be encoded whole, and as a stack whose contrast is measured.

    It is a :class:`~napari_sam.pipeline.volume_contrast.SampledStack` that reads what the layer of
    the same image reads: which slices are sampled depends on the order of the axes in the file,
    and on the chunks of a Zarr.

    Parameters
    ----------
    volume : Volume
        Stays open.
    config : SegmentConfig
        Its axes, channels, slices and times.

    Attributes
    ----------
    positions : tuple of tuple of int
        The chosen planes: index along T and Z, as far as the volume has them.
    axes : str
        Axes of the volume without channels and colours.
    shape : tuple of int
        Length of these axes.

    Raises
    ------
    InputError
        When the image has no intensities or is too small, or no slice is chosen.
    ConfigError
        When a channel is missing.
    """

    cure = (
        "Check the file, and the channel chosen with `--channel`; or, if there is something to "
        "see, give `--contrast-limits`"
    )

    def __init__(self, volume: Volume, config: SegmentConfig) -> None:
        source = SliceSource(volume, config)  # refuses what cannot be segmented
        self._volume = volume
        self._lengths = dict(zip(volume.axes, volume.shape, strict=True))
        self._channels = chosen_channels(config.channels, self._lengths.get("C", 1))
        self._file_axes, self._chunks = _layout(volume, config.axes)
        self._stack_axes = "".join(axis for axis in self._file_axes if axis in "TZ")
        self._position_axes = source.stack_axes
        self.title = f"The image {volume.path}"
        self.positions = source.positions
        self.axes, self.shape = source.label_axes, source.label_shape
        self.is_color = source.is_color
        self.is_8bit = volume.dtype == np.uint8
        self.lengths = tuple(self._lengths[axis] for axis in self._stack_axes)
        self.levels_yx = ((self._lengths["Y"], self._lengths["X"]),)

    @property
    def n_channels(self) -> int:
        """Channels that the model sees; an RGB image counts as one."""
        return len(self._channels)

    def plane(self, position: tuple[int, ...]) -> VolumePlane:
        """Return one plane.

        Parameters
        ----------
        position : tuple of int
            One of `positions`.

        Returns
        -------
        VolumePlane
        """
        along = dict(zip(self._position_axes, position, strict=True))
        return VolumePlane(self, tuple(along[axis] for axis in self._stack_axes))

    def read(self, position: tuple[int, ...], region_yx: Region, level: int = 0) -> NDArray[Any]:
        """Read a rectangle of the chosen channels at full resolution.

        Parameters
        ----------
        position : tuple of int
            Index along each axis of `lengths`.
        region_yx : Region
            Rows and columns.
        level : int
            0; planes that are encoded whole are small enough for it.

        Returns
        -------
        ndarray, shape (h, w) or (h, w, C)
            RGBA loses its transparency.

        Raises
        ------
        InputError
            When the data cannot be read.
        """
        blocks = [
            self._read_channel(position, channel, region_yx, level) for channel in self._channels
        ]
        return blocks[0] if len(blocks) == 1 else np.stack(blocks, axis=-1)

    def read_cost(self, position: tuple[int, ...], region_yx: Region, level: int = 0) -> int:
        """Count the elements that reading a rectangle touches, whole chunks included.

        Parameters
        ----------
        position, region_yx, level
            As in :meth:`read`.

        Returns
        -------
        int
        """
        axes = self._file_axes.replace("C", "")
        spans: dict[str, int | slice] = dict(zip(self._stack_axes, position, strict=True))
        spans["Y"], spans["X"] = region_yx.slices
        spans["S"] = slice(0, COLOR_SAMPLES)
        touched = elements_touched(
            [self._lengths[axis] for axis in axes],
            [self._chunks[axis] for axis in axes] if self._chunks else None,
            [spans[axis] for axis in axes],
        )
        return touched * len(self._channels)

    def _read_channel(
        self, position: tuple[int, ...], channel: int, region_yx: Region, level: int
    ) -> NDArray[Any]:
        spans = {axis: (i, i + 1) for axis, i in zip(self._stack_axes, position, strict=True)}
        spans["C"] = channel, channel + 1
        spans["Y"], spans["X"] = zip(region_yx.start, region_yx.stop, strict=True)
        n_samples = min(self._lengths.get("S", 1), COLOR_SAMPLES)
        spans["S"] = 0, n_samples
        chosen = [spans[axis] for axis in self._volume.axes]
        region = Region(tuple(a for a, _ in chosen), tuple(b for _, b in chosen))
        shape = (*region_yx.shape, n_samples) if n_samples > 1 else region_yx.shape
        return self._volume.read(region, level).reshape(shape)


class VolumePlane:
    """One plane of a volume; a :class:`~napari_sam.pipeline.plane_image.PlaneImage`.

    Parameters
    ----------
    planes : VolumePlanes
    position : tuple of int
        Index along each axis of ``planes.lengths``.
    """

    def __init__(self, planes: VolumePlanes, position: tuple[int, ...]) -> None:
        self._planes = planes
        self._position = position
        self.key: Hashable = planes, position
        self.levels_yx = planes.levels_yx

    def read(self, region_yx: Region, level: int = 0) -> NDArray[Any]:
        """Read a rectangle; see :meth:`VolumePlanes.read`."""
        return self._planes.read(self._position, region_yx, level)


def _layout(volume: Volume, axes: str | None) -> tuple[str, dict[str, int] | None]:
    """Letters of the axes in the order of the file, and the length of a chunk along each.

    napari holds images of other formats than Zarr in memory, or slice by slice: there are no
    chunks that would matter. Of these the order is not known, and taken for the usual one.
    """
    path = volume.path
    if not isinstance(path, Path):
        return volume.axes, None
    if volume.is_ngff:
        multiscale = read_multiscale(path)
        array = multiscale.levels[0]
        names = [name.upper() for name in multiscale.names]
        hint = "".join(name if name in list(CANONICAL_AXES) else "?" for name in names)
        stated = axes is not None
        letters = (
            normalize_axes(axes or "", array.ndim) if stated else guess_axes(array.shape, hint)
        )
        return letters, dict(zip(letters, array.chunks, strict=True))
    if any((path / name).is_file() for name in ZARR_ARRAY_FILES):
        array = zarr.open_array(path, mode="r")
        if array.shape == volume.shape:
            return volume.axes, dict(zip(volume.axes, array.chunks, strict=True))
    return volume.axes, None
