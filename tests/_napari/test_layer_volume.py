"""A layer as a volume has the pixels, axes, sizes and units of the layer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image

from napari_sam._napari.layer_volume import (
    layer_axes,
    layer_volume,
    named_axis,
    volume_channels,
)
from napari_sam._napari.layers import ChannelChoice
from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.source import SliceSource


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    """Make an array in which each pixel says which one it is."""
    return np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)


def whole(volume: object) -> np.ndarray:
    return volume.read(Region.whole(volume.shape))


@pytest.mark.parametrize(
    ("shape", "labels", "channel_axis", "stack_axis", "axes"),
    [
        ((8, 9), None, None, "Z", "YX"),
        ((5, 8, 9), None, None, "Z", "ZYX"),
        ((5, 8, 9), None, None, "T", "TYX"),
        ((5, 8, 9), ("z", "y", "x"), None, "T", "ZYX"),
        ((5, 8, 9), ("Time", "row", "column"), None, "Z", "TYX"),
        ((8, 9, 5), ("y", "x", "z"), None, "Z", "YXZ"),
        ((5, 8, 9), ("z", "y", "y"), None, "T", "TYX"),
        ((5, 8, 9), ("what", "y", "x"), None, "T", "TYX"),
        ((4, 5, 8, 9), None, None, "Z", "TZYX"),
        ((4, 5, 8, 9), None, 0, "T", "CTYX"),
        ((4, 5, 8, 9), None, 1, "Z", "ZCYX"),
        ((8, 9, 2), None, 2, "Z", "YXC"),
        ((3, 4, 5, 8, 9), None, 1, "Z", "TCZYX"),
        ((3, 4, 5, 8, 9), ("t", "c", "z", "y", "x"), 1, "Z", "TCZYX"),
        ((3, 4, 5, 8, 9), ("t", "p", "z", "y", "x"), 1, "Z", "TCZYX"),
        ((3, 1, 5, 8, 9), None, None, "Z", "TCZYX"),
        ((1, 1, 5, 8, 9), None, None, "Z", "TCZYX"),
        ((3, 1, 8, 9), ("t", "c", "y", "x"), None, "Z", "TCYX"),
    ],
)
def test_axes_are_named_by_labels_or_else_by_custom(
    shape: tuple[int, ...],
    labels: tuple[str, ...] | None,
    channel_axis: int | None,
    stack_axis: Literal["Z", "T"],
    axes: str,
) -> None:
    layer = Image(np.zeros(shape, np.uint8), axis_labels=labels, rgb=False)
    channels = ChannelChoice() if channel_axis is None else ChannelChoice(channel_axis, (1,))
    assert layer_axes(layer, channels, stack_axis) == axes


@pytest.mark.parametrize(
    ("labels", "axis"),
    [
        (("c", "y", "x"), 0),
        (("y", "x", "CH"), 2),
        (("a", "b", "c"), 2),
        (("c", "c", "x"), None),
    ],
)
def test_an_axis_is_found_by_its_name(labels: tuple[str, ...], axis: int | None) -> None:
    assert named_axis(Image(np.zeros((8, 9, 7)), axis_labels=labels, rgb=False), "C") == axis
    assert named_axis(Image(np.zeros((8, 9, 7))), "C") is None


def test_axes_that_nobody_can_tell_are_asked_for() -> None:
    with pytest.raises(InputError, match="Choose which axis counts channels"):
        layer_axes(Image(np.zeros((2, 3, 4, 8, 9))))
    with pytest.raises(InputError, match="set the layer's axis_labels"):
        layer_axes(Image(np.zeros((2, 2, 3, 4, 8, 9))), ChannelChoice(0, (0,)))


def test_a_named_channel_axis_without_a_choice_is_refused() -> None:
    layer = Image(np.zeros((2, 8, 9)), axis_labels=("c", "y", "x"))
    with pytest.raises(InputError, match="Choose one to three of its channels"):
        layer_volume(layer)
    assert layer_volume(layer, ChannelChoice(0, (1,))).axes == "CYX"


def test_pixels_sizes_and_units_are_those_of_the_layer() -> None:
    array = numbered((4, 5, 8, 9))
    layer = Image(
        array,
        scale=(3, 2, 0.1, 0.2),
        units=("s", "um", "micron", "um"),
        translate=(1, 2, 3, 4),
        name="cells",
    )
    volume = layer_volume(layer)
    assert (volume.axes, volume.shape, volume.dtype) == ("TZYX", (4, 5, 8, 9), np.uint32)
    np.testing.assert_allclose(volume.scale, (3, 2, 0.1, 0.2))
    assert volume.units == ("second", "micrometer", "micrometer", "micrometer")
    assert volume.path == Path("cells")
    assert not volume.is_ngff
    np.testing.assert_array_equal(whole(volume), array)


def test_a_layer_without_sizes_has_none() -> None:
    volume = layer_volume(Image(numbered((5, 8, 9))))
    assert volume.scale == (1, 1, 1)
    assert volume.units == (None, None, None)


def test_the_size_of_a_pixel_counts_the_affine_in() -> None:
    affine = np.diag([1, 2, 3, 1])
    volume = layer_volume(Image(numbered((5, 8, 9)), scale=(5, 2, 2), affine=affine, rotate=0))
    np.testing.assert_allclose(volume.scale, (5, 4, 6))


def test_axes_in_another_order_are_sorted() -> None:
    array = numbered((8, 9, 5))
    volume = layer_volume(Image(array, axis_labels=("y", "x", "z"), rgb=False))
    assert (volume.axes, volume.shape) == ("ZYX", (5, 8, 9))
    np.testing.assert_array_equal(whole(volume), np.moveaxis(array, 2, 0))


def test_colours_are_samples() -> None:
    array = numbered((5, 8, 9, 4)).astype(np.uint8)
    volume = layer_volume(Image(array, rgb=True))
    assert (volume.axes, volume.shape) == ("ZYXS", (5, 8, 9, 4))
    np.testing.assert_array_equal(whole(volume), array)


def test_levels_are_the_layers() -> None:
    levels = [numbered((5, 16, 16)), numbered((5, 8, 8)), numbered((5, 4, 4))]
    volume = layer_volume(Image(levels, multiscale=True))
    assert volume.levels == ((5, 16, 16), (5, 8, 8), (5, 4, 4))
    region = Region((2, 1, 1), (4, 3, 4))
    np.testing.assert_array_equal(volume.read(region, 1), levels[1][region.slices])


def test_layers_become_an_axis_of_channels() -> None:
    arrays = [numbered((5, 8, 9)).astype(np.uint8), numbered((5, 8, 9)).astype(np.float32)]
    first, second = (Image(da.from_array(array), contrast_limits=(0, 1)) for array in arrays)
    channels = ChannelChoice(other_layers=(second,))
    volume = layer_volume(first, channels)
    assert (volume.axes, volume.shape, volume.dtype) == ("CZYX", (2, 5, 8, 9), np.float32)
    assert volume_channels(channels) == (0, 1)
    np.testing.assert_array_equal(whole(volume), np.stack(arrays))
    region = Region((1, 2, 0, 0), (2, 4, 8, 9))
    np.testing.assert_array_equal(volume.read(region), arrays[1][np.newaxis, 2:4])


def test_layers_as_channels_of_a_layer_with_a_channel_axis_are_refused() -> None:
    layers = [Image(np.zeros((2, 1, 3, 8, 9))) for _ in range(2)]
    with pytest.raises(InputError, match="Channels are counted once"):
        layer_volume(layers[0], ChannelChoice(other_layers=(layers[1],)))


def test_a_run_takes_the_channels_that_were_chosen() -> None:
    array = numbered((4, 5, 8, 9))
    channels = ChannelChoice(0, (3, 1))
    volume = layer_volume(Image(array), channels)
    source = SliceSource(volume, SegmentConfig(channels=volume_channels(channels)))
    assert (source.label_axes, source.label_shape) == ("ZYX", (5, 8, 9))
    assert volume_channels(ChannelChoice()) == ()


def test_nothing_is_read_before_it_is_asked_for() -> None:
    def fail(block: np.ndarray) -> np.ndarray:
        raise AssertionError("read too early")

    layer = Image(np.zeros((5, 8, 9)))
    layer.contrast_limits = (0, 1)
    array = da.zeros((5, 8, 9), chunks=(1, 8, 9)).map_blocks(fail, dtype=float, meta=np.empty(0))
    layer.visible = False
    layer._data = array  # napari itself would draw it
    volume = layer_volume(layer)
    assert volume.shape == (5, 8, 9)
    with pytest.raises(InputError, match="read too early"):
        whole(volume)
