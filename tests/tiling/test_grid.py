import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.errors import ConfigError
from napari_sam.tiling import tile_grid

sizes = st.integers(1, 60)


@given(sizes, sizes, st.integers(1, 30), st.integers(1, 40))
def test_every_pixel_is_owned_once_and_read_with_its_halo(height, width, tile, halo):
    owned = np.zeros((height, width), dtype=int)
    for part in tile_grid((height, width), tile, halo):
        owned[part.write.slices] += 1
        assert part.read == part.write.grow(halo, (height, width))
        window = np.zeros(part.read.shape)
        assert window[part.crop.slices].shape == part.write.shape
        assert max(part.read.shape) <= tile + 2 * halo
    assert (owned == 1).all()
    grid = tile_grid((height, width), tile, halo)
    assert grid.window_yx == tuple(np.max([part.read.shape for part in grid], axis=0))
    np.testing.assert_array_equal(
        grid.owned, [[*part.write.start, *part.write.stop] for part in grid]
    )


@given(sizes, sizes, st.integers(7, 30), st.integers(1, 40))
def test_neighbors_are_all_tiles_that_read_the_same_pixels(height, width, tile, halo):
    grid = tile_grid((height, width), tile, halo)
    expected = [
        (a.index, b.index)
        for a in grid
        for b in grid[a.index + 1 :]
        if not a.read.intersect(b.read).is_empty
    ]
    assert [(a.index, b) for a in grid for b in grid.later_neighbors(a.index)] == expected


def test_a_grid_of_a_million_tiles_is_small():
    grid = tile_grid((384_000, 384_000), tile=384, halo=64)
    assert len(grid) == 10**6
    assert grid[-1].write.stop == (384_000, 384_000)
    assert list(grid.later_neighbors(0)) == [1, 1000, 1001]
    assert len(pickle.dumps(grid)) < 500


def test_what_fits_into_one_window_is_one_tile():
    assert len(tile_grid((512, 500), tile=384, halo=64)) == 1
    assert len(tile_grid((513, 500), tile=384, halo=64)) == 2


def test_tiles_are_numbered_row_by_row():
    tiles = tile_grid((100, 100), tile=40, halo=2)
    assert [tile.index for tile in tiles] == list(range(9))
    assert tiles[1].write.start == (0, 40)


@pytest.mark.parametrize(("tile", "halo"), [(0, 4), (8, -1)])
def test_impossible_tiles_are_refused(tile, halo):
    with pytest.raises(ConfigError, match="halo"):
        tile_grid((20, 20), tile, halo)


def test_several_tiles_need_a_halo():
    assert len(tile_grid((20, 20), tile=20, halo=0)) == 1
    with pytest.raises(ConfigError, match="--halo"):
        tile_grid((20, 20), tile=10, halo=0)
