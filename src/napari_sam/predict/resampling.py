"""Bilinear resampling along one axis, in any part of it, with the bits that torch gives the whole.

Torch computes in single precision with fused multiply-add, which rounds once: a product of two such
numbers is exact in double precision, so the same number is reached there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["AxisResampling"]


@dataclass(frozen=True, eq=False)
class AxisResampling:
    """From low-res cells to input pixels, and on to image pixels, along one axis.

    Build it with :meth:`of`.

    Parameters
    ----------
    n_cells : int
        Low-res cells of the window.
    stride : int
        Input pixels per cell, a power of two.
    n_visible : int
        Input pixels that show the image; the others are padding.
    lower, upper : ndarray of int, shape (pixels,)
        The input pixels between which each image pixel lies.
    weight : Tensor of float32, shape (pixels,), or None
        Weight of the upper one; None where image and input pixels are the same.
    """

    n_cells: int
    stride: int
    n_visible: int
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    weight: Tensor | None

    @classmethod
    def of(cls, n_cells: int, stride: int, n_visible: int, n_pixels: int) -> AxisResampling:
        """Prepare for `n_pixels` of the image in `n_visible` pixels of the input."""
        return cls.of_window(n_cells, stride, (0, n_visible), (0, n_pixels), (n_visible, n_pixels))

    @classmethod
    def of_window(
        cls,
        n_cells: int,
        stride: int,
        visible: tuple[int, int],
        pixels: tuple[int, int],
        whole: tuple[int, int],
    ) -> AxisResampling:
        """Prepare for the part of an image that lies in a window of the input frame.

        Parameters
        ----------
        n_cells, stride : int
            Low-res cells of the window, and input pixels per cell.
        visible : tuple of int
            Where the window starts in the input frame, and how many pixels of it show the image.
        pixels : tuple of int
            The image pixels that lie there: the first, and the one behind the last.
        whole : tuple of int
            Input pixels and image pixels of the whole image.

        Returns
        -------
        AxisResampling
        """
        (start, n_visible), (first, stop), (n_resized, n_original) = visible, pixels, whole
        if n_resized == n_original:
            same = np.arange(stop - first)
            return cls(n_cells, stride, n_visible, same, same, None)
        scale = np.float32(n_resized) / np.float32(n_original)
        centres = np.arange(first, stop, dtype=np.float32) + np.float32(0.5)
        exact = np.float64(scale) * centres.astype(np.float64) - 0.5 - start
        position = np.maximum(exact.astype(np.float32), np.float32(0))
        lower = np.minimum(position.astype(np.int64), n_visible - 1)
        upper = np.minimum(lower + 1, n_visible - 1)
        weight = np.clip(position - lower.astype(np.float32), 0, 1)
        return cls(n_cells, stride, n_visible, lower, upper, torch.from_numpy(weight))

    def footprint(self, first: int, last: int) -> slice:
        """Image pixels that depend on cells `first` to `last`."""
        half = self.stride // 2
        # an input pixel depends on the two cells whose centres it lies between
        start = int(np.searchsorted(self.upper, self.stride * first - half, side="left"))
        stop = int(np.searchsorted(self.lower, self.stride * (last + 1) + half, side="left"))
        return slice(start, max(start, stop))

    def sources(self, pixels: slice) -> slice:
        """Input pixels that image pixels depend on."""
        if pixels.start >= pixels.stop:
            return slice(0, 0)
        return slice(int(self.lower[pixels.start]), int(self.upper[pixels.stop - 1]) + 1)

    def cells(self, sources: slice) -> tuple[slice, slice]:
        """Cells to enlarge for input pixels, and where these then lie in the enlarged cells."""
        if sources.start >= sources.stop:
            return slice(0, 1), slice(0, 0)
        half = self.stride // 2
        # one cell more to both sides, as the outermost half cell of a crop is cut off from its own
        first = max((sources.start - half) // self.stride, 0)
        stop = min((sources.stop - 1 + half) // self.stride + 1, self.n_cells)
        offset = self.stride * first
        return slice(first, stop), slice(sources.start - offset, sources.stop - offset)

    def resize(self, values: Tensor, pixels: slice, dim: int) -> Tensor:
        """Resample input pixels to image pixels.

        Parameters
        ----------
        values : Tensor of float32
            Values at the input pixels that :meth:`sources` names, along `dim`.
        pixels : slice
            The image pixels.
        dim : int
            0 or 1.

        Returns
        -------
        Tensor of float32
        """
        if self.weight is None or pixels.start >= pixels.stop:
            return values
        lower, upper = self._indices
        first = int(lower[pixels.start])
        upper_share = self.weight[pixels]
        shape = (-1, 1) if dim == 0 else (1, -1)
        low = values.index_select(dim, (lower[pixels] - first))
        high = values.index_select(dim, (upper[pixels] - first))
        high *= upper_share.reshape(shape)
        lower_share = (1 - upper_share).to(torch.float64).reshape(shape)
        return (low * lower_share).add_(high).to(torch.float32)

    @cached_property
    def _indices(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.lower), torch.from_numpy(self.upper)
