"""From any real image to the 8-bit RGB pixels that a model takes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.core.errors import InputError, NapariSamWarning
from napari_sam.model.sam import InputSpec
from napari_sam.tiling.normalize import (
    Contrast,
    check_intensity_dtype,
    percentile_contrast,
    to_rgb,
)

__all__ = ["to_model_pixels"]


def to_model_pixels(
    image: ArrayLike, spec: InputSpec, contrast: Contrast | None = None
) -> NDArray[np.uint8]:
    """Make the 8-bit RGB image that the model sees.

    Without a `contrast`, 8-bit images are taken as they are by official models. All other dtypes,
    and for the compact model all images, are stretched between their 1st and 99.8th percentile: an
    8-bit RGB image over all channels together, so that its colours stay; other images channel by
    channel, as the channels of a fluorescence image have nothing in common.

    Parameters
    ----------
    image : array-like, shape (H, W) or (H, W, C)
        Intensities of any real dtype, with one to three channels.
    spec : InputSpec
        What the model expects.
    contrast : Contrast, optional
        A fixed map of intensities, the same for all tiles and slices of a volume.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    InputError
        When the image is empty, has another shape, more than three channels, or is boolean or
        complex.

    Warns
    -----
    NapariSamWarning
        When pixels are NaN or infinite; they become black.
    """
    pixels = _checked_image(np.asarray(image))
    if contrast is not None:
        return to_rgb(contrast.apply(pixels))
    is_8bit = pixels.dtype == np.uint8
    if is_8bit and spec.contrast == "as_is":
        return to_rgb(pixels.view(np.uint8))
    if is_8bit and pixels.ndim == 3 and pixels.shape[2] == 3:
        flat = pixels.reshape(len(pixels), -1)  # one map for all channels keeps the colours
        return to_rgb(percentile_contrast(flat).apply(flat).reshape(pixels.shape))
    return to_rgb(percentile_contrast(pixels).apply(pixels))


def _checked_image(image: NDArray[Any]) -> NDArray[Any]:
    check_intensity_dtype(image.dtype)
    if image.ndim not in (2, 3) or image.size == 0:
        raise InputError(
            f"An image of shape {image.shape} was given",
            rule="One 2D image with pixels is needed, of shape (H, W) or (H, W, C)",
            cure="Give one slice at a time, with the channels on the last axis",
        )
    if image.dtype.kind == "f":
        n_bad = image.size - int(np.count_nonzero(np.isfinite(image)))
        if n_bad:
            warnings.warn(
                f"{n_bad} of {image.size} values are NaN or infinite; they are shown as black.",
                NapariSamWarning,
                stacklevel=3,
            )
    return image
