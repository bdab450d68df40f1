"""From an image to the model's input frame and back: images, coordinates and mask prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (torch's own name for it)

from napari_sam.core.errors import ConfigError
from napari_sam.model.sam import InputSpec

__all__ = ["CERTAIN_LOGIT", "ImageTransform"]

CERTAIN_LOGIT = 10.0
"""Logit of a pixel that a given mask surely covers; minus this where it surely does not."""


@dataclass(frozen=True)
class ImageTransform:
    """How an image lies in the model's input frame: resized, then padded at bottom and right.

    Official models resize the longest side to the input's size. The compact model keeps native
    pixels, so that its image and input coordinates are the same, unless a scale magnifies or
    shrinks them.

    Parameters
    ----------
    original_size_yx : tuple of int
        Rows and columns of the image.
    input_size_yx : tuple of int
        Rows and columns after resizing.
    padded_size_yx : tuple of int
        Rows and columns after padding: the input frame.
    low_res_stride : int
        Input pixels per cell of the low-res logits.
    maps_centres : bool
        Whether coordinates are mapped so that the centre of a pixel stays the centre of what the
        pixel becomes. Official models learned coordinates that are multiplied by the scale alone.
    """

    original_size_yx: tuple[int, int]
    input_size_yx: tuple[int, int]
    padded_size_yx: tuple[int, int]
    low_res_stride: int
    maps_centres: bool = False

    @classmethod
    def for_image(
        cls, original_size_yx: tuple[int, int], spec: InputSpec, scale: float = 1.0
    ) -> ImageTransform:
        """Derive the transform of an image.

        Parameters
        ----------
        original_size_yx : tuple of int
            Rows and columns of the image.
        spec : InputSpec
            What the model expects.
        scale : float
            Input pixels along an image pixel, for models with native pixels.

        Returns
        -------
        ImageTransform

        Raises
        ------
        ConfigError
            When a scale is given for a model that resizes each image to one size.
        """
        rows, cols = original_size_yx
        if spec.native_resolution:
            multiple = spec.pad_multiple
            # the smallest image keeps a pixel: nothing can be resized to none
            height, width = (max(int(length * scale + 0.5), 1) for length in (rows, cols))
            padded = (height + -height % multiple, width + -width % multiple)
            return cls(original_size_yx, (height, width), padded, spec.low_res_stride, True)
        if scale != 1:
            raise ConfigError(
                f"The scale {scale:g} was given for a model that resizes images",
                rule="Such a model sees every image at one size, whatever its scale",
                cure="Leave the scale out, or use the compact model",
            )
        scale = spec.size / max(rows, cols)
        # a very long image keeps at least one row: nothing can be resized to none
        resized = (max(int(rows * scale + 0.5), 1), max(int(cols * scale + 0.5), 1))
        return cls(original_size_yx, resized, (spec.size, spec.size), spec.low_res_stride)

    @property
    def scale_yx(self) -> tuple[float, float]:
        """Input pixels along an image pixel, in rows and in columns."""
        scale_x, scale_y = self._scale_xy().tolist()
        return scale_y, scale_x

    def image_span(self, axis: int, start: int, length: int) -> tuple[int, int]:
        """Find the image pixels whose centres lie in a span of the input frame.

        Spans that touch share no pixel, and leave none out.

        Parameters
        ----------
        axis : int
            0 for rows, 1 for columns.
        start, length : int
            The span, in input pixels.

        Returns
        -------
        tuple of int
            First pixel, and the one behind the last; both the same where there is none.
        """
        original, resized = self.original_size_yx[axis], self.input_size_yx[axis]

        def first_from(edge: int) -> int:
            # the first pixel i with (i + 1/2) * resized / original >= edge, in whole numbers
            pixel = -((resized - 2 * edge * original) // (2 * resized))
            return min(max(pixel, 0), original)

        return first_from(start), first_from(start + length)

    @property
    def low_res_size_yx(self) -> tuple[int, int]:
        """Rows and columns of the low-res logits of the whole input frame."""
        return (
            self.padded_size_yx[0] // self.low_res_stride,
            self.padded_size_yx[1] // self.low_res_stride,
        )

    def image_to_input(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an image with PIL's bilinear filter, as the official predictor does.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3)

        Returns
        -------
        ndarray of uint8, shape (h, w, 3)
        """
        if self.input_size_yx == self.original_size_yx:
            return image
        rows, cols = self.input_size_yx
        resized = Image.fromarray(image).resize((cols, rows), Image.Resampling.BILINEAR)
        return np.asarray(resized)

    def points_to_input(self, points_xy: NDArray[Any]) -> NDArray[np.float64]:
        """Map image coordinates (..., 2) as (x, y) to the input frame."""
        return np.asarray(points_xy, dtype=np.float64) * self._scale_xy() + self._shift_xy()

    def points_to_original(self, points_xy: NDArray[Any]) -> NDArray[np.float64]:
        """Map input coordinates (..., 2) as (x, y) to the image."""
        return (np.asarray(points_xy, dtype=np.float64) - self._shift_xy()) / self._scale_xy()

    def boxes_to_input(self, boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
        """Map boxes (N, 4) as (x0, y0, x1, y1) to the input frame."""
        corners = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 2, 2)
        return self.points_to_input(corners).reshape(-1, 4)

    def boxes_to_original(self, boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
        """Map boxes (N, 4) as (x0, y0, x1, y1) in the input frame to the image."""
        corners = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 2, 2)
        return self.points_to_original(corners).reshape(-1, 4)

    def masks_to_low_res(self, masks: NDArray[np.bool_]) -> Tensor:
        """Turn drawn masks to low-res logits, for use as mask prompts.

        Each logit is ``CERTAIN_LOGIT * (2 * fraction - 1)``, where ``fraction`` is the part of the
        low-res cell that the mask covers: fully covered cells get ``CERTAIN_LOGIT``, empty ones
        and the padding ``-CERTAIN_LOGIT``.

        Parameters
        ----------
        masks : ndarray of bool, shape (N, H, W)

        Returns
        -------
        Tensor of float32, shape (N, hl, wl)
        """
        covered = torch.from_numpy(np.ascontiguousarray(masks)).to(torch.float32)[:, None]
        if self.input_size_yx != self.original_size_yx:
            shrinks = max(self.input_size_yx) < max(self.original_size_yx)
            covered = (
                F.interpolate(covered, self.input_size_yx, mode="area")
                if shrinks
                else F.interpolate(covered, self.input_size_yx, mode="bilinear")
            )
        rows, cols = (
            padded - used
            for padded, used in zip(self.padded_size_yx, self.input_size_yx, strict=True)
        )
        fraction = F.avg_pool2d(F.pad(covered, (0, cols, 0, rows)), self.low_res_stride)
        return CERTAIN_LOGIT * (2.0 * fraction[:, 0] - 1.0)

    def _scale_xy(self) -> NDArray[np.float64]:
        (rows, cols), (input_rows, input_cols) = self.original_size_yx, self.input_size_yx
        return np.array([input_cols / cols, input_rows / rows])

    def _shift_xy(self) -> NDArray[np.float64]:
        """Return what is added to scaled coordinates; exactly nothing at a scale of 1."""
        if not self.maps_centres:
            return np.zeros(2)
        return 0.5 * self._scale_xy() - 0.5
