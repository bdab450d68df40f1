import numpy as np
import pytest

from napari_sam.core.errors import ConfigError, InputError
from napari_sam.tiling import Contrast, percentile_contrast, to_rgb


def test_limits_map_to_the_ends_of_the_range():
    image = np.array([[100, 1100], [600, 5000]], dtype=np.uint16)
    mapped = Contrast(low=(100,), high=(1100,)).apply(image)
    assert mapped.dtype == np.uint8
    np.testing.assert_array_equal(mapped, [[0, 255], [128, 255]])


def test_values_below_the_low_limit_do_not_wrap_around():
    image = np.array([[0, 50]], dtype=np.uint16)
    assert Contrast(low=(100,), high=(200,)).apply(image).max() == 0


def test_non_finite_pixels_become_zero():
    image = np.array([[np.nan, np.inf, -np.inf, 1.0]], dtype=np.float32)
    np.testing.assert_array_equal(Contrast(low=(0.0,), high=(1.0,)).apply(image), [[0, 0, 0, 255]])


def test_the_input_is_left_alone():
    image = np.array([[3.0, np.nan]])
    copy = image.copy()
    Contrast(low=(0.0,), high=(1.0,)).apply(image)
    np.testing.assert_array_equal(image, copy)


def test_each_channel_has_its_own_map():
    image = np.stack([np.full((2, 2), 10.0), np.full((2, 2), 30.0)], axis=-1)
    mapped = Contrast(low=(0.0, 0.0), high=(10.0, 60.0)).apply(image)
    np.testing.assert_array_equal(mapped[0, 0], [255, 128])


def test_channel_count_must_agree():
    with pytest.raises(InputError, match="channels"):
        Contrast(low=(0.0, 0.0), high=(1.0, 1.0)).apply(np.zeros((4, 4)))


@pytest.mark.parametrize(
    ("low", "high"), [((1.0,), (1.0,)), ((), ()), ((0.0,), (np.nan,)), ((0.0, 0.0), (1.0,))]
)
def test_bad_limits_are_refused(low, high):
    with pytest.raises(ConfigError, match="limit"):
        Contrast(low=low, high=high)


def test_percentiles_ignore_what_is_not_finite():
    sample = np.arange(101, dtype=np.float64)
    spoiled = np.concatenate([sample, [np.nan, np.inf, -np.inf]])
    assert percentile_contrast(spoiled, (10, 90)) == Contrast(low=(10.0,), high=(90.0,))


def test_percentiles_are_taken_per_channel():
    sample = np.stack([np.linspace(0, 1, 100), np.linspace(5, 9, 100)], axis=-1)
    contrast = percentile_contrast(sample.reshape(10, 10, 2), (0, 100))
    assert contrast == Contrast(low=(0.0, 5.0), high=(1.0, 9.0))


@pytest.mark.parametrize("value", [0, 7, 255, 1e30])
def test_a_constant_channel_becomes_black(value):
    image = np.full((8, 8), value)
    assert percentile_contrast(image).apply(image).max() == 0


def test_all_nan_becomes_black():
    image = np.full((8, 8), np.nan)
    assert percentile_contrast(image).apply(image).max() == 0


def test_rare_bright_objects_on_an_even_background_stay_visible():
    image = np.zeros((100, 100), dtype=np.uint16)
    image[50, 50] = 900
    assert percentile_contrast(image).apply(image)[50, 50] == 255


@pytest.mark.parametrize("dtype", [bool, np.complex64])
def test_dtypes_without_intensities_are_refused(dtype):
    image = np.ones((4, 4), dtype=dtype)
    with pytest.raises(InputError, match="dtype"):
        percentile_contrast(image)
    with pytest.raises(InputError, match="dtype"):
        Contrast(low=(0.0,), high=(1.0,)).apply(image)


def test_an_empty_sample_is_refused():
    with pytest.raises(InputError, match="empty"):
        percentile_contrast(np.zeros((0, 5)))


@pytest.mark.parametrize("percentiles", [(99, 1), (-1, 50), (0, 101), (5, 5)])
def test_bad_percentiles_are_refused(percentiles):
    with pytest.raises(ConfigError, match="percentiles"):
        percentile_contrast(np.zeros((4, 4)), percentiles)


def test_to_rgb_repeats_pairs_and_keeps():
    planes = [np.full((3, 4), value, dtype=np.uint8) for value in (1, 2, 3)]
    assert to_rgb(planes[0]).shape == (3, 4, 3)
    np.testing.assert_array_equal(to_rgb(planes[0])[0, 0], [1, 1, 1])
    np.testing.assert_array_equal(to_rgb(np.stack(planes[:1], -1))[0, 0], [1, 1, 1])
    np.testing.assert_array_equal(to_rgb(np.stack(planes[:2], -1))[0, 0], [1, 2, 1])
    np.testing.assert_array_equal(to_rgb(np.stack(planes, -1))[0, 0], [1, 2, 3])


def test_to_rgb_asks_for_a_choice_of_channels():
    with pytest.raises(InputError, match="--channel"):
        to_rgb(np.zeros((3, 4, 5), dtype=np.uint8))
