"""The embedding of an image on the way to its objects, in steps."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.core.errors import ConfigError
from napari_sam.core.object_scale import AUTO, Diameter, scale_for
from napari_sam.model.sam import Sam
from napari_sam.predict.embedding import ImageEmbedding, embed_steps
from napari_sam.predict.object_diameter import (
    require_diameter,
    scale_steps,
    told_between_windows,
)
from napari_sam.predict.pixels import to_model_pixels
from napari_sam.predict.predictor import SamPredictor
from napari_sam.predict.records import AutomaticProgress
from napari_sam.predict.transforms import ImageTransform
from napari_sam.tiling.normalize import Contrast

__all__ = ["EncodedImage", "encode_image_steps"]


class EncodedImage(NamedTuple):
    """An image that is encoded.

    Attributes
    ----------
    embedding : ImageEmbedding
        Of the whole image.
    pixels : ndarray of uint8, shape (H, W, 3), or None
        What the model saw; None where the embedding was given.
    """

    embedding: ImageEmbedding
    pixels: NDArray[np.uint8] | None


def encode_image_steps(
    sam: Sam,
    image: ArrayLike | ImageEmbedding,
    contrast: Contrast | None,
    diameter: Diameter | None = None,
) -> Generator[AutomaticProgress, None, EncodedImage]:
    """Encode an image, unless it is encoded, giving control back between its windows.

    Parameters
    ----------
    sam : Sam
        The model.
    image : array-like, shape (H, W) or (H, W, C), or ImageEmbedding
        As :meth:`SamPredictor.encode` takes or returns it.
    contrast : Contrast, optional
        A fixed map of intensities.
    diameter : float, "auto" or "native", optional
        Diameter of the objects in pixels, which decides the scale of the image.

    Yields
    ------
    AutomaticProgress
        Between the windows of an image that is encoded in several, and while a diameter is
        estimated.

    Returns
    -------
    EncodedImage

    Raises
    ------
    InputError
        When the image is not valid, or the embedding is of another model.
    ConfigError
        When the diameter is none, the model has no use of it, or the embedding has another scale.
    DeviceError
        When the device fails, or has too little memory.
    """
    if isinstance(image, ImageEmbedding):
        SamPredictor(sam).check_embedding(image)
        _check_scale(image, sam, diameter)
        return EncodedImage(image, None)
    pixels = to_model_pixels(image, sam.input_spec, contrast)
    scale, embedding = yield from scale_steps(sam, pixels, diameter)
    if embedding is None:
        embedding = yield from told_between_windows(embed_steps(sam, pixels, scale))
    return EncodedImage(embedding, pixels)


def _check_scale(embedding: ImageEmbedding, sam: Sam, diameter: Diameter | None) -> None:
    """Refuse a diameter for which the image would have been resized to another scale."""
    if require_diameter(sam, diameter) is None:
        return
    if diameter != AUTO:
        size_yx = embedding.original_size_yx
        wanted = ImageTransform.for_image(size_yx, sam.input_spec, scale_for(diameter))
        if embedding.transform == wanted:
            return
    raise ConfigError(
        f"diameter={diameter!r} was given with an embedding of another scale",
        rule="The diameter of objects decides the scale at which an image is encoded",
        cure="Give the diameter to SamPredictor.encode(), or the image instead of its embedding",
    )
