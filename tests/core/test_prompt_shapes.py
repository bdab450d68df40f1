import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_sam.core.errors import InputError
from napari_sam.core.prompt_shapes import BoxPrompt, MaskPrompt, PointPrompt

masks = arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20)))


@given(masks, st.tuples(st.integers(0, 50), st.integers(0, 50)))
def test_a_mask_prompt_is_its_mask(mask, origin):
    if not mask.any():
        with pytest.raises(InputError, match="without any pixel"):
            MaskPrompt.from_array(mask, origin)
        return
    prompt = MaskPrompt.from_array(mask, origin)
    plane = np.zeros((80, 80), bool)
    plane[prompt.region_yx.slices] = prompt.to_array()
    expected = np.zeros((80, 80), bool)
    expected[origin[0] : origin[0] + mask.shape[0], origin[1] : origin[1] + mask.shape[1]] = mask
    np.testing.assert_array_equal(plane, expected)
    rows, cols = np.nonzero(expected)
    assert prompt.box.xyxy == (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)
    assert prompt == MaskPrompt.from_array(expected)
    assert hash(prompt) == hash(MaskPrompt.from_array(expected))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_coordinates_are_finite(value):
    with pytest.raises(InputError, match="finite"):
        PointPrompt(1, value)
    with pytest.raises(InputError, match="finite"):
        BoxPrompt(0, 0, value, 5)


@pytest.mark.parametrize("corners", [(3, 0, 3, 5), (0, 5, 3, 5), (4, 0, 3, 5)])
def test_boxes_have_a_size(corners):
    with pytest.raises(InputError, match="x0 < x1"):
        BoxPrompt(*corners)


def test_a_box_holds_its_edges():
    box = BoxPrompt(1, 2, 5, 4)
    assert box.holds(1, 2)
    assert box.holds(5, 4)
    assert not box.holds(5.01, 3)
    assert box.holds(5.4, 3, margin=0.5)
    assert box.area == 8


@pytest.mark.parametrize(
    ("origin", "size", "bits"),
    [((0, 0), (0, 3), b""), ((0, 0), (3, 3), b"a"), ((-1, 0), (1, 1), b"a")],
)
def test_mask_prompts_fill_their_rectangle(origin, size, bits):
    with pytest.raises(InputError, match="one bit per pixel"):
        MaskPrompt(origin, size, bits)


def test_numpy_values_make_plain_prompts():
    point = PointPrompt(np.float32(1.5), np.int64(2), np.bool_(False))
    assert point == PointPrompt(1.5, 2.0, False)
    assert type(point.x) is float
    assert type(point.is_positive) is bool
