"""The contrast of a layer is that of its whole volume, and its preview is what the model gets."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image

from napari_sam._napari.layer_volume import layer_volume, volume_channels
from napari_sam._napari.layers import ChannelChoice, LayerPlane
from napari_sam._napari.model_view import (
    ContrastChoice,
    contrast_steps,
    measure_contrast,
    model_view,
)
from napari_sam.core.errors import ConfigError, InputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.model.sam import InputSpec
from napari_sam.pipeline import contrast_sample, volume_contrast
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.source import SliceSource
from napari_sam.predict.pixels import to_model_pixels
from napari_sam.tiling import Contrast

LIMITS = ContrastChoice("layer limits")


def noise(shape: tuple[int, ...], dtype: type = np.uint16) -> np.ndarray:
    """Make an image whose slices grow brighter."""
    rng = np.random.default_rng(0)
    bright = np.linspace(1, 5, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return (rng.gamma(2, 10, shape) * bright).astype(dtype)


@pytest.mark.parametrize(
    ("layer", "channels"),
    [
        (Image(noise((40, 50))), ChannelChoice()),
        (Image(noise((40, 50)).astype(np.float32)), ChannelChoice()),
        (Image(noise((30, 40, 50))), ChannelChoice()),
        (Image(noise((3, 9, 40, 50))), ChannelChoice()),
        (Image(noise((3, 9, 40, 50))), ChannelChoice(0, (2,))),
        (Image(noise((3, 9, 40, 50))), ChannelChoice(0, (2, 0))),
        (Image(noise((3, 9, 40, 50))), ChannelChoice(1, (2, 0, 5))),
        (Image(noise((40, 50, 3), np.uint8), rgb=True), ChannelChoice()),
        (Image(noise((9, 40, 50, 4), np.uint8), rgb=True), ChannelChoice()),
        (Image(noise((30, 40, 50))), ChannelChoice(other_layers=(Image(noise((30, 40, 50)) * 2),))),
        (Image([noise((2, 64, 64)), noise((2, 32, 32))], multiscale=True), ChannelChoice()),
        (Image(da.from_array(noise((30, 40, 50)), chunks=(4, 20, 50))), ChannelChoice()),
        (Image(np.eye(50, dtype=np.uint16)[np.newaxis] * [[[1]], [[9]]]), ChannelChoice()),
    ],
)
@pytest.mark.parametrize("percentiles", [None, (5.0, 90.0)])
def test_the_contrast_is_that_of_a_run_over_the_volume(
    layer: Image, channels: ChannelChoice, percentiles: tuple[float, float] | None
) -> None:
    found = measure_contrast(layer, channels, ContrastChoice(percentiles=percentiles))
    config = SegmentConfig(channels=volume_channels(channels))
    assert found == SliceSource(layer_volume(layer, channels), config).measure_contrast(percentiles)


@pytest.mark.parametrize("side", [2100, 4200])
def test_the_sample_of_a_large_image_is_that_of_a_run(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # limits a thousand times smaller, here and there, so that large is not large
    monkeypatch.setattr(contrast_sample, "SAMPLE_PIXELS", 2**12)
    monkeypatch.setattr(contrast_sample, "SAMPLE_TOTAL", 2**12)
    monkeypatch.setattr(contrast_sample, "BLOCK", 16)
    array = noise((3, side // 20, side // 20))
    for layer in (
        Image(array),
        Image([array, array[:, ::2, ::2], array[:, ::4, ::4]], multiscale=True),
    ):
        expected = SliceSource(layer_volume(layer), SegmentConfig()).measure_contrast(None)
        assert measure_contrast(layer) == expected


def test_the_limits_of_the_layer_are_taken_as_they_are() -> None:
    layer = Image(noise((9, 40, 50)), contrast_limits=(7, 30))
    assert measure_contrast(layer, choice=LIMITS) == Contrast((7.0,), (30.0,))
    other = Image(noise((9, 40, 50)), contrast_limits=(1, 5))
    both = ChannelChoice(other_layers=(other,))
    assert measure_contrast(layer, both, LIMITS) == Contrast((7.0, 1.0), (30.0, 5.0))
    assert measure_contrast(layer, ChannelChoice(0, (1, 2)), LIMITS) == Contrast((7.0,), (30.0,))


def test_8_bit_images_stay_as_they_are_for_models_that_take_them_so() -> None:
    gray, rgb = Image(noise((40, 50), np.uint8)), Image(noise((40, 50, 3), np.uint8), rgb=True)
    for layer in (gray, rgb):
        contrast = measure_contrast(layer, keeps_8bit=True)
        image = LayerPlane(layer, Plane((0, 1)))
        seen = model_view(image, contrast)
        spec = InputSpec(contrast="as_is")
        np.testing.assert_array_equal(seen, to_model_pixels(layer.data, spec))
    stretched = measure_contrast(gray)
    assert stretched != contrast
    stated = ContrastChoice(percentiles=(1.0, 99.8))
    assert measure_contrast(gray, choice=stated, keeps_8bit=True) == stretched
    deep = Image(noise((40, 50)))
    assert measure_contrast(deep, keeps_8bit=True) == measure_contrast(deep)
    mixed = ChannelChoice(other_layers=(deep,))
    assert measure_contrast(gray, mixed, keeps_8bit=True) == measure_contrast(gray, mixed)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.full((4, 8, 9), 7, np.uint16), "the constant value 7"),
        (np.zeros((4, 8, 9), np.float32), "the constant value 0"),
        (np.full((4, 8, 9), np.nan), "no finite value"),
        (np.where(np.eye(8) > 0, np.nan, 3.0), "the constant value 3"),
        (np.full((8, 9), np.inf), "no finite value"),
    ],
)
def test_an_image_without_contrast_is_refused_with_a_cure(array: np.ndarray, found: str) -> None:
    layer = Image(array, contrast_limits=(0, 1), name="mine")
    with pytest.raises(InputError, match=f"'mine' holds {found}.* set the layer's contrast limits"):
        measure_contrast(layer)
    assert measure_contrast(layer, choice=LIMITS) == Contrast((0.0,), (1.0,))


def test_a_channel_without_contrast_does_not_hinder_the_others() -> None:
    array = noise((3, 40, 50))
    array[1] = 5
    contrast = measure_contrast(Image(array), ChannelChoice(0, (1, 2)))
    assert contrast.low[0] == 5
    assert contrast.low[1] < contrast.high[1]


def test_one_bright_pixel_in_a_dark_stack_is_found() -> None:
    array = np.zeros((100, 30, 30), np.uint16)
    array[37, 4, 5] = 900
    assert measure_contrast(Image(array, contrast_limits=(0, 1))) == Contrast((0.0,), (900.0,))


def counted(shape: tuple[int, ...], chunks: tuple[int, ...]) -> tuple[Image, list]:
    """Make a dask layer of one value, and the list of the chunks that were computed."""
    computed: list = []

    def block(block_info: dict | None = None) -> np.ndarray:
        computed.append(block_info[None]["chunk-location"])
        return np.full(block_info[None]["chunk-shape"], 3, np.uint8)

    array = da.map_blocks(block, chunks=da.core.normalize_chunks(chunks, shape), dtype=np.uint8)
    layer = Image(array, contrast_limits=(0, 1), cache=False)
    computed.clear()
    return layer, computed


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((1000, 64, 64), (1, 64, 64)),
        ((1000, 64, 64), (100, 64, 64)),
        ((2, 1000, 1000), (1, 1000, 1000)),
        ((1000, 1000), (1000, 1000)),
        ((1000, 1000), (100, 100)),
    ],
)
def test_what_is_computed_for_it_is_bounded(
    shape: tuple[int, ...], chunks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = 2**20
    monkeypatch.setattr(volume_contrast, "BUDGET", budget)
    monkeypatch.setattr(volume_contrast, "BAND_PIXELS", 2**14)
    monkeypatch.setattr(contrast_sample, "SAMPLE_PIXELS", 2**14)
    monkeypatch.setattr(contrast_sample, "BLOCK", 64)
    layer, computed = counted(shape, chunks)
    with pytest.raises(InputError, match="wherever it was looked at"):
        measure_contrast(layer)  # a constant image is the worst case: it is searched on and on
    assert 1 <= len(computed) * np.prod(chunks) <= 2 * budget + np.prod(chunks)


def test_measuring_can_be_stopped_between_blocks() -> None:
    layer, computed = counted((100, 64, 64), (1, 64, 64))
    steps = contrast_steps(layer)
    assert computed == []
    next(steps)
    assert len(computed) == 1
    steps.close()
    assert len(computed) == 1


def test_measuring_changes_nothing_in_the_layer() -> None:
    layer = Image(noise((9, 40, 50)), contrast_limits=(7, 30))
    emitted = []
    layer.events.connect(lambda event: emitted.append(event.type))
    measure_contrast(layer)
    measure_contrast(layer, choice=LIMITS)
    assert emitted == []
    layer.name = "another"
    assert emitted == ["name"]


def test_the_view_is_what_the_model_gets() -> None:
    array = noise((3, 4, 40, 50)).astype(np.float32)
    array[0, 1, 5:9] = np.nan
    layer, channels = Image(array), ChannelChoice(0, (0, 2))
    contrast = measure_contrast(layer, channels)
    image = LayerPlane(layer, Plane((2, 3), (0, 1)), channels)
    pixels = np.stack([array[0, 1], array[2, 1]], axis=-1)
    with pytest.warns(UserWarning, match="shown as black"):
        expected = to_model_pixels(pixels, InputSpec(), contrast)
    np.testing.assert_array_equal(model_view(image, contrast), expected)
    region = Region((3, 4), (20, 44))
    np.testing.assert_array_equal(model_view(image, contrast, region), expected[region.slices])
    assert (expected[5:9, :, 0] == 0).all()


def test_the_view_of_a_coarser_level_is_smaller() -> None:
    layer = Image([noise((64, 64)), noise((32, 32))], multiscale=True)
    image = LayerPlane(layer, Plane((0, 1)))
    assert model_view(image, measure_contrast(layer), level=1).shape == (32, 32, 3)


def test_choices_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="Two percentiles from 0 to 100"):
        ContrastChoice(percentiles=(90.0, 10.0))
    with pytest.raises(ConfigError, match='Use "percentiles" or "layer limits"'):
        ContrastChoice("auto")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Intensities must be real"):
        measure_contrast(Image(np.zeros((8, 9), bool)))
