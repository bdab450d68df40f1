"""Images to distil on: whole, in the model's input frame, without augmentation.

A teacher's embedding of an image can then be computed once and kept, as MobileSAM does (Zhang et
al. 2023, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.errors import InputError
from napari_sam.evaluation.datasets import iter_images, read_image, stretch
from napari_sam.model.sam import InputSpec, Sam
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.windows import balanced_spans
from napari_sam.tiling.normalize import to_rgb
from napari_sam.training.batches import MIN_OBJECT_PIXELS, list_training_pairs
from napari_sam.training.distill_config import DistillConfig
from napari_sam.training.prompts import draw_box, draw_click

__all__ = [
    "DistillBatch",
    "DistillImage",
    "DistillPrompts",
    "DistillSource",
    "frame_pixels",
    "load_distill_images",
]

IMAGE_SUFFIXES = {".png", ".tif", ".tiff"}


class DistillImage(NamedTuple):
    """An image, or a window of it, in the model's input frame.

    Attributes
    ----------
    pixels : ndarray of uint8
        (h, w, 1) or (h, w, 3); the frame goes on at bottom and right.
    labels : ndarray of int32, or None
        (h, w); None where no labels were asked for.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int32] | None


class DistillPrompts(NamedTuple):
    """One prompt for each of N objects, in input pixels: clicks (N, 1, 2) or boxes (N, 4)."""

    clicks_xy: NDArray[np.float32] | None
    boxes_xyxy: NDArray[np.float32] | None


@dataclass(frozen=True)
class DistillBatch:
    """One step's images, and prompts for each; None for an image without objects."""

    images: list[DistillImage]
    prompts: list[DistillPrompts | None]


def load_distill_images(folder: Path, spec: InputSpec, *, with_labels: bool) -> list[DistillImage]:
    """Read and stretch the images of a folder, and bring them to a model's input frame.

    Where the model resizes, an image becomes one of the model's size; where it keeps native
    pixels, an image is cut into windows of the model's size.

    Parameters
    ----------
    folder : Path
        A folder with ``index.csv``, of which the images are taken that a licence allows training
        on, or with ``images/``: PNG or TIFF, a stack gives an image for each slice.
    spec : InputSpec
        The model's input.
    with_labels : bool
        Read labels as well; then images without objects are left out.

    Returns
    -------
    list of DistillImage

    Raises
    ------
    InputError
        If there is no image, or one cannot be read.
    """
    folder = Path(folder)
    stored: Iterable[tuple[NDArray[Any], NDArray[np.int32] | None]]
    if with_labels or (folder / "index.csv").exists():
        pairs = list_training_pairs(folder)
        labelled = (item for item in iter_images(pairs) if item.labels.any())
        stored = ((item.image, item.labels if with_labels else None) for item in labelled)
    else:
        stored = ((image, None) for image in _plain_images(folder / "images"))
    images = [
        framed
        for image, labels in stored
        for framed in _to_frame(to_rgb(stretch(image)), labels, spec)
    ]
    if not images:
        raise InputError(
            f"The folder {folder} holds no images{' with objects' if with_labels else ''}",
            rule="Distillation needs images/ with PNG or TIFF files, and labels/ for a mask loss",
            cure="Check the folder, and that mask_weight is 0 if there are no labels",
        )
    return images


def frame_pixels(images: list[DistillImage], sam: Sam) -> Tensor:
    """Put images into frames of the model's size, (B, 3, size, size), 0 to 255.

    What is beside an image has the mean pixel, which the model's normalisation makes zero.
    """
    size = sam.input_spec.size
    frames = sam.pixel_mean[None].repeat(len(images), 1, size, size)
    for frame, image in zip(frames, images, strict=True):
        height, width = image.pixels.shape[:2]
        pixels = torch.from_numpy(image.pixels).to(frame.device).permute(2, 0, 1)
        frame[:, :height, :width] = pixels.to(frame.dtype)
    return frames


class DistillSource:
    """Draws batches; batch ``i`` depends on the seed and ``i`` alone, so a run can resume.

    All images are gone through in a random order, then in another one.

    Parameters
    ----------
    images : list of DistillImage
        At least one.
    config : DistillConfig
        Sizes and fractions.
    """

    def __init__(self, images: list[DistillImage], config: DistillConfig) -> None:
        self.images = images
        self.config = config
        self._order = lru_cache(2)(self._draw_order)

    def indices(self, step: int) -> list[int]:
        """Return which images a step takes."""
        first = step * self.config.images_per_batch
        places = range(first, first + self.config.images_per_batch)
        count = len(self.images)
        return [int(self._order(place // count)[place % count]) for place in places]

    def batch(self, step: int) -> DistillBatch:
        """Draw the batch of a step."""
        rng = np.random.default_rng([self.config.seed, step, 1])
        images = [self.images[index] for index in self.indices(step)]
        return DistillBatch(images, [self._draw_prompts(image.labels, rng) for image in images])

    def _draw_order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.config.seed, epoch]).permutation(len(self.images))

    def _draw_prompts(
        self, labels: NDArray[np.int32] | None, rng: np.random.Generator
    ) -> DistillPrompts | None:
        if labels is None:
            return None
        sizes = np.bincount(labels.ravel())
        candidates = np.flatnonzero(sizes >= MIN_OBJECT_PIXELS)
        candidates = candidates[candidates > 0]
        if not candidates.size:
            return None
        masks = [labels == label for label in rng.choice(candidates, self.config.objects_per_image)]
        if rng.random() < self.config.box_fraction:
            return DistillPrompts(None, np.array([draw_box(m, rng) for m in masks], np.float32))
        return DistillPrompts(np.array([[draw_click(m, rng)] for m in masks], np.float32), None)


def _plain_images(folder: Path) -> Iterator[NDArray[Any]]:
    """Read the files of a folder; a stack gives its slices."""
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        image = read_image(path)
        is_colour = image.ndim > 2 and image.shape[-1] in (3, 4)
        if is_colour:
            image = image[..., :3]  # without transparency
        if image.ndim not in (2, 3) + (4,) * is_colour:
            raise InputError(
                f"{path} has shape {image.shape}",
                rule="An image is (Y, X), (Y, X, 3) or a stack of these along its first axis",
                cure="Save its slices as files of their own",
            )
        yield from image if image.ndim == 3 + is_colour else [image]


def _to_frame(
    pixels: NDArray[np.uint8], labels: NDArray[np.int32] | None, spec: InputSpec
) -> Iterator[DistillImage]:
    """Resize pixels (H, W, 3) and labels (H, W) to the model's input, or cut them into windows."""
    transform = ImageTransform.for_image((pixels.shape[0], pixels.shape[1]), spec)
    pixels = transform.image_to_input(pixels)
    if (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]  # grey takes a third of the memory
    if labels is not None:
        labels = _resize_labels(labels, transform.input_size_yx)
    row_spans, col_spans = (
        balanced_spans(length, spec.size, 0, spec.pad_multiple)
        for length in transform.padded_size_yx
    )
    for y, height in row_spans:
        for x, width in col_spans:
            window = slice(y, y + height), slice(x, x + width)
            cut = None if labels is None else np.ascontiguousarray(labels[window])
            yield DistillImage(np.ascontiguousarray(pixels[window]), cut)


def _resize_labels(labels: NDArray[np.int32], shape_yx: tuple[int, int]) -> NDArray[np.int32]:
    """Take the label at the centre of each pixel."""
    if labels.shape == shape_yx:
        return labels
    rows, cols = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(shape_yx, labels.shape, strict=True)
    )
    return np.asarray(labels[rows[:, None], cols])
