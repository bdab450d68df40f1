"""How an array is cut into the blocks that it stores and decodes."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np

__all__ = ["ChunkLengths", "chunk_lengths"]

ChunkLengths = tuple[tuple[int, ...], ...]
"""Lengths of the blocks along each axis, in their order, as dask lists them."""


def chunk_lengths(array: Any) -> ChunkLengths | None:
    """List the blocks of an array that are decoded as a whole.

    Parameters
    ----------
    array : array-like
        With a shape. Its `chunks` may be one length per axis, as of Zarr and HDF5, or all lengths,
        as of dask.

    Returns
    -------
    tuple of tuple of int, or None
        All ones where each element can be read by itself, as in memory. None where the array
        does not say.
    """
    if isinstance(array, np.ndarray):
        return tuple((1,) * length for length in array.shape)
    chunks = getattr(array, "chunks", None)
    if not chunks or len(chunks) != len(array.shape):
        return None
    return tuple(
        tuple(int(n) for n in chunk if n)
        if isinstance(chunk, tuple)
        else _regular(int(length), int(chunk))
        for chunk, length in zip(chunks, array.shape, strict=True)
    )


def _regular(length: int, chunk: int) -> tuple[int, ...]:
    whole, rest = divmod(length, max(chunk, 1))
    return (*repeat(max(chunk, 1), whole), *((rest,) if rest else ()))
