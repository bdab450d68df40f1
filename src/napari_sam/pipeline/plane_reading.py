"""The pixels of a frame, read from the resolution levels of a plane in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.pipeline.plane_image import PlaneImage
from napari_sam.predict.frames import Frame
from napari_sam.tiling.normalize import Contrast, check_intensity_dtype, to_rgb

__all__ = ["pixels_to_read", "read_frame"]

_PIXELS_PER_READ = 2**24
"""Pixels of a level that are in memory at once while they are averaged."""


def read_frame(image: PlaneImage, frame: Frame, contrast: Contrast) -> NDArray[np.uint8]:
    """Read a frame as the model sees it.

    A coarse frame comes from the coarsest level that is not coarser than it, averaged over what
    is left of the factor. The contrast applies to these means, as a microscope with larger pixels
    would have it; what is not finite makes its pixel black.

    Parameters
    ----------
    image : PlaneImage
        The plane.
    frame : Frame
        A rectangle of it.
    contrast : Contrast
        From intensities to 8 bit.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)

    Raises
    ------
    InputError
        When the image has no intensities, more than three channels, or another number of them
        than the contrast.
    """
    level, (rest_y, rest_x) = _choose_level(image.levels_yx, frame.factor)
    start = tuple(
        origin // (frame.factor // rest)
        for origin, rest in zip(frame.origin_yx, (rest_y, rest_x), strict=True)
    )
    rows, cols = frame.size_yx
    rows_per_read = max(_PIXELS_PER_READ // (cols * rest_x * rest_y), 1)
    parts = []
    for first in range(0, rows, rows_per_read):
        count = min(rows_per_read, rows - first)
        block = _read_inside(
            image, level, (start[0] + first * rest_y, start[1]), (count * rest_y, cols * rest_x)
        )
        means = _block_means(_block_means(block, 0, rest_y), 1, rest_x)
        parts.append(_pad_to(means, (count, cols)))
    return to_rgb(contrast.apply(np.concatenate(parts) if len(parts) > 1 else parts[0]))


def pixels_to_read(image: PlaneImage, frame: Frame) -> int:
    """Tell how many pixels :func:`read_frame` reads.

    Parameters
    ----------
    image : PlaneImage
        The plane.
    frame : Frame
        A rectangle of it.

    Returns
    -------
    int
    """
    _, (rest_y, rest_x) = _choose_level(image.levels_yx, frame.factor)
    rows, cols = frame.size_yx
    return rows * rest_y * cols * rest_x


def _choose_level(
    levels_yx: tuple[tuple[int, int], ...], factor: int
) -> tuple[int, tuple[int, int]]:
    """Return the coarsest level that fits, and what remains of the factor along rows and columns.

    A level fits when its own factors divide the wanted one, and its shape is that of the full
    level divided, rounded either way.
    """
    best = 0, (factor, factor)
    for level, shape in enumerate(levels_yx[1:], start=1):
        rests = []
        for full, length in zip(levels_yx[0], shape, strict=True):
            shrunk = round(full / length)
            fits = factor % shrunk == 0 and full // shrunk <= length <= -(-full // shrunk)
            rests.append(factor // shrunk if fits else 0)
        if all(rests) and rests[0] * rests[1] < best[1][0] * best[1][1]:
            best = level, (rests[0], rests[1])
    return best


def _read_inside(
    image: PlaneImage, level: int, start_yx: tuple[int, int], size_yx: tuple[int, int]
) -> NDArray[Any]:
    """Read a rectangle of a level, or what of it lies inside; at least its first pixel."""
    shape = image.levels_yx[level]
    start = [min(first, length - 1) for first, length in zip(start_yx, shape, strict=True)]
    stop = [min(a + n, length) for a, n, length in zip(start_yx, size_yx, shape, strict=True)]
    region = Region((start[0], start[1]), (max(stop[0], start[0] + 1), max(stop[1], start[1] + 1)))
    block = np.asarray(image.read(region, level))
    check_intensity_dtype(block.dtype)
    if block.shape[:2] != region.shape:
        raise InputError(
            f"A block of shape {block.shape} was read where {region.shape} was asked for",
            rule="A plane is read as rows and columns, with channels last",
            cure="Check the image's axes and the shapes of its resolution levels",
        )
    return block


def _block_means(values: NDArray[Any], axis: int, length: int) -> NDArray[Any]:
    """Mean over blocks along an axis; the last may be shorter."""
    if length == 1:
        return values
    starts = np.arange(0, values.shape[axis], length)
    # single precision sums 16-bit intensities to one part in a million
    exact = np.float32 if values.dtype in (np.float32, np.float16) else np.float64
    dtype = np.float32 if values.dtype.itemsize <= 2 else exact
    with np.errstate(invalid="ignore", over="ignore"):  # infinities meet
        sums = np.add.reduceat(values, starts, axis=axis, dtype=dtype)
    counts = np.diff(np.append(starts, values.shape[axis])).astype(dtype)
    shape = [1] * values.ndim
    shape[axis] = len(counts)
    means: NDArray[Any] = sums / counts.reshape(shape)
    return means


def _pad_to(values: NDArray[Any], size_yx: tuple[int, int]) -> NDArray[Any]:
    """Repeat the last row and column where a level ends a pixel early."""
    missing = [wanted - length for wanted, length in zip(size_yx, values.shape, strict=False)]
    if not any(missing):
        return values
    widths = [(0, missing[0]), (0, missing[1]), (0, 0)][: values.ndim]
    return np.pad(values, widths, mode="edge")
