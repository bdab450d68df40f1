"""The label image that objects are committed to: read and written block by block, on all levels.

A coarser level holds every n-th row and column of the full one, so that a label never changes and
pixel 0 of all levels stands at the same place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.pipeline.label_levels import (
    block_lengths,
    blocks_of,
    checked_levels,
    output_errors,
    write_level,
)

__all__ = ["LabelTarget"]

SEARCH_MARGIN = 64


class LabelTarget:
    """A label image in memory or on disk, with or without coarser levels.

    Two targets are equal only if they are the same object.

    Parameters
    ----------
    levels : sequence of array-like of int
        The label image and its coarser levels, the full one first; numpy or Zarr arrays.
    factors : sequence of tuple of int, optional
        For each level, how many pixels of the full one lie along a side of one of its own: one
        number per array axis, or two for the last two axes. Needed where there are coarser levels.
    known_maximum : int, optional
        The largest label, where it is known; otherwise it is looked up when first needed.
    image_axes : sequence of int, optional
        Which axis of the image each axis of the labels is, where the image has axes that the
        labels lack, as channels. By default the axes are the same.

    Raises
    ------
    InputError
        When the arrays are no label images, cannot be written, or do not fit to each other.
    """

    def __init__(
        self,
        levels: Sequence[Any],
        factors: Sequence[tuple[int, ...]] | None = None,
        *,
        known_maximum: int | None = None,
        image_axes: Sequence[int] | None = None,
    ) -> None:
        self._levels, self._factors = checked_levels(levels, factors)
        self._image_axes = None if image_axes is None else tuple(image_axes)
        self._scanned = known_maximum
        self._written_maximum = 0
        self._foreign_maximum = 0
        self.revision = 0
        """Counts what was written, so that a viewer knows when to draw again."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the full level."""
        return tuple(int(length) for length in self._levels[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Integer type of the labels."""
        dtype: np.dtype[Any] = np.dtype(self._levels[0].dtype)
        return dtype

    def set_levels(
        self, levels: Sequence[Any], factors: Sequence[tuple[int, ...]] | None = None
    ) -> None:
        """Go on with other arrays of the same shape, as when labels were given a larger type.

        Parameters
        ----------
        levels, factors
            As for the constructor.

        Raises
        ------
        InputError
            When the arrays are not usable, or have another shape.
        """
        new_levels, new_factors = checked_levels(levels, factors)
        if tuple(new_levels[0].shape) != self.shape:
            raise InputError(
                f"Labels of shape {tuple(new_levels[0].shape)} were given in place of {self.shape}",
                rule="The arrays of a label image can be replaced by ones of the same shape",
                cure="Make a new LabelTarget, and let the session discard the old one",
            )
        self._levels, self._factors, self._scanned = new_levels, new_factors, None

    def plane_of(self, image_plane: Plane) -> Plane:
        """Find the plane of the labels that belongs to a plane of the image.

        Parameters
        ----------
        image_plane : Plane

        Returns
        -------
        Plane

        Raises
        ------
        InputError
            When the labels lack a shown axis, or have no such position.
        """
        plane = image_plane
        if self._image_axes is not None:
            kept = [axis for axis in self._image_axes if axis not in image_plane.axes_yx]
            row_axis, col_axis = (self._own_axis(axis) for axis in image_plane.axes_yx)
            # positions are counted in the order of the labels' axes
            position = tuple(image_plane.position_along(axis) for axis in kept)
            plane = Plane((row_axis, col_axis), position)
        plane.shape_yx(self.shape)
        return plane

    def shape_yx(self, plane: Plane) -> tuple[int, int]:
        """Tell the size of a plane.

        Parameters
        ----------
        plane : Plane
            A plane of the labels.

        Returns
        -------
        tuple of int
            Rows and columns.

        Raises
        ------
        InputError
            When the labels have no such plane.
        """
        return plane.shape_yx(self.shape)

    def read(self, plane: Plane, region_yx: Region) -> NDArray[Any]:
        """Read a part of a plane at full resolution.

        Parameters
        ----------
        plane : Plane
            A plane of the labels.
        region_yx : Region

        Returns
        -------
        ndarray of int, shape (rows, columns)
            May share memory with the labels.
        """
        with output_errors("read"):
            return plane.read(self._levels[0], region_yx)

    def write(self, plane: Plane, region_yx: Region, values: NDArray[Any]) -> None:
        """Write a part of a plane, on all levels.

        Parameters
        ----------
        plane : Plane
            A plane of the labels.
        region_yx : Region
        values : ndarray of int, shape (rows, columns)

        Raises
        ------
        InputError
            When a label is too large for the type of the label image; nothing is written.
        OutputError
            When the label image cannot be written.
        """
        if values.size == 0:
            return
        self.check_label(int(values.max()))
        self.revision += 1
        with output_errors("written"):
            for array, factors in zip(self._levels, self._factors, strict=True):
                write_level(array, factors, plane, region_yx, values)

    def next_label(self) -> int:
        """Tell the smallest label that is larger than all others; searches them if needed.

        Returns
        -------
        int

        Raises
        ------
        InputError
            When the type of the label image has no such label.
        """
        if self._scanned is None:
            for _ in self.scan():
                pass
        label = max(self._scanned or 0, self._written_maximum, self._foreign_maximum) + 1
        self.check_label(label)
        return label

    def scan(self) -> Generator[tuple[int, int], None, None]:
        """Look up the largest label, block by block; a worker may run it beforehand.

        Yields
        ------
        tuple of int
            Blocks done, and how many there are.
        """
        array = self._levels[0]
        lengths = block_lengths(array)
        starts = [range(0, n, step) for n, step in zip(self.shape, lengths, strict=True)]
        total = math.prod(len(along) for along in starts)
        largest = 0
        for done, corner in enumerate(itertools.product(*starts), start=1):
            index = tuple(slice(a, a + n) for a, n in zip(corner, lengths, strict=True))
            with output_errors("read"):
                largest = max(largest, int(np.max(array[index], initial=0)))
            yield done, total
        self._scanned = largest

    @property
    def is_scanned(self) -> bool:
        """Whether the largest label is known."""
        return self._scanned is not None

    def raise_maximum(self, label: int) -> None:
        """Take note of a label that someone else wrote, as with a brush.

        Parameters
        ----------
        label : int
        """
        self._foreign_maximum = max(self._foreign_maximum, int(label))

    @property
    def written_maximum(self) -> int:
        """The largest label that a session wrote; 0 for none."""
        return self._written_maximum

    def move_written_maximum(self, expected: int, new: int) -> None:
        """Note the largest label that a session wrote, or that it took back.

        Parameters
        ----------
        expected : int
            The note as it was; nothing happens if it is another one by now.
        new : int
            The note as it shall be.
        """
        if self._written_maximum == expected:
            self._written_maximum = new

    def check_label(self, label: int) -> None:
        """Refuse a label that the type of the label image cannot hold.

        Parameters
        ----------
        label : int

        Raises
        ------
        InputError
        """
        largest = int(np.iinfo(self.dtype).max)
        if label > largest:
            raise InputError(
                f"The label {label} is to be written",
                rule=f"A label image of type {self.dtype} holds labels up to {largest}",
                cure="Convert the labels to a larger integer type, as uint32, and go on with these",
            )

    def find(self, label: int, plane: Plane, hint_yx: Region | None = None) -> Region:
        """Find a rectangle that holds a label.

        Parameters
        ----------
        label : int
        plane : Plane
            A plane of the labels.
        hint_yx : Region, optional
            Where the label is; what is connected to it is found too. By default, the whole plane
            is searched.

        Returns
        -------
        Region
            The smallest such rectangle; empty if the label was not found.
        """
        rows, cols = self.shape_yx(plane)
        if hint_yx is None:
            return self._extent(label, plane, Region.whole((rows, cols)))
        region = hint_yx.intersect(Region.whole((rows, cols))).grow(1, (rows, cols))
        margin = SEARCH_MARGIN
        while True:
            found = self._extent(label, plane, region)
            wider = found.grow(1, (rows, cols))
            if found.is_empty or wider.intersect(region) == wider:
                return found
            region, margin = region.grow(margin, (rows, cols)), margin * 2

    def _extent(self, label: int, plane: Plane, region: Region) -> Region:
        corners: list[Region] = []
        for block in blocks_of(region):
            held = Region.around(self.read(plane, block) == label)
            if not held.is_empty:
                corners.append(held.within(block))
        if not corners:
            return Region(region.start, region.start)
        start = tuple(min(along) for along in zip(*(part.start for part in corners), strict=True))
        return Region(
            start, tuple(max(along) for along in zip(*(part.stop for part in corners), strict=True))
        )

    def _own_axis(self, image_axis: int) -> int:
        axes = self._image_axes or ()
        if image_axis not in axes:
            raise InputError(
                f"The axis {image_axis} of the image is shown as rows or columns",
                rule=f"The labels have the axes {axes} of the image",
                cure="Show two axes that the labels have too",
            )
        return axes.index(image_axis)
