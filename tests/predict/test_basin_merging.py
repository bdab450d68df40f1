"""Basins that are pieces of one object become one."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.predict.basin_merging import merge_basins

SHAPE = (12, 40)


def columns(*widths: int) -> np.ndarray:
    """Basins side by side: the first has the first columns, and so on."""
    row = np.repeat(np.arange(1, len(widths) + 1), widths)
    return np.broadcast_to(row, (SHAPE[0], row.size)).astype(np.int32)


def edges(basins: np.ndarray, *heights: float) -> np.ndarray:
    """A boundary on both sides of each frontier between columns."""
    boundary = np.zeros(basins.shape, np.float32)
    for first, height in zip(np.flatnonzero(np.diff(basins[0])), heights, strict=True):
        boundary[:, first : first + 2] = height
    return boundary


def everywhere(basins: np.ndarray) -> np.ndarray:
    return np.ones(basins.shape, np.bool_)


def test_neighbours_without_a_boundary_become_the_larger_one() -> None:
    basins = columns(10, 14, 16)
    owner = merge_basins(basins, edges(basins, 0.1, 0.6), everywhere(basins))
    assert owner.tolist() == [0, 2, 2, 3]


def test_a_chain_of_pieces_becomes_one() -> None:
    basins = columns(8, 8, 8, 8, 8)
    owner = merge_basins(basins, edges(basins, 0.1, 0.05, 0.15, 0.7), everywhere(basins))
    assert len(set(owner[1:5].tolist())) == 1
    assert owner[5] == 5


def test_frontiers_of_pieces_count_together() -> None:
    """The mean over both pieces parts them from a neighbour that one alone would have joined."""
    basins = columns(20, 20)
    basins[6:, :20] = 3  # 1 above 3, both beside 2
    boundary = np.zeros(basins.shape, np.float32)
    boundary[:6, 19:21], boundary[6:, 19:21] = 0.15, 0.9
    assert merge_basins(basins, boundary, everywhere(basins)).tolist() == [0, 1, 2, 1]
    boundary[6:, 19:21] = 0.2
    assert len(set(merge_basins(basins, boundary, everywhere(basins))[1:].tolist())) == 1


def test_only_frontiers_in_the_foreground_join() -> None:
    basins = columns(20, 20)
    nowhere = np.zeros(basins.shape, np.bool_)
    assert merge_basins(basins, edges(basins, 0.0), nowhere).tolist() == [0, 1, 2]
    part = nowhere.copy()
    part[:2] = True  # what lies outside of it has no say
    boundary = edges(basins, 0.9)
    boundary[:2] = 0.0
    assert merge_basins(basins, boundary, part).tolist() == [0, 1, 1]


def test_basins_that_background_parts_stay_apart() -> None:
    basins = columns(18, 4, 18)
    basins[basins == 2] = 0
    basins[basins == 3] = 2
    owner = merge_basins(basins, np.zeros(SHAPE, np.float32), everywhere(basins))
    assert owner.tolist() == [0, 1, 2]


def test_nothing_is_merged_at_zero_and_all_at_one() -> None:
    basins = columns(10, 10, 20)
    boundary = edges(basins, 0.0, 0.99)
    assert merge_basins(basins, boundary, everywhere(basins), 0.0).tolist() == [0, 1, 2, 3]
    assert len(set(merge_basins(basins, boundary, everywhere(basins), 1.0)[1:].tolist())) == 1


def test_no_basin_is_no_error() -> None:
    empty = np.zeros(SHAPE, np.int32)
    assert merge_basins(empty, empty.astype(np.float32), empty > 0).tolist() == [0]


@pytest.mark.parametrize("seed", range(3))
def test_turned_images_merge_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    basins = np.kron(np.arange(1, 26).reshape(5, 5), np.ones((6, 6))).astype(np.int32)
    basins[:6] = np.where(np.arange(30) < 13, 1, basins[:6])  # areas differ
    boundary = rng.random(basins.shape).astype(np.float32) * 0.4
    owner = merge_basins(basins, boundary, everywhere(basins))
    turned = merge_basins(
        np.ascontiguousarray(basins.T), np.ascontiguousarray(boundary.T), everywhere(basins.T)
    )
    np.testing.assert_array_equal(owner, turned)
    assert 1 < len(set(owner.tolist())) < 26
