"""The order in which points are prompted, and which of them are skipped."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.masks import PackedMask
from napari_sam.predict.candidates import Candidate, CropCandidates
from napari_sam.predict.crops import Crop, point_grid
from napari_sam.predict.point_levels import PointSchedule, coarse_to_fine

CROP = Crop((100, 50, 260, 210), 0)
GRID = point_grid(16, 16) * 160  # 10 pixels apart, the first at (5, 5)
GOOD_FROM = (0.5, 0.8)


def square(
    box_xyxy: tuple[int, int, int, int],
    point_xy: tuple[float, float],
    iou: float = 0.9,
    stability: float = 0.9,
) -> Candidate:
    """A square mask in the crop; all in crop pixels, ends excluded."""
    x0, y0, x1, y1 = box_xyxy
    mask = PackedMask.from_array(np.ones((y1 - y0, x1 - x0), np.bool_), (y0 + 50, x0 + 100))
    return Candidate(mask, iou, stability, (point_xy[0] + 100, point_xy[1] + 50), CROP)


def drain(schedule: PointSchedule, *found: Candidate) -> list[tuple[float, float]]:
    """Prompt all points; the first batch finds the masks."""
    prompted: list[tuple[float, float]] = []
    masks = CropCandidates(found)
    while schedule:
        left = len(schedule)
        prompted += map(tuple, schedule.take().points_xy.tolist())
        schedule.learn(masks)
        assert len(schedule) < left
        masks = CropCandidates(())
    return prompted


@pytest.mark.parametrize(
    ("n_cols", "n_rows", "counts"),
    [(16, 16, [16, 48, 192]), (32, 8, [16, 48, 192]), (2, 2, [1, 3]), (1, 1, [1]), (3, 1, [2, 1])],
)
def test_levels_part_a_grid(n_cols: int, n_rows: int, counts: list[int]) -> None:
    grid = point_grid(n_cols, n_rows)
    levels = coarse_to_fine(grid)
    assert [len(level) for level in levels] == counts
    everything = np.concatenate(levels)
    assert sorted(map(tuple, everything.tolist())) == sorted(map(tuple, grid.tolist()))


def test_the_coarsest_levels_are_lattices() -> None:
    first, second, _ = coarse_to_fine(GRID)
    assert np.unique(first[:, 0]).tolist() == [25, 65, 105, 145]
    assert np.unique(np.diff(np.unique(np.concatenate([first, second])[:, 1]))) == [20]


def test_points_that_form_no_grid_are_parted_too() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (50, 2))
    levels = coarse_to_fine(points)
    assert len(np.unique(np.concatenate(levels), axis=0)) == 50
    assert coarse_to_fine(np.zeros((0, 2))) == []


def test_without_a_rule_all_points_come_in_their_order() -> None:
    schedule = PointSchedule(CROP, GRID, 7)
    assert len(schedule) == -(-256 // 7)
    found = square((0, 0, 60, 60), (25, 25))
    assert drain(schedule, found) == [tuple(point) for point in GRID.tolist()]
    assert len(PointSchedule(CROP, GRID[:0], 7)) == 0


@pytest.mark.parametrize("size", [1, 5, 16, 300])
def test_points_in_good_masks_are_skipped_whatever_the_batch(size: int) -> None:
    schedule = PointSchedule(CROP, GRID, size, GOOD_FROM)
    prompted = drain(schedule, square((0, 0, 60, 60), (25, 25)))
    covered = {(x, y) for x in range(5, 60, 10) for y in range(5, 60, 10)}
    assert len(covered) == 36
    assert set(prompted) & covered == {(25.0, 25.0)}  # it was prompted before
    assert len(prompted) == 256 - 35


@pytest.mark.parametrize(
    "found",
    [
        square((0, 0, 60, 60), (25, 25), iou=0.5),  # a higher one is needed
        square((0, 0, 60, 60), (25, 25), stability=0.79),
        square((0, 0, 60, 60), (25, 25), stability=float("nan")),
        square((0, 0, 160, 65), (25, 25)),  # more than 0.4 of the crop
        Candidate(PackedMask.from_array(np.zeros((4, 4), np.bool_)), 0.9, 0.9, (125, 75), CROP),
    ],
    ids=["predicted IoU", "stability", "no stability", "background", "empty"],
)
def test_other_masks_cover_nothing(found: Candidate) -> None:
    assert len(drain(PointSchedule(CROP, GRID, 8, GOOD_FROM), found)) == 256


def test_the_smallest_good_mask_of_a_point_covers() -> None:
    group, cell = square((0, 0, 60, 60), (25, 25)), square((20, 20, 40, 40), (25, 25))
    part = square((24, 24, 27, 27), (25, 25), iou=0.4)  # smaller still, but not good
    prompted = drain(PointSchedule(CROP, GRID, 8, GOOD_FROM), group, cell, part)
    assert len(prompted) == 256 - 3
    assert {(5.0, 5.0), (45.0, 45.0)} <= set(prompted)
    assert not {(35.0, 25.0), (25.0, 35.0), (35.0, 35.0)} & set(prompted)


def test_masks_of_later_levels_cover_too() -> None:
    schedule = PointSchedule(CROP, GRID, 16, GOOD_FROM)
    schedule.take()
    schedule.learn(CropCandidates(()))
    assert len(schedule) == 3 + 12
    for _ in range(3):
        schedule.take()
        schedule.learn(CropCandidates((square((0, 0, 60, 60), (5, 5)),)))
    assert len(schedule) == -(-(192 - 27) // 16)
