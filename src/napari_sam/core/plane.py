"""The 2D plane of an n-dimensional image that is shown and segmented."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region

__all__ = ["Plane"]


@dataclass(frozen=True)
class Plane:
    """Two axes of an array, and the index along each of the others.

    Parameters
    ----------
    axes_yx : tuple of int
        The array axes that are the plane's rows and columns, in any order.
    position : tuple of int
        The index along the other axes, in increasing order of axis.

    Raises
    ------
    InputError
        When the axes are equal or do not exist, or an index is negative.
    """

    axes_yx: tuple[int, int]
    position: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes_yx", tuple(map(operator.index, self.axes_yx)))
        object.__setattr__(self, "position", tuple(map(operator.index, self.position)))
        n_dimensions = len(self.position) + 2
        exist = len(self.axes_yx) == 2 and all(0 <= axis < n_dimensions for axis in self.axes_yx)
        if not exist or len(set(self.axes_yx)) != 2 or any(i < 0 for i in self.position):
            raise InputError(
                f"A plane of the axes {self.axes_yx} at position {self.position} was given",
                rule=f"A plane has two different axes of the array's {n_dimensions}, and an index "
                "of 0 or more along each other axis",
                cure="Count axes and indices from 0, and give one index per axis that is not shown",
            )

    @property
    def ndim(self) -> int:
        """Number of axes of the array."""
        return len(self.position) + 2

    @property
    def other_axes(self) -> tuple[int, ...]:
        """The axes that are not shown, in increasing order, as `position` counts them."""
        return tuple(axis for axis in range(self.ndim) if axis not in self.axes_yx)

    def shape_yx(self, shape: Sequence[int]) -> tuple[int, int]:
        """Tell the size of this plane of an array.

        Parameters
        ----------
        shape : sequence of int
            Shape of the array.

        Returns
        -------
        tuple of int
            Rows and columns.

        Raises
        ------
        InputError
            When the array has another number of axes, or ends before the position.
        """
        lengths = [shape[axis] for axis in self.other_axes] if len(shape) == self.ndim else None
        if lengths is None or any(i >= n for i, n in zip(self.position, lengths, strict=True)):
            raise InputError(
                f"An array of shape {tuple(shape)} was given",
                rule=f"The plane of the axes {self.axes_yx} at {self.position} needs an array of "
                f"{self.ndim} axes that holds this position",
                cure="Give the array that the plane was chosen in",
            )
        row_axis, col_axis = self.axes_yx
        return int(shape[row_axis]), int(shape[col_axis])

    def index(self, region_yx: Region | None = None) -> tuple[int | slice, ...]:
        """Build the index that cuts the plane, or a part of it, out of the array.

        Parameters
        ----------
        region_yx : Region, optional
            Rows and columns of the plane; all by default.

        Returns
        -------
        tuple of int or slice
            One entry per array axis. What it cuts out has its axes in the array's order.
        """
        index: list[int | slice] = [slice(None)] * self.ndim
        for axis, position in zip(self.other_axes, self.position, strict=True):
            index[axis] = position
        if region_yx is not None:
            for axis, part in zip(self.axes_yx, region_yx.slices, strict=True):
                index[axis] = part
        return tuple(index)

    def read(self, array: Any, region_yx: Region | None = None) -> NDArray[Any]:
        """Read the plane, or a part of it, with rows before columns.

        Parameters
        ----------
        array : array-like
            Anything with numpy's basic indexing: numpy, zarr, dask.
        region_yx : Region, optional
            Rows and columns of the plane; all by default.

        Returns
        -------
        ndarray, shape (rows, columns)
            Of a numpy array a view.
        """
        block = np.asarray(array[self.index(region_yx)])
        return block.T if self._is_transposed else block

    def write(self, array: Any, region_yx: Region | None, values: ArrayLike) -> None:
        """Write a part of the plane.

        Parameters
        ----------
        array : array-like
            Anything that numpy's basic indexing can be assigned to: numpy, zarr.
        region_yx : Region or None
            Rows and columns of the plane; None for all.
        values : array_like, shape (rows, columns)
            What is written there.
        """
        block = np.asarray(values)
        array[self.index(region_yx)] = block.T if self._is_transposed else block

    def position_along(self, axis: int) -> int:
        """Tell the index along an axis that is not shown.

        Parameters
        ----------
        axis : int
            Axis of the array.

        Returns
        -------
        int

        Raises
        ------
        InputError
            When the axis is shown or does not exist.
        """
        return self.position[self._place_of(axis)]

    def with_position(self, axis: int, index: int) -> Plane:
        """Move along an axis that is not shown.

        Parameters
        ----------
        axis : int
            Axis of the array.
        index : int
            The new index along it.

        Returns
        -------
        Plane

        Raises
        ------
        InputError
            When the axis is shown or does not exist, or the index is negative.
        """
        place = self._place_of(axis)
        return Plane(self.axes_yx, (*self.position[:place], index, *self.position[place + 1 :]))

    def to_json(self) -> dict[str, list[int]]:
        """Turn the plane into values that JSON knows.

        Returns
        -------
        dict
        """
        return {"axes_yx": list(self.axes_yx), "position": list(self.position)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plane:
        """Take back what :meth:`to_json` gave.

        Parameters
        ----------
        values : mapping

        Returns
        -------
        Plane

        Raises
        ------
        InputError
            When the values are not those of a plane.
        """
        try:
            return cls(tuple(values["axes_yx"]), tuple(values["position"]))
        except (KeyError, TypeError) as error:
            raise InputError(
                f"The plane {str(values)[:80]} was given",
                rule='A plane is stored as {"axes_yx": [rows, columns], "position": [...]}',
                cure="Use a file as napari_sam wrote it",
            ) from error

    @property
    def _is_transposed(self) -> bool:
        return self.axes_yx[0] > self.axes_yx[1]

    def _place_of(self, axis: int) -> int:
        if axis not in self.other_axes:
            raise InputError(
                f"The axis {axis} was given",
                rule=f"The plane moves along the axes {self.other_axes}, which are not shown",
                cure="Choose one of these axes",
            )
        return self.other_axes.index(axis)
