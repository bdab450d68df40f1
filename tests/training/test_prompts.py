"""Simulated prompts respect the object."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.training.prompts import draw_box, draw_click, draw_correction

SEEDS = st.integers(0, 2**32 - 1)


def _disc(radius: int = 9) -> np.ndarray:
    y, x = np.ogrid[:50, :60]
    return (y - 20) ** 2 + (x - 30) ** 2 <= radius**2


@given(SEEDS)
def test_clicks_hit_the_object(seed: int) -> None:
    x, y = draw_click(_disc(), np.random.default_rng(seed))
    assert _disc()[int(y), int(x)]


@given(SEEDS)
def test_boxes_are_off_by_a_tenth_at_most(seed: int) -> None:
    box = np.array(draw_box(_disc(), np.random.default_rng(seed)))
    assert np.abs(box - (21, 11, 40, 30)).max() <= 0.1 * 19 + 1e-9


def test_a_box_of_one_pixel_stays_a_box() -> None:
    mask = np.zeros((9, 9), bool)
    mask[8, 8] = True
    for seed in range(20):
        x0, y0, x1, y1 = draw_box(mask, np.random.default_rng(seed))
        assert x1 > x0
        assert y1 > y0


@given(SEEDS)
def test_corrections_hit_the_error_with_its_sign(seed: int) -> None:
    rng = np.random.default_rng(seed)
    (x, y), label = draw_correction(_disc(9), _disc(5), rng)
    assert label == 1
    assert _disc(9)[int(y), int(x)]
    assert not _disc(5)[int(y), int(x)]
    (x, y), label = draw_correction(_disc(5), _disc(9), rng)
    assert label == 0
    assert not _disc(5)[int(y), int(x)]


def test_without_an_error_the_click_confirms() -> None:
    rng = np.random.default_rng(0)
    (x, y), label = draw_correction(_disc(), _disc(), rng)
    assert label == 1
    assert _disc()[int(y), int(x)]
    nothing = np.zeros((5, 5), bool)
    assert draw_correction(nothing, nothing, rng)[1] == 0
