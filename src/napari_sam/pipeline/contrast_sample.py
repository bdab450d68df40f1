"""The sample that the contrast of a volume is measured on, and what is made of it.

A run over a volume and the prompts in a viewer take the same one, so that both see alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.region import Region
from napari_sam.tiling import DEFAULT_PERCENTILES, Contrast, percentile_contrast

__all__ = [
    "SAMPLE_PIXELS",
    "SAMPLE_SLICES",
    "SAMPLE_TOTAL",
    "FiniteRange",
    "is_constant",
    "maps_of",
    "position_of",
    "sample_contrast",
    "sample_level",
    "sample_windows",
    "spread",
    "thinned",
]

SAMPLE_SLICES = 16
SAMPLE_PIXELS = 2**22
"""A slice of more pixels is sampled on a coarser level, or in blocks where there is none."""
SAMPLE_TOTAL = 2**22
"""About the most pixels that percentiles are taken over."""
BLOCK = 512


class FiniteRange:
    """The smallest and the largest finite value of each map, over pixels as they come."""

    def __init__(self) -> None:
        self._limits: list[tuple[float, float]] = []

    def add(self, maps: Sequence[NDArray[Any]]) -> None:
        """Take in more pixels.

        Parameters
        ----------
        maps : sequence of ndarray
            The values of each map, as of :func:`maps_of`; as many maps each time.
        """
        if not self._limits:
            self._limits = [(math.inf, -math.inf)] * len(maps)
        for number, values in enumerate(maps):
            finite = values[np.isfinite(values)]
            if finite.size:
                low, high = self._limits[number]
                self._limits[number] = min(low, float(finite.min())), max(high, float(finite.max()))

    @property
    def is_open(self) -> bool:
        """Whether any map has two different values."""
        return any(low < high for low, high in self._limits)

    @property
    def found(self) -> str:
        """What the first map holds where all of it is even, in words."""
        low = self._limits[0][0] if self._limits else math.inf
        return f"the constant value {low:g}" if math.isfinite(low) else "no finite value"

    def contrast(self) -> Contrast:
        """Return the contrast of the whole range; an even map keeps its values."""
        pairs = [(low, high) if low < high else (0.0, 1.0) for low, high in self._limits]
        return Contrast(tuple(low for low, _ in pairs), tuple(high for _, high in pairs))


def spread(count: int, n: int) -> list[int]:
    """Choose up to `n` of the numbers below `count`: with both ends, or the one in the middle."""
    if n == 1:
        return [count // 2]
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, n)).tolist()})


def position_of(number: int, lengths: Sequence[int]) -> tuple[int, ...]:
    """Find the index along each axis of the slice that is counted as `number`."""
    return tuple(int(i) for i in np.unravel_index(number, lengths)) if lengths else ()


def sample_level(levels_yx: Sequence[tuple[int, int]]) -> int:
    """Choose the finest level with slices that are small enough to be sampled whole.

    Parameters
    ----------
    levels_yx : sequence of tuple of int
        Rows and columns of each level, the finest first.

    Returns
    -------
    int
        The coarsest level where none is small enough.
    """
    small = (n for n, shape in enumerate(levels_yx) if math.prod(shape) <= SAMPLE_PIXELS)
    return next(small, len(levels_yx) - 1)


def sample_windows(shape_yx: tuple[int, int]) -> list[Region]:
    """Return the whole slice, or a 4 x 4 grid of blocks of a very large one."""
    if math.prod(shape_yx) <= 4 * SAMPLE_PIXELS:
        return [Region.whole(shape_yx)]
    starts = [np.linspace(0, max(n - BLOCK, 0), 4).astype(int).tolist() for n in shape_yx]
    return [
        Region((top, left), (min(top + BLOCK, shape_yx[0]), min(left + BLOCK, shape_yx[1])))
        for top, left in itertools.product(*starts)
    ]


def thinned(pixels: NDArray[Any], n_slices: int) -> NDArray[Any]:
    """Keep so many of the pixels of a window, (n, C), that all slices together are not too many."""
    # an odd step does not fall on the same columns again and again
    return pixels[:: (len(pixels) * n_slices // SAMPLE_TOTAL) | 1].copy()


def is_constant(pixels: NDArray[Any]) -> bool:
    """Tell whether all pixels, (n, C), are equal, apart from those that are not finite."""
    finite = pixels[np.isfinite(pixels).all(axis=-1)]
    return finite.size == 0 or bool((finite == finite[0]).all())


def maps_of(pixels: NDArray[Any], *, is_color: bool) -> list[NDArray[Any]]:
    """Split pixels, (n, C), into the values of each map: all colours share one."""
    return [pixels.ravel()] if is_color else list(pixels.T)


def sample_contrast(
    pixels: NDArray[Any], percentiles: tuple[float, float] | None, *, is_color: bool
) -> Contrast:
    """Take the percentiles of a sample.

    Parameters
    ----------
    pixels : ndarray, shape (n, C)
    percentiles : tuple of float, optional
        1 and 99.8 when not given.
    is_color : bool
        Whether the channels are the colours of RGB, which share one map, so that they stay what
        they are; other channels have nothing in common, so each has its own.

    Returns
    -------
    Contrast
        One map for all channels, or one per channel.
    """
    limits = percentiles or DEFAULT_PERCENTILES
    maps = [percentile_contrast(values, limits) for values in maps_of(pixels, is_color=is_color)]
    return Contrast(tuple(x.low[0] for x in maps), tuple(x.high[0] for x in maps))
