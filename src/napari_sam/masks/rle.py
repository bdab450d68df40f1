"""Run-length coding of masks in COCO's two forms, with exact round trips.

Runs go down the columns and start with background. The compressed form writes each count (from
the third on, its difference to the count two before) in groups of five bits, low group first:
bit 5 says that more groups follow, and 48 is added to make printable characters.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.masks.packed import PackedMask

__all__ = [
    "CocoRLE",
    "UncompressedRLE",
    "compress_rle",
    "decode_rle",
    "decompress_rle",
    "encode_rle",
    "rle_area",
]


class UncompressedRLE(TypedDict):
    """Run lengths as numbers: ``size`` is [H, W], ``counts`` the runs."""

    size: list[int]
    counts: list[int]


class CocoRLE(TypedDict):
    """Run lengths as COCO's string: ``size`` is [H, W]."""

    size: list[int]
    counts: str


def encode_rle(
    mask: NDArray[np.bool_] | PackedMask, shape_yx: tuple[int, int] | None = None
) -> UncompressedRLE:
    """Code a mask as run lengths.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W), or PackedMask
        A packed mask is coded without unfolding it to the frame.
    shape_yx : tuple of int, optional
        Shape of the frame that a packed mask lies in.

    Returns
    -------
    UncompressedRLE

    Raises
    ------
    InputError
        When a packed mask comes without its frame, or sticks out of it.
    """
    if isinstance(mask, PackedMask):
        shape = _frame_shape(mask, shape_yx)
        crop, (top, left) = mask.crop(), mask.origin_yx
    else:
        shape = (mask.shape[0], mask.shape[1])
        crop, (top, left) = np.asarray(mask, dtype=np.bool_), (0, 0)
    starts, stops = _runs_down_columns(crop)
    height = crop.shape[0] + 1  # each column has one background pixel appended
    starts = starts // height * shape[0] + starts % height + left * shape[0] + top
    stops = stops // height * shape[0] + stops % height + left * shape[0] + top
    # a run that reaches the bottom of the frame goes on at the top of the next column
    joined = starts[1:] == stops[:-1]
    starts = starts[np.concatenate([[True], ~joined])] if starts.size else starts
    stops = stops[np.concatenate([~joined, [True]])] if stops.size else stops
    edges = np.empty(2 * starts.size + 2, dtype=np.int64)
    edges[0], edges[-1] = 0, shape[0] * shape[1]
    edges[1:-1:2], edges[2:-1:2] = starts, stops
    counts = np.diff(edges)
    if counts.size > 1 and counts[-1] == 0:  # the mask ends with the frame
        counts = counts[:-1]
    return {"size": list(shape), "counts": counts.tolist()}


def decode_rle(rle: UncompressedRLE | CocoRLE) -> NDArray[np.bool_]:
    """Unfold run lengths, of either form, to a mask.

    Parameters
    ----------
    rle : UncompressedRLE or CocoRLE

    Returns
    -------
    ndarray of bool, shape (H, W)

    Raises
    ------
    InputError
        When the counts are negative or do not add up to the size.
    """
    plain = decompress_rle(rle)
    height, width = plain["size"]
    counts = np.asarray(plain["counts"], dtype=np.int64)
    if counts.sum() != height * width or (counts < 0).any():
        raise InputError(
            f"Run lengths that add up to {counts.sum()} were given for {height} x {width} pixels",
            rule="Run lengths must be non-negative and cover each pixel once",
            cure="Check that the counts and the size belong to the same mask",
        )
    values = np.arange(counts.size) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def rle_area(rle: UncompressedRLE | CocoRLE) -> int:
    """Count the mask's pixels without unfolding it."""
    return int(sum(decompress_rle(rle)["counts"][1::2]))


def compress_rle(rle: UncompressedRLE) -> CocoRLE:
    """Write the run lengths as COCO's string.

    Parameters
    ----------
    rle : UncompressedRLE

    Returns
    -------
    CocoRLE
    """
    counts = np.asarray(rle["counts"], dtype=np.int64)
    values = counts.copy()
    values[3:] -= counts[1:-2]
    # x needs n groups when -2**(5n-1) <= x < 2**(5n-1)
    magnitude = np.where(values < 0, ~values, values)
    n_groups = np.ones(values.size, dtype=np.int64)
    for n in range(1, 13):
        n_groups += magnitude >= (1 << (5 * n - 1))
    position = _ranges(n_groups)  # 0, 1, .. within each value
    groups = (np.repeat(values, n_groups) >> (5 * position)) & 31
    more = position < np.repeat(n_groups, n_groups) - 1
    text = (groups + 32 * more + 48).astype(np.uint8).tobytes().decode("ascii")
    return {"size": list(rle["size"]), "counts": text}


def decompress_rle(rle: UncompressedRLE | CocoRLE) -> UncompressedRLE:
    """Read COCO's string back to numbers; numbers pass unchanged.

    Parameters
    ----------
    rle : UncompressedRLE or CocoRLE

    Returns
    -------
    UncompressedRLE

    Raises
    ------
    InputError
        When the string holds other characters than COCO's, or ends within a number.
    """
    size, coded = list(rle["size"]), rle["counts"]
    if not isinstance(coded, str):
        return {"size": size, "counts": list(coded)}
    digits = np.frombuffer(coded.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    if digits.size == 0:
        return {"size": size, "counts": []}
    if digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise InputError(
            f"The run-length string {coded[:40]!r} was given",
            rule="COCO's compressed runs use the characters '0' to 'o' and end with a whole number",
            cure="Check that the string is complete and was not re-encoded",
        )
    last = np.flatnonzero((digits & 32) == 0)
    n_groups = np.diff(np.concatenate([[-1], last]))
    position = _ranges(n_groups)
    parts = (digits & 31) << (5 * position)
    values = np.add.reduceat(parts, np.concatenate([[0], last[:-1] + 1]))
    negative = (digits[last] & 16) != 0  # sign bit of the last group
    values -= np.where(negative, np.int64(1) << (5 * n_groups), 0)
    # undo the difference to the count two before, apart for odd and even places from 1 on
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return {"size": size, "counts": values.tolist()}


def _runs_down_columns(crop: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and stop of each vertical run, counted in columns with one pixel appended."""
    height, width = crop.shape
    columns = np.zeros((width, height + 1), dtype=np.int8)
    columns[:, :height] = crop.T
    steps = np.diff(columns.ravel(), prepend=np.int8(0))
    return np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)


def _ranges(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count 0, 1, .. lengths[i] - 1 for each i, all in one array."""
    ends = np.cumsum(lengths)
    positions: NDArray[np.int64] = np.arange(int(ends[-1]) if ends.size else 0)
    return positions - np.repeat(ends - lengths, lengths)


def _frame_shape(mask: PackedMask, shape_yx: tuple[int, int] | None) -> tuple[int, int]:
    rows, cols = mask.slices
    if shape_yx is None or rows.stop > shape_yx[0] or cols.stop > shape_yx[1]:
        raise InputError(
            f"A mask in rows {rows.start} to {rows.stop} and columns {cols.start} to {cols.stop} "
            f"was given for a frame of shape {shape_yx}",
            rule="A packed mask is coded within a frame that holds all of it",
            cure="Give the (H, W) of the image that the mask was made on as shape_yx",
        )
    return shape_yx
