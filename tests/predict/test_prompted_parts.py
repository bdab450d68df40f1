"""What prompts mean of a mask, and when a window cuts it off."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.predict.prompted_parts import cells_of_points, is_cut_off, prompted_parts
from napari_sam.predict.windows import Window

INNER = Window(64, 32, 80, 96)
"""40 x 48 cells, and image on all sides."""
IMAGE = (300, 300)


def mask_with(*boxes: tuple[slice, slice]) -> np.ndarray:
    inside = np.zeros((1, 40, 48), bool)
    for rows, cols in boxes:
        inside[0, rows, cols] = True
    return inside


OBJECT = (slice(10, 20), slice(12, 30))
SCRAP = (slice(30, 40), slice(0, 40))


def test_cells_lie_under_points() -> None:
    points = np.array([[32.0, 64.0], [33.4, 65.6], [127.4, 143.4], [0.0, 299.0]])
    assert cells_of_points(points, INNER, 2) == [(0, 0), (1, 0), (39, 47), (39, 0)]
    assert cells_of_points(np.zeros((0, 2)), INNER, 2) == []


def test_parts_are_those_under_points_or_the_largest() -> None:
    inside = mask_with(OBJECT, SCRAP)[0]
    assert prompted_parts(inside, [(15, 15), (16, 20), (0, 0)]) == [OBJECT]
    assert prompted_parts(inside, [(15, 15), (35, 5)]) == [OBJECT, SCRAP]
    assert prompted_parts(inside, [(0, 0)]) == [SCRAP]
    assert prompted_parts(inside, []) == [SCRAP]
    assert prompted_parts(np.zeros((4, 4), bool), [(1, 1)]) == []


@pytest.mark.parametrize(
    ("part", "at_border"),
    [
        ((slice(0, 15), slice(12, 30)), Window(0, 32, 80, 96)),
        ((slice(10, 40), slice(12, 30)), Window(224, 32, 80, 96)),
        ((slice(10, 20), slice(0, 30)), Window(64, 0, 80, 96)),
        ((slice(10, 20), slice(12, 48)), Window(64, 208, 80, 96)),
    ],
)
def test_each_edge_cuts_unless_it_is_the_image_border(
    part: tuple[slice, slice], at_border: Window
) -> None:
    """The image ends at 300, inside the padding of windows that end at 304."""
    clicked = [(14, 15)]
    assert is_cut_off(mask_with(part), clicked, INNER, IMAGE)
    assert not is_cut_off(mask_with(part), clicked, at_border, IMAGE)


def test_scraps_away_from_the_prompts_cut_nothing() -> None:
    both = mask_with(OBJECT, SCRAP)
    assert not is_cut_off(both, [(15, 15)], INNER, IMAGE)
    assert is_cut_off(both, [(35, 5)], INNER, IMAGE)
    assert is_cut_off(both, [], INNER, IMAGE)
    assert not is_cut_off(mask_with(), [(15, 15)], INNER, IMAGE)


def test_any_of_the_masks_counts() -> None:
    masks = np.concatenate([mask_with(OBJECT), mask_with(SCRAP)])
    assert is_cut_off(masks, [(35, 5)], INNER, IMAGE)
    assert not is_cut_off(masks[:1], [(35, 5)], INNER, IMAGE)
