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
from napari_sam.tiling import DEFAULT_PERCENTILES, Contrast, percentile_contrast

__all__ = ["SampledStack", "elements_touched", "volume_contrast_steps"]

# The sample is that of a run over the volume (napari_sam.pipeline.source), so that both see alike.
SAMPLE_SLICES = 16
SAMPLE_PIXELS = 2**22
SAMPLE_TOTAL = 2**22
BLOCK = 512
BUDGET = 2**30
"""Elements that may be decoded for it, so that it ends in time also on a slow or huge stack."""
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
    if _is_constant(pixels):  # an even sample may have missed a rare object
        return (yield from _full_range(stack))
    limits = percentiles or DEFAULT_PERCENTILES
    maps = [percentile_contrast(values, limits) for values in _per_map(stack, pixels)]
    return Contrast(tuple(x.low[0] for x in maps), tuple(x.high[0] for x in maps))


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
    small = [n for n, shape in enumerate(stack.levels_yx) if math.prod(shape) <= SAMPLE_PIXELS]
    level = small[0] if small else len(stack.levels_yx) - 1
    windows = _sample_windows(stack.levels_yx[level])
    first = _position(stack, 0)
    cost = max(stack.read_cost(first, window, level) for window in windows)
    n_reads = max(BUDGET // cost, 1)
    slices = _spread(math.prod(stack.lengths), min(SAMPLE_SLICES, n_reads))
    windows = [windows[i] for i in _spread(len(windows), max(n_reads // len(slices), 1))]
    for number in slices:
        for window in windows:
            rows = _as_rows(stack.read(_position(stack, number), window, level))
            # an odd step does not fall on the same columns again and again
            yield rows[:: (len(rows) * len(slices) // SAMPLE_TOTAL) | 1].copy()


def _full_range(stack: SampledStack) -> Generator[None, None, Contrast]:
    """Take the smallest and the largest finite value of each map."""
    limits: dict[int, tuple[float, float]] = {}
    n_maps = 1
    for block in _all_blocks(stack):
        columns = _per_map(stack, block)
        n_maps = len(columns)
        for number, values in enumerate(columns):
            finite = values[np.isfinite(values)]
            if finite.size:
                low, high = limits.get(number, (math.inf, -math.inf))
                limits[number] = min(low, float(finite.min())), max(high, float(finite.max()))
        yield
    if not any(low < high for low, high in limits.values()):
        found = f"the constant value {limits[0][0]:g}" if limits else "no finite value"
        raise InputError(
            f"{stack.title} holds {found} wherever it was looked at",
            rule="An image without contrast shows no objects",
            cure=stack.cure,
        )
    open_limits = [limits.get(number, (0.0, 0.0)) for number in range(n_maps)]
    pairs = [(low, high) if low < high else (0.0, 1.0) for low, high in open_limits]
    return Contrast(tuple(low for low, _ in pairs), tuple(high for _, high in pairs))


def _all_blocks(stack: SampledStack) -> Iterator[NDArray[Any]]:
    """Yield all pixels at full resolution, (n, C) each, as far as the budget reaches."""
    rows, columns = stack.levels_yx[0]
    height = max(SAMPLE_PIXELS // columns, 1)
    spent = 0
    for number, top in itertools.product(range(math.prod(stack.lengths)), range(0, rows, height)):
        position = _position(stack, number)
        window = Region((top, 0), (min(top + height, rows), columns))
        spent += stack.read_cost(position, window, 0)
        if spent > BUDGET:
            return
        yield _as_rows(stack.read(position, window, 0))


def _per_map(stack: SampledStack, pixels: NDArray[Any]) -> list[NDArray[Any]]:
    """Split (N, C) pixels into the values of each map: all colours share one."""
    return [pixels.ravel()] if stack.is_color else list(pixels.T)


def _as_rows(block: NDArray[Any]) -> NDArray[Any]:
    return block.reshape(-1, block.shape[2] if block.ndim == 3 else 1)


def _position(stack: SampledStack, number: int) -> tuple[int, ...]:
    """Find the index along each axis of the slice that is counted as `number`."""
    return tuple(int(i) for i in np.unravel_index(number, stack.lengths)) if stack.lengths else ()


def _is_constant(pixels: NDArray[Any]) -> bool:
    finite = pixels[np.isfinite(pixels).all(axis=-1)]
    return finite.size == 0 or bool((finite == finite[0]).all())


def _spread(count: int, n: int) -> list[int]:
    """Choose up to `n` of the numbers below `count`: with both ends, or the one in the middle."""
    if n == 1:
        return [count // 2]
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, n)).tolist()})


def _sample_windows(shape_yx: tuple[int, int]) -> list[Region]:
    """Return the whole slice, or a 4 x 4 grid of blocks of a very large one."""
    if math.prod(shape_yx) <= 4 * SAMPLE_PIXELS:
        return [Region.whole(shape_yx)]
    starts = [np.linspace(0, max(n - BLOCK, 0), 4).astype(int).tolist() for n in shape_yx]
    return [
        Region((top, left), (min(top + BLOCK, shape_yx[0]), min(left + BLOCK, shape_yx[1])))
        for top, left in itertools.product(*starts)
    ]
