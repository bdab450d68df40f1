import json

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region


@st.composite
def planes_with_shapes(draw):
    n_dimensions = draw(st.integers(2, 5))
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=n_dimensions, max_size=n_dimensions)))
    axes = tuple(draw(st.permutations(range(n_dimensions)))[:2])
    position = tuple(
        draw(st.integers(0, shape[axis] - 1)) for axis in range(n_dimensions) if axis not in axes
    )
    return Plane(axes, position), shape


@st.composite
def regions_of(draw, shape_yx):
    edges = [sorted(draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shape_yx]
    return Region(tuple(a for a, _ in edges), tuple(b for _, b in edges))


def moved_to_front(array, plane):
    """The plane by another way: bring its axes to the front, then index the rest."""
    front = np.moveaxis(array, plane.axes_yx, (0, 1))
    return front[(slice(None), slice(None), *plane.position)]


@given(st.data())
def test_reading_and_writing_follow_permuted_axes(data):
    plane, shape = data.draw(planes_with_shapes())
    array = np.arange(np.prod(shape)).reshape(shape)
    shape_yx = plane.shape_yx(shape)
    region = data.draw(regions_of(shape_yx))
    expected = moved_to_front(array, plane)
    assert expected.shape == shape_yx
    np.testing.assert_array_equal(plane.read(array), expected)
    np.testing.assert_array_equal(plane.read(array, region), expected[region.slices])

    changed = array.copy()
    plane.write(changed, region, -1 - expected[region.slices])
    moved_to_front(array, plane)[region.slices] = -1 - expected[region.slices]
    np.testing.assert_array_equal(changed, array)


@given(planes_with_shapes())
def test_json_gives_the_plane_back(planes):
    plane, _ = planes
    assert Plane.from_json(json.loads(json.dumps(plane.to_json()))) == plane


def test_zarr_arrays_are_read_and_written_transposed():
    array = zarr.create_array(store={}, shape=(4, 5, 6), dtype="int32", chunks=(2, 2, 2))
    plane = Plane((2, 0), (3,))
    values = np.arange(6 * 4).reshape(6, 4)
    plane.write(array, None, values)
    np.testing.assert_array_equal(array[:, 3, :], values.T)
    np.testing.assert_array_equal(plane.read(array, Region((1, 1), (4, 2))), values[1:4, 1:2])


def test_numpy_integers_make_the_same_plane():
    plane = Plane((np.int64(1), np.int32(2)), (np.uint8(7),))
    assert plane == Plane((1, 2), (7,))
    assert hash(plane) == hash(Plane((1, 2), (7,)))
    assert json.dumps(plane.to_json())


def test_neighbours():
    plane = Plane((1, 3), (4, 7))
    assert plane.other_axes == (0, 2)
    assert plane.position_along(2) == 7
    assert plane.with_position(2, 8) == Plane((1, 3), (4, 8))
    assert plane.with_position(0, 5) == Plane((1, 3), (5, 7))
    with pytest.raises(InputError, match="axis 1"):
        plane.with_position(1, 0)
    with pytest.raises(InputError, match="axis 3"):
        plane.position_along(3)


@pytest.mark.parametrize(
    ("axes", "position"),
    [((0, 0), ()), ((0, 2), ()), ((-1, 0), ()), ((0, 1, 2), (1,)), ((0, 1), (-1,))],
)
def test_impossible_planes_are_refused(axes, position):
    with pytest.raises(InputError, match="two different axes"):
        Plane(axes, position)


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6), (3, 5, 6, 1)])
def test_arrays_without_the_plane_are_refused(shape):
    with pytest.raises(InputError, match="array of shape"):
        Plane((1, 2), (2,)).shape_yx(shape)


@pytest.mark.parametrize("values", [{}, {"axes_yx": [0, 1]}, {"axes_yx": 3, "position": []}, []])
def test_foreign_json_is_refused(values):
    with pytest.raises(InputError, match="plane"):
        Plane.from_json(values)
