"""The sample of a volume: spread over it, bounded, and what is made of it."""

import numpy as np
import pytest

from napari_sam.core.region import Region
from napari_sam.pipeline import contrast_sample
from napari_sam.pipeline.contrast_sample import (
    FiniteRange,
    maps_of,
    sample_contrast,
    sample_level,
    sample_windows,
    spread,
    thinned,
)
from napari_sam.tiling import Contrast


def test_slices_are_spread_over_a_stack():
    assert spread(5, 16) == [0, 1, 2, 3, 4]
    assert spread(31, 4) == [0, 10, 20, 30]
    assert spread(31, 1) == [15]
    assert spread(1, 16) == [0]


def test_large_slices_are_sampled_on_a_coarse_level_or_in_blocks(monkeypatch):
    monkeypatch.setattr(contrast_sample, "SAMPLE_PIXELS", 100)
    monkeypatch.setattr(contrast_sample, "BLOCK", 3)
    assert sample_level([(40, 40), (20, 5), (5, 2)]) == 1
    assert sample_level([(40, 40), (20, 20)]) == 1
    assert sample_windows((20, 20)) == [Region((0, 0), (20, 20))]
    windows = sample_windows((21, 20))
    assert len(windows) == 16
    assert (windows[0], windows[-1]) == (Region((0, 0), (3, 3)), Region((18, 17), (21, 20)))


def test_so_many_pixels_are_kept_that_all_slices_are_not_too_many(monkeypatch):
    monkeypatch.setattr(contrast_sample, "SAMPLE_TOTAL", 100)
    pixels = np.arange(90).reshape(-1, 1)
    assert len(thinned(pixels, 1)) == 90
    assert thinned(pixels, 4)[:3, 0].tolist() == [0, 3, 6]  # every 3.6th would be enough


def test_channels_have_maps_of_their_own_and_colours_share_one():
    pixels = np.array([[0, 10], [5, 30], [9, 20]])
    apart = sample_contrast(pixels, (0.0, 100.0), is_color=False)
    assert apart == Contrast((0.0, 10.0), (9.0, 30.0))
    assert sample_contrast(pixels, (0.0, 100.0), is_color=True) == Contrast((0.0,), (30.0,))


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        ([[np.nan, 4.0], [np.inf, 4.0]], "no finite value"),
        ([[3.0, np.nan], [3.0, np.nan]], "the constant value 3"),
    ],
)
def test_an_even_range_says_what_there_is(pixels, found):
    limits = FiniteRange()
    for row in pixels:
        limits.add(maps_of(np.array([row]), is_color=False))
    assert not limits.is_open
    assert limits.found == found


def test_a_map_that_is_even_keeps_its_values():
    limits = FiniteRange()
    for row in ([7.0, np.nan], [7.0, 2.0], [7.0, 9.0]):
        limits.add(maps_of(np.array([row]), is_color=False))
    assert limits.is_open
    assert limits.contrast() == Contrast((0.0, 2.0), (1.0, 9.0))
