import numpy as np
import pytest

from napari_sam.core.errors import InputError
from napari_sam.core.region import Box, Region, xy_from_yx, yx_from_xy


def test_a_region_cuts_an_array():
    array = np.arange(20).reshape(4, 5)
    region = Region((1, 2), (3, 5))
    np.testing.assert_array_equal(array[region.slices], [[7, 8, 9], [12, 13, 14]])
    assert region.shape == (2, 3)
    assert Region.whole(array.shape).shape == array.shape


def test_the_smallest_rectangle_around_a_mask():
    mask = np.zeros((5, 6), bool)
    assert Region.around(mask) == Region((0, 0), (0, 0))
    assert Region.around(mask[:0]).is_empty
    mask[1, 4] = mask[3, 2] = True
    assert Region.around(mask) == Region((1, 2), (4, 5))
    assert Region.around(~mask) == Region.whole(mask.shape)


def test_regions_meet_or_not():
    assert Region((0, 0), (4, 4)).intersect(Region((2, 3), (9, 9))) == Region((2, 3), (4, 4))
    assert Region((0, 0), (2, 2)).intersect(Region((5, 0), (9, 2))).is_empty


def test_growing_stops_at_the_array():
    assert Region((1, 5), (3, 8)).grow(2, (4, 100)) == Region((0, 3), (4, 10))


def test_relative_regions():
    assert Region((5, 6), (7, 9)).relative_to(Region((4, 4), (9, 9))) == Region((1, 2), (3, 5))
    with pytest.raises(InputError, match="leaves"):
        Region((5, 6), (7, 10)).relative_to(Region((4, 4), (9, 9)))
    assert Region((1, 2), (3, 5)).within(Region((4, 4), (9, 9))) == Region((5, 6), (7, 9))


@pytest.mark.parametrize(("start", "stop"), [((2,), (1,)), ((-1,), (3,)), ((0, 0), (1,))])
def test_impossible_regions_are_refused(start, stop):
    with pytest.raises(InputError, match="region"):
        Region(start, stop)


def test_boxes_turn_rows_and_columns_into_x_and_y():
    region = Region((10, 20), (13, 28))
    box = Box.from_region(region)
    assert box.xyxy == (20, 10, 28, 13)
    assert box.region_yx == region


def test_points_are_swapped_both_ways():
    points = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(xy_from_yx(points), [[2, 1], [4, 3]])
    np.testing.assert_array_equal(yx_from_xy(xy_from_yx(points)), points)
