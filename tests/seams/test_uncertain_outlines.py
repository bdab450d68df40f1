"""Tiled segmentation whose outlines differ from tile to tile, as those of a network do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from napari_sam.labels import TileLabels, stitch_tiles
from napari_sam.tiling import tile_grid

SHAPE = 90, 84


def discs(centers, radius):
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    truth = np.zeros(SHAPE, dtype=np.int32)
    for name, (y, x) in enumerate(centers, start=1):
        truth[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = name
    return truth


def uncertain(centers, radius, tile, halo, rng, jitter):
    """Every tile moves each outline by up to `jitter` pixels and scores it anew."""
    tiles = []
    for part in tile_grid(SHAPE, tile, halo):
        labels = np.zeros(SHAPE, dtype=np.int32)
        for name, (y, x) in enumerate(centers, start=1):
            moved = discs([(y, x)], radius + rng.uniform(-jitter, jitter)) > 0
            labels[moved] = name
        window = labels[part.read.slices]
        kept = np.unique(window[window > 0])
        renumbered = np.searchsorted(np.concatenate([[0], kept]), window).astype(np.int32)
        scores = rng.random(len(kept)).astype(np.float32)
        tiles.append(TileLabels(part.read, part.write, renumbered, scores))
    return stitch_tiles(tiles, SHAPE)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(16, 40), st.integers(16, 30))
def test_each_object_is_found_once_and_in_one_piece(seed, tile, halo):
    rng = np.random.default_rng(seed)
    shift = rng.integers(0, 10, 2)
    centers = [(y + shift[0], x + shift[1]) for y in range(9, 76, 18) for x in range(9, 70, 18)]
    labels, scores = uncertain(centers, 6, tile, halo, rng, jitter=1.0)
    assert labels.max() == len(scores) == len(centers)
    assert label(labels, connectivity=2).max() == len(centers)
    for y, x in centers:
        assert labels[y, x] > 0
    areas = np.bincount(labels.ravel())[1:]
    assert areas.min() >= np.pi * 5**2 * 0.9
    assert areas.max() <= np.pi * 7**2 * 1.1


@pytest.mark.parametrize("seed", range(5))
def test_a_large_object_of_uncertain_outline_is_one(seed):
    rng = np.random.default_rng(seed)
    labels, _ = uncertain([(45, 42)], 32, 24, 10, rng, jitter=1.5)
    assert labels.max() == 1
    assert np.count_nonzero(labels) == pytest.approx(np.pi * 32**2, rel=0.1)
