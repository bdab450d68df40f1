"""What the model sees: one contrast for a whole volume, and the picture that it makes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam._napari.layers import ChannelChoice, PlaneReader
from napari_sam.core.errors import ConfigError, InputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.tiling import (
    DEFAULT_PERCENTILES,
    Contrast,
    check_percentiles,
    percentile_contrast,
    to_rgb,
)

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.pipeline.plane_image import PlaneImage

__all__ = ["ContrastChoice", "contrast_steps", "measure_contrast", "model_view"]

ContrastSource = Literal["percentiles", "layer limits"]

# The sample is that of a run over the volume (napari_sam.pipeline.source), so that both see alike.
SAMPLE_SLICES = 16
SAMPLE_PIXELS = 2**22
SAMPLE_TOTAL = 2**22
BLOCK = 512
BUDGET = 2**30
"""Elements that may be decoded for it, so that it ends in time also on a slow or huge stack."""
AS_IT_IS = Contrast(low=(0.0,), high=(255.0,))


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
    steps = contrast_steps(layer, channels, choice, keeps_8bit=keeps_8bit)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            contrast: Contrast = stop.value
            return contrast


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
    layers = (layer, *channels.other_layers)
    if keeps_8bit and choice.percentiles is None and all(x.dtype == np.uint8 for x in layers):
        return AS_IT_IS
    volume = _Slices(layer, channels)
    sample: list[NDArray[Any]] = []
    for block in volume.sample():
        sample.append(block)
        yield
    pixels = np.concatenate(sample)  # (N, C)
    if not _is_constant(pixels):
        percentiles = choice.percentiles or DEFAULT_PERCENTILES
        maps = [percentile_contrast(values, percentiles) for values in volume.per_map(pixels)]
        return Contrast(tuple(x.low[0] for x in maps), tuple(x.high[0] for x in maps))
    return (yield from _full_range(volume))  # an even sample may have missed a rare object


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


class _Slices:
    """A layer as slices along its last two axes that count no channels."""

    def __init__(self, layer: Image, channels: ChannelChoice) -> None:
        self.name = layer.name
        self._is_color = bool(layer.rgb)
        axes = [axis for axis in range(layer.ndim) if axis != channels.axis]
        self._axes_yx = axes[-2], axes[-1]
        self._stack_axes = axes[:-2]
        self._lengths = [int(layer.level_shapes[0][axis]) for axis in self._stack_axes]
        self._others = [axis for axis in range(layer.ndim) if axis not in self._axes_yx]
        # one snapshot of the data for all slices: the window may replace it meanwhile
        self._reader = PlaneReader(layer, self._plane(0), channels)

    def sample(self) -> Iterator[NDArray[Any]]:
        """Yield pixels of slices spread over the volume, (n, C) each."""
        levels_yx = self._reader.levels_yx
        small = [n for n, shape in enumerate(levels_yx) if math.prod(shape) <= SAMPLE_PIXELS]
        level = small[0] if small else len(levels_yx) - 1
        windows = _sample_windows(levels_yx[level])
        cost = max(self._reader.read_cost(window, level) for window in windows)
        n_reads = max(BUDGET // cost, 1)
        slices = _spread(math.prod(self._lengths), min(SAMPLE_SLICES, n_reads))
        windows = [windows[i] for i in _spread(len(windows), max(n_reads // len(slices), 1))]
        for number in slices:
            reader = self._reader.at(self._plane(number))
            for window in windows:
                rows = self._as_rows(reader.read(window, level))
                # an odd step does not fall on the same columns again and again
                yield rows[:: (len(rows) * len(slices) // SAMPLE_TOTAL) | 1].copy()

    def all_blocks(self) -> Iterator[NDArray[Any]]:
        """Yield all pixels at full resolution, (n, C) each, as far as the budget reaches."""
        rows, columns = self._reader.levels_yx[0]
        height = max(SAMPLE_PIXELS // columns, 1)
        spent = 0
        for number, top in itertools.product(
            range(math.prod(self._lengths)), range(0, rows, height)
        ):
            window = Region((top, 0), (min(top + height, rows), columns))
            spent += self._reader.read_cost(window)
            if spent > BUDGET:
                return
            yield self._as_rows(self._reader.at(self._plane(number)).read(window))

    def per_map(self, pixels: NDArray[Any]) -> list[NDArray[Any]]:
        """Split (N, C) pixels into the values of each map: all colours share one."""
        return [pixels.ravel()] if self._is_color else list(pixels.T)

    def _as_rows(self, block: NDArray[Any]) -> NDArray[Any]:
        return block.reshape(-1, block.shape[2] if block.ndim == 3 else 1)

    def _plane(self, number: int) -> Plane:
        along = np.unravel_index(number, self._lengths) if self._lengths else ()
        position = dict(zip(self._stack_axes, map(int, along), strict=True))
        return Plane(self._axes_yx, tuple(position.get(axis, 0) for axis in self._others))


def _layer_limits(layers: Sequence[Image]) -> Contrast:
    limits = [tuple(float(value) for value in each.contrast_limits) for each in layers]
    return Contrast(tuple(low for low, _ in limits), tuple(high for _, high in limits))


def _full_range(volume: _Slices) -> Generator[None, None, Contrast]:
    """Take the smallest and the largest finite value of each map."""
    limits: dict[int, tuple[float, float]] = {}
    n_maps = 1
    for block in volume.all_blocks():
        columns = volume.per_map(block)
        n_maps = len(columns)
        for number, values in enumerate(columns):
            finite = values[np.isfinite(values)]
            if finite.size:
                low, high = limits.get(number, (math.inf, -math.inf))
                limits[number] = min(low, float(finite.min())), max(high, float(finite.max()))
        yield
    if not any(low < high for low, high in limits.values()):
        found = f"the constant value {limits[0][0]:g}" if limits else "no finite value"
        raise InputError(
            f"The layer '{volume.name}' holds {found} wherever it was looked at",
            rule="An image without contrast shows no objects",
            cure="Choose another channel or image; or, if there is something to see, set the "
            "layer's contrast limits and use those",
        )
    open_limits = [limits.get(number, (0.0, 0.0)) for number in range(n_maps)]
    pairs = [(low, high) if low < high else (0.0, 1.0) for low, high in open_limits]
    return Contrast(tuple(low for low, _ in pairs), tuple(high for _, high in pairs))


def _is_constant(pixels: NDArray[Any]) -> bool:
    finite = pixels[np.isfinite(pixels).all(axis=-1)]
    return finite.size == 0 or bool((finite == finite[0]).all())


def _spread(count: int, n: int) -> list[int]:
    """Choose up to `n` of the numbers below `count`: with both ends, or the one in the middle."""
    if n == 1:
        return [count // 2]
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, n)).tolist()})


def _sample_windows(shape_yx: tuple[int, int]) -> list[Region]:
    """Return the whole slice, or a 4 x 4 grid of blocks of a very large one."""
    if math.prod(shape_yx) <= 4 * SAMPLE_PIXELS:
        return [Region.whole(shape_yx)]
    starts = [np.linspace(0, max(n - BLOCK, 0), 4).astype(int).tolist() for n in shape_yx]
    return [
        Region((top, left), (min(top + BLOCK, shape_yx[0]), min(left + BLOCK, shape_yx[1])))
        for top, left in itertools.product(*starts)
    ]
