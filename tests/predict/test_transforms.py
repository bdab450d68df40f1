"""The way to the input frame and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.model.sam import InputSpec
from napari_sam.predict.transforms import CERTAIN_LOGIT, ImageTransform

OFFICIAL = InputSpec()
NATIVE = InputSpec(size=512, native_resolution=True, stride=8, low_res_stride=2, pad_multiple=32)
SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@given(SIZES, st.sampled_from([OFFICIAL, NATIVE]), st.lists(st.floats(0, 1), min_size=4))
def test_coordinates_come_back(
    size: tuple[int, int], spec: InputSpec, fractions: list[float]
) -> None:
    transform = ImageTransform.for_image(size, spec)
    count = len(fractions) // 4 * 4
    points = np.array(fractions[:count]).reshape(-1, 2) * size[::-1]
    there = transform.points_to_input(points)
    assert (there <= np.array(transform.input_size_yx[::-1]) + 1e-6).all()
    np.testing.assert_allclose(transform.points_to_original(there), points, atol=1e-9)
    boxes = points.reshape(-1, 4)
    np.testing.assert_allclose(
        transform.boxes_to_original(transform.boxes_to_input(boxes)), boxes, atol=1e-9
    )


@given(SIZES)
def test_official_frames_are_square_and_hold_the_resized_image(size: tuple[int, int]) -> None:
    transform = ImageTransform.for_image(size, OFFICIAL)
    assert transform.padded_size_yx == (1024, 1024)
    assert max(transform.input_size_yx) == 1024
    assert transform.low_res_size_yx == (256, 256)


@given(SIZES)
def test_native_frames_only_pad(size: tuple[int, int]) -> None:
    transform = ImageTransform.for_image(size, NATIVE)
    assert transform.input_size_yx == size
    for padded, length in zip(transform.padded_size_yx, size, strict=True):
        assert padded % 32 == 0
        assert 0 <= padded - length < 32


def test_native_images_are_not_touched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    assert ImageTransform.for_image((30, 40), NATIVE).image_to_input(image) is image


@pytest.mark.parametrize("spec", [OFFICIAL, NATIVE])
@pytest.mark.parametrize("size", [(60, 100), (1500, 1100)])
def test_drawn_masks_become_certain_logits(spec: InputSpec, size: tuple[int, int]) -> None:
    transform = ImageTransform.for_image(size, spec)
    mask = np.zeros((2, *size), dtype=bool)
    rows, cols = size
    mask[0, rows // 4 : rows // 2, cols // 4 : cols // 2] = True
    logits = transform.masks_to_low_res(mask)
    assert logits.shape == (2, *transform.low_res_size_yx)
    assert logits.max() == CERTAIN_LOGIT
    assert (logits[1] == -CERTAIN_LOGIT).all()
    scale = transform.input_size_yx[0] / rows / transform.low_res_stride
    covered = (0.5 * logits[0] / CERTAIN_LOGIT + 0.5).sum()
    assert covered == pytest.approx(mask[0].sum() * scale**2, rel=0.01)
    ys, xs = np.nonzero(logits[0].numpy() > 0)
    assert ys.mean() == pytest.approx((3 / 8) * rows * scale, abs=1)
    assert xs.mean() == pytest.approx((3 / 8) * cols * scale, abs=1)
