import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.core.errors import InputError, OutputError
from napari_sam.io.label_pyramid import ArrayView, LabelPyramid, RepeatedView, factors_yx

SHAPE = (3, 37, 22)


def pyramid(shape=SHAPE, *, floor=False):
    shapes = [shape]
    for _ in range(3):
        rows, columns = shapes[-1][-2:]
        up = 0 if floor else 1
        shapes.append((*shape[:-2], (rows + up) // 2, (columns + up) // 2))
    return LabelPyramid([zarr.zeros(shape=s, dtype="uint32", chunks=(1, 16, 16)) for s in shapes])


def assert_consistent(labels):
    full = np.asarray(labels)
    for level, (row, column) in zip(labels.levels, labels.factors_yx, strict=True):
        rows, columns = level.shape[-2:]
        np.testing.assert_array_equal(level[...], full[..., ::row, ::column][..., :rows, :columns])


@st.composite
def keys(draw):
    key = []
    for length in SHAPE:
        start = draw(st.integers(0, length - 1))
        stop = draw(st.integers(start, length))
        key.append(draw(st.sampled_from([slice(start, stop), start, start - length, slice(None)])))
    return tuple(key[: draw(st.integers(1, 3))])


@given(key=keys(), floor=st.booleans(), seed=st.integers(0, 99))
def test_every_level_follows_what_is_written_in_blocks(key, floor, seed):
    labels = pyramid(floor=floor)
    expected = np.zeros(SHAPE, np.uint32)
    values = np.random.default_rng(seed).integers(1, 9999, expected[key].shape)
    expected[key] = values
    labels[key] = values
    np.testing.assert_array_equal(np.asarray(labels), expected)
    assert_consistent(labels)


@given(seed=st.integers(0, 99), floor=st.booleans(), is_scalar=st.booleans())
def test_every_level_follows_what_is_written_pixel_by_pixel(seed, floor, is_scalar):
    generator = np.random.default_rng(seed)
    labels = pyramid(floor=floor)
    expected = np.zeros(SHAPE, np.uint32)
    mask = generator.random(SHAPE) < 0.1
    values = 7 if is_scalar else generator.integers(1, 9999, mask.sum())
    expected[mask] = values
    if seed % 2:
        labels[mask] = values
    else:
        labels[np.nonzero(mask)] = values
    np.testing.assert_array_equal(np.asarray(labels), expected)
    assert_consistent(labels)


def test_a_block_with_a_scalar_and_dots():
    labels = pyramid()
    labels[..., 5:30, 3:20] = 4
    labels[1] = 9
    assert (labels[0, 5:30, 3:20] == 4).all()
    assert labels[0].sum() == 4 * 25 * 17
    assert (labels[1] == 9).all()
    assert_consistent(labels)


def test_a_pyramid_looks_like_its_full_resolution():
    labels = pyramid()
    assert (labels.shape, labels.ndim, labels.size) == (SHAPE, 3, 3 * 37 * 22)
    assert (labels.dtype, labels.chunks) == (np.uint32, (1, 16, 16))


@pytest.mark.parametrize("key", [(0, slice(None, None, 2)), (0, [1, 2], slice(0, 3))])
def test_gaps_and_mixed_positions_are_refused(key):
    with pytest.raises(InputError, match="without a step"):
        pyramid()[key] = 1


def test_factors_are_those_of_halving_however_often_it_was_rounded():
    shapes = [(20000, 513)]
    while len(shapes) < 9:
        shapes.append(tuple(-(-length // 2) for length in shapes[-1]))
    assert factors_yx(shapes) == tuple((2**k, 2**k) for k in range(9))
    assert factors_yx([(100, 100), (25, 50)]) == ((1, 1), (4, 2))
    assert factors_yx([(1, 100), (1, 50)]) == ((1, 1), (1, 2))


def test_a_view_reads_and_writes_through():
    array = zarr.array(np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5), chunks=(1, 1, 4, 5))
    view = ArrayView(array, {1: 2})
    assert (view.shape, view.ndim, view.size, view.chunks) == ((2, 4, 5), 3, 40, (1, 4, 5))
    np.testing.assert_array_equal(np.asarray(view), array[:, 2])
    view[1, 1:3] = -1
    assert (array[1, 2, 1:3] == -1).all()
    np.testing.assert_array_equal(view[..., 0], array[:, 2, :, 0])
    assert (np.asarray(array[...]) == -1).sum() == 10


def test_a_view_may_have_another_type():
    view = ArrayView(zarr.array(np.eye(4, dtype=bool)), dtype="uint8")
    assert view.dtype == np.uint8
    assert view[1:3].dtype == np.uint8
    np.testing.assert_array_equal(view[...], np.eye(4, dtype=np.uint8))


@settings(max_examples=40)
@given(key=keys(), axis=st.integers(0, 2), seed=st.integers(0, 99))
def test_an_axis_that_repeats_the_same_pixels(key, axis, seed):
    generator = np.random.default_rng(seed)
    shape = tuple(n for i, n in enumerate(SHAPE) if i != axis)
    array = zarr.array(generator.integers(0, 99, shape), chunks=(10, 10))
    view = RepeatedView(array, axis, SHAPE[axis])
    expected = np.repeat(np.expand_dims(array[...], axis), SHAPE[axis], axis)
    assert (view.shape, view.ndim, view.size) == (SHAPE, 3, expected.size)
    assert len(view.chunks) == 3
    np.testing.assert_array_equal(view[key], expected[key])
    np.testing.assert_array_equal(np.asarray(view), expected)
    values = view[key]
    whole = (*key, *[slice(None)] * (3 - len(key)))
    if values.size and isinstance(whole[axis], slice):
        values = values.take([0], axis=sum(isinstance(entry, slice) for entry in whole[:axis]))
    view[key] = values + 100
    assert int((array[...] >= 100).sum()) == values.size
    view[key] = 7
    assert (view[key] == 7).all()


def test_an_axis_that_repeats_is_painted_pixel_by_pixel():
    array = zarr.zeros(shape=(8, 9), dtype="uint32", chunks=(4, 4))
    view = RepeatedView(array, 1, 3)
    pixels = np.array([1, 2, 3]), np.array([2, 2, 2]), np.array([4, 5, 6])
    view[pixels] = np.array([7, 8, 9])
    assert view[pixels].tolist() == [7, 8, 9]
    assert array[2, 5] == 8
    assert int((array[...] > 0).sum()) == 3


def test_what_cannot_be_written_says_so(tmp_path):
    zarr.save_array(tmp_path / "a.zarr", np.zeros((4, 4), int))
    for mode, is_fixed in (("r", True), ("r+", False)):
        array = zarr.open_array(tmp_path / "a.zarr", mode=mode)
        views = ArrayView(array), RepeatedView(array, 0, 2), LabelPyramid([array])
        assert [view.read_only for view in views] == [is_fixed] * 3
    with pytest.raises(OutputError, match="another name"):
        LabelPyramid([zarr.open_array(tmp_path / "a.zarr", mode="r")])[0, 0] = 1
