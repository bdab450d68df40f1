"""Image layers as what the engine takes: the image of one plane, or a whole volume."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_sam._napari.data_tokens import data_token
from napari_sam._napari.layer_arrays import LayerArray, layer_levels, read_blocks
from napari_sam._napari.world import data_to_world
from napari_sam.core.errors import InputError, NapariSamError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.tiling import check_intensity_dtype

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = [
    "ChannelChoice",
    "LayerPlane",
    "PlaneReader",
    "compatible_images",
    "is_usable_image",
]

MAX_CHANNELS = 3
COLOR_SAMPLES = 3
SAME_PLACE = 0.05
"""Pixels that channels in separate layers may be apart."""


@dataclass(frozen=True)
class ChannelChoice:
    """Which channels of an image the model sees; by default, the image has but one, or is RGB.

    Parameters
    ----------
    axis : int, optional
        The axis of the layer that counts channels, where it has one.
    indices : tuple of int
        One to three channels along `axis`.
    other_layers : tuple of napari.layers.Image
        Instead of an axis: up to two further layers as second and third channel, for images whose
        channels napari has split into layers.

    Raises
    ------
    InputError
        When the values do not fit together.
    """

    axis: int | None = None
    indices: tuple[int, ...] = ()
    other_layers: tuple[Image, ...] = ()

    def __post_init__(self) -> None:
        n_indices, n_layers = len(self.indices), len(self.other_layers)
        by_axis = self.axis is not None and 1 <= n_indices <= MAX_CHANNELS and n_layers == 0
        by_layer = self.axis is None and n_indices == 0 and n_layers < MAX_CHANNELS
        if not (by_axis or by_layer) or len(set(self.indices)) != n_indices:
            raise InputError(
                f"The channels {self.indices} of axis {self.axis} and {n_layers} more layers "
                "were chosen",
                rule="The model sees one to three different channels, from one axis or from as "
                "many layers",
                cure="Choose one channel, or up to three",
            )

    @property
    def count(self) -> int:
        """Number of channels; an RGB image counts as one."""
        return len(self.indices) or 1 + len(self.other_layers)

    def check(self, layer: Image) -> None:
        """Refuse a choice that does not fit a layer.

        Parameters
        ----------
        layer : napari.layers.Image
            The image, which is the first channel.

        Raises
        ------
        InputError
            When the layer has no such axis or channel, is RGB besides, holds no intensities, or
            the other layers have another shape or place.
        """
        for each in (layer, *self.other_layers):
            check_intensity_dtype(np.dtype(each.dtype))
        if self.axis is not None:
            length = int(layer.level_shapes[0][self.axis]) if 0 <= self.axis < layer.ndim else 0
            if not all(0 <= index < length for index in self.indices):
                raise InputError(
                    f"The channels {self.indices} along axis {self.axis} of the layer "
                    f"'{layer.name}' were chosen",
                    rule=f"The layer has {layer.ndim} axes, and {length} channels along that one",
                    cure="Choose the axis and the channels anew",
                )
        if self.count > 1 and any(each.rgb for each in (layer, *self.other_layers)):
            raise InputError(
                f"{self.count} channels were chosen, of which the layer '{layer.name}' or another "
                "is in RGB",
                rule="The model sees three colours at most, and one RGB image has three",
                cure="Choose the RGB image alone, or split it into channels first",
            )
        for other in self.other_layers:
            if not _lie_alike(layer, other):
                raise InputError(
                    f"The layers '{layer.name}' and '{other.name}' were chosen as channels",
                    rule="Channels of one image have the same shape and lie in the same place",
                    cure="Choose layers that were opened together, or give them the same scale "
                    "and translation",
                )


class PlaneReader:
    """The pixels of one plane of a layer, as the arrays were when this was made.

    Parameters
    ----------
    layer : napari.layers.Image
    plane : Plane
        A plane of `layer`, at any position along the axis of the channels.
    channels : ChannelChoice

    Attributes
    ----------
    planes : tuple of Plane
        One for each channel along an axis; else the one that was given.
    levels_yx : tuple of (int, int)
        Rows and columns of each resolution level, the full one first.

    Raises
    ------
    InputError
        When plane or channels do not fit the layer, or the channels' axis is displayed.
    """

    def __init__(self, layer: Image, plane: Plane, channels: ChannelChoice) -> None:
        channels.check(layer)
        levels = [layer_levels(each) for each in (layer, *channels.other_layers)]
        usable = _usable_levels(levels[0], plane, layer.ndim)
        self.levels_yx: tuple[tuple[int, int], ...] = tuple(
            plane.shape_yx(levels[0][level].shape[: layer.ndim]) for level in usable
        )
        self._arrays = tuple(tuple(arrays[level] for level in usable) for arrays in levels)
        self._rgb = bool(layer.rgb)
        self._channels = channels
        self.planes = _planes_of_channels(plane, channels)

    def at(self, plane: Plane) -> PlaneReader:
        """Read another plane of the same axes from the same arrays.

        Parameters
        ----------
        plane : Plane

        Returns
        -------
        PlaneReader
        """
        other = copy.copy(self)
        other.planes = _planes_of_channels(plane, self._channels)
        return other

    def read(self, region_yx: Region, level: int = 0) -> NDArray[Any]:
        """Read a rectangle of the chosen channels.

        Parameters
        ----------
        region_yx : Region
            Rows and columns in pixels of that level, inside of it.
        level : int
            Index into `levels_yx`.

        Returns
        -------
        ndarray, shape (h, w) or (h, w, C)
            Two axes for a single gray channel. RGBA loses its transparency. It may be a view of
            the layer's data.

        Raises
        ------
        InputError
            When the data cannot be read.
        """
        blocks = read_blocks(self._sources(region_yx, level))
        block = blocks[0] if len(blocks) == 1 else np.stack(blocks, axis=-1)
        row_axis, col_axis = self.planes[0].axes_yx
        return block if row_axis < col_axis else block.swapaxes(0, 1)

    def read_cost(self, region_yx: Region, level: int = 0) -> int:
        """Count the elements that reading a rectangle touches, whole chunks included.

        Parameters
        ----------
        region_yx : Region
            As in :meth:`read`.
        level : int

        Returns
        -------
        int
        """
        sources = self._sources(region_yx, level)
        return sum(array.elements_touched(index) for array, index in sources)

    def _sources(
        self, region_yx: Region, level: int
    ) -> list[tuple[LayerArray, tuple[int | slice, ...]]]:
        """List the array and the index of each channel."""
        pairs = itertools.product(self._arrays, self.planes)
        return [(arrays[level], self._index(plane, region_yx)) for arrays, plane in pairs]

    def _index(self, plane: Plane, region_yx: Region) -> tuple[int | slice, ...]:
        index = plane.index(region_yx)
        return (*index, slice(0, COLOR_SAMPLES)) if self._rgb else index


class LayerPlane:
    """The image of one plane of a layer; a :class:`~napari_sam.pipeline.plane_image.PlaneImage`.

    Levels that are coarser along other axes than the plane's own are not used: they mix slices.
    Make it in the thread of the window; read it anywhere.

    Parameters
    ----------
    layer : napari.layers.Image
    plane : Plane
        A plane of `layer`, at any position along the axis of the channels.
    channels : ChannelChoice, optional

    Attributes
    ----------
    key : hashable
        Equal as long as the layers keep their data, whatever their names, for the same plane and
        channels.
    levels_yx : tuple of (int, int)
        Rows and columns of each resolution level, the full one first.

    Raises
    ------
    InputError
        When plane or channels do not fit the layer, or the channels' axis is displayed.
    """

    def __init__(self, layer: Image, plane: Plane, channels: ChannelChoice | None = None) -> None:
        channels = channels or ChannelChoice()
        self._reader = PlaneReader(layer, plane, channels)
        self.levels_yx = self._reader.levels_yx
        layers = (layer, *channels.other_layers)
        self.key: Hashable = tuple(data_token(each) for each in layers), self._reader.planes

    def read(self, region_yx: Region, level: int = 0) -> NDArray[Any]:
        """Read a rectangle of the chosen channels; see :meth:`PlaneReader.read`."""
        return self._reader.read(region_yx, level)


def compatible_images(viewer: ViewerModel, layer: Image | None = None) -> list[Image]:
    """List the image layers that can be segmented.

    Parameters
    ----------
    viewer : napari.Viewer
    layer : napari.layers.Image, optional
        Then only those that can be further channels of this one.

    Returns
    -------
    list of napari.layers.Image
        In the order of the viewer, from bottom to top.
    """
    images = [each for each in viewer.layers if is_usable_image(each)]
    if layer is None:
        return images
    is_gray = not layer.rgb
    return [
        each
        for each in images
        if each is not layer and is_gray and not each.rgb and _lie_alike(layer, each)
    ]


def is_usable_image(layer: Any) -> bool:
    """Tell whether a layer is an image with intensities and at least two rows and columns.

    Parameters
    ----------
    layer : napari.layers.Layer

    Returns
    -------
    bool
    """
    if not isinstance(layer, Image):
        return False
    try:
        check_intensity_dtype(np.dtype(layer.dtype))
    except NapariSamError:
        return False
    shape = [int(length) for length in layer.level_shapes[0][: layer.ndim]]
    return len(shape) >= 2 and 0 not in shape and sum(length > 1 for length in shape) >= 2


def _planes_of_channels(plane: Plane, channels: ChannelChoice) -> tuple[Plane, ...]:
    """Return the plane of each channel along the axis, or the plane itself."""
    if channels.axis is None:
        return (plane,)
    if channels.axis in plane.axes_yx:
        raise InputError(
            f"The viewer displays axis {channels.axis}, which was chosen to count channels",
            rule="A plane has rows and columns of one image, not its channels",
            cure="Roll the viewer's axes until rows and columns are displayed, or choose another "
            "channel axis",
        )
    return tuple(plane.with_position(channels.axis, index) for index in channels.indices)


def _usable_levels(levels: tuple[LayerArray, ...], plane: Plane, ndim: int) -> tuple[int, ...]:
    """List the levels that are as long as the full one across the plane."""
    full = levels[0].shape[:ndim]
    plane.shape_yx(full)  # refuses a plane of another image
    return tuple(
        number
        for number, level in enumerate(levels)
        if all(level.shape[axis] == full[axis] for axis in plane.other_axes)
    )


def _lie_alike(layer: Image, other: Image) -> bool:
    """Tell whether two images have the same pixels in the same place, at every level."""
    shapes, others = (np.asarray(each.level_shapes) for each in (layer, other))
    if not np.array_equal(shapes, others) or layer.ndim != other.ndim:
        return False
    if tuple(layer.units) != tuple(other.units):
        return False
    corners = np.ones((layer.ndim + 1, 2))
    corners[:-1, 0], corners[:-1, 1] = 0, shapes[0][: layer.ndim]
    moved = np.linalg.solve(data_to_world(layer), data_to_world(other)) @ corners
    return bool(np.abs(moved - corners).max() <= SAME_PLACE)
