"""The image embedding: what the image encoder makes of an image, once for all prompts."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.model.devices import is_out_of_memory, translate_torch_errors
from napari_sam.model.execution import execution_for
from napari_sam.model.layers import ImageFeatures, ImageIdentity
from napari_sam.model.sam import Sam
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.windows import Window, balanced_spans

__all__ = ["HALO_FRACTION", "ImageEmbedding", "embed_steps", "encode_steps"]

HALO_FRACTION = 8
"""An eighth of an encoder window at each inner side only lends context and is thrown away."""


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """An encoded image; prompts are decoded against it.

    Parameters
    ----------
    features : Tensor, shape (1, C, h, w)
        The image embedding of the whole input frame, on the model's device.
    skips : tuple of Tensor
        Finer maps for the mask decoder, (1, c, h', w') each; empty for official models.
    original_size_yx : tuple of int
        Rows and columns of the image.
    transform : ImageTransform
        How the image lies in the input frame.
    model_digest : str
        Digest of the model that made it; no other model can decode it.
    """

    features: Tensor
    skips: tuple[Tensor, ...]
    original_size_yx: tuple[int, int]
    transform: ImageTransform
    model_digest: str
    _identity: ImageIdentity = field(default_factory=ImageIdentity, init=False, repr=False)

    def as_features(self) -> ImageFeatures:
        """Return the maps as the mask decoder takes them."""
        return ImageFeatures(self.features, self.skips, self._identity)


def embed_steps(
    sam: Sam, pixels: NDArray[np.uint8], scale: float = 1.0
) -> Generator[tuple[int, int], None, ImageEmbedding]:
    """Embed pixels that are ready for the model, giving control back after each window.

    Parameters
    ----------
    sam : Sam
        The model.
    pixels : ndarray of uint8, shape (H, W, 3)
        As :func:`~napari_sam.predict.pixels.to_model_pixels` makes them.
    scale : float
        Input pixels along an image pixel, for models with native pixels.

    Yields
    ------
    tuple of int
        As :func:`encode_steps` does.

    Returns
    -------
    ImageEmbedding

    Raises
    ------
    ConfigError
        When a scale is given for a model that resizes images.
    DeviceError
        When the device fails, or has too little memory.
    """
    size_yx = (pixels.shape[0], pixels.shape[1])
    transform = ImageTransform.for_image(size_yx, sam.input_spec, scale)
    features = yield from encode_steps(sam, transform.image_to_input(pixels), transform)
    return ImageEmbedding(features.embedding, features.skips, size_yx, transform, sam.digest)


def encode_steps(
    sam: Sam,
    pixels: NDArray[np.uint8],
    transform: ImageTransform,
    dtype: torch.dtype | None = None,
) -> Generator[tuple[int, int], None, ImageFeatures]:
    """Encode an image, giving control back after each window of a large one.

    The features of the windows are put together as one mosaic. Where windows overlap, the seam
    runs through the middle, so that each kept feature has about an eighth of a window of image
    around it.

    Parameters
    ----------
    sam : Sam
        The model.
    pixels : ndarray of uint8, shape (h, w, 3)
        The resized image, without padding.
    transform : ImageTransform
        How it lies in the input frame.
    dtype : torch.dtype, optional
        What the features are rounded to; as the encoder gives them by default. Unrounded are no
        more of them than those of the windows that are encoded in one call.

    Yields
    ------
    tuple of int
        Windows that are done, and windows in all: first before any is, then after each. Where the
        device takes several windows in one call, the first of them comes after that call, and the
        others follow at once.

    Returns
    -------
    ImageFeatures
        Maps of the whole input frame, (1, C, h, w).

    Raises
    ------
    DeviceError
        When the device fails, or has too little memory.
    """
    parts = _encode_windows(sam, pixels, transform)
    total = _window_count(sam, transform)
    yield 0, total
    # the mode does not span a yield: it would hold for whoever runs between two steps
    with translate_torch_errors(), torch.inference_mode():
        mosaic = _start_mosaic(next(parts), transform.padded_size_yx, dtype)
    yield 1, total
    for done in range(2, total + 1):
        with translate_torch_errors(), torch.inference_mode():
            _paste(mosaic, next(parts))
        yield done, total
    return mosaic


class _EncodedWindow(NamedTuple):
    """The features of a window, and the rows and columns of the frame that they are kept for."""

    window: Window
    keep_yx: tuple[tuple[int, int], tuple[int, int]]
    features: ImageFeatures


def _spans(sam: Sam, transform: ImageTransform) -> list[list[tuple[int, int]]]:
    """Windows along rows and along columns; one each for what the model takes at once."""
    spec = sam.input_spec
    if not spec.native_resolution:
        return [[(0, length)] for length in transform.padded_size_yx]
    overlap = 2 * spec.size // HALO_FRACTION
    return [
        balanced_spans(length, spec.size, overlap, spec.pad_multiple)
        for length in transform.padded_size_yx
    ]


def _window_count(sam: Sam, transform: ImageTransform) -> int:
    row_spans, col_spans = _spans(sam, transform)
    return len(row_spans) * len(col_spans)


def _encode_windows(
    sam: Sam, pixels: NDArray[np.uint8], transform: ImageTransform
) -> Iterator[_EncodedWindow]:
    """Encode the windows of an image, which all have one size, some in a call.

    Where memory runs out, they go one by one.
    """
    row_spans, col_spans = _spans(sam, transform)
    stride = sam.input_spec.stride
    places = [
        (Window(y, x, height, width), (keep_y, keep_x))
        for y, height, keep_y in _with_kept_part(row_spans, stride)
        for x, width, keep_x in _with_kept_part(col_spans, stride)
    ]
    start, at_once = 0, execution_for(sam.device).windows_per_batch
    while start < len(places):
        batch = places[start : start + at_once]
        features = _try_to_encode(sam, pixels, [window for window, _ in batch])
        if features is None:
            at_once = 1
            continue
        for index, (window, keep_yx) in enumerate(batch):
            yield _EncodedWindow(window, keep_yx, _image_of(features, index))
        start += len(batch)


def _try_to_encode(
    sam: Sam, pixels: NDArray[np.uint8], windows: list[Window]
) -> ImageFeatures | None:
    """Encode windows (B, ...) in one call; None when memory is too small for several."""
    inside = [pixels[w.y : w.y + w.height, w.x : w.x + w.width] for w in windows]
    try:
        return sam.encode(_to_tensor(inside, sam))
    except (RuntimeError, MemoryError) as error:
        if len(windows) == 1 or not is_out_of_memory(error):
            raise
        return None


def _image_of(features: ImageFeatures, index: int) -> ImageFeatures:
    """Features of one image of a batch, (1, C, h, w)."""
    one = slice(index, index + 1)
    return ImageFeatures(features.embedding[one], tuple(skip[one] for skip in features.skips))


def _to_tensor(images: list[NDArray[np.uint8]], sam: Sam) -> Tensor:
    """Pixels (h, w, 3) of B images as floats (B, 3, h, w) on the device.

    The bytes are sent as they are, a quarter of the floats. From pinned memory a GPU takes them by
    itself; torch keeps that memory until it has. Images at the border of the frame may be smaller
    than others: the mean pixel beside them becomes zero, as the model's own padding is.
    """
    pins = execution_for(sam.device).pins_tiles
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    staged = torch.empty((len(images), 3, height, width), dtype=torch.uint8, pin_memory=pins)
    for target, image in zip(staged.numpy(), images, strict=True):
        target[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    pixels = staged.to(sam.device, non_blocking=pins).to(torch.float32)
    for target, image in zip(pixels, images, strict=True):
        target[:, image.shape[0] :] = sam.pixel_mean
        target[:, :, image.shape[1] :] = sam.pixel_mean
    return pixels


def _with_kept_part(
    spans: list[tuple[int, int]], stride: int
) -> list[tuple[int, int, tuple[int, int]]]:
    """Add the part of each span that is kept: to the middle of the overlap with its neighbours."""
    seams = [0]
    for (start, length), (following, _) in itertools.pairwise(spans):
        seams.append((start + length + following) // 2 // stride * stride)
    seams.append(spans[-1][0] + spans[-1][1])
    return [
        (start, length, keep)
        for (start, length), keep in zip(spans, itertools.pairwise(seams), strict=True)
    ]


def _start_mosaic(
    part: _EncodedWindow, frame_yx: tuple[int, int], dtype: torch.dtype | None
) -> ImageFeatures:
    """Make maps of the whole frame that hold one window; the window's own where it is alone."""
    levels = [part.features.embedding, *part.features.skips]
    order = execution_for(levels[0].device).map_format
    if part.window.size_yx == frame_yx:
        embedding, *skips = [
            level.to(dtype or level.dtype).contiguous(memory_format=order) for level in levels
        ]
        return ImageFeatures(embedding, tuple(skips))

    def enlarge(level: Tensor) -> Tensor:
        stride_y = part.window.height // level.shape[2]
        stride_x = part.window.width // level.shape[3]
        return torch.empty(
            (1, level.shape[1], frame_yx[0] // stride_y, frame_yx[1] // stride_x),
            dtype=dtype or level.dtype,
            device=level.device,
            memory_format=order,
        )

    embedding, *skips = [enlarge(level) for level in levels]
    mosaic = ImageFeatures(embedding, tuple(skips))
    _paste(mosaic, part)
    return mosaic


def _paste(mosaic: ImageFeatures, part: _EncodedWindow) -> None:
    window, features = part.window, part.features
    for whole, level in zip(
        (mosaic.embedding, *mosaic.skips), (features.embedding, *features.skips), strict=True
    ):
        target, source = [], []
        for (first, last), start, length, n_cells in zip(
            part.keep_yx, (window.y, window.x), window.size_yx, level.shape[2:], strict=True
        ):
            stride = length // n_cells
            target.append(slice(first // stride, last // stride))
            source.append(slice((first - start) // stride, (last - start) // stride))
        whole[:, :, target[0], target[1]] = level[:, :, source[0], source[1]]
