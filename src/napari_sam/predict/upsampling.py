"""From low-res logits to masks at image resolution, each inside its own region of interest.

SAM upsamples low-res logits to the padded input, cuts the padding and resizes to the image. Both
steps are bilinear. Bilinear weights are convex, so that outside the footprint of the low-res logits
above a threshold no upsampled logit is above it: only that region is computed, and what it leaves
out is known. Every pixel of the region has the very bits that interpolating the whole gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (torch's own name for it)

from napari_sam.masks import batched_mask_to_box
from napari_sam.model.execution import execution_for
from napari_sam.predict.resampling import AxisResampling
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.windows import Window

__all__ = ["MaskRegion", "MaskUpsampler"]

_STRIP_PIXELS = 256 * 1024
"""Pixels that are upsampled at a time; as logits they have a megabyte, a processor's cache."""


class MaskRegion(NamedTuple):
    """A mask inside the part of the image that can hold it.

    Attributes
    ----------
    pixels : ndarray of bool, shape (h, w)
        The mask; outside of them there is none.
    origin_yx : tuple of int
        Where they start in the image.
    stability : float
        The stability score; NaN for a mask that is empty even at the lower threshold.
    """

    pixels: NDArray[np.bool_]
    origin_yx: tuple[int, int]
    stability: float


@dataclass(frozen=True)
class MaskUpsampler:
    """Makes image-sized masks from the low-res logits of a window.

    Parameters
    ----------
    rows, cols : AxisResampling
        From low-res cells to image pixels along each axis.
    origin_yx : tuple of int
        Where the window starts in the image.
    mask_threshold : float
        Logits above it are inside the mask.
    stability_offset : float
        How far the threshold moves for the stability score.
    """

    rows: AxisResampling
    cols: AxisResampling
    origin_yx: tuple[int, int]
    mask_threshold: float
    stability_offset: float

    @classmethod
    def for_window(
        cls,
        transform: ImageTransform,
        window: Window,
        mask_threshold: float,
        stability_offset: float = 1.0,
    ) -> MaskUpsampler:
        """Prepare for the logits of `window`."""
        axes, origin = [], []
        for axis, (start, length) in enumerate(
            zip((window.y, window.x), window.size_yx, strict=True)
        ):
            original, resized = transform.original_size_yx[axis], transform.input_size_yx[axis]
            visible = min(length, resized - start)
            pixels = transform.image_span(axis, start, visible)
            origin.append(pixels[0])
            if resized == original:  # where the window lies changes nothing: all share one
                start, pixels = 0, (0, visible)
            axes.append(
                _axis_resampling(
                    length, transform.low_res_stride, (start, visible), pixels, (resized, original)
                )
            )
        return cls(axes[0], axes[1], (origin[0], origin[1]), mask_threshold, stability_offset)

    def upsample(self, low_res_logits: Tensor) -> list[MaskRegion]:
        """Make the masks of `low_res_logits`, shape (K, hl, wl)."""
        if not execution_for(low_res_logits.device).upsamples_in_regions:
            whole = [0, 0, low_res_logits.shape[2] - 1, low_res_logits.shape[1] - 1]
            return [self._region(logits, whole) for logits in low_res_logits]
        lower = self.mask_threshold - self.stability_offset
        possible = low_res_logits > min(lower, self.mask_threshold)
        boxes = batched_mask_to_box(possible).tolist()
        found = possible.flatten(1).any(dim=1).tolist()
        return [
            self._region(logits, box) if any_cell else self._nothing()
            for logits, box, any_cell in zip(low_res_logits, boxes, found, strict=True)
        ]

    def _region(self, logits: Tensor, box: list[int]) -> MaskRegion:
        """Make the mask within the footprint of the low-res cells x0..x1, y0..y1."""
        x0, y0, x1, y1 = box
        rows, cols = self.rows.footprint(y0, y1), self.cols.footprint(x0, x1)
        width = cols.stop - cols.start
        mask = np.empty((rows.stop - rows.start, width), dtype=np.bool_)
        threshold, offset = self.mask_threshold, self.stability_offset
        inner = outer = 0
        step = max(_STRIP_PIXELS // max(width, 1), 1)
        for start in range(rows.start, rows.stop, step):
            strip = slice(start, min(start + step, rows.stop))
            upsampled = self._upsampled(logits, strip, cols)
            part = mask[strip.start - rows.start : strip.stop - rows.start]
            np.greater(upsampled, threshold, out=part)
            inner += int(np.count_nonzero(upsampled > threshold + offset))
            outer += int(np.count_nonzero(upsampled > threshold - offset))
        stability = float(np.float32(inner) / np.float32(outer)) if outer else np.nan
        origin = (self.origin_yx[0] + rows.start, self.origin_yx[1] + cols.start)
        return MaskRegion(mask, origin, stability)

    def _upsampled(self, logits: Tensor, rows: slice, cols: slice) -> NDArray[np.float32]:
        """Logits (h, w) of some image pixels; their cells leave the device, which are fewest."""
        input_rows, input_cols = self.rows.sources(rows), self.cols.sources(cols)
        row_cells, row_pixels = self.rows.cells(input_rows)
        col_cells, col_pixels = self.cols.cells(input_cols)
        # the scale is a power of two, so that positions in a crop are as exact as in the whole
        enlarged = F.interpolate(
            logits[None, None, row_cells, col_cells].cpu(),
            scale_factor=float(self.rows.stride),
            mode="bilinear",
            align_corners=False,
        )[0, 0, row_pixels, col_pixels]
        upsampled = self.rows.resize(self.cols.resize(enlarged, cols, dim=1), rows, dim=0)
        return upsampled.numpy()

    def _nothing(self) -> MaskRegion:
        return MaskRegion(np.zeros((0, 0), dtype=np.bool_), self.origin_yx, float("nan"))


@lru_cache(maxsize=64)
def _axis_resampling(
    length: int,
    stride: int,
    visible: tuple[int, int],
    pixels: tuple[int, int],
    whole: tuple[int, int],
) -> AxisResampling:
    return AxisResampling.of_window(length // stride, stride, visible, pixels, whole)
