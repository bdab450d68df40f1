"""What a run will cost, from one timed tile: so that nobody finds out after an hour."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.core.steps import result_of, retold, timed
from napari_sam.io import Volume
from napari_sam.io.label_layout import LabelLayout
from napari_sam.pipeline.chunk_cache import REQUEST_BYTES
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.contrast_sample import SAMPLE_PIXELS, SAMPLE_TOTAL
from napari_sam.pipeline.events import EstimatingDiameter, Event
from napari_sam.pipeline.plan import SettledPlan, settle_plan
from napari_sam.pipeline.segmenters import (
    BatchedSegmenter,
    TileSegmenter,
    TileStep,
    load_segmenter,
    segmentation_steps,
)
from napari_sam.pipeline.source import Pixels, SliceSource
from napari_sam.pipeline.suggest import (
    Suggestion,
    suggest_batch,
    suggest_halo,
    suggest_workers,
)
from napari_sam.pipeline.tile_results import LOADED_TILES
from napari_sam.tiling import Contrast, Tile, TileGrid

__all__ = ["CostEstimate", "estimate_cost", "estimate_steps"]

QUICK_SECONDS = 20.0
"""A tile that took less is timed a second time: a first call also sets things up, which costs as
much as a few tiles of the compact model."""
TRIED_TILES = 9
"""Tiles around the middle of a slice that are looked at for one that is not even."""
BYTES_PER_PIXEL = 0.25
"""Compressed labels of a slice and its pyramid, at most, for each pixel of the full resolution.

Measured with this package's writer: 0.13 on the densest of a dozen real microscopy images; 0.10 and
0.29 where cells of 46 and of 14 pixels fill the whole image without gaps.
"""
FILE_BLOCK = 4096
"""What a small file takes on a disk."""
LABEL_BYTES = 4
OBJECT_BYTES = 300
"""What stitching remembers of an object: its pieces and matches, without their pixels."""
BLOCK_BYTES = 48
"""What painting needs for a pixel of a chunk of the output."""
SORT_BYTES = 48
"""What stitching needs for a pixel of the largest tile, while it lists the tile's objects."""


SAMPLE_BYTES = 20
"""What the contrast needs for each intensity that it is measured on."""
SHOWN_BYTES = 12
"""What a pixel of a tile takes while it is made what the model sees, and of the tile read ahead."""


@dataclass(frozen=True)
class CostEstimate:
    """What a run will cost.

    Attributes
    ----------
    n_tiles : int
        Tiles of all chosen slices.
    n_slices : int
        Chosen slices.
    seconds_per_tile : float
        Time that one tile took, near the middle of the middle slice.
    seconds : float
        Time of the whole run: contrast, reading each slice, and the tiles.
    memory_bytes : int
        Most memory that images and labels take at once; the model and its work come on top.
    disk_bytes : int
        Upper estimate of the size of the output.
    suggestion : Suggestion
        Options that fit this image and machine.
    diameter : float or None
        Diameter of the objects in pixels, where it was to be estimated and could be.
    """

    n_tiles: int
    n_slices: int
    seconds_per_tile: float
    seconds: float
    memory_bytes: int
    disk_bytes: int
    suggestion: Suggestion
    diameter: float | None = None


def estimate_cost(
    volume: Volume,
    config: SegmentConfig | None = None,
    segmenter: TileSegmenter | None = None,
    *,
    try_batches: bool = False,
) -> CostEstimate:
    """Estimate what `segment_volume` will need, by segmenting one tile.

    **Time.** The contrast is measured, and one tile of a slice is read and segmented, each with the
    clock running: the tile next to the middle of the middle chosen slice that is not even. One that
    took less than 20 seconds is timed twice, and the second time counts. The sum is the contrast
    once, each slice's reading, and the tile's time for every tile. Reading a slice takes as much
    longer than what was read of it as it has more pixels. Tiles without objects, and those that the
    border cuts short, are quicker than this one, and crowded ones slower; stitching and writing are
    not counted, which matters only beside a very fast segmenter.

    **Memory.** What the run holds at its peak: the sample that the contrast is measured on, or the
    decoded chunks of the image that a row of tiles lies in (512 MiB at most), the labels of a dozen
    tiles with their halos, what sorting the pixels of a tile or painting a chunk of the output
    takes, and a note of each object, as many in each tile as in the timed one. The model, what it
    computes, and the libraries are not in it.

    **Disk.** A quarter of a byte per pixel of the chosen slices for labels of all resolutions,
    compressed, or twice what the labels of the timed tile take compressed, whichever is more; and
    a disk block for each file. That is too little only where most of the volume is far more
    crowded than the timed tile.

    Parameters
    ----------
    volume : Volume
        Stays open.
    config : SegmentConfig, optional
        As for `segment_volume`.
    segmenter : TileSegmenter, optional
        By default the model that `config` names.
    try_batches : bool
        Time the tile with half and twice the points in a batch too, to suggest the best.

    Returns
    -------
    CostEstimate
        Of all chosen slices, also when a run would be resumed.

    Raises
    ------
    InputError, ConfigError, CheckpointError, DeviceError
        As `segment_volume` does.
    """
    return result_of(estimate_steps(volume, config, segmenter, try_batches=try_batches))


def estimate_steps(
    volume: Volume,
    config: SegmentConfig | None = None,
    segmenter: TileSegmenter | None = None,
    *,
    try_batches: bool = False,
) -> Generator[TileStep, None, CostEstimate]:
    """Estimate the cost as :func:`estimate_cost` does, giving control back within the timed tile.

    Parameters and errors as there. Closing the generator stops the work.

    Yields
    ------
    TileStep
        As the segmenter does.

    Returns
    -------
    CostEstimate
    """
    config = config or SegmentConfig()
    slices = SliceSource(volume, config)
    segmenter = segmenter or load_segmenter(config)
    begun = time.monotonic()
    measuring = settle_plan(slices, config, segmenter, volume.dtype, {})
    plan = yield from _as_steps(measuring)
    segmenter, tiles, contrast = plan.segmenter, plan.tiles, plan.contrast
    measured, n_read_before = time.monotonic(), slices.n_pixels_read
    pixels = _typical_pixels(slices, tiles, contrast)
    seconds_read, n_read = time.monotonic() - measured, slices.n_pixels_read - n_read_before
    objects, seconds_per_tile = yield from timed(segmentation_steps(segmenter, pixels.rgb))
    if seconds_per_tile < QUICK_SECONDS:
        objects, seconds_per_tile = yield from timed(segmentation_steps(segmenter, pixels.rgb))
    batch = None
    if try_batches and seconds_per_tile < QUICK_SECONDS:
        batch = yield from suggest_batch(segmenter, pixels.rgb, seconds_per_tile)
    n_slices = len(slices.positions)
    share_read = n_read / slices.n_pixels_to_read(tile.read for tile in tiles)
    # nothing was read where the contrast has read it all before
    reading = seconds_read / share_read if n_read else seconds_read
    per_slice = reading + len(tiles) * seconds_per_tile
    memory_bytes = max(
        _contrast_bytes(slices) if config.contrast_limits is None else 0,
        _memory_bytes(slices, tiles, len(objects.scores)),
    )
    halo, object_side = suggest_halo(objects.labels, segmenter.window)
    device = segmenter.device if isinstance(segmenter, BatchedSegmenter) else "cpu"
    return CostEstimate(
        n_tiles=n_slices * len(tiles),
        n_slices=n_slices,
        seconds_per_tile=seconds_per_tile,
        seconds=measured - begun + n_slices * per_slice,
        memory_bytes=memory_bytes,
        disk_bytes=_disk_bytes(slices, objects.labels),
        suggestion=Suggestion(
            tile=max(segmenter.window - 2 * halo, 1),
            halo=halo,
            object_side=object_side,
            points_per_batch=batch,
            workers=suggest_workers(device, memory_bytes),
        ),
        diameter=plan.estimate.get("diameter"),
    )


class _Measured(NamedTuple):
    """A step of what is measured before a tile; how many there are is not known."""

    done: int = 0
    total: int = 0


def _as_steps(
    measuring: Generator[Event, None, SettledPlan],
) -> Generator[TileStep, None, SettledPlan]:
    """Give control back while the diameter is estimated."""
    return retold(
        measuring, lambda event: _Measured() if isinstance(event, EstimatingDiameter) else None
    )


def _typical_pixels(slices: SliceSource, tiles: TileGrid, contrast: Contrast) -> Pixels:
    """Read tiles near the middle of the middle slice until one may hold objects."""
    position = slices.positions[len(slices.positions) // 2]
    middle = [length / 2 for length in slices.shape_yx]

    def distance(tile: Tile) -> float:
        ends = zip(tile.write.start, tile.write.stop, middle, strict=True)
        return math.hypot(*((a + b) / 2 - m for a, b, m in ends))

    nearest = sorted(tiles, key=distance)[:TRIED_TILES]
    tried: Iterator[Pixels] = (slices.read_tile(position, tile.read, contrast) for tile in nearest)
    first = next(tried)
    if not first.is_even:
        return first
    return next((pixels for pixels in tried if not pixels.is_even), first)


def _contrast_bytes(slices: SliceSource) -> int:
    """Peak of what measuring the contrast holds: one slice, or blocks of it, and the sample."""
    n_yx = math.prod(slices.shape_yx)
    n_sampled = min(n_yx * math.prod(slices.label_shape[:-2]), SAMPLE_TOTAL) * slices.n_maps
    return min(n_yx, 4 * SAMPLE_PIXELS) * slices.pixel_bytes + SAMPLE_BYTES * n_sampled


def _memory_bytes(slices: SliceSource, tiles: TileGrid, objects_per_tile: int) -> int:
    """Peak of what `segment_volume` holds: while it reads a tile, or while it stitches a slice."""
    largest = math.prod(tiles.window_yx)
    chunk = math.prod(min(_layout(slices).chunk, n) for n in slices.shape_yx)
    kept = slices.cached_bytes(tile.read for tile in tiles)
    loaded = min(len(tiles), LOADED_TILES) * LABEL_BYTES * largest
    objects = OBJECT_BYTES * objects_per_tile * len(tiles)
    reading = min(kept, REQUEST_BYTES) + (2 * slices.pixel_bytes + SHOWN_BYTES) * largest
    stitching = loaded + objects + max(SORT_BYTES * largest, BLOCK_BYTES * chunk)
    return kept + max(reading, stitching)


def _disk_bytes(slices: SliceSource, labels: NDArray[np.int32]) -> int:
    """Upper estimate of the output: labels of all levels of the chosen slices, and the files."""
    per_pixel = max(BYTES_PER_PIXEL, 2 * _compressed_bytes(labels) / labels.size)
    per_slice = per_pixel * math.prod(slices.shape_yx) + _n_chunks(slices) * FILE_BLOCK
    metadata = (2 + len(_layout(slices).level_shapes)) * FILE_BLOCK
    return math.ceil(len(slices.positions) * per_slice) + metadata


def _layout(slices: SliceSource) -> LabelLayout:
    return LabelLayout("YX", slices.shape_yx, (1.0, 1.0), (None, None))


def _n_chunks(slices: SliceSource) -> int:
    """Files that a slice becomes, on all levels."""
    layout = _layout(slices)
    return sum(
        math.prod(-(-length // layout.chunk) for length in shape) for shape in layout.level_shapes
    )


def _compressed_bytes(labels: NDArray[np.int32]) -> int:
    """Size of a tile's labels with their pyramid, compressed as the output is.

    A level has a quarter of the pixels, but twice the share of outlines, so that it takes half of
    the level before: all of them twice the first.
    """
    array = zarr.create_array(store={}, data=labels.astype(np.uint32), chunks=labels.shape)
    return 2 * array.nbytes_stored()
