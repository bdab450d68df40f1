"""The arrays of image layers, read block by block: numpy, dask, Zarr, memory maps and others alike.

Reading happens in workers, so it never touches the layer itself, and what any reader raises becomes
an error of this package.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError, NapariSamError
from napari_sam.io.chunks import ChunkLengths, chunk_lengths
from napari_sam.pipeline.volume_contrast import elements_touched

if TYPE_CHECKING:
    from napari.layers import Image

__all__ = ["ChannelStack", "LayerArray", "layer_levels", "read_blocks"]

MAX_THREADS = 8
LOCAL_SCHEDULERS = ("threads", "threading", "sync", "synchronous", "single-threaded")


class LayerArray:
    """One resolution level of a layer, indexed as a numpy array and read as one.

    Parameters
    ----------
    array : array-like
        Anything with a shape, a dtype and basic indexing.
    name : str
        Name of the layer, for messages.
    """

    def __init__(self, array: Any, name: str) -> None:
        self.array = array
        self.shape: tuple[int, ...] = tuple(int(length) for length in array.shape)
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        self.name = name

    @property
    def chunks(self) -> ChunkLengths | None:
        """Lengths of the chunks along each axis, where the array says them."""
        return chunk_lengths(self.array)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return read_blocks([(self, index)])[0]

    def elements_touched(self, index: Sequence[int | slice]) -> int:
        """Count the elements that reading a block touches.

        Parameters
        ----------
        index : sequence of int or slice
            One entry per axis; slices have steps of 1.

        Returns
        -------
        int
            Of chunked arrays, all elements of the chunks that the block lies in.
        """
        return elements_touched(self.shape, _chunk_lengths(self.array), index)


class ChannelStack:
    """Several arrays of one shape as channels along a first axis, still read lazily.

    It is indexed with one slice per axis.

    Parameters
    ----------
    arrays : sequence of LayerArray
    """

    def __init__(self, arrays: Sequence[LayerArray]) -> None:
        self._arrays = tuple(arrays)
        self.shape = (len(self._arrays), *self._arrays[0].shape)
        self.dtype = np.result_type(*(array.dtype for array in self._arrays))

    @property
    def chunks(self) -> ChunkLengths | None:
        """Lengths of the chunks along each axis, where the arrays say them."""
        own = self._arrays[0].chunks
        return None if own is None else ((1,) * len(self._arrays), *own)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        channels, *block = index
        blocks = read_blocks([(array, tuple(block)) for array in self._arrays[channels]])
        return np.stack(blocks).astype(self.dtype, copy=False)


def layer_levels(layer: Image) -> tuple[LayerArray, ...]:
    """Take the arrays that a layer has now, so that they can be read in another thread.

    Parameters
    ----------
    layer : napari.layers.Image

    Returns
    -------
    tuple of LayerArray
        The full resolution first. Colour samples, where there are any, are the last axis.
    """
    arrays = list(layer.data) if layer.multiscale else [layer.data]
    return tuple(LayerArray(array, layer.name) for array in arrays)


def read_blocks(sources: Sequence[tuple[LayerArray, Any]]) -> list[NDArray[Any]]:
    """Read blocks of one or several arrays; what they share in dask is computed once.

    Parameters
    ----------
    sources : sequence of (LayerArray, index)

    Returns
    -------
    list of ndarray

    Raises
    ------
    InputError
        When the data cannot be read.
    """
    try:
        blocks = [array.array[index] for array, index in sources]
        return [np.asarray(block) for block in _without_dask(blocks)]
    except (MemoryError, NapariSamError):
        raise
    except Exception as error:  # readers raise anything, also RuntimeErrors
        raise InputError(
            f"A part of the layer '{sources[0][0].name}' cannot be read: "
            f"{error or type(error).__name__}",
            rule="The data behind a layer must be there and undamaged as long as it is used",
            cure="Check the file or server that the layer comes from, and open it again",
        ) from error


def _without_dask(blocks: Sequence[Any]) -> Sequence[Any]:
    """Compute what is dask's, with threads that end with it.

    No callbacks: the only one is napari's cache of chunks, which the window uses at the same time.
    It is not made for two threads, and would raise where napari draws.
    """
    if not any(hasattr(block, "__dask_graph__") for block in blocks):
        return blocks
    import dask

    computed: Sequence[Any]
    chosen = dask.config.get("scheduler", None)
    threads = min((os.cpu_count() or 2) - 1, MAX_THREADS)  # one core is left for the window
    if chosen is not None and chosen not in LOCAL_SCHEDULERS:  # a cluster, or the user's own
        computed = dask.compute(*blocks)
    elif threads < 2:
        computed = dask.compute(*blocks, scheduler="synchronous", callbacks=())
    else:
        with ThreadPoolExecutor(threads) as pool:
            computed = dask.compute(*blocks, scheduler="threads", pool=pool, callbacks=())
    return computed


def _chunk_lengths(array: Any) -> tuple[int, ...] | None:
    """Return the length of a chunk along each axis: dask lists all of them, Zarr and HDF5 one."""
    chunks = getattr(array, "chunks", None)
    if not chunks or len(chunks) != len(array.shape):
        return None
    lengths = (max(c, default=1) if isinstance(c, tuple) else c for c in chunks)
    return tuple(max(int(length), 1) for length in lengths)
