"""What the model sees: one contrast for a whole volume, and the picture that it makes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam._napari.layers import ChannelChoice, PlaneReader
from napari_sam.core.errors import ConfigError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.core.steps import result_of
from napari_sam.pipeline.volume_contrast import volume_contrast_steps
from napari_sam.tiling import Contrast, check_percentiles, to_rgb

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.pipeline.plane_image import PlaneImage

__all__ = ["ContrastChoice", "contrast_steps", "measure_contrast", "model_view"]

ContrastSource = Literal["percentiles", "layer limits"]


@dataclass(frozen=True)
class ContrastChoice:
    """How intensities become the 0 to 255 that the model sees.

    Parameters
    ----------
    source : {"percentiles", "layer limits"}
        Measure percentiles over the volume, or take the contrast limits of the layer.
    percentiles : tuple of float, optional
        What becomes black and white, 0 to 100. By default 1 and 99.8, and no stretching at all
        where a model takes 8-bit images as they are.

    Raises
    ------
    ConfigError
        When the percentiles are out of order or range, or the source is unknown.
    """

    source: ContrastSource = "percentiles"
    percentiles: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.percentiles is not None:
            check_percentiles(self.percentiles)
        if self.source not in ("percentiles", "layer limits"):
            raise ConfigError(
                f"The contrast source {self.source!r} was given",
                rule="Contrast is measured by percentiles or taken from the layer limits",
                cure='Use "percentiles" or "layer limits"',
            )


def measure_contrast(
    layer: Image,
    channels: ChannelChoice | None = None,
    choice: ContrastChoice | None = None,
    *,
    keeps_8bit: bool = False,
) -> Contrast:
    """Find the contrast of a whole volume, the same for all its planes.

    Percentiles are taken over up to 16 slices spread over the volume; of slices that are very
    large, over their coarsest sensible level or blocks. All colours of an RGB image share one map,
    so that they stay what they are; channels have nothing in common, so each has its own.

    Parameters
    ----------
    layer : napari.layers.Image
    channels : ChannelChoice, optional
    choice : ContrastChoice, optional
    keeps_8bit : bool
        Whether the model takes 8-bit images as they are, as the official ones do.

    Returns
    -------
    Contrast
        One map for all channels, or one per channel in their order.

    Raises
    ------
    InputError
        When the channels do not fit, the data cannot be read, or no contrast is found.
    """
    return result_of(contrast_steps(layer, channels, choice, keeps_8bit=keeps_8bit))


def contrast_steps(
    layer: Image,
    channels: ChannelChoice | None = None,
    choice: ContrastChoice | None = None,
    *,
    keeps_8bit: bool = False,
) -> Generator[None, None, Contrast]:
    """Do the same in steps, one for each block that is read, between which it can be closed.

    It reads the layer's data and changes nothing, so it may run in a worker.

    Parameters
    ----------
    layer, channels, choice, keeps_8bit
        See :func:`measure_contrast`.

    Yields
    ------
    None

    Returns
    -------
    Contrast
    """
    channels, choice = channels or ChannelChoice(), choice or ContrastChoice()
    channels.check(layer)
    if choice.source == "layer limits":
        return _layer_limits((layer, *channels.other_layers))
    stack = _LayerStack(layer, channels)
    steps = volume_contrast_steps(stack, choice.percentiles, keeps_8bit=keeps_8bit)
    return (yield from steps)


def model_view(
    image: PlaneImage, contrast: Contrast, region_yx: Region | None = None, level: int = 0
) -> NDArray[np.uint8]:
    """Make the picture that the model is given of a plane.

    Parameters
    ----------
    image : PlaneImage
    contrast : Contrast
        As measured for the volume.
    region_yx : Region, optional
        Rows and columns in pixels of that level; the whole plane by default.
    level : int
        Resolution level; 0 is the full one.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)
        What is not finite is black.

    Raises
    ------
    InputError
        When the data cannot be read, or has other channels than the contrast.
    """
    region_yx = Region.whole(image.levels_yx[level]) if region_yx is None else region_yx
    return to_rgb(contrast.apply(image.read(region_yx, level)))


class _LayerStack:
    """A layer as slices along its last two axes that count no channels; a SampledStack."""

    cure = (
        "Choose another channel or image; or, if there is something to see, set the layer's "
        "contrast limits and use those"
    )

    def __init__(self, layer: Image, channels: ChannelChoice) -> None:
        self.title = f"The layer '{layer.name}'"
        self.is_color = bool(layer.rgb)
        self.is_8bit = all(each.dtype == np.uint8 for each in (layer, *channels.other_layers))
        axes = [axis for axis in range(layer.ndim) if axis != channels.axis]
        self._axes_yx = axes[-2], axes[-1]
        self._stack_axes = axes[:-2]
        self.lengths = tuple(int(layer.level_shapes[0][axis]) for axis in self._stack_axes)
        self._others = [axis for axis in range(layer.ndim) if axis not in self._axes_yx]
        # one snapshot of the data for all slices: the window may replace it meanwhile
        first = self._plane((0,) * len(self.lengths))
        self._reader = PlaneReader(layer, first, channels)
        self.levels_yx = self._reader.levels_yx

    def read(self, position: tuple[int, ...], region_yx: Region, level: int) -> NDArray[Any]:
        """Read a rectangle of a slice."""
        return self._reader.at(self._plane(position)).read(region_yx, level)

    def read_cost(self, position: tuple[int, ...], region_yx: Region, level: int) -> int:
        """Count the elements that reading it touches."""
        return self._reader.at(self._plane(position)).read_cost(region_yx, level)

    def _plane(self, position: tuple[int, ...]) -> Plane:
        along = dict(zip(self._stack_axes, position, strict=True))
        return Plane(self._axes_yx, tuple(along.get(axis, 0) for axis in self._others))


def _layer_limits(layers: Sequence[Image]) -> Contrast:
    limits = [tuple(float(value) for value in each.contrast_limits) for each in layers]
    return Contrast(tuple(low for low, _ in limits), tuple(high for _, high in limits))
