"""The layer of a run lies where the image lies, and shows what is on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_sam._napari.everything_store import Placement, StoreLayer
from napari_sam._napari.layers import ChannelChoice
from napari_sam.core.errors import InputError
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_writer import LabelWriter
from slice_writing import write_slice


def writer_of(path: Path, axes: str, shape: tuple[int, ...]) -> LabelWriter:
    layout = LabelLayout(axes, shape, (1.0,) * len(axes), (None,) * len(axes))
    return LabelWriter.create(path, layout)


def test_labels_lie_on_the_image_and_in_all_its_channels(tmp_path: Path) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(
        np.zeros((2, 3, 4, 10, 12)), scale=(1, 1, 2, 0.5, 0.5), translate=(0, 0, 1, 2, 3)
    )
    writer = writer_of(tmp_path / "labels.zarr", "TZYX", (2, 4, 10, 12))
    placement = Placement.of(image, ChannelChoice(axis=1, indices=(0,)))
    shown = StoreLayer(viewer, tmp_path / "labels.zarr", placement)
    shown.open()
    layer = shown.layer
    assert layer.data.shape == image.data.shape
    assert not layer.editable
    plane = np.arange(120).reshape(10, 12)
    write_slice(writer, (1, 2), plane)
    for channel in range(3):
        np.testing.assert_array_equal(layer.data[1, channel, 2], plane)
    assert not np.asarray(layer.data[0]).any()
    np.testing.assert_allclose(
        layer.data_to_world((1, 0, 2, 3, 4)), image.data_to_world((1, 0, 2, 3, 4))
    )
    writer.finish()
    shown.finish()
    assert layer.editable
    layer.data[1, 0, 2, 0, 0] = 7  # written through, for all channels
    assert layer.data[1, 2, 2, 0, 0] == 7


def test_large_planes_are_shown_level_by_level(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("napari_sam._napari.label_layers.SINGLE_LEVEL", 100)
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((2, 400, 300), np.uint8))
    writer = writer_of(tmp_path / "labels.zarr", "ZYX", (2, 400, 300))
    shown = StoreLayer(viewer, tmp_path / "labels.zarr", Placement.of(image, ChannelChoice()))
    shown.open()
    assert shown.layer.multiscale
    assert [level.shape for level in shown.layer.data] == [(2, 400, 300), (2, 200, 150)]
    write_slice(writer, (0,), np.full((400, 300), 5))
    shown.show_written([(0,)])
    assert shown.layer.data[1][0].max() == 5


@pytest.mark.parametrize("position", [(0,), (1,)])
def test_only_a_slice_in_view_is_drawn_again(tmp_path: Path, monkeypatch, position) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((2, 10, 12), np.uint8))
    viewer.dims.set_point(0, 1)
    writer_of(tmp_path / "labels.zarr", "ZYX", (2, 10, 12))
    shown = StoreLayer(viewer, tmp_path / "labels.zarr", Placement.of(image, ChannelChoice()))
    shown.open()
    drawn = []
    monkeypatch.setattr(
        "napari_sam._napari.everything_store.refresh_after_write", lambda *a: drawn.append(a)
    )
    shown.show_written([position])
    assert len(drawn) == position[0]
    viewer.dims.ndisplay = 3
    shown.show_written([(0,)])
    assert len(drawn) == position[0] + 1


def test_a_layer_of_the_same_store_is_used_again_or_removed(tmp_path: Path) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((2, 10, 12), np.uint8))
    writer_of(tmp_path / "labels.zarr", "ZYX", (2, 10, 12))
    placement = Placement.of(image, ChannelChoice())
    first = StoreLayer(viewer, tmp_path / "labels.zarr", placement)
    first.open()
    second = StoreLayer(viewer, tmp_path / "labels.zarr", placement)
    second.open()
    assert second.layer is first.layer
    third = StoreLayer(viewer, tmp_path / "labels.zarr", placement)
    third.remove_others()
    assert list(viewer.layers) == [image]
    for lost in (first, second):  # nothing happens to a layer that is gone
        lost.show_written([(0,)])
        lost.finish()
        lost.remove()


def test_an_unusual_order_of_axes_is_refused() -> None:
    image = Image(np.zeros((2, 3, 10, 12)), axis_labels=("z", "t", "y", "x"))
    with pytest.raises(InputError, match="ZTYX"):
        Placement.of(image, ChannelChoice())


def test_colour_images_have_labels_without_colours() -> None:
    placement = Placement.of(Image(np.zeros((5, 10, 12, 3), np.uint8), rgb=True), ChannelChoice())
    assert placement.channel_axis is None
    assert len(placement.transforms["scale"]) == 3
