"""A mask kept as the bits inside its bounding box.

A slice can hold thousands of masks. As full frames they would fill the memory; packed to their
bounding boxes, they take a few hundred bytes each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.masks.scores import mask_to_box

__all__ = ["PackedMask"]


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A boolean mask as packed bits of the smallest rectangle that holds it.

    Build it with :meth:`from_array`.

    Parameters
    ----------
    bits : ndarray of uint8
        The rectangle's pixels in C order, eight to a byte.
    origin_yx : tuple of int
        Row and column of the rectangle's first pixel in the frame.
    shape_yx : tuple of int
        Rows and columns of the rectangle; (0, 0) for an empty mask.
    area : int
        Number of mask pixels.
    """

    bits: NDArray[np.uint8]
    origin_yx: tuple[int, int]
    shape_yx: tuple[int, int]
    area: int

    @classmethod
    def from_array(cls, mask: NDArray[np.bool_], origin_yx: tuple[int, int] = (0, 0)) -> PackedMask:
        """Trim a mask to its bounding box and pack it.

        Parameters
        ----------
        mask : ndarray of bool, shape (h, w)
            The mask, or a part of the frame that holds all of it.
        origin_yx : tuple of int
            Where that part starts in the frame.

        Returns
        -------
        PackedMask
        """
        area = int(np.count_nonzero(mask))
        if area == 0:
            return cls(np.zeros(0, np.uint8), origin_yx, (0, 0), 0)
        x0, y0, x1, y1 = mask_to_box(mask)
        inside = mask[y0 : y1 + 1, x0 : x1 + 1]
        origin = (origin_yx[0] + y0, origin_yx[1] + x0)
        return cls(np.packbits(inside), origin, (inside.shape[0], inside.shape[1]), area)

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rectangle as row and column slices of the frame."""
        (y, x), (h, w) = self.origin_yx, self.shape_yx
        return slice(y, y + h), slice(x, x + w)

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """First and last column and row, (x0, y0, x1, y1), ends included; zeros when empty."""
        if self.area == 0:
            return 0, 0, 0, 0
        (y, x), (h, w) = self.origin_yx, self.shape_yx
        return x, y, x + w - 1, y + h - 1

    def crop(self) -> NDArray[np.bool_]:
        """Return the mask inside its rectangle, shape (h, w)."""
        h, w = self.shape_yx
        return np.unpackbits(self.bits, count=h * w).reshape(h, w).view(np.bool_)

    def to_array(self, shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask in a frame of `shape_yx`, shape (H, W)."""
        frame = np.zeros(shape_yx, dtype=np.bool_)
        frame[self.slices] = self.crop()
        return frame

    def intersection(self, other: PackedMask) -> int:
        """Count the pixels that both masks cover."""
        y0 = max(self.origin_yx[0], other.origin_yx[0])
        x0 = max(self.origin_yx[1], other.origin_yx[1])
        y1 = min(self.slices[0].stop, other.slices[0].stop)
        x1 = min(self.slices[1].stop, other.slices[1].stop)
        if y1 <= y0 or x1 <= x0:
            return 0
        shared = self._window(y0, x0, y1, x1) & other._window(y0, x0, y1, x1)
        return int(np.count_nonzero(shared))

    def _window(self, y0: int, x0: int, y1: int, x1: int) -> NDArray[np.bool_]:
        y, x = self.origin_yx
        return self.crop()[y0 - y : y1 - y, x0 - x : x1 - x]
