import itertools

import numpy as np
import pytest

from napari_sam.core.errors import ConfigError, InputError
from napari_sam.labels import MaskCrop, compose_labels


def square(left, top, right, bottom, score):
    return MaskCrop(np.ones((bottom - top, right - left), bool), (left, top, right, bottom), score)


def test_no_masks_give_background():
    labels, sources = compose_labels([], (4, 5))
    assert labels.dtype == np.int32
    assert labels.shape == (4, 5)
    assert not labels.any()
    assert sources == ()


def test_the_better_mask_owns_the_shared_pixels():
    labels, sources = compose_labels([square(0, 0, 4, 4, 0.5), square(3, 0, 8, 4, 0.9)], (4, 8))
    assert sources == (1, 0)
    np.testing.assert_array_equal(labels[0], [2, 2, 2, 1, 1, 1, 1, 1])


def test_a_mask_left_as_a_rim_is_dropped():
    inner, outer = square(2, 2, 8, 8, 0.9), square(1, 1, 9, 9, 0.8)
    labels, sources = compose_labels([outer, inner], (10, 10))
    assert sources == (1,)
    assert np.count_nonzero(labels) == 36


def test_a_mask_mostly_free_survives():
    labels, sources = compose_labels([square(0, 0, 2, 2, 0.9), square(0, 0, 8, 8, 0.8)], (8, 8))
    assert sources == (0, 1)
    assert np.count_nonzero(labels == 2) == 60


def test_boxes_are_x_first():
    labels, _ = compose_labels([square(5, 1, 7, 2, 1.0)], (3, 8))
    assert labels[1, 5] == labels[1, 6] == 1
    assert np.count_nonzero(labels) == 2


def test_small_objects_go():
    assert compose_labels([square(0, 0, 2, 2, 1.0)], (8, 8), min_area=5).sources == ()


def test_order_given_does_not_matter():
    masks = [square(0, 0, 4, 4, 0.5), square(2, 2, 8, 8, 0.5), square(3, 0, 8, 5, 0.7)]
    results = [compose_labels(order, (8, 8)).labels for order in itertools.permutations(masks)]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_plain_tuples_are_taken():
    assert compose_labels([(np.ones((1, 1), bool), (0, 0, 1, 1), 0.3)], (1, 1)).labels[0, 0] == 1


@pytest.mark.parametrize("box", [(0, 0, 3, 2), (-1, 0, 1, 2), (7, 0, 9, 2), (0, 3, 2, 5)])
def test_boxes_that_do_not_fit_are_refused(box):
    with pytest.raises(InputError, match="box"):
        compose_labels([(np.ones((2, 2), bool), box, 0.3)], (4, 8))


@pytest.mark.parametrize("options", [{"min_visible": 1.5}, {"min_area": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigError, match="min_"):
        compose_labels([], (4, 4), **options)
