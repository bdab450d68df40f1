"""Points, boxes and masks as prompts, in the pixels of one plane.

Coordinates are (x, y) at full resolution with the centre of the first pixel at (0, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region

__all__ = ["BoxPrompt", "MaskPrompt", "PointPrompt"]


@dataclass(frozen=True)
class PointPrompt:
    """A click.

    Parameters
    ----------
    x, y : float
        Position in pixels of the plane.
    is_positive : bool
        Whether it lies on the object, or on what does not belong to it.

    Raises
    ------
    InputError
        When a coordinate is not finite.
    """

    x: float
    y: float
    is_positive: bool = True

    def __post_init__(self) -> None:
        _set_floats(self, ("x", "y"))
        object.__setattr__(self, "is_positive", bool(self.is_positive))


@dataclass(frozen=True)
class BoxPrompt:
    """A rectangle around an object.

    Parameters
    ----------
    x0, y0, x1, y1 : float
        Left, top, right and bottom in pixels of the plane.

    Raises
    ------
    InputError
        When a corner is not finite, or the box has no width or height.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        _set_floats(self, ("x0", "y0", "x1", "y1"))
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise InputError(
                f"The box (x0, y0, x1, y1) = {self.xyxy} was given",
                rule="A box has x0 < x1 and y0 < y1",
                cure="Give left, top, right and bottom, or draw the box larger",
            )

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.x0, self.y0, self.x1, self.y1

    @property
    def area(self) -> float:
        """Width times height, in pixels."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def holds(self, x: float, y: float, margin: float = 0.0) -> bool:
        """Tell whether a point lies in the box, its edges included.

        Parameters
        ----------
        x, y : float
            The point.
        margin : float
            How far the edges are moved outwards; negative moves them inwards.

        Returns
        -------
        bool
        """
        inside_x = self.x0 - margin <= x <= self.x1 + margin
        return inside_x and self.y0 - margin <= y <= self.y1 + margin


@dataclass(frozen=True)
class MaskPrompt:
    """A mask that says roughly where the object is.

    Build it with :meth:`from_array`.

    Parameters
    ----------
    origin_yx : tuple of int
        Row and column of the first pixel of the smallest rectangle that holds the mask.
    size_yx : tuple of int
        Rows and columns of that rectangle.
    bits : bytes
        Its pixels in C order, eight to a byte, as :func:`numpy.packbits` packs them.

    Raises
    ------
    InputError
        When the rectangle is empty, or the bits do not fill it.
    """

    origin_yx: tuple[int, int]
    size_yx: tuple[int, int]
    bits: bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin_yx", tuple(map(int, self.origin_yx)))
        object.__setattr__(self, "size_yx", tuple(map(int, self.size_yx)))
        rows, cols = self.size_yx
        if (
            rows < 1
            or cols < 1
            or min(self.origin_yx) < 0
            or len(self.bits) != -(-rows * cols // 8)
        ):
            raise InputError(
                f"A mask prompt of {rows} x {cols} pixels at {self.origin_yx} came with "
                f"{len(self.bits)} bytes",
                rule="A mask prompt lies in the plane, is not empty, and has one bit per pixel",
                cure="Build it with MaskPrompt.from_array",
            )

    @classmethod
    def from_array(cls, mask: NDArray[np.bool_], origin_yx: tuple[int, int] = (0, 0)) -> MaskPrompt:
        """Trim a mask to its bounding box and pack it.

        Parameters
        ----------
        mask : ndarray of bool, shape (h, w)
            The mask, or a part of the plane that holds all of it.
        origin_yx : tuple of int
            Where that part starts in the plane.

        Returns
        -------
        MaskPrompt

        Raises
        ------
        InputError
            When no pixel is set.
        """
        region = Region.around(mask)
        if region.is_empty:
            raise InputError(
                f"A mask prompt of shape {mask.shape} without any pixel was given",
                rule="A mask prompt covers at least one pixel",
                cure="Draw on the object, or point at it",
            )
        (top, left), (rows, cols) = region.start, region.shape
        bits = np.packbits(mask[region.slices]).tobytes()
        return cls((origin_yx[0] + top, origin_yx[1] + left), (rows, cols), bits)

    def to_array(self) -> NDArray[np.bool_]:
        """Unpack the mask.

        Returns
        -------
        ndarray of bool, shape `size_yx`
            The rectangle that starts at `origin_yx`.
        """
        rows, cols = self.size_yx
        packed = np.frombuffer(self.bits, np.uint8)
        return np.unpackbits(packed, count=rows * cols).reshape(rows, cols).astype(np.bool_)

    @property
    def region_yx(self) -> Region:
        """The rectangle as rows and columns."""
        (top, left), (rows, cols) = self.origin_yx, self.size_yx
        return Region((top, left), (top + rows, left + cols))

    @property
    def box(self) -> BoxPrompt:
        """The bounding box; right and bottom are the last pixels plus one, as in training."""
        (top, left), (bottom, right) = self.region_yx.start, self.region_yx.stop
        return BoxPrompt(left, top, right, bottom)


def _set_floats(prompt: PointPrompt | BoxPrompt, names: tuple[str, ...]) -> None:
    values = [float(getattr(prompt, name)) for name in names]
    if not all(map(math.isfinite, values)):
        raise InputError(
            f"A prompt with {', '.join(f'{n}={v}' for n, v in zip(names, values, strict=True))} "
            "was given",
            rule="Coordinates of prompts are finite numbers",
            cure="Leave out prompts whose position is not known",
        )
    for name, value in zip(names, values, strict=True):
        object.__setattr__(prompt, name, value)
