"""Labels layers for results: any size is quick to make, and what is written is on the screen."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_sam._napari import label_layers
from napari_sam._napari.label_layers import (
    add_label_layer,
    label_target_of,
    layer_data_of,
    refresh_after_write,
)
from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_pyramid import LabelPyramid
from napari_sam.io.label_store import LabelStore

if TYPE_CHECKING:
    import napari

Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold only tiny label images in memory, and show only tiny planes at one level."""
    monkeypatch.setattr(label_layers, "NUMPY_BYTES", 1000)
    monkeypatch.setattr(label_layers, "SINGLE_LEVEL", 400)


def painted(viewer: napari.Viewer) -> np.ndarray:
    """Return which pixels the canvas shows in the colour of a label: the rest is black."""
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].max(axis=2) > 10


def add_image(viewer: napari.Viewer, shape: tuple[int, ...], **kwargs: object) -> object:
    class Zeros:
        """An image that stands nowhere."""

        dtype = np.dtype("uint8")
        ndim, size = len(shape), int(np.prod(shape))

        def __init__(self) -> None:
            self.shape = shape

        def __getitem__(self, key: tuple) -> np.ndarray:
            spans = [(e, n) for e, n in zip(key, shape, strict=False) if isinstance(e, slice)]
            spans += [(slice(None), n) for n in shape[len(key) :]]
            return np.zeros([len(range(*span.indices(n))) for span, n in spans], np.uint8)

    layer = viewer.add_image(Zeros(), contrast_limits=(0, 1), **kwargs)
    viewer.reset_view()
    return layer


def everything(layer: object) -> np.ndarray:
    return np.asarray(layer.data[0] if layer.multiscale else layer.data)


def test_a_small_result_is_in_memory_and_lies_on_the_image(viewer: napari.Viewer) -> None:
    image = add_image(
        viewer,
        (3, 40, 50),
        scale=(2, 0.5, 0.5),
        translate=(1, 2, 3),
        rotate=20,
        shear=[0.1, 0, 0],
        affine=np.diag([1.0, 2.0, 3.0, 1.0]),
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
    )
    layer = add_label_layer(viewer, image, "cells")
    assert isinstance(layer.data, np.ndarray)
    assert (layer.data.shape, layer.data.dtype, layer.name) == ((3, 40, 50), np.uint32, "cells")
    np.testing.assert_allclose(layer.extent.world, image.extent.world)
    np.testing.assert_allclose(layer.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)))
    assert layer.units == image.units
    assert layer.axis_labels == image.axis_labels
    assert layer.editable


def test_a_color_image_gives_labels_without_colors(viewer: napari.Viewer) -> None:
    image = viewer.add_image(np.zeros((30, 40, 3), np.uint8), rgb=True)
    assert add_label_layer(viewer, image, "cells").data.shape == (30, 40)


@pytest.mark.parametrize("size", [300, 700])
def test_a_large_result_is_a_store_that_goes_with_its_layer(
    viewer: napari.Viewer, wait_until: Wait, small_memory: None, size: int
) -> None:
    image = add_image(
        viewer, (2, size, size), scale=(2, 1, 1), translate=(0, 5, 6), units=("um",) * 3
    )
    layer = add_label_layer(viewer, image, "cells")
    assert layer.multiscale == (size > 400)
    store = LabelStore.open(layer.metadata["napari_sam"]["store"])
    assert store.multiscale.scale == (2.0, 1.0, 1.0)
    assert store.multiscale.translate == (0.0, 5.0, 6.0)
    assert store.multiscale.units == ("micrometer",) * 3
    target = label_target_of(layer)
    assert target.next_label() == 1
    target.write(Plane((1, 2), (1,)), Region((10, 20), (40, 60)), np.full((30, 40), 4))
    assert (store.levels[0][1, 10:40, 20:60] == 4).all()
    if layer.multiscale:
        np.testing.assert_array_equal(store.levels[1][1], store.levels[0][1, ::2, ::2])
    viewer.layers.remove(layer)
    wait_until(lambda: not store.path.parent.exists())


def test_a_store_stays_as_long_as_a_converted_layer_shows_it(
    viewer: napari.Viewer, wait_until: Wait, small_memory: None
) -> None:
    layer = add_label_layer(viewer, add_image(viewer, (300, 300)), "cells")
    store = Path(layer.metadata["napari_sam"]["store"])
    copy = type(layer)(layer.data, metadata=layer.metadata, name="copy")
    viewer.layers.remove(layer)
    viewer.layers.append(copy)
    removed = viewer.add_labels(np.zeros((4, 4), int))
    viewer.layers.remove(removed)
    wait_until(lambda: True)
    assert store.exists()
    viewer.layers.remove(copy)
    wait_until(lambda: not store.exists())


def test_a_store_in_a_folder_of_the_user_stays(
    viewer: napari.Viewer, small_memory: None, tmp_path: Path
) -> None:
    image = add_image(viewer, (300, 300))
    for name in ("SAM_labels.ome.zarr", "SAM_labels-2.ome.zarr"):
        layer = add_label_layer(viewer, image, "SAM labels", tmp_path)
        assert layer.metadata["napari_sam"]["store"] == str(tmp_path / name)
        viewer.layers.remove(layer)
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("channel_axis", [0, 1])
@pytest.mark.parametrize("in_memory", [True, False])
def test_labels_are_the_same_in_all_channels(
    viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch, channel_axis: int, in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.setattr(label_layers, "NUMPY_BYTES", 1000)
    shape = [4, 60, 70]
    shape.insert(channel_axis, 3)
    layer = add_label_layer(
        viewer, add_image(viewer, tuple(shape)), "cells", channel_axis=channel_axis
    )
    position = [2, 2]
    position[channel_axis] = 0
    label_target_of(layer).write(
        Plane((2, 3), tuple(position)), Region((10, 20), (30, 50)), np.full((20, 30), 5)
    )
    found = everything(layer)
    assert found.shape == tuple(shape)
    by_channel = np.moveaxis(found, channel_axis, 0)
    assert (by_channel == by_channel[0]).all()
    assert int((by_channel[0] == 5).sum()) == 600
    position[channel_axis] = 2
    viewer.dims.set_point((0, 1), position)
    assert layer.get_value((*position, 20, 30)) == 5


def test_a_gigantic_result_costs_nothing_until_it_is_written(
    viewer: napari.Viewer, tmp_path: Path
) -> None:
    image = add_image(viewer, (20_000, 20_000), visible=False)
    tracemalloc.start()
    try:
        layer = add_label_layer(viewer, image, "cells", tmp_path)
        target = label_target_of(layer)
        region = Region((10_250, 10_250), (10_450, 10_450))
        target.write(Plane((0, 1)), region, np.full((200, 200), target.next_label()))
        refresh_after_write(layer, target)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert layer.multiscale
    chunks = [path for path in tmp_path.rglob("c/*/*") if path.is_file()]
    assert len(chunks) == len(layer.data)
    assert sum(path.stat().st_size for path in chunks) < 2**20


def test_the_target_of_a_layer_is_one_as_long_as_its_data_stay(viewer: napari.Viewer) -> None:
    layer = viewer.add_labels(np.zeros((30, 30), np.uint16))
    target = label_target_of(layer)
    assert label_target_of(layer) is target
    layer.data = np.full((30, 30), 7, np.uint16)
    assert label_target_of(layer) is not target
    assert label_target_of(layer).next_label() == 8


def test_data_that_cannot_be_changed_are_refused(viewer: napari.Viewer) -> None:
    fixed = np.zeros((30, 30), np.uint16)
    fixed.flags.writeable = False
    with pytest.raises(InputError, match="labels layer"):
        label_target_of(viewer.add_labels(fixed))


@pytest.mark.parametrize("contour", [0, 2])
@pytest.mark.parametrize("kind", ["numpy", "store", "pyramid", "multiscale"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_what_is_written_is_on_the_screen(
    viewer: napari.Viewer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    ndim: int,
    contour: int,
) -> None:
    shape = (3, 300, 300)[-ndim:]
    if kind == "numpy":
        layer = viewer.add_labels(np.zeros(shape, np.uint32))
    else:
        axes, n_levels = "ZYX"[-ndim:], 1 if kind == "store" else 3
        layout = LabelLayout(axes, shape, (1.0,) * ndim, (None,) * ndim, max_levels=n_levels)
        store = LabelStore.create(tmp_path / "a.zarr", layout)
        monkeypatch.setattr(label_layers, "SINGLE_LEVEL", 400 if kind == "pyramid" else 100)
        layer = viewer.add_labels(layer_data_of(store.levels))
        assert layer.multiscale == (kind == "multiscale")
        assert isinstance(layer.data, LabelPyramid) == (kind == "pyramid")
    layer.contour = contour
    viewer.reset_view()
    viewer.dims.current_step = (0,) * ndim
    assert not painted(viewer).any()
    thumbnail = layer.thumbnail.copy()
    target, plane = label_target_of(layer), Plane((ndim - 2, ndim - 1), (0,) * (ndim - 2))
    shown = []
    for top, label in ((0, 3), (100, 7)):
        region = Region((top, 50), (top + 100, 250))
        target.write(plane, region, np.full((100, 200), label))
        refresh_after_write(layer, target)
        shown.append(painted(viewer))
    layer.refresh()
    np.testing.assert_array_equal(painted(viewer), shown[1])
    assert shown[1].sum() > shown[0].sum() > 0
    assert (layer.thumbnail != thumbnail).any()
    value = layer.get_value((0, 150, 150)[-ndim:], world=True)
    assert value == ((layer.data_level, 7) if kind == "multiscale" else 7)


def test_a_part_is_drawn_without_reading_the_rest(
    viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = viewer.add_labels(np.zeros((2, 300, 300), np.uint32))
    drawn = []
    layer.events.labels_update.connect(lambda event: drawn.append((event.offset, event.data.shape)))
    monkeypatch.setattr(type(layer), "refresh", lambda *args, **kwargs: drawn.append("all"))
    region = Region((10, 20), (30, 60))
    for position in (0, 1):
        layer.data[position, 10:30, 20:60] = 3
        refresh_after_write(layer, Plane((1, 2), (position,)), region)
    assert drawn == [([10, 20], (20, 40))]  # the other plane is not on the screen
    refresh_after_write(layer)
    assert drawn[1:] == ["all"]


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (2, 1, 0)])
def test_other_planes_of_a_stack_are_drawn_too(
    viewer: napari.Viewer, order: tuple[int, ...]
) -> None:
    layer = viewer.add_labels(np.zeros((20, 30, 40), np.uint32))
    viewer.dims.order = order
    viewer.dims.set_point(order[0], 6)
    plane = Plane((order[1], order[2]), (6,))
    target = label_target_of(layer)
    target.write(plane, Region((2, 3), (9, 11)), np.arange(56).reshape(7, 8))
    refresh_after_write(layer, target)
    raw, view = layer._slice.image.raw, layer._slice.image.view
    layer.refresh()
    np.testing.assert_array_equal(raw, layer._slice.image.raw)
    np.testing.assert_array_equal(view, layer._slice.image.view)
    assert raw.max() == 55
    layer.events.set_data()


def test_three_dimensions_are_drawn_as_a_whole(viewer: napari.Viewer) -> None:
    layer = viewer.add_labels(np.zeros((20, 30, 40), np.uint32))
    viewer.dims.ndisplay = 3
    target = label_target_of(layer)
    target.write(Plane((1, 2), (5,)), Region((2, 3), (9, 11)), np.full((7, 8), 3))
    refresh_after_write(layer, target)
    assert layer._slice.image.view[5, 5, 5] != 0


def test_napari_paints_in_a_pyramid_and_takes_it_back(
    viewer: napari.Viewer, tmp_path: Path
) -> None:
    layout = LabelLayout("ZYX", (2, 600, 600), (1.0,) * 3, (None,) * 3)
    store = LabelStore.create(tmp_path / "a.zarr", layout)
    layer = viewer.add_labels(layer_data_of(store.levels))
    assert layer.editable
    layer.brush_size = 30
    layer.paint((1, 300, 200), 6)
    layer.paint((0, 300, 200), 6)
    layer.fill((0, 10, 10), 2)
    levels = LabelStore.open(tmp_path / "a.zarr").levels
    assert levels[0][1, 300, 200] == 6
    assert levels[0][0, 599, 599] == 2
    for level, step in zip(levels, (1, 2, 4), strict=True):
        np.testing.assert_array_equal(level[...], levels[0][:, ::step, ::step])
    viewer.dims.set_point(0, 1)
    assert layer.get_value((1, 300, 200)) == 6
    for _ in range(3):
        layer.undo()
    assert not levels[0][...].any()
    assert not levels[2][...].any()
    layer.redo()
    assert levels[2][1, 75, 50] == 6
