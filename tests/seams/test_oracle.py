"""Tiled against whole with a segmenter that is always right about what it sees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from napari_sam.labels import TileLabels, stitch_tiles
from napari_sam.tiling import tile_grid


def oracle(truth):
    """Connected pixels of one truth label; an object cut by the window may fall into pieces."""
    return label(truth, connectivity=1).astype(np.int32)


def tiled(truth, tile, halo):
    tiles = []
    for part in tile_grid(truth.shape, tile, halo):
        labels = oracle(truth[part.read.slices])
        scores = np.ones(labels.max(), dtype=np.float32)
        tiles.append(TileLabels(part.read, part.write, labels, scores))
    return stitch_tiles(tiles, truth.shape)


def assert_same_partition(labels, truth):
    """Equal up to the numbering: each truth object is one label and each label one object."""
    np.testing.assert_array_equal(labels > 0, truth > 0)
    pairs = np.unique(np.stack([labels[truth > 0], truth[truth > 0]]), axis=1)
    n_objects = len(np.unique(truth[truth > 0]))
    assert pairs.shape[1] == n_objects
    assert labels.max() == n_objects


def disc(shape, center_y, center_x, radius):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - center_y) ** 2 + (x - center_x) ** 2 <= radius**2


@pytest.mark.parametrize("radius", [1, 3, 5])
def test_discs_on_every_seam_and_corner_are_counted_exactly(radius):
    truth = np.zeros((80, 80), dtype=np.int32)
    spots = range(10, 80, 10)  # seams of the 20-pixel tiles, and the middles between them
    expected = 0
    for y in spots:
        for x in spots:
            spot = disc(truth.shape, y, x, radius if radius < 5 else 4.5)
            expected += 1
            truth[spot] = expected
    labels, scores = tiled(truth, tile=20, halo=10)
    assert labels.max() == len(scores) == expected
    assert_same_partition(labels, truth)


@pytest.mark.parametrize(("tile", "halo"), [(8, 2), (16, 1), (7, 3), (11, 20), (10, 4)])
@pytest.mark.parametrize("center", [(30, 30), (24, 33), (16, 48)])
def test_a_disc_wider_than_several_tiles_is_one_object(tile, halo, center):
    truth = disc((64, 70), *center, 21).astype(np.int32)
    labels, _ = tiled(truth, tile, halo)
    assert_same_partition(labels, truth)


def test_touching_discs_keep_their_border_across_a_seam():
    truth = np.zeros((40, 40), dtype=np.int32)
    truth[disc(truth.shape, 20, 14, 6)] = 1
    truth[disc(truth.shape, 20, 26, 6) & (truth == 0)] = 2
    truth[disc(truth.shape, 8, 20, 6) & (truth == 0)] = 3
    labels, _ = tiled(truth, tile=10, halo=13)
    assert_same_partition(labels, truth)


@st.composite
def blobs(draw):
    """Truth of odd shape with connected objects no larger than the halo, touching or not."""
    height, width = draw(st.integers(1, 45)), draw(st.integers(1, 45))
    halo = draw(st.integers(2, 16))
    tile = draw(st.integers(5, 30))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    truth = np.zeros((height, width), dtype=np.int32)
    for name in range(1, draw(st.integers(0, 25)) + 1):
        y, x = rng.integers(height), rng.integers(width)
        size = int(rng.integers(1, halo + 1))
        window = truth[y : y + size, x : x + size]
        window[(rng.random(window.shape) < 0.7) & (window == 0)] = name
    return label(truth, connectivity=1).astype(np.int32), tile, halo


@settings(max_examples=150, deadline=None)
@given(blobs())
def test_objects_smaller_than_the_halo_come_out_as_untiled(case):
    truth, tile, halo = case
    labels, _ = tiled(truth, tile, halo)
    assert_same_partition(labels, truth)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(5, 30),
    st.integers(1, 12),
    st.integers(2, 30),
    st.tuples(st.integers(0, 63), st.integers(0, 49)),
)
def test_a_disc_of_any_size_anywhere_is_one_object(tile, halo, radius, center):
    truth = disc((64, 50), *center, radius).astype(np.int32)
    labels, _ = tiled(truth, tile, halo)
    assert_same_partition(labels, truth)
