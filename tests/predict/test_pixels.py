"""Any real image becomes 8-bit RGB, and bad ones are refused."""

import numpy as np
import pytest

from napari_sam.core.errors import InputError, NapariSamWarning
from napari_sam.model.sam import InputSpec
from napari_sam.predict.pixels import to_model_pixels
from napari_sam.tiling.normalize import Contrast

AS_IS = InputSpec(contrast="as_is")
STRETCH = InputSpec(contrast="percentile")
RAMP = np.arange(100, dtype=np.uint8).reshape(10, 10)


def test_8bit_images_pass_official_models_unchanged() -> None:
    np.testing.assert_array_equal(to_model_pixels(RAMP, AS_IS), np.stack([RAMP] * 3, axis=-1))
    colour = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(to_model_pixels(colour, AS_IS), colour)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64, np.float16])
def test_other_dtypes_are_stretched(dtype: type) -> None:
    pixels = to_model_pixels(RAMP.astype(dtype) * 7 - 3 * (dtype is not np.uint16), AS_IS)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (10, 10, 3)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert (np.diff(pixels[..., 0].ravel().astype(int)) >= 0).all()


def test_colour_is_kept_but_fluorescence_channels_are_stretched_apart() -> None:
    colour = np.stack([RAMP, RAMP // 2, RAMP // 4], axis=-1)
    kept = to_model_pixels(colour, STRETCH)
    assert kept[..., 0].max() > 1.8 * kept[..., 1].max() > 3 * kept[..., 2].max()
    apart = to_model_pixels(colour.astype(np.uint16), STRETCH)
    assert apart.max(axis=(0, 1)).tolist() == [255, 255, 255]
    two = to_model_pixels(colour[..., :2], STRETCH)
    assert two.max(axis=(0, 1)).tolist() == [255, 255, 255]


def test_a_given_contrast_is_used_as_it_is() -> None:
    contrast = Contrast(low=(0.0,), high=(200.0,))
    pixels = to_model_pixels(RAMP, STRETCH, contrast)
    np.testing.assert_array_equal(pixels[..., 1], contrast.apply(RAMP))
    assert pixels.max() < 130


@pytest.mark.parametrize("spec", [AS_IS, STRETCH])
def test_constant_images_are_even(spec: InputSpec) -> None:
    assert np.ptp(to_model_pixels(np.full((4, 4), 7, np.uint16), spec)) == 0
    assert np.ptp(to_model_pixels(np.full((4, 4), 7, np.uint8), spec)) == 0


def test_what_is_not_finite_is_said_and_black() -> None:
    image = RAMP.astype(np.float32)
    image[3, 3], image[9, 9] = np.nan, np.inf
    with pytest.warns(NapariSamWarning, match="2 of 100"):
        pixels = to_model_pixels(image, AS_IS)
    assert (pixels[3, 3] == 0).all()
    assert (pixels[9, 9] == 0).all()
    assert pixels.max() == 255


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5)), "shape"),
        (np.zeros(5), "shape"),
        (np.zeros((2, 3, 4, 3)), "shape"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4), complex), "complex"),
        (np.zeros((4, 4, 4), np.uint8), "channel"),
        (np.array([["a"]]), "dtype"),
    ],
)
@pytest.mark.parametrize("spec", [AS_IS, STRETCH])
def test_what_is_no_image_is_refused(image: np.ndarray, message: str, spec: InputSpec) -> None:
    with pytest.raises(InputError, match=message):
        to_model_pixels(image, spec)
