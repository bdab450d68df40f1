"""Rectangles of a plane as a model gets them, at full resolution or coarser, and what follows.

Three grids lie over each other: pixels of the plane; pixels of the frame, each the mean of
`factor` x `factor` of them; cells of the low-res logits, which the mask decoder draws in a window
of the frame. Coordinates are (x, y) with the centre of the first pixel at (0, 0) on every grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.region import Region
from napari_sam.model.sam import InputSpec
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.windows import Window, close_up, whole_frame

__all__ = [
    "MAX_NATIVE_PIXELS",
    "Extent",
    "Frame",
    "View",
    "closer_view",
    "fits_whole",
    "frame_around",
    "smallest_factor",
    "view_around",
    "view_of_frame",
]

MAX_NATIVE_PIXELS = 2**22
"""Planes of at most so many pixels are encoded whole by models that keep native pixels."""

MAX_SHRINKAGE = 1.5
"""Planes of at most so many times the input's size are encoded whole by models that resize."""

_MARGIN_FRACTION = 8
"""An eighth of a window at each side is image around the prompts, where a factor is chosen."""

Extent = tuple[float, float, float, float]
"""The smallest rectangle around something, as (x0, y0, x1, y1) in pixels of the plane."""


@dataclass(frozen=True)
class Frame:
    """A rectangle of a plane, at full resolution or coarser.

    Parameters
    ----------
    origin_yx : tuple of int
        First row and column in the plane, multiples of `factor`.
    extent_yx : tuple of int
        Rows and columns of the plane that it covers.
    factor : int
        Pixels of the plane along a side of one pixel of the frame.
    """

    origin_yx: tuple[int, int]
    extent_yx: tuple[int, int]
    factor: int = 1

    @classmethod
    def whole(cls, shape_yx: tuple[int, int]) -> Frame:
        """Cover a plane at full resolution."""
        return cls((0, 0), shape_yx)

    @property
    def size_yx(self) -> tuple[int, int]:
        """Rows and columns of the frame; the last may cover fewer pixels than the others."""
        rows, cols = (-(-length // self.factor) for length in self.extent_yx)
        return rows, cols

    @property
    def region_yx(self) -> Region:
        """What it covers, in pixels of the plane."""
        (y, x), (rows, cols) = self.origin_yx, self.extent_yx
        return Region((y, x), (y + rows, x + cols))

    def points_to_frame(self, points_xy: NDArray[Any]) -> NDArray[np.float64]:
        """Map coordinates (..., 2) as (x, y) of the plane to the frame."""
        return (np.asarray(points_xy, np.float64) + 0.5 - self._origin_xy()) / self.factor - 0.5

    def points_to_plane(self, points_xy: NDArray[Any]) -> NDArray[np.float64]:
        """Map coordinates (..., 2) as (x, y) of the frame to the plane."""
        return (np.asarray(points_xy, np.float64) + 0.5) * self.factor + self._origin_xy() - 0.5

    def _origin_xy(self) -> NDArray[np.float64]:
        return np.array(self.origin_yx[::-1], np.float64)


@dataclass(frozen=True)
class View:
    """The window of an encoded frame in which prompts are decoded.

    Parameters
    ----------
    frame : Frame
        What is encoded.
    transform : ImageTransform
        How the frame lies in the model's input.
    window : Window
        The decode window, in the model's input.
    """

    frame: Frame
    transform: ImageTransform
    window: Window

    @property
    def region_yx(self) -> Region:
        """What the window shows, in pixels of the plane."""
        frame = self.frame.region_yx
        if self.window == whole_frame(self.transform):
            return frame
        factor, window = self.frame.factor, self.window
        y, x = frame.start[0] + factor * window.y, frame.start[1] + factor * window.x
        shown = Region((y, x), (y + factor * window.height, x + factor * window.width))
        return shown.intersect(frame)

    @property
    def cells_per_pixel_yx(self) -> tuple[float, float]:
        """Low-res cells along a side of one pixel of the plane."""
        per_pixel = self.frame.factor * self.transform.low_res_stride
        rows, cols = (
            resized / original / per_pixel
            for resized, original in zip(
                self.transform.input_size_yx, self.transform.original_size_yx, strict=True
            )
        )
        return rows, cols

    @property
    def low_res_size_yx(self) -> tuple[int, int]:
        """Rows and columns of the low-res logits of the window, padding included."""
        stride = self.transform.low_res_stride
        return self.window.height // stride, self.window.width // stride

    def points_to_input(self, points_xy: NDArray[Any]) -> NDArray[np.float64]:
        """Map coordinates (..., 2) as (x, y) of the plane to input pixels of the window."""
        in_frame = self.frame.points_to_frame(points_xy)
        return self.transform.points_to_input(in_frame) - self.window.offset_xy

    def cell_edges(self, axis: int) -> NDArray[np.float64]:
        """Where low-res cells start and end along an axis, counted from the edge of pixel 0.

        Parameters
        ----------
        axis : int
            0 for rows, 1 for columns.

        Returns
        -------
        ndarray of float64, shape (cells + 1,)
            In pixels of the plane; pixel `i` lies between `i` and `i + 1`.
        """
        cells = np.arange(self.low_res_size_yx[axis] + 1, dtype=np.float64)
        return self.region_yx.start[axis] + cells / self.cells_per_pixel_yx[axis]


def fits_whole(shape_yx: tuple[int, int], spec: InputSpec) -> bool:
    """Tell whether a plane is encoded whole, or else in windows where prompts stand.

    Parameters
    ----------
    shape_yx : tuple of int
        Rows and columns of the plane.
    spec : InputSpec
        What the model expects.

    Returns
    -------
    bool
    """
    if spec.native_resolution:
        return shape_yx[0] * shape_yx[1] <= MAX_NATIVE_PIXELS
    return max(shape_yx) <= MAX_SHRINKAGE * spec.size


def smallest_factor(extent_xyxy: Extent, shape_yx: tuple[int, int], size: int) -> int:
    """Find the finest resolution at which a window shows a rectangle with image around it.

    Parameters
    ----------
    extent_xyxy : tuple of float
        The rectangle, in pixels of the plane.
    shape_yx : tuple of int
        Rows and columns of the plane.
    size : int
        Side of the window, in pixels of the frame.

    Returns
    -------
    int
        A power of two.
    """
    room = size - 2 * (size // _MARGIN_FRACTION)
    factor = 1
    while not all(
        high - low <= room * factor or length <= size * factor
        for low, high, length in _axes(extent_xyxy, shape_yx)
    ):
        factor *= 2
    return factor


def frame_around(
    extent_xyxy: Extent, shape_yx: tuple[int, int], size: int, factor: int = 1
) -> Frame:
    """Choose a window of a plane around a rectangle.

    Windows start at multiples of half their size where that leaves enough image around the
    rectangle, else at multiples of an eighth, so that neighbouring prompts share a window, and so
    do today's and tomorrow's. The same rectangle always gets the same window.

    Parameters
    ----------
    extent_xyxy : tuple of float
        The rectangle, in pixels of the plane.
    shape_yx : tuple of int
        Rows and columns of the plane.
    size : int
        Side of the window, in pixels of the frame.
    factor : int
        Its resolution.

    Returns
    -------
    Frame
        Of `size` along each axis, or the whole axis where that is shorter.
    """
    origin, extent = [], []
    for low, high, length in _axes(extent_xyxy, shape_yx):
        cells = -(-length // factor)
        start = _start((low + 0.5) / factor, (high + 0.5) / factor, cells, size) * factor
        origin.append(start)
        extent.append(min(size * factor, length - start))
    return Frame((origin[0], origin[1]), (extent[0], extent[1]), factor)


def view_of_frame(frame: Frame, spec: InputSpec) -> View:
    """Decode in all of a frame."""
    transform = ImageTransform.for_image(frame.size_yx, spec)
    return View(frame, transform, whole_frame(transform))


def view_around(extent_xyxy: Extent, frame: Frame, spec: InputSpec) -> View:
    """Choose the decode window around a rectangle in a frame that is encoded already.

    Parameters
    ----------
    extent_xyxy : tuple of float
        The rectangle, in pixels of the plane.
    frame : Frame
        The frame, at full resolution.
    spec : InputSpec
        What the model expects.

    Returns
    -------
    View
        Of the model's input size, centred on the rectangle, and moved where it would leave the
        frame. All of the frame for a model that resizes.
    """
    whole = view_of_frame(frame, spec)
    if not spec.native_resolution:
        return whole
    starts, lengths = [], []
    for (low, high, _), padded in zip(
        _axes(extent_xyxy, frame.extent_yx), whole.window.size_yx, strict=True
    ):
        length = min(spec.size, padded)
        start = int((low + high + 1 - length) / 2) // spec.stride * spec.stride
        starts.append(min(max(start, 0), padded - length))
        lengths.append(length)
    return View(frame, whole.transform, Window(starts[0], starts[1], lengths[0], lengths[1]))


def closer_view(extent_xyxy: Extent, view: View, spec: InputSpec) -> View:
    """Choose the part of a view that prompts are decoded in first.

    Parameters
    ----------
    extent_xyxy : tuple of float
        The rectangle to show, in pixels of the plane.
    view : View
        What shows enough in any case.
    spec : InputSpec
        What the model expects.

    Returns
    -------
    View
        With a window as :func:`~napari_sam.predict.windows.close_up` chooses it; `view` itself
        where that is no smaller.
    """
    corners = view.points_to_input(np.reshape(extent_xyxy, (2, 2))) + view.window.offset_xy
    (x0, y0), (x1, y1) = corners.tolist()
    return replace(view, window=close_up((x0, y0, x1, y1), view.window, spec))


def _axes(extent_xyxy: Extent, shape_yx: tuple[int, int]) -> list[tuple[float, float, int]]:
    """Low end, high end and length of the plane, of rows and of columns; inside the plane."""
    x0, y0, x1, y1 = extent_xyxy
    rows, cols = shape_yx
    return [
        (min(max(low, 0.0), length - 1.0), min(max(high, 0.0), length - 1.0), length)
        for low, high, length in ((y0, y1, rows), (x0, x1, cols))
    ]


def _start(low: float, high: float, cells: int, size: int) -> int:
    """Where a window of `size` starts along an axis of `cells`, so that it shows low to high."""
    last = cells - size
    if last <= 0:
        return 0
    margin = size // (2 * _MARGIN_FRACTION)
    start = 0
    for step in (size // 2, size // _MARGIN_FRACTION):
        nearest = round(((low + high) - size) / 2 / step) * step
        start = min(max(nearest, 0), last)
        shows_low = start == 0 or start + margin <= low
        if shows_low and (start == last or high <= start + size - margin):
            break
    return start
