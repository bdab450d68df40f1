"""The embedding of an image on the way to its objects, in steps."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam
from napari_sam.predict.embedding import ImageEmbedding, encode_steps
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
    sam: Sam, image: ArrayLike | ImageEmbedding, contrast: Contrast | None
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

    Yields
    ------
    AutomaticProgress
        Between the windows of an image that is encoded in several.

    Returns
    -------
    EncodedImage

    Raises
    ------
    InputError
        When the image is not valid, or the embedding is of another model.
    DeviceError
        When the device fails, or has too little memory.
    """
    if isinstance(image, ImageEmbedding):
        SamPredictor(sam).check_embedding(image)
        return EncodedImage(image, None)
    pixels = to_model_pixels(image, sam.input_spec, contrast)
    size_yx = (pixels.shape[0], pixels.shape[1])
    transform = ImageTransform.for_image(size_yx, sam.input_spec)
    encoding = encode_steps(sam, transform.image_to_input(pixels), transform)
    features = yield from _told_between_windows(encoding)
    embedding = ImageEmbedding(features.embedding, features.skips, size_yx, transform, sam.digest)
    return EncodedImage(embedding, pixels)


def _told_between_windows(
    encoding: Generator[tuple[int, int], None, ImageFeatures],
) -> Generator[AutomaticProgress, None, ImageFeatures]:
    """Give control back between the windows of a large image; its steps are not known yet."""
    with closing(encoding):
        while True:
            try:
                done, total = next(encoding)
            except StopIteration as finished:
                features: ImageFeatures = finished.value
                return features
            if 0 < done < total:
                yield AutomaticProgress(0, 0, 0)
