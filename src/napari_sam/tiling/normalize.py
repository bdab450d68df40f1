"""One linear contrast map per volume and channel, the same for every tile.

Contrast that is stretched tile by tile turns empty tiles into noise and leaves seams, so the limits
are measured once, on a sample of the volume, and applied everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError, InputError

__all__ = [
    "DEFAULT_PERCENTILES",
    "Contrast",
    "check_intensity_dtype",
    "check_percentiles",
    "percentile_contrast",
    "to_rgb",
]

DEFAULT_PERCENTILES = (1.0, 99.8)


@dataclass(frozen=True)
class Contrast:
    """A linear map per channel from intensities to 0..255.

    Parameters
    ----------
    low : tuple of float
        Intensity that becomes 0, one per channel. A single value serves all channels.
    high : tuple of float
        Intensity that becomes 255, one per channel, greater than `low`.

    Raises
    ------
    ConfigError
        When the limits are not finite, not increasing, or differ in number.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        pairs = list(zip(self.low, self.high, strict=False))
        ordered = all(np.isfinite(pair).all() and pair[0] < pair[1] for pair in pairs)
        if not pairs or len(self.low) != len(self.high) or not ordered:
            raise ConfigError(
                f"The contrast limits {self.low} to {self.high} were given",
                rule="Each channel needs one finite low limit below one finite high limit",
                cure="Give limits such as low=(0,) and high=(4095,)",
            )

    def apply(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Map intensities to 0..255; what is not finite becomes 0.

        Parameters
        ----------
        image : ndarray, shape (H, W) or (H, W, C)
            Any real dtype. C must equal the number of limits, unless there is only one.

        Returns
        -------
        ndarray of uint8, same shape as `image`

        Raises
        ------
        InputError
            When the image is boolean or complex, or has another number of channels.
        """
        check_intensity_dtype(image.dtype)
        n_limits = len(self.low)
        if n_limits > 1 and (image.ndim < 3 or image.shape[-1] != n_limits):
            raise InputError(
                f"An image of shape {image.shape} met contrast limits for {n_limits} channels",
                rule="The last axis must be the channels that the limits were measured on",
                cure="Measure the contrast on an image with the same channels",
            )
        if image.dtype.itemsize <= 2:  # float32 holds these values exactly
            return _stretch(image.astype(np.float32), self.low, self.high)
        return _stretch(image.astype(np.float64), self.low, self.high)


def percentile_contrast(
    sample: NDArray[Any], percentiles: tuple[float, float] = DEFAULT_PERCENTILES
) -> Contrast:
    """Measure contrast limits as percentiles over the finite pixels of a sample.

    Parameters
    ----------
    sample : ndarray, shape (N,), (H, W) or (..., C)
        Pixels of one volume. Arrays of three axes or more hold the channels last; arrays of one or
        two axes have a single channel.
    percentiles : tuple of float
        Low and high percentile, 0 to 100, increasing.

    Returns
    -------
    Contrast
        A constant channel, or one without finite pixels, gets ``high = low + 1`` and so becomes 0.

    Raises
    ------
    ConfigError
        When the percentiles are out of order or out of range.
    InputError
        When the sample is empty, boolean or complex.
    """
    check_percentiles(percentiles)
    check_intensity_dtype(sample.dtype)
    if sample.size == 0:
        raise InputError(
            f"An empty sample of shape {sample.shape} was given",
            rule="Contrast is measured on at least one pixel",
            cure="Check that the image has pixels along every axis",
        )
    n_channels = sample.shape[-1] if sample.ndim >= 3 else 1
    limits = [_channel_limits(channel, percentiles) for channel in sample.reshape(-1, n_channels).T]
    return Contrast(low=tuple(low for low, _ in limits), high=tuple(high for _, high in limits))


def to_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make the three-channel image that the model takes.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W) or (H, W, C) with C from 1 to 3
        Gray is repeated. Two channels become (first, second, first): magenta and green, the
        convention for two-colour fluorescence, so that neither dominates. Three are kept.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    InputError
        When there are more than three channels, or the array is not an image.
    """
    if image.ndim == 2:
        return np.repeat(image[:, :, np.newaxis], 3, axis=2)
    if image.ndim != 3 or not 1 <= image.shape[2] <= 3:
        raise InputError(
            f"An image of shape {image.shape} was given",
            rule="The model sees an image of shape (H, W) or (H, W, C) with one to three channels",
            cure="Choose up to three channels, for example `--channel 0`",
        )
    sources = {1: (0, 0, 0), 2: (0, 1, 0), 3: (0, 1, 2)}[image.shape[2]]
    return np.ascontiguousarray(image[:, :, sources])


def check_percentiles(percentiles: Sequence[float]) -> None:
    """Refuse percentiles that are out of order or out of 0..100.

    Raises
    ------
    ConfigError
    """
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ConfigError(
            f"The contrast percentiles {tuple(percentiles)} were given",
            rule="Two percentiles from 0 to 100 are needed, the low one first",
            cure="Use for example 1 and 99.8",
        )


def check_intensity_dtype(dtype: np.dtype[Any]) -> None:
    """Refuse dtypes that hold no intensities: boolean, complex, text, objects.

    Raises
    ------
    InputError
    """
    if dtype.kind not in "uif":
        cure = {
            "b": "Give the intensity image that the mask was made from, or save it as uint8",
            "c": "Save its magnitude or its real part as float32",
        }.get(dtype.kind, "Save the image as an integer or floating-point type")
        raise InputError(
            f"The image has dtype {dtype}",
            rule="Intensities must be real numbers: unsigned or signed integers, or floats",
            cure=cure,
        )


def _stretch(
    values: NDArray[np.floating[Any]], low: tuple[float, ...], high: tuple[float, ...]
) -> NDArray[np.uint8]:
    """Map ``low`` to 0 and ``high`` to 255 in place; `values` is a scratch copy."""
    dtype = values.dtype
    values[~np.isfinite(values)] = -np.inf
    # one limit is a scalar for every axis, several stand along the last axis
    offset = np.asarray(low if len(low) > 1 else low[0], dtype=dtype)
    top = np.asarray(high if len(high) > 1 else high[0], dtype=dtype)
    np.subtract(values, offset, out=values)
    np.divide(values, top - offset, out=values)
    np.clip(values, 0.0, 1.0, out=values)
    np.multiply(values, 255.0, out=values)
    np.rint(values, out=values)
    return values.astype(np.uint8)


def _channel_limits(values: NDArray[Any], percentiles: tuple[float, float]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite.astype(np.float64), percentiles))
    if low < high:
        return low, high
    # Percentiles meet when a few bright objects stand on an even background: the full range then
    # shows them. A truly constant channel gets any high limit above its value.
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low, max(low + 1.0, float(np.nextafter(low, np.inf))))
