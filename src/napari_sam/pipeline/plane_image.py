"""The image of a plane as the interactive predictor reads it: by rectangle and resolution level."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.io import LazyArray

__all__ = ["ArrayPlaneImage", "PlaneImage"]


@runtime_checkable
class PlaneImage(Protocol):
    """The pixels of one plane with up to three channels, read block by block.

    Several threads may read at once.
    """

    @property
    def key(self) -> Hashable:
        """Tells planes and channels apart; another key whenever :meth:`read` may differ.

        Equal keys let the predictor skip reading, so an image that is changed in place needs a
        counter in its key.
        """
        ...

    @property
    def levels_yx(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each resolution level, the full one first."""
        ...

    def read(self, region_yx: Region, level: int = 0) -> NDArray[Any]:
        """Read a rectangle.

        Parameters
        ----------
        region_yx : Region
            Rows and columns in pixels of that level, inside of it.
        level : int
            Resolution level; 0 is the full one.

        Returns
        -------
        ndarray, shape (h, w) or (h, w, C)
            Raw intensities of any real dtype, with one to three channels.
        """
        ...


class ArrayPlaneImage:
    """A plane over arrays in memory or on disk.

    Parameters
    ----------
    levels : sequence of array-like, shape (H, W) or (H, W, C)
        Resolution levels of one plane, the full one first; numpy, dask or Zarr arrays. C is one
        to three.
    key : hashable, optional
        See :attr:`PlaneImage.key`; by default, one that no other image has.

    Raises
    ------
    InputError
        When there is no level, a level is empty or no image, or levels do not become smaller.
    """

    def __init__(self, levels: Sequence[LazyArray], key: Hashable | None = None) -> None:
        self._levels = tuple(levels)
        for array in self._levels:
            _check_shape(array.shape)
        self.levels_yx: tuple[tuple[int, int], ...] = tuple(
            (int(array.shape[0]), int(array.shape[1])) for array in self._levels
        )
        _check_order(self.levels_yx)
        self.key: Hashable = object() if key is None else key

    def read(self, region_yx: Region, level: int = 0) -> NDArray[Any]:
        """Read a rectangle; see :meth:`PlaneImage.read`."""
        return np.asarray(self._levels[level][region_yx.slices])


def _check_shape(shape: Sequence[int]) -> None:
    is_image = len(shape) == 2 or (len(shape) == 3 and 1 <= shape[2] <= 3)
    if not is_image or 0 in shape:
        raise InputError(
            f"An array of shape {tuple(shape)} was given as a plane",
            rule="A plane has rows and columns, with up to three channels on the last axis",
            cure="Index the other axes first, for example array[t, z]",
        )


def _check_order(levels_yx: Sequence[tuple[int, int]]) -> None:
    pairs = itertools.pairwise(levels_yx)
    shrinks = all(fine[0] >= coarse[0] and fine[1] >= coarse[1] for fine, coarse in pairs)
    if not levels_yx or not shrinks:
        raise InputError(
            f"Resolution levels of shapes {list(levels_yx)} were given",
            rule="There is at least one level, and none is larger than the one before",
            cure="Give the full resolution first, then the coarser ones",
        )
