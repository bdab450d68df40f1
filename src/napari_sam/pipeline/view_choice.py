"""Where on a plane the model looks for an object, and at which resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.prompts import PromptSet
from napari_sam.core.region import Region
from napari_sam.model.sam import InputSpec
from napari_sam.predict.frames import (
    Extent,
    Frame,
    View,
    fits_whole,
    frame_around,
    smallest_factor,
    view_around,
    view_of_frame,
)
from napari_sam.predict.prompted_parts import prompted_parts

__all__ = ["PlaneViews", "mask_extent", "object_extent", "union"]

_LARGE = 4
"""Objects up to a quarter of the window are segmented well by a model of native pixels.

With the compact model the IoU from a box around a disc is 0.98 at 120 pixels, 0.61 at 200; on
training images, larger ones gain 0.01 to 0.03 from half the resolution.
"""

_LEAST = 8
"""A plane is not shrunk below an eighth of the window."""

_TINY = 16
"""Below a sixteenth of the window an object in a coarse view is worth a closer look."""


@dataclass(frozen=True)
class PlaneViews:
    """The views that a model can have of a plane.

    Parameters
    ----------
    shape_yx : tuple of int
        Rows and columns of the plane.
    spec : InputSpec
        What the model expects.
    """

    shape_yx: tuple[int, int]
    spec: InputSpec

    @property
    def is_whole(self) -> bool:
        """Whether the plane is encoded whole at full resolution."""
        return fits_whole(self.shape_yx, self.spec)

    def around(self, extent_xyxy: Extent, at_least: int = 1) -> View:
        """Choose the finest view that shows a rectangle with image around it.

        Parameters
        ----------
        extent_xyxy : tuple of float
            The rectangle, in pixels of the plane.
        at_least : int
            The finest factor to choose, a power of two.

        Returns
        -------
        View
        """
        if self.is_whole and not self.spec.native_resolution:
            return view_of_frame(Frame.whole(self.shape_yx), self.spec)
        needed = smallest_factor(extent_xyxy, self.shape_yx, self.spec.size)
        factor = max(needed, at_least)
        if factor == 1 and self.is_whole:
            return view_around(extent_xyxy, Frame.whole(self.shape_yx), self.spec)
        frame = frame_around(extent_xyxy, self.shape_yx, self.spec.size, factor)
        return view_of_frame(frame, self.spec)

    def factor_for(self, prompts: PromptSet) -> int:
        """Find the finest resolution at which the prompted object is not too large for the model.

        A model that keeps native pixels learned objects much smaller than its window. Boxes,
        masks and positive points tell how large an object is at least.

        Parameters
        ----------
        prompts : PromptSet
            The prompts of the object.

        Returns
        -------
        int
            A power of two.
        """
        if not self.spec.native_resolution:
            return 1
        meant = replace(prompts, points=tuple(p for p in prompts.points if p.is_positive))
        if meant.is_empty:
            return 1
        return self._factor_of(self.clipped(meant.extent_xyxy), self.spec.size // _LARGE)

    def finer_factor(self, view: View, extent_xyxy: Extent) -> int:
        """Find a finer resolution where an object has become too small for that of a view.

        Parameters
        ----------
        view : View
            Where the object was found.
        extent_xyxy : tuple of float
            The smallest rectangle around it, in pixels of the plane.

        Returns
        -------
        int
            The factor of the view, or a smaller one.
        """
        if self._factor_of(extent_xyxy, self.spec.size // _TINY) >= view.frame.factor:
            return view.frame.factor
        return min(self._factor_of(extent_xyxy, 2 * (self.spec.size // _TINY)), view.frame.factor)

    def can_be_coarser(self, view: View) -> bool:
        """Tell whether a view at twice the factor could show an object that this one does not."""
        if self.is_whole and not self.spec.native_resolution:
            return False
        return max(self.shape_yx) >= 2 * view.frame.factor * (self.spec.size // _LEAST)

    def _factor_of(self, extent_xyxy: Extent, side: int) -> int:
        """Smallest factor at which a rectangle is no longer than a side, in pixels of a frame."""
        x0, y0, x1, y1 = extent_xyxy
        factor = 1
        while max(x1 - x0, y1 - y0) > side * factor:
            factor *= 2
        return factor

    def shows_well(self, view: View, extent_xyxy: Extent) -> bool:
        """Tell whether a rectangle lies in the inner half of a view, or at the plane's border."""
        x0, y0, x1, y1 = extent_xyxy
        region = view.region_yx
        for axis, (low, high) in enumerate(((y0, y1), (x0, x1))):
            start, stop = region.start[axis], region.stop[axis]
            quarter = (stop - start) / 4
            if start > 0 and low + 0.5 < start + quarter:
                return False
            if stop < self.shape_yx[axis] and high + 0.5 > stop - quarter:
                return False
        return True

    def is_cut(self, view: View, inside: NDArray[np.bool_]) -> bool:
        """Tell whether a mask touches an edge of a view that is not the plane's border.

        Parameters
        ----------
        view : View
            The view.
        inside : ndarray of bool, shape (hl, wl)
            The mask in low-res cells.

        Returns
        -------
        bool
        """
        region = view.region_yx
        rows, cols = inside.shape
        for axis, (first, last) in enumerate(
            ((inside[0], inside[rows - 1]), (inside[:, 0], inside[:, cols - 1]))
        ):
            if region.start[axis] > 0 and first.any():
                return True
            # a view that ends before the plane does has no padding
            if region.stop[axis] < self.shape_yx[axis] and last.any():
                return True
        return False

    def reaches_edge(self, view: View, extent_xyxy: Extent) -> bool:
        """Tell whether a rectangle reaches an edge of a view that is not the plane's border."""
        x0, y0, x1, y1 = extent_xyxy
        region = view.region_yx
        return any(
            (start > 0 and low <= start) or (stop < length and high + 1 >= stop)
            for low, high, start, stop, length in (
                (y0, y1, region.start[0], region.stop[0], self.shape_yx[0]),
                (x0, x1, region.start[1], region.stop[1], self.shape_yx[1]),
            )
        )

    def clipped(self, extent_xyxy: Extent) -> Extent:
        """Cut a rectangle to the plane."""
        x0, y0, x1, y1 = extent_xyxy
        rows, cols = self.shape_yx
        return max(x0, 0.0), max(y0, 0.0), min(x1, float(cols)), min(y1, float(rows))


def object_extent(view: View, inside: NDArray[np.bool_], prompts: PromptSet) -> Extent | None:
    """Find the part of a mask that the prompts mean.

    It is what :func:`~napari_sam.predict.prompted_parts.prompted_parts` finds.

    Parameters
    ----------
    view : View
        Where the mask was decoded.
    inside : ndarray of bool, shape (hl, wl)
        The mask in low-res cells.
    prompts : PromptSet
        The prompts of the object.

    Returns
    -------
    tuple of float or None
        The smallest rectangle around that part, in pixels of the plane; None for an empty mask.
    """
    parts = prompted_parts(inside, _cells_of_points(view, inside.shape, prompts))
    return union(*(_in_pixels(view, part) for part in parts)) if parts else None


def mask_extent(view: View, inside: NDArray[np.bool_]) -> Extent | None:
    """Find the smallest rectangle around all of a mask, scraps included.

    Parameters
    ----------
    view : View
        Where the mask was decoded.
    inside : ndarray of bool, shape (hl, wl)
        The mask in low-res cells.

    Returns
    -------
    tuple of float or None
        In pixels of the plane; None for an empty mask.
    """
    region = Region.around(inside)
    if region.is_empty:
        return None
    rows, cols = region.slices
    return _in_pixels(view, (rows, cols))


def union(*extents: Extent) -> Extent:
    """Return the smallest rectangle around some rectangles."""
    left, top, right, bottom = zip(*extents, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _cells_of_points(
    view: View, shape: tuple[int, ...], prompts: PromptSet
) -> list[tuple[int, int]]:
    """Low-res cells (row, column) under the positive points, inside the view."""
    cells = []
    for point in prompts.points:
        if point.is_positive:
            cell = [
                int((place + 0.5 - view.region_yx.start[axis]) * view.cells_per_pixel_yx[axis])
                for axis, place in enumerate((point.y, point.x))
            ]
            cells.append((min(max(cell[0], 0), shape[0] - 1), min(max(cell[1], 0), shape[1] - 1)))
    return cells


def _in_pixels(view: View, box: tuple[slice, slice]) -> Extent:
    rows, cols = box
    edges_y, edges_x = view.cell_edges(0), view.cell_edges(1)
    return (
        float(edges_x[cols.start]),
        float(edges_y[rows.start]),
        float(edges_x[cols.stop]) - 1.0,
        float(edges_y[rows.stop]) - 1.0,
    )
