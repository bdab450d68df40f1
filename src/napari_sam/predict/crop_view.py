"""A crop of an image as the mask decoder sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.masks import PackedMask
from napari_sam.model.layers import ImageFeatures
from napari_sam.predict.crops import Crop
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.upsampling import MaskUpsampler

__all__ = ["CropView"]


@dataclass(frozen=True, eq=False)
class CropView:
    """A crop, ready to be decoded: its features, and how to come back from them.

    Parameters
    ----------
    crop : Crop
        The crop.
    features : ImageFeatures
        Of the crop: cut from the image's, or encoded from its pixels.
    transform : ImageTransform
        How the image, or the crop that is encoded by itself, lies in the input frame.
    upsampler : MaskUpsampler
        From low-res logits to pixels.
    origin_yx : tuple of int
        What is added to the upsampler's rows and columns.
    is_encoded_alone : bool
        Whether the crop was encoded from its pixels.
    shift_xy : ndarray of float64, shape (2,)
        From scaled coordinates in the crop to those in its window.
    """

    crop: Crop
    features: ImageFeatures
    transform: ImageTransform
    upsampler: MaskUpsampler
    origin_yx: tuple[int, int]
    is_encoded_alone: bool
    shift_xy: NDArray[np.float64]

    def mask_logits(self, masks: Sequence[PackedMask]) -> Tensor:
        """Turn masks to mask prompts.

        Parameters
        ----------
        masks : sequence of PackedMask
            In the image's frame; what lies outside of the crop is cut off.

        Returns
        -------
        Tensor of float32, shape (N, 1, hl, wl)
            Low-res logits of the crop.
        """
        rows, cols = self.crop.size_yx
        left, top = self.crop.box_xyxy[:2]
        inside = np.zeros((len(masks), rows, cols), dtype=np.bool_)
        for target, mask in zip(inside, masks, strict=True):
            (y, x), (height, width) = mask.origin_yx, mask.shape_yx
            y0, y1 = max(y, top), min(y + height, top + rows)
            x0, x1 = max(x, left), min(x + width, left + cols)
            if y0 < y1 and x0 < x1:
                shown = mask.crop()[y0 - y : y1 - y, x0 - x : x1 - x]
                target[y0 - top : y1 - top, x0 - left : x1 - left] = shown
        return self._own_transform.masks_to_low_res(inside)[:, None]

    @property
    def _own_transform(self) -> ImageTransform:
        """How the crop alone lies in its window: as in the image, to a fraction of a pixel."""
        window = self.crop.window
        if window is None:
            return self.transform
        height, width = (
            min(max(round(length * scale), 1), padded)
            for length, scale, padded in zip(
                self.crop.size_yx, self.transform.scale_yx, window.size_yx, strict=True
            )
        )
        return replace(
            self.transform,
            original_size_yx=self.crop.size_yx,
            input_size_yx=(height, width),
            padded_size_yx=window.size_yx,
        )
