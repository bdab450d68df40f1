"""The contrast with which prompts see a stack: measured once, the same for all its planes.

The widget measures it on a layer, a run that embeds ahead on a file. Both do it here, so that they
arrive at the same pixels, bit by bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.pipeline.contrast_sample import (
    SAMPLE_SLICES,
    FiniteRange,
    is_constant,
    maps_of,
    position_of,
    sample_contrast,
    sample_level,
    sample_windows,
    spread,
    thinned,
)
from napari_sam.pipeline.label_levels import blocks_of
from napari_sam.tiling import Contrast

__all__ = ["SampledStack", "elements_touched", "volume_contrast_steps"]

BUDGET = 2**30
"""Elements that may be decoded for it, so that it ends in time also on a slow or huge stack."""
BAND_PIXELS = 2**22
"""Pixels that are looked at together where every one counts."""
AS_IT_IS = Contrast(low=(0.0,), high=(255.0,))


class SampledStack(Protocol):
    """The pixels of a stack of planes with up to three channels, as its contrast is measured."""

    @property
    def title(self) -> str:
        """What it is, to begin a message with."""
        ...

    @property
    def cure(self) -> str:
        """What to do where it shows nothing."""
        ...

    @property
    def is_color(self) -> bool:
        """Whether it is RGB, the colours of which share one map."""
        ...

    @property
    def is_8bit(self) -> bool:
        """Whether all its intensities are uint8."""
        ...

    @property
    def lengths(self) -> tuple[int, ...]:
        """Length of each axis that is neither rows, columns nor channels, in the array's order."""
        ...

    @property
    def levels_yx(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each resolution level, the full one first."""
        ...

    def read(self, position: tuple[int, ...], region_yx: Region, level: int) -> NDArray[Any]:
        """Read a rectangle, (h, w) or (h, w, C), at an index along each axis of `lengths`."""
        ...

    def read_cost(self, position: tuple[int, ...], region_yx: Region, level: int) -> int:
        """Count the elements that reading a rectangle touches, whole chunks included."""
        ...


def volume_contrast_steps(
    stack: SampledStack,
    percentiles: tuple[float, float] | None = None,
    *,
    keeps_8bit: bool = False,
) -> Generator[None, None, Contrast]:
    """Find the contrast of a whole stack, in steps between which it can be closed.

    Percentiles are taken over up to 16 slices spread over the volume; of slices that are very
    large, over their coarsest sensible level or blocks. All colours of an RGB image share one map,
    so that they stay what they are; channels have nothing in common, so each has its own.

    Parameters
    ----------
    stack : SampledStack
        What is read.
    percentiles : tuple of float, optional
        What becomes black and white. By default 1 and 99.8, and no stretching at all where a model
        takes 8-bit images as they are.
    keeps_8bit : bool
        Whether the model takes 8-bit images as they are, as the official ones do.

    Yields
    ------
    None
        After each block that is read.

    Returns
    -------
    Contrast
        One map for all channels, or one per channel in their order.

    Raises
    ------
    InputError
        When the data cannot be read, or no contrast is found.
    """
    if keeps_8bit and percentiles is None and stack.is_8bit:
        return AS_IT_IS
    sample: list[NDArray[Any]] = []
    for block in _sample(stack):
        sample.append(block)
        yield
    pixels = np.concatenate(sample)  # (N, C)
    if is_constant(pixels):  # an even sample may have missed a rare object
        return (yield from _full_range(stack))
    return sample_contrast(pixels, percentiles, is_color=stack.is_color)


def elements_touched(
    shape: Sequence[int], chunks: Sequence[int] | None, index: Sequence[int | slice]
) -> int:
    """Count the elements that reading a block of an array touches.

    Parameters
    ----------
    shape : sequence of int
        Of the array.
    chunks : sequence of int or None
        Length of a chunk along each axis, where there are any.
    index : sequence of int or slice
        One entry per axis; slices have steps of 1.

    Returns
    -------
    int
        Of chunked arrays, all elements of the chunks that the block lies in.
    """
    touched = 1
    for axis, part in enumerate(index):
        start, stop = (part, part + 1) if isinstance(part, int) else part.indices(shape[axis])[:2]
        chunk = chunks[axis] if chunks else 1
        first, last = start // chunk, -(-stop // chunk)
        touched *= min(last * chunk, shape[axis]) - first * chunk
    return touched


def _sample(stack: SampledStack) -> Iterator[NDArray[Any]]:
    """Yield pixels of slices spread over the volume, (n, C) each."""
    level = sample_level(stack.levels_yx)
    windows = sample_windows(stack.levels_yx[level])
    first = position_of(0, stack.lengths)
    cost = max(stack.read_cost(first, window, level) for window in windows)
    n_reads = max(BUDGET // cost, 1)
    slices = spread(math.prod(stack.lengths), min(SAMPLE_SLICES, n_reads))
    windows = [windows[i] for i in spread(len(windows), max(n_reads // len(slices), 1))]
    for number in slices:
        for window in windows:
            block = stack.read(position_of(number, stack.lengths), window, level)
            yield thinned(_as_rows(block), len(slices))


def _full_range(stack: SampledStack) -> Generator[None, None, Contrast]:
    """Take the smallest and the largest finite value of each map."""
    limits = FiniteRange()
    for block in _all_blocks(stack):
        limits.add(maps_of(block, is_color=stack.is_color))
        yield
    if not limits.is_open:
        raise InputError(
            f"{stack.title} holds {limits.found} wherever it was looked at",
            rule="An image without contrast shows no objects",
            cure=stack.cure,
        )
    return limits.contrast()


def _all_blocks(stack: SampledStack) -> Iterator[NDArray[Any]]:
    """Yield all pixels at full resolution, (n, C) each, as far as the budget reaches."""
    bands = list(blocks_of(Region.whole(stack.levels_yx[0]), BAND_PIXELS))
    spent = 0
    for number, window in itertools.product(range(math.prod(stack.lengths)), bands):
        position = position_of(number, stack.lengths)
        spent += stack.read_cost(position, window, 0)
        if spent > BUDGET:
            return
        yield _as_rows(stack.read(position, window, 0))


def _as_rows(block: NDArray[Any]) -> NDArray[Any]:
    return block.reshape(-1, block.shape[2] if block.ndim == 3 else 1)
