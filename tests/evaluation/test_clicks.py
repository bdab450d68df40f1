"""Simulated clicks land where a person would click."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from napari_sam.evaluation.clicks import bounding_box_xyxy, corrective_click, deepest_point

MASKS = st_numpy.arrays(np.bool_, (9, 11), elements=st.booleans())


def test_deepest_point_of_a_rectangle_is_its_middle() -> None:
    mask = np.zeros((20, 30), bool)
    mask[4:11, 10:25] = True
    x, y = deepest_point(mask)
    assert y == 7
    assert 13 <= x <= 21
    assert bounding_box_xyxy(mask) == (10, 4, 25, 11)


def test_correction_goes_to_the_largest_error_with_its_sign() -> None:
    truth = np.zeros((30, 30), bool)
    truth[5:15, 5:15] = True
    too_little, too_much = truth.copy(), truth.copy()
    too_little[5:15, 10:15] = False
    too_much[15:25, 5:15] = True
    (x, y), label = corrective_click(truth, too_little)
    assert label == 1
    assert 10 <= x < 15
    assert 5 <= y < 15
    (x, y), label = corrective_click(truth, too_much)
    assert label == 0
    assert 15 <= y < 25
    assert corrective_click(truth, truth) is None


@given(MASKS)
def test_the_deepest_point_lies_in_the_mask(mask: np.ndarray) -> None:
    x, y = deepest_point(mask)
    assert mask[y, x] or not mask.any()
    x0, y0, x1, y1 = bounding_box_xyxy(mask)
    assert mask[y0:y1, x0:x1].sum() == mask.sum()


@given(MASKS, MASKS)
def test_a_correction_lies_in_an_error(truth: np.ndarray, prediction: np.ndarray) -> None:
    correction = corrective_click(truth, prediction)
    if correction is None:
        assert np.array_equal(truth, prediction)
        return
    (x, y), label = correction
    assert truth[y, x] != prediction[y, x]
    assert bool(label) == truth[y, x]
