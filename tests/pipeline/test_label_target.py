import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.errors import InputError, OutputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.pipeline import label_levels
from napari_sam.pipeline.label_target import LabelTarget

FLAT = Plane((0, 1))


def zarr_labels(shape, chunks, dtype="uint16"):
    return zarr.create_array(store={}, shape=shape, chunks=chunks, dtype=dtype, fill_value=0)


def pyramid(shape, axes_shrunk, n_levels, dtype=np.uint16):
    """Empty levels, of which each holds every second index of the one before."""
    levels, factors = [], []
    for level in range(n_levels):
        step = [2**level if axis in axes_shrunk else 1 for axis in range(len(shape))]
        levels.append(np.zeros([-(-n // f) for n, f in zip(shape, step, strict=True)], dtype))
        factors.append(tuple(step))
    return levels, factors


@given(st.data())
def test_all_levels_hold_the_same_labels(data):
    shape = data.draw(st.tuples(*[st.integers(2, 9)] * 3))
    shrunk = data.draw(st.sets(st.integers(0, 2)))
    levels, factors = pyramid(shape, shrunk, 3)
    target = LabelTarget(levels, factors, known_maximum=0)
    for label in range(1, 4):
        axes = tuple(data.draw(st.permutations(range(3)))[:2])
        (other,) = {0, 1, 2} - set(axes)
        plane = Plane(axes, (data.draw(st.integers(0, shape[other] - 1)),))
        edges = [sorted(data.draw(st.tuples(*[st.integers(0, shape[a])] * 2))) for a in axes]
        region = Region(tuple(a for a, _ in edges), tuple(b for _, b in edges))
        target.write(plane, region, np.full(region.shape, label))
        assert (target.read(plane, region) == label).all()
    for array, step in zip(levels[1:], factors[1:], strict=True):
        np.testing.assert_array_equal(array, levels[0][tuple(slice(None, None, f) for f in step)])


def test_a_level_may_be_rounded_down():
    levels = [np.zeros((5, 5, 5), np.uint8), np.zeros((2, 2, 2), np.uint8)]
    target = LabelTarget(levels, ((1, 1, 1), (2, 2, 2)))
    target.write(Plane((1, 2), (4,)), Region((0, 0), (5, 5)), np.ones((5, 5)))
    target.write(Plane((1, 2), (2,)), Region((0, 0), (5, 5)), np.full((5, 5), 2))
    assert (levels[0][4] == 1).all()
    assert levels[1].tolist() == [[[0, 0], [0, 0]], [[2, 2], [2, 2]]]


def test_two_factors_are_those_of_the_last_axes():
    levels, _ = pyramid((3, 8, 8), {1, 2}, 2)
    target = LabelTarget(levels, ((1, 1), (2, 2)))
    target.write(Plane((1, 2), (1,)), Region((2, 2), (6, 6)), np.full((4, 4), 7))
    np.testing.assert_array_equal(levels[1], levels[0][:, ::2, ::2])


def test_zarr_is_written_in_place():
    array = zarr_labels((2, 50, 60), (1, 16, 16))
    target = LabelTarget([array])
    target.write(Plane((1, 2), (1,)), Region((10, 20), (12, 23)), np.full((2, 3), 9))
    assert array[1, 10:12, 20:23].tolist() == [[9] * 3] * 2
    assert np.asarray(array[:]).sum() == 9 * 6


@pytest.mark.parametrize("make", [np.zeros, lambda shape, dtype: zarr_labels(shape, (8, 8), dtype)])
def test_the_next_label_is_looked_up_block_by_block(make, monkeypatch):
    monkeypatch.setattr(label_levels, "BLOCK_PIXELS", 64)
    array = make((20, 30), "uint16")
    array[19, 29] = 41
    target = LabelTarget([array])
    steps = list(target.scan())
    assert len(steps) > 5
    assert steps[-1] == (len(steps), len(steps))
    assert target.next_label() == 42


def test_blocks_of_a_search_cover_whole_chunks():
    assert label_levels.block_lengths(zarr_labels((4, 5000, 5000), (1, 512, 512))) == (1, 512, 5000)
    assert label_levels.block_lengths(np.zeros((3, 7, 9), np.uint8)) == (3, 7, 9)


def test_the_next_label_follows_all_that_is_known():
    array = np.zeros((5, 5), np.uint16)
    target = LabelTarget([array])
    assert not target.is_scanned
    assert target.next_label() == 1
    array[0, 0] = 99  # without a word, so it is not seen
    assert target.next_label() == 1
    target.raise_maximum(99)
    assert target.next_label() == 100
    assert LabelTarget([array], known_maximum=5).next_label() == 6


def test_the_written_maximum_goes_back_only_if_it_is_as_expected():
    target = LabelTarget([np.zeros((5, 5), np.uint16)])
    target.move_written_maximum(0, 4)
    assert target.next_label() == 5
    target.move_written_maximum(3, 0)
    assert target.next_label() == 5
    target.move_written_maximum(4, 0)
    assert target.next_label() == 1


def test_a_label_that_the_type_cannot_hold_is_refused():
    array = np.zeros((5, 5), np.uint8)
    target = LabelTarget([array], known_maximum=255)
    with pytest.raises(InputError, match="larger integer type"):
        target.next_label()
    with pytest.raises(InputError, match="up to 255"):
        target.write(FLAT, Region((0, 0), (1, 1)), np.array([[256]]))
    assert not array.any()
    target.set_levels([array.astype(np.uint32)])
    assert target.dtype == np.uint32
    target.write(FLAT, Region((0, 0), (1, 1)), np.array([[256]]))
    assert target.next_label() == 257


def test_other_arrays_have_the_same_shape():
    target = LabelTarget([np.zeros((5, 5), np.uint8)])
    with pytest.raises(InputError, match="same shape"):
        target.set_levels([np.zeros((5, 6), np.uint8)])


def read_only():
    array = np.zeros((4, 4), np.uint8)
    array.flags.writeable = False
    return array


def read_only_zarr():
    store = zarr.storage.MemoryStore()
    zarr.create_array(store=store, shape=(4, 4), dtype="uint8")
    return zarr.open_array(store.with_read_only(True), mode="r")


def dask_labels():
    return pytest.importorskip("dask.array").zeros((4, 4), dtype="uint8")


@pytest.mark.parametrize(
    "make",
    [
        read_only,
        dask_labels,
        lambda: np.zeros((4, 4)),
        lambda: np.zeros(4, np.uint8),
        read_only_zarr,
    ],
)
def test_what_cannot_be_written_is_refused(make):
    with pytest.raises(InputError, match="labels layer"):
        LabelTarget([make()])


@pytest.mark.parametrize(
    ("shapes", "factors"),
    [
        ([], None),
        ([(4, 4), (2, 2)], None),
        ([(4, 4), (2, 2)], ((1, 1), (0, 2))),
        ([(4, 4)], ((2, 2),)),
        ([(4, 4), (2, 2, 2)], ((1, 1), (2, 2))),
        ([(4, 4)], ((1, 1, 1),)),
    ],
)
def test_levels_and_factors_fit_to_each_other(shapes, factors):
    with pytest.raises(InputError, match="factor"):
        LabelTarget([np.zeros(shape, np.uint8) for shape in shapes], factors)


def test_labels_may_lack_axes_of_the_image():
    target = LabelTarget([np.zeros((4, 20, 30), np.uint8)], image_axes=(0, 2, 3))
    assert target.plane_of(Plane((2, 3), (3, 1))) == Plane((1, 2), (3,))
    assert target.plane_of(Plane((3, 0), (1, 19))) == Plane((2, 0), (19,))
    with pytest.raises(InputError, match="labels have too"):
        target.plane_of(Plane((1, 3), (0, 0)))
    with pytest.raises(InputError, match="holds this position"):
        target.plane_of(Plane((2, 3), (4, 0)))


def test_a_plane_of_another_image_is_refused():
    with pytest.raises(InputError, match="3 axes"):
        LabelTarget([np.zeros((4, 4), np.uint8)]).plane_of(Plane((1, 2), (0,)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_a_label_is_found_from_any_of_its_pixels(seed, n_steps):
    rng = np.random.default_rng(seed)
    array = np.zeros((200, 300), np.uint8)
    row, col = rng.integers(0, 200), rng.integers(0, 300)
    for _ in range(n_steps):  # a chain of touching rectangles, some longer than the first margin
        height, width = rng.integers(1, 90, 2)
        array[row : row + height, col : col + width] = 5
        row, col = (rng.choice(axis) for axis in np.nonzero(array == 5))
    rows, cols = np.nonzero(array == 5)
    i = rng.integers(rows.size)
    hint = Region((int(rows[i]), int(cols[i])), (int(rows[i]) + 1, int(cols[i]) + 1))
    expected = Region(
        (int(rows.min()), int(cols.min())), (int(rows.max()) + 1, int(cols.max()) + 1)
    )
    target = LabelTarget([array])
    assert target.find(5, FLAT, hint) == expected
    assert target.find(5, FLAT) == expected
    assert target.find(6, FLAT).is_empty
    assert target.find(6, FLAT, hint).is_empty


def test_blocks_cover_a_region_once(monkeypatch):
    monkeypatch.setattr(label_levels, "BLOCK_PIXELS", 50)
    seen = np.zeros((30, 40), int)
    for block in label_levels.blocks_of(Region((3, 5), (28, 21))):
        assert np.prod(block.shape) <= 50
        seen[block.slices] += 1
    assert seen.sum() == 25 * 16
    assert seen.max() == 1


class FailingArray:
    shape, dtype = (4, 4), np.dtype("uint8")

    def __getitem__(self, index):
        raise OSError(5, "Input/output error")

    def __setitem__(self, index, values):
        raise OSError(28, "No space left on device")


def test_errors_of_the_disk_get_a_cure():
    target = LabelTarget([FailingArray()])
    with pytest.raises(OutputError, match="cannot be written: No space left"):
        target.write(FLAT, Region((0, 0), (1, 1)), np.ones((1, 1)))
    with pytest.raises(OutputError, match="cannot be read"):
        target.next_label()
