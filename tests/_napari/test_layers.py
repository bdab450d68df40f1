"""Image layers are read plane by plane, lazily, whatever holds their data."""

from __future__ import annotations

import gc
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_sam._napari.layers import (
    ChannelChoice,
    LayerPlane,
    compatible_images,
    is_usable_image,
)
from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.pipeline.plane_image import PlaneImage

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    """Make an array in which each pixel says which one it is."""
    return np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)


class Counted:
    """A lazy array that counts what is read from it; with a chunk per plane as a dask array."""

    def __init__(self, data: np.ndarray, chunks: tuple[int, ...]) -> None:
        self.reads: list[tuple] = []
        self._data = data
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self.dask = da.from_array(self, chunks=chunks, asarray=False)

    def __getitem__(self, index: tuple) -> np.ndarray:
        self.reads.append(index)
        return self._data[index]


@given(st.data())
def test_any_plane_and_rectangle_is_what_numpy_cuts(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(2, 5))
    shape = tuple(data.draw(st.integers(2, 5)) for _ in range(ndim))
    axes_yx = tuple(data.draw(st.permutations(range(ndim)))[:2])
    others = [axis for axis in range(ndim) if axis not in axes_yx]
    position = [data.draw(st.integers(0, shape[axis] - 1)) for axis in others]
    array = numbered(shape)
    image = LayerPlane(Image(array, rgb=False), Plane(axes_yx, position))
    assert isinstance(image, PlaneImage)
    rows, cols = image.levels_yx[0]
    spans = [
        sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n)))) for n in (rows, cols)
    ]
    region = Region((spans[0][0], spans[1][0]), (spans[0][1], spans[1][1]))
    whole = np.moveaxis(array, [*others, *axes_yx], range(ndim))[tuple(position)]
    np.testing.assert_array_equal(image.read(region), whole[region.slices])


@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("axes_yx", [(1, 2), (2, 1), (0, 2)])
def test_colours_stay_and_transparency_goes(samples: int, axes_yx: tuple[int, int]) -> None:
    array = numbered((4, 5, 6, samples)).astype(np.uint8)
    image = LayerPlane(Image(array, rgb=True), Plane(axes_yx, (2,)))
    other = ({0, 1, 2} - set(axes_yx)).pop()
    expected = np.moveaxis(array, [other, *axes_yx], [0, 1, 2])[2][1:3, 2:4, :3]
    np.testing.assert_array_equal(image.read(Region((1, 2), (3, 4))), expected)


def test_channels_of_an_axis_are_read_in_the_order_they_were_chosen_in() -> None:
    array = numbered((2, 4, 5, 6))
    layer = Image(array)
    for c in range(4):  # where the viewer stands along the channels does not matter
        image = LayerPlane(layer, Plane((2, 3), (1, c)), ChannelChoice(1, (3, 0)))
        expected = np.stack([array[1, 3], array[1, 0]], axis=-1)
        np.testing.assert_array_equal(image.read(Region.whole((5, 6))), expected)
    single = LayerPlane(layer, Plane((2, 3), (1, 2)), ChannelChoice(1, (3,)))
    np.testing.assert_array_equal(single.read(Region.whole((5, 6))), array[1, 3])


def test_layers_are_channels_too() -> None:
    arrays = [numbered((3, 5, 6)) + 1000 * c for c in range(3)]
    first, second, third = (Image(array, scale=(2, 1, 1)) for array in arrays)
    image = LayerPlane(first, Plane((1, 2), (2,)), ChannelChoice(other_layers=(second, third)))
    expected = np.stack([array[2] for array in arrays], axis=-1)
    np.testing.assert_array_equal(image.read(Region.whole((5, 6))), expected)


def test_only_the_chunks_that_are_needed_are_computed() -> None:
    counted = Counted(numbered((6, 40, 40)), (1, 10, 10))
    layer = Image(counted.dask, contrast_limits=(0, 9600))
    counted.reads.clear()
    image = LayerPlane(layer, Plane((1, 2), (4,)))
    assert counted.reads == []
    block = image.read(Region((12, 5), (18, 15)))
    np.testing.assert_array_equal(block, numbered((6, 40, 40))[4, 12:18, 5:15])
    assert len(counted.reads) == 2


def test_a_chunk_that_holds_several_channels_is_computed_once() -> None:
    counted = Counted(numbered((3, 8, 9)), (3, 8, 9))
    layer = Image(counted.dask, contrast_limits=(0, 216))
    counted.reads.clear()
    image = LayerPlane(layer, Plane((1, 2), (0,)), ChannelChoice(0, (2, 1, 0)))
    np.testing.assert_array_equal(
        image.read(Region.whole((8, 9))), np.moveaxis(numbered((3, 8, 9))[::-1], 0, -1)
    )
    assert len(counted.reads) == 1


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_dask_leaves_no_thread_and_one_core(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr("os.cpu_count", lambda: cores)
    before = set(threading.enumerate())
    seen: set[threading.Thread] = set()

    def slow(block: np.ndarray) -> np.ndarray:
        seen.add(threading.current_thread())
        return block

    array = da.from_array(numbered((40, 40)), chunks=(5, 5)).map_blocks(slow, dtype=np.uint32)
    image = LayerPlane(Image(array, contrast_limits=(0, 1600)), Plane((0, 1)))
    seen.clear()
    np.testing.assert_array_equal(image.read(Region.whole((40, 40))), numbered((40, 40)))
    assert len(seen) <= max(cores - 1, 1)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("cores", [1, 4])
def test_dask_leaves_the_cache_of_the_window_alone(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dask.callbacks import Callback

    monkeypatch.setattr("os.cpu_count", lambda: cores)
    active_meanwhile, called = [], []

    def look(block: np.ndarray) -> np.ndarray:
        active_meanwhile.append(set(Callback.active))
        return block

    array = da.from_array(numbered((8, 9))).map_blocks(look, meta=np.empty(0, np.uint32))
    layer = Image(array, contrast_limits=(0, 72))
    active_meanwhile.clear()
    with Callback(pretask=lambda key, *_: called.append(key)):
        before = set(Callback.active)
        LayerPlane(layer, Plane((0, 1))).read(Region.whole((8, 9)))
        assert set(Callback.active) == before
    assert active_meanwhile == [before]
    assert called == []


def test_a_scheduler_that_the_user_has_set_is_used() -> None:
    calls = []

    def scheduler(graph: object, keys: list, **options: object) -> object:
        calls.append(options)
        return dask.local.get_sync(graph, keys)

    layer = Image(da.from_array(numbered((8, 9))), contrast_limits=(0, 72))
    with dask.config.set(scheduler=scheduler):
        LayerPlane(layer, Plane((0, 1))).read(Region.whole((8, 9)))
    assert calls == [{}]


def test_a_huge_pyramid_is_read_only_where_it_is_asked_for(tmp_path: Path) -> None:
    store = zarr.open_group(tmp_path / "big.zarr", mode="w")
    levels = []
    for number, side in enumerate((20_000, 10_000, 5_000, 2_500)):
        level = store.create_array(
            str(number), shape=(side, side), chunks=(500, 500), dtype=np.uint8
        )
        level[:500, :500] = number + 1
        levels.append(level)
    touched: list[tuple[int, tuple]] = []

    class Spy:
        def __init__(self, number: int) -> None:
            self.number, self.array = number, levels[number]
            self.shape, self.dtype, self.ndim = self.array.shape, self.array.dtype, 2
            self.size = self.array.size

        def __getitem__(self, index: tuple) -> np.ndarray:
            touched.append((self.number, index))
            return self.array[index]

        def __array__(self, *args: object, **options: object) -> np.ndarray:
            return self[:, :]  # napari draws the thumbnail from the whole coarsest level

    layer = Image([Spy(n) for n in range(4)], multiscale=True, contrast_limits=(0, 9))
    touched.clear()
    image = LayerPlane(layer, Plane((0, 1)))
    assert image.levels_yx == ((20_000,) * 2, (10_000,) * 2, (5_000,) * 2, (2_500,) * 2)
    assert touched == []
    for number in range(4):
        region = Region((490, 0), (510, 7))
        block = image.read(region, number)
        assert touched[-1] == (number, region.slices)
        np.testing.assert_array_equal(block[:, 0], [number + 1] * 10 + [0] * 10)
    assert len(touched) == 4


def test_levels_that_mix_slices_are_left_out() -> None:
    levels = [numbered((8, 16, 16)), numbered((8, 8, 8)), numbered((4, 4, 4))]
    layer = Image(levels, multiscale=True)
    assert LayerPlane(layer, Plane((1, 2), (7,))).levels_yx == ((16, 16), (8, 8))
    assert LayerPlane(layer, Plane((0, 2), (7,))).levels_yx == ((8, 16),)


def test_the_key_outlives_a_new_name_and_place_but_no_new_data() -> None:
    layer = Image(numbered((3, 8, 9)))

    def key(position: int = 0, channels: ChannelChoice | None = None) -> object:
        return LayerPlane(layer, Plane((1, 2), (position,)), channels).key

    first = key()
    assert hash(first) == hash(key())
    layer.name, layer.scale, layer.visible = "another", (1, 2, 2), False
    layer.contrast_limits = (0, 7)
    layer.refresh()
    assert key() == first
    assert key(1) != first
    layer.data = numbered((3, 8, 9))
    second = key()
    assert second != first
    layer.data = layer.data  # changed in place, and so told
    third = key()
    assert third not in (first, second)
    with layer.events.blocker_all():
        layer.data = numbered((3, 8, 9))
    assert key() not in (first, second, third)


def test_keys_tell_layers_and_channels_apart_but_not_where_the_slider_is() -> None:
    array = numbered((3, 4, 8, 9))
    layer, twin = Image(array), Image(array)
    plane = Plane((2, 3), (0, 1))
    keys = [
        LayerPlane(layer, plane, ChannelChoice(1, (0,))).key,
        LayerPlane(layer, plane, ChannelChoice(1, (1,))).key,
        LayerPlane(layer, plane, ChannelChoice(1, (0, 1))).key,
        LayerPlane(layer, plane, ChannelChoice(1, (1, 0))).key,
        LayerPlane(layer, plane, ChannelChoice(other_layers=(twin,))).key,
        LayerPlane(twin, plane).key,
    ]
    assert len(set(keys)) == len(keys)
    moved = Plane((2, 3), (0, 3))
    assert LayerPlane(layer, moved, ChannelChoice(1, (0,))).key == keys[0]
    twin.data = array.copy()
    assert LayerPlane(layer, plane, ChannelChoice(other_layers=(twin,))).key != keys[4]


def test_a_key_is_not_that_of_a_layer_that_has_gone() -> None:
    layer = Image(numbered((8, 9)))
    key = LayerPlane(layer, Plane((0, 1))).key
    del layer
    gc.collect()
    assert all(LayerPlane(Image(numbered((8, 9))), Plane((0, 1))).key != key for _ in range(5))


def test_data_that_was_replaced_is_not_kept_in_memory() -> None:
    import weakref

    layer = Image(numbered((8, 9)))
    LayerPlane(layer, Plane((0, 1)))
    old = weakref.ref(layer.data)
    layer.data = numbered((8, 9))
    gc.collect()
    assert old() is None


def test_arrays_that_cannot_be_referred_to_weakly_have_keys_too() -> None:
    class Slotted:
        __slots__ = ("dtype", "ndim", "shape", "size")

        def __init__(self) -> None:
            self.shape, self.dtype, self.ndim, self.size = (8, 9), np.dtype(np.uint8), 2, 72

        def __getitem__(self, index: object) -> np.ndarray:
            return numbered((8, 9))[index]

    layer = Image(Slotted(), contrast_limits=(0, 9))
    key = LayerPlane(layer, Plane((0, 1))).key
    assert LayerPlane(layer, Plane((0, 1))).key == key
    layer.data = Slotted()
    assert LayerPlane(layer, Plane((0, 1))).key != key


def test_a_plane_is_read_from_the_data_that_it_was_made_of() -> None:
    layer = Image(numbered((8, 9)))
    image = LayerPlane(layer, Plane((0, 1)))
    layer.data = np.zeros((2, 2))
    np.testing.assert_array_equal(image.read(Region.whole((8, 9))), numbered((8, 9)))


class Broken:
    shape, dtype, ndim, size = (8, 9), np.dtype(np.uint8), 2, 72
    error: Exception | None = None

    def __getitem__(self, index: object) -> np.ndarray:
        if self.error is not None:
            raise self.error
        return np.zeros(self.shape, self.dtype)[index]


@pytest.mark.parametrize("is_dask", [False, True])
def test_what_a_reader_raises_becomes_an_error_with_a_cure(is_dask: bool) -> None:
    broken = Broken()
    data = da.from_array(broken, chunks=(8, 9), asarray=False) if is_dask else broken
    image = LayerPlane(Image(data, contrast_limits=(0, 1), name="mine"), Plane((0, 1)))
    broken.error = RuntimeError("the server is gone")
    with pytest.raises(InputError, match="'mine' cannot be read: the server is gone"):
        image.read(Region.whole((8, 9)))
    broken.error = MemoryError()
    with pytest.raises(MemoryError):
        image.read(Region.whole((8, 9)))


@pytest.mark.parametrize(
    ("axis", "indices", "n_layers"),
    [
        (0, (), 0),
        (None, (0,), 0),
        (0, (0, 1, 2, 3), 0),
        (0, (1, 1), 0),
        (0, (1,), 1),
        (None, (), 3),
    ],
)
def test_choices_of_channels_that_fit_nothing_are_refused(
    axis: int | None, indices: tuple[int, ...], n_layers: int
) -> None:
    layers = tuple(Image(numbered((8, 9))) for _ in range(n_layers))
    with pytest.raises(InputError, match="Choose one channel, or up to three"):
        ChannelChoice(axis, indices, layers)


@pytest.mark.parametrize(
    ("layer", "channels", "message"),
    [
        (Image(numbered((2, 8, 9))), ChannelChoice(0, (2,)), "2 channels along that one"),
        (Image(numbered((2, 8, 9))), ChannelChoice(3, (0,)), "The layer has 3 axes"),
        (Image(numbered((2, 8, 9))), ChannelChoice(0, (-1,)), "Choose the axis and the channels"),
        (Image(numbered((2, 8, 9))), ChannelChoice(2, (0,)), "Roll the viewer's axes"),
        (
            Image(np.zeros((2, 8, 9, 3), np.uint8), rgb=True),
            ChannelChoice(0, (0, 1)),
            "one RGB image has three",
        ),
        (
            Image(numbered((2, 8, 9))),
            ChannelChoice(other_layers=(Image(numbered((2, 8, 8))),)),
            "have the same shape",
        ),
        (
            Image(numbered((2, 8, 9))),
            ChannelChoice(other_layers=(Image(numbered((2, 8, 9)), translate=(0, 0, 1)),)),
            "lie in the same place",
        ),
        (Image(np.zeros((2, 8, 9), bool)), ChannelChoice(), "Intensities must be real numbers"),
    ],
)
def test_channels_that_do_not_fit_the_layer_are_refused(
    layer: Image, channels: ChannelChoice, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        LayerPlane(layer, Plane((1, 2), (0,)), channels)


def test_a_plane_of_another_image_is_refused() -> None:
    with pytest.raises(InputError):
        LayerPlane(Image(numbered((8, 9))), Plane((1, 2), (0,)))
    with pytest.raises(InputError):
        LayerPlane(Image(numbered((3, 8, 9))), Plane((1, 2), (3,)))


def test_images_that_can_be_segmented_are_listed() -> None:
    viewer = ViewerModel()
    gray = viewer.add_image(numbered((5, 8, 9)), name="gray")
    green = viewer.add_image(numbered((5, 8, 9)), name="green")
    viewer.add_image(numbered((5, 8, 9)), translate=(1, 0, 0), name="moved")
    viewer.add_image(numbered((5, 8, 9)), units=("um",) * 3, name="micrometres")
    viewer.add_image(numbered((8, 9)), name="flat")
    rgb = viewer.add_image(np.zeros((8, 9, 3), np.uint8), rgb=True, name="rgb")
    viewer.add_labels(np.zeros((5, 8, 9), int), name="labels")
    viewer.add_points(name="points")
    viewer.add_image(np.zeros((8, 9), bool), name="mask")
    viewer.add_image(np.zeros((1, 9)), name="line")
    names = [layer.name for layer in compatible_images(viewer)]
    assert names == ["gray", "green", "moved", "micrometres", "flat", "rgb"]
    assert compatible_images(viewer, gray) == [green]
    assert compatible_images(viewer, rgb) == []
    assert not is_usable_image(Labels(np.zeros((8, 9), int)))
