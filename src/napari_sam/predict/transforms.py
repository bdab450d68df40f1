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

from napari_sam.model.sam import InputSpec

__all__ = ["CERTAIN_LOGIT", "ImageTransform"]

CERTAIN_LOGIT = 10.0
"""Logit of a pixel that a given mask surely covers; minus this where it surely does not."""


@dataclass(frozen=True)
class ImageTransform:
    """How an image lies in the model's input frame: resized, then padded at bottom and right.

    Official models resize the longest side to the input's size; the compact model keeps native
    pixels, so that its image and input coordinates are the same.

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
    """

    original_size_yx: tuple[int, int]
    input_size_yx: tuple[int, int]
    padded_size_yx: tuple[int, int]
    low_res_stride: int

    @classmethod
    def for_image(cls, original_size_yx: tuple[int, int], spec: InputSpec) -> ImageTransform:
        """Derive the transform of an image of `original_size_yx` for a model with `spec`."""
        rows, cols = original_size_yx
        if spec.native_resolution:
            multiple = spec.pad_multiple
            padded = (rows + -rows % multiple, cols + -cols % multiple)
            return cls(original_size_yx, original_size_yx, padded, spec.low_res_stride)
        scale = spec.size / max(rows, cols)
        # a very long image keeps at least one row: nothing can be resized to none
        resized = (max(int(rows * scale + 0.5), 1), max(int(cols * scale + 0.5), 1))
        return cls(original_size_yx, resized, (spec.size, spec.size), spec.low_res_stride)

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
        return np.asarray(points_xy, dtype=np.float64) * self._scale_xy()

    def points_to_original(self, points_xy: NDArray[Any]) -> NDArray[np.float64]:
        """Map input coordinates (..., 2) as (x, y) to the image."""
        return np.asarray(points_xy, dtype=np.float64) / self._scale_xy()

    def boxes_to_input(self, boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
        """Map boxes (N, 4) as (x0, y0, x1, y1) to the input frame."""
        return np.asarray(boxes_xyxy, dtype=np.float64) * np.tile(self._scale_xy(), 2)

    def boxes_to_original(self, boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
        """Map boxes (N, 4) as (x0, y0, x1, y1) in the input frame to the image."""
        return np.asarray(boxes_xyxy, dtype=np.float64) / np.tile(self._scale_xy(), 2)

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
