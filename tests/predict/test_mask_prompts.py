"""Masks become low-res logits by area, in whatever view."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.model.sam import InputSpec
from napari_sam.predict.frames import Frame, View, view_around, view_of_frame
from napari_sam.predict.mask_prompts import low_res_of_mask, low_res_of_other_view
from napari_sam.predict.transforms import CERTAIN_LOGIT, ImageTransform

NATIVE = InputSpec(size=128, native_resolution=True, stride=8, low_res_stride=2, pad_multiple=32)
RESIZED = InputSpec(size=128)


def patch(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < 0.5


@given(
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(0, 99),
)
def test_drawn_masks_are_those_of_the_image_transform(
    shape: tuple[int, int], origin: tuple[int, int], seed: int
) -> None:
    """A plane of native pixels in one window is what the predictor knows already."""
    size = (shape[0] + origin[0], shape[1] + origin[1])
    mask = np.zeros(size, bool)
    mask[origin[0] :, origin[1] :] = patch(seed, shape)
    expected = ImageTransform.for_image(size, NATIVE).masks_to_low_res(mask[None])[0]
    ours = low_res_of_mask(mask[origin[0] :, origin[1] :], origin, whole_view(size, NATIVE))
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def whole_view(size: tuple[int, int], spec: InputSpec) -> View:
    return view_of_frame(Frame.whole(size), spec)


def test_resized_planes_shrink_by_area() -> None:
    mask = np.zeros((256, 256), bool)
    mask[64:128, 32:48] = True  # cells of 8 pixels
    expected = np.full((32, 32), -CERTAIN_LOGIT)
    expected[8:16, 4:6] = CERTAIN_LOGIT
    ours = low_res_of_mask(mask[60:130, 30:50], (60, 30), whole_view((256, 256), RESIZED))
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_view_elsewhere_sees_nothing_of_the_mask() -> None:
    view = view_of_frame(Frame((500, 500), (128, 128)), NATIVE)
    for origin in ((0, 0), (900, 900), (500, 900)):
        logits = low_res_of_mask(np.ones((20, 30), bool), origin, view)
        np.testing.assert_allclose(logits, -CERTAIN_LOGIT, atol=1e-5)


def test_logits_move_with_the_view_unchanged() -> None:
    frame = Frame.whole((300, 300))
    one = view_around((100, 100, 100, 100), frame, NATIVE)
    other = view_around((140, 116, 140, 116), frame, NATIVE)
    logits = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    carried = low_res_of_other_view(logits, one, other)
    dy = (other.region_yx.start[0] - one.region_yx.start[0]) // 2
    dx = (other.region_yx.start[1] - one.region_yx.start[1]) // 2
    assert (dy, dx) == (8, 20)
    np.testing.assert_allclose(carried[:-dy, :-dx], logits[dy:, dx:], atol=1e-5)
    np.testing.assert_allclose(carried[-dy:], -CERTAIN_LOGIT, atol=1e-5)
    np.testing.assert_allclose(low_res_of_other_view(logits, one, one), logits, atol=1e-5)


def test_a_coarser_view_gets_means() -> None:
    fine = view_of_frame(Frame((128, 128), (128, 128)), NATIVE)
    coarse = view_of_frame(Frame((0, 0), (512, 512), 4), NATIVE)
    logits = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    carried = low_res_of_other_view(logits, fine, coarse)
    means = logits.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(carried[16:32, 16:32], means, atol=1e-5)
    assert np.isclose(carried, -CERTAIN_LOGIT).sum() == 64 * 64 - 16 * 16
