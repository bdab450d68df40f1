import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_sam.core.errors import ConfigError
from napari_sam.core.prompts import PointPrompt, PromptSet
from napari_sam.pipeline.candidates import (
    CandidateMask,
    MaskPatch,
    ObjectCandidates,
    check_preference,
    check_threshold,
)


def offer(*areas_and_ious, is_ambiguous=True):
    masks = []
    for area, iou in areas_and_ious:
        logits = np.full((10, 10), -1.0, np.float32)
        logits.flat[:area] = 1.0
        masks.append(CandidateMask(logits, (0, 0), iou, 1.0))
    return ObjectCandidates(PromptSet((PointPrompt(0, 0),)), tuple(masks), is_ambiguous)


@given(
    arrays(np.bool_, st.tuples(st.integers(0, 8), st.integers(0, 8))),
    st.tuples(st.integers(-5, 15), st.integers(-5, 15)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_patches_are_tight_and_clipped_to_the_plane(mask, origin, shape):
    wide = np.zeros((40, 40), bool)
    top, left = origin[0] + 10, origin[1] + 10
    wide[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    expected = wide[10 : 10 + shape[0], 10 : 10 + shape[1]]

    patch = MaskPatch.from_array(mask, origin)
    assert patch.area == mask.sum()
    assert patch.is_empty == (not mask.any())
    if not patch.is_empty:
        assert patch.mask[0].any()
        assert patch.mask[-1].any()
        assert patch.mask[:, 0].any()
        assert patch.mask[:, -1].any()
    clipped = patch.clipped(shape)
    assert clipped.area == expected.sum()
    np.testing.assert_array_equal(patch.to_plane(shape), expected)
    if not clipped.is_empty:
        rows, cols = np.nonzero(expected)
        assert clipped.box_xyxy == (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)
        assert clipped.region_yx.start == (rows.min(), cols.min())


def test_a_patch_does_not_hold_on_to_the_array_it_came_from():
    logits = np.ones((3, 3), np.float32)
    patch = CandidateMask(logits, (5, 6), 1.0, 1.0).at(0.5)
    logits[:] = 0
    assert patch.area == 9
    assert patch.box_xyxy == (6, 5, 9, 8)


def test_pixels_at_the_threshold_are_background():
    candidate = CandidateMask(np.array([[0.0, 0.1]], np.float32), (0, 0), 1.0, 1.0)
    assert candidate.at().box_xyxy == (1, 0, 2, 1)
    assert candidate.at(-0.5).area == 2


def test_preferences():
    three = offer((50, 0.5), (9, 0.9), (20, 0.8))
    assert three.preferred("best") == 1
    assert three.preferred("whole") == 0
    assert three.preferred("part") == 2
    assert three.preferred("sub-part") == 1


def test_what_is_not_ambiguous_is_its_single_mask():
    four = offer((5, 0.1), (50, 0.5), (9, 0.9), (20, 0.8), is_ambiguous=False)
    assert {four.preferred(name) for name in ("best", "whole", "part", "sub-part")} == {0}


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="threshold"):
        check_threshold(5.1)
    with pytest.raises(ConfigError, match="threshold"):
        check_threshold(float("nan"))
    with pytest.raises(ConfigError, match="largest"):
        check_preference("largest")
    check_threshold(-5.0)
    check_preference("sub-part")
