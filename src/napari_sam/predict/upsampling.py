"""From low-res logits to masks at image resolution, each inside its own region of interest.

SAM upsamples low-res logits to the padded input, cuts the padding and resizes to the image. Both
steps are bilinear, hence linear and separable: one matrix along y and one along x do the same.
Bilinear weights are convex, so that outside the footprint of the low-res logits above a threshold
no upsampled logit is above it: only that region is computed, and what it leaves out is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.masks import batched_mask_to_box
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.windows import Window

__all__ = ["MaskRegion", "MaskUpsampler"]


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
        device: torch.device,
        mask_threshold: float,
        stability_offset: float = 1.0,
    ) -> MaskUpsampler:
        """Prepare for the logits of `window`, which live on `device`."""
        axes, origin = [], []
        for original, resized, start, length in zip(
            transform.original_size_yx,
            transform.input_size_yx,
            (window.y, window.x),
            window.size_yx,
            strict=True,
        ):
            visible = min(length, resized - start)
            # a window that is not the whole frame stands in native pixels
            pixels = original if start == 0 and visible == resized else visible
            axes.append(
                _axis_resampling(
                    length // transform.low_res_stride, length, visible, pixels, device
                )
            )
            origin.append(start)
        return cls(axes[0], axes[1], (origin[0], origin[1]), mask_threshold, stability_offset)

    def upsample(self, low_res_logits: Tensor) -> list[MaskRegion]:
        """Make the masks of `low_res_logits`, shape (K, hl, wl)."""
        lower = self.mask_threshold - self.stability_offset
        possible = low_res_logits > min(lower, self.mask_threshold)
        boxes = batched_mask_to_box(possible).tolist()
        found = possible.flatten(1).any(dim=1).tolist()
        return [
            self._region(logits, box) if any_pixel else self._nothing()
            for logits, box, any_pixel in zip(low_res_logits, boxes, found, strict=True)
        ]

    def _region(self, logits: Tensor, box: list[int]) -> MaskRegion:
        """Upsample within the footprint of the low-res cells x0..x1, y0..y1."""
        x0, y0, x1, y1 = box
        rows, row_cells = self.rows.footprint(y0, y1)
        cols, col_cells = self.cols.footprint(x0, x1)
        along_y = self.rows.weights[rows, row_cells]  # (h, hl)
        along_x = self.cols.weights[cols, col_cells]  # (w, wl)
        upsampled = along_y @ logits[row_cells, col_cells] @ along_x.T  # (h, w)
        threshold, offset = self.mask_threshold, self.stability_offset
        counts = torch.stack(
            [
                torch.count_nonzero(upsampled > threshold + offset),
                torch.count_nonzero(upsampled > threshold - offset),
            ]
        ).tolist()
        stability = float(np.float32(counts[0]) / np.float32(counts[1])) if counts[1] else np.nan
        origin = (self.origin_yx[0] + rows.start, self.origin_yx[1] + cols.start)
        return MaskRegion((upsampled > threshold).cpu().numpy(), origin, stability)

    def _nothing(self) -> MaskRegion:
        return MaskRegion(np.zeros((0, 0), dtype=np.bool_), self.origin_yx, float("nan"))


@dataclass(frozen=True, eq=False)
class AxisResampling:
    """The linear map from low-res cells to image pixels along one axis.

    Parameters
    ----------
    weights : Tensor of float32, shape (pixels, cells)
        Each row holds the convex weights of one pixel.
    first_cell, last_cell : ndarray of int, shape (pixels,)
        The cells that a pixel depends on; both increase.
    """

    weights: Tensor
    first_cell: NDArray[np.int64]
    last_cell: NDArray[np.int64]

    def footprint(self, first: int, last: int) -> tuple[slice, slice]:
        """Pixels that depend on cells `first` to `last`, and all cells that those depend on."""
        start = int(np.searchsorted(self.last_cell, first, side="left"))
        stop = int(np.searchsorted(self.first_cell, last, side="right"))
        if start >= stop:  # the cells lie in the padding
            return slice(0, 0), slice(0, 0)
        cells = slice(int(self.first_cell[start]), int(self.last_cell[stop - 1]) + 1)
        return slice(start, stop), cells


@lru_cache(maxsize=64)
def _axis_resampling(
    n_cells: int, n_padded: int, n_visible: int, n_pixels: int, device: torch.device
) -> AxisResampling:
    """Upsample cells to the padded input, cut the padding, resize to the image's pixels."""
    identity = np.eye(n_cells)
    to_padded = _interpolate_rows(identity, n_padded)
    weights = _interpolate_rows(to_padded[:n_visible], n_pixels)
    used = weights > 0
    first = used.argmax(axis=1)
    last = n_cells - 1 - used[:, ::-1].argmax(axis=1)
    on_device = torch.from_numpy(weights.astype(np.float32)).to(device)
    # nothing may be smaller before an earlier pixel's, or a search by bisection would miss
    return AxisResampling(
        on_device, np.minimum.accumulate(first[::-1])[::-1], np.maximum.accumulate(last)
    )


def _interpolate_rows(values: NDArray[np.float64], n_out: int) -> NDArray[np.float64]:
    """Resample along the first axis as torch's bilinear interpolation does."""
    n_in = len(values)
    if n_in == n_out:
        return values
    # positions in single precision, with torch's own roundings
    scale = np.float32(n_in) / np.float32(n_out)
    half = np.float32(0.5)
    position = np.maximum(scale * (np.arange(n_out, dtype=np.float32) + half) - half, 0)
    lower = np.minimum(position.astype(np.int64), n_in - 1)
    upper = np.minimum(lower + 1, n_in - 1)
    weight = (position - lower.astype(np.float32)).astype(np.float64)[:, None]
    resampled: NDArray[np.float64] = (1.0 - weight) * values[lower] + weight * values[upper]
    return resampled
