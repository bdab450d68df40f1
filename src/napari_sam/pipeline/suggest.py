"""What fits an image and this machine: found out on one tile, before a long run."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.steps import timed
from napari_sam.labels import measure_labels
from napari_sam.pipeline.segmenters import (
    BatchedSegmenter,
    TileSegmenter,
    TileStep,
    segmentation_steps,
)

__all__ = ["Suggestion", "suggest_batch", "suggest_halo", "suggest_workers"]

HALO_STEP = 16
MIN_HALO = 32
MAX_HALO_SHARE = 3 / 8
"""A halo of more than this share of a window leaves too little of it to own."""
TYPICAL = 0.99
"""Share of the objects that fit into the halo: the largest may be a clump."""
WORTHWHILE = 0.95
"""Another batch is suggested when it takes at most this share of the time."""
USABLE_MEMORY = 0.8


@dataclass(frozen=True)
class Suggestion:
    """Options that fit an image and this machine.

    Attributes
    ----------
    tile, halo : int
        Pixels; together they fill the window that the model likes best.
    object_side : int
        Longest side of nearly all objects of the timed tile, in pixels; 0 where there were none.
    points_per_batch : int or None
        The quickest of three that were tried; None where a tile takes too long to try, or nothing
        is decoded in batches.
    workers : int
        Processes that this machine has processors and memory for; one for a GPU.
    """

    tile: int
    halo: int
    object_side: int
    points_per_batch: int | None
    workers: int


def suggest_halo(labels: NDArray[np.int32], window: int) -> tuple[int, int]:
    """Find a halo in which nearly all objects fit.

    Parameters
    ----------
    labels : ndarray of int32, shape (h, w)
        Of one tile.
    window : int
        Side in pixels that the model likes best.

    Returns
    -------
    tuple of int
        The halo, and the longest side of nearly all objects, in pixels.
    """
    found = measure_labels(labels, int(labels.max(initial=0)))
    if not len(found):
        return min(64, int(MAX_HALO_SHARE * window)), 0
    sides = (found["box"][:, 2:] - found["box"][:, :2]).max(axis=1)
    side = int(np.quantile(sides, TYPICAL, method="inverted_cdf"))
    halo = max(math.ceil(side / HALO_STEP) * HALO_STEP, MIN_HALO)
    return min(halo, max(int(MAX_HALO_SHARE * window), 1)), side


def suggest_batch(
    segmenter: TileSegmenter, tile: NDArray[np.uint8], seconds: float
) -> Generator[TileStep, None, int | None]:
    """Time a tile with half and with twice the points in a batch.

    Parameters
    ----------
    segmenter : TileSegmenter
    tile : ndarray of uint8, shape (h, w, 3)
    seconds : float
        What the tile took as it is.

    Yields
    ------
    TileStep
        As the segmenter does.

    Returns
    -------
    int or None
        The quickest; None for a segmenter without batches.
    """
    if not isinstance(segmenter, BatchedSegmenter) or segmenter.batch is None:
        return None
    best, least = segmenter.batch, WORTHWHILE * seconds
    for batch in (segmenter.batch // 2, segmenter.batch * 2):
        if batch >= 1:
            trial = segmenter.with_batch(batch)
            _, taken = yield from timed(segmentation_steps(trial, tile))
            if taken < least:
                best, least = batch, taken
    return best


def suggest_workers(device: str, memory_bytes: int) -> int:
    """Count the processes that this machine has room for.

    Parameters
    ----------
    device : str
        What the model runs on.
    memory_bytes : int
        What a process needs for images and labels; the model comes on top, as it is loaded here.

    Returns
    -------
    int
        At least one; one for a device that processes would have to share.
    """
    import psutil

    if device != "cpu":
        return 1
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    each = psutil.Process().memory_info().rss + memory_bytes
    fitting = int(USABLE_MEMORY * psutil.virtual_memory().available / each)
    return max(min(cores, fitting), 1)
