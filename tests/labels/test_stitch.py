import numpy as np
import pytest

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.labels import TileLabels, stitch_tiles

LEFT = Region((0, 0), (10, 14)), Region((0, 0), (10, 10))
RIGHT = Region((0, 6), (10, 20)), Region((0, 10), (10, 20))


def pair(left_boxes, right_boxes, left_scores=None, right_scores=None):
    """Two tiles, 8 shared columns; boxes are (top, left, bottom, right) on the slice."""
    tiles = []
    for (read, write), boxes, scores in (
        (LEFT, left_boxes, left_scores),
        (RIGHT, right_boxes, right_scores),
    ):
        slice_labels = np.zeros((10, 20), dtype=np.int32)
        for label, (top, left, bottom, right) in enumerate(boxes, start=1):
            slice_labels[top:bottom, left:right] = label
        values = np.asarray(scores or [0.5] * len(boxes), dtype=np.float32)
        tiles.append(TileLabels(read, write, slice_labels[read.slices], values))
    return tiles


def stitch(tiles, **options):
    return stitch_tiles(tiles, (10, 20), **options)


def test_no_objects_and_no_tiles():
    assert stitch(pair([], [])).labels.max() == 0
    assert stitch([]).scores.shape == (0,)


def test_one_object_on_the_seam_is_one_object():
    labels, scores = stitch(pair([(2, 8, 6, 12)], [(2, 8, 6, 12)], [0.4], [0.9]))
    assert np.unique(labels).tolist() == [0, 1]
    assert np.count_nonzero(labels) == 16
    np.testing.assert_allclose(scores, [0.9])


def test_disagreeing_outlines_show_no_cut():
    # The owner of the centroid paints its own outline on both sides of the seam.
    labels, _ = stitch(pair([(2, 7, 6, 12)], [(3, 7, 6, 12)], [0.4], [0.9]))
    expected = np.zeros((10, 20), dtype=np.int32)
    expected[2:6, 7:12] = 1
    np.testing.assert_array_equal(labels, expected)


def test_objects_that_touch_at_the_seam_stay_apart():
    boxes = [(2, 7, 6, 10), (2, 10, 6, 13)]
    labels, _ = stitch(pair(boxes, boxes))
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert (labels[2:6, 7:10] == labels[2, 7]).all()
    assert labels[2, 9] != labels[2, 10]


def test_a_long_object_seen_in_pieces_is_one():
    labels, _ = stitch(pair([(4, 0, 6, 14)], [(4, 6, 6, 20)]))
    assert np.unique(labels).tolist() == [0, 1]
    assert np.count_nonzero(labels) == 40


def test_a_piece_cut_off_by_its_window_joins_what_contains_it():
    # The left tile sees only the arms of a U whose bend lies beyond its window.
    right = np.zeros((10, 20), dtype=np.int32)
    right[1, 2:18] = right[8, 2:18] = right[1:9, 17] = 1
    left = right.copy()
    left[8] *= 2
    arms, whole = np.ones(2, np.float32), np.ones(1, np.float32)
    labels, _ = stitch(
        [
            TileLabels(*LEFT, left[LEFT[0].slices], arms),
            TileLabels(*RIGHT, right[RIGHT[0].slices], whole),
        ]
    )
    np.testing.assert_array_equal(labels, right)


def test_a_large_object_cut_elsewhere_is_not_joined_by_a_sliver():
    # The left object is cut nowhere in the band; it shares one column with the right one.
    labels, _ = stitch(pair([(0, 0, 10, 7)], [(0, 6, 10, 16)]))
    assert np.unique(labels).tolist() == [0, 1, 2]


def test_what_only_a_halo_saw_is_dropped():
    assert stitch(pair([(2, 11, 5, 13)], [])).labels.max() == 0


def test_what_its_owner_saw_is_kept_whole():
    labels, _ = stitch(pair([(2, 7, 6, 12)], []))
    assert np.count_nonzero(labels) == 20


def test_colliding_objects_go_by_score():
    labels, scores = stitch(pair([(2, 3, 8, 11)], [(2, 7, 8, 20)], [0.6], [0.9]))
    assert (labels[2:8, 7:20] == 2).all()
    assert np.count_nonzero(labels == 1) == 24
    np.testing.assert_allclose(scores, [0.6, 0.9])


def test_an_object_left_as_a_rim_by_a_better_one_is_dropped():
    labels, scores = stitch(pair([(2, 5, 8, 11)], [(2, 7, 8, 20)], [0.6], [0.9]))
    assert np.count_nonzero(labels) == 13 * 6
    np.testing.assert_allclose(scores, [0.9])


def test_small_objects_are_dropped_after_merging():
    tiles = pair([(2, 8, 6, 12), (8, 1, 9, 2)], [(2, 8, 6, 12)])
    labels, scores = stitch(tiles, min_area=5)
    assert np.count_nonzero(labels) == 16
    assert len(scores) == 1


def test_labels_need_scores_and_the_right_shape():
    with pytest.raises(InputError, match="scores"):
        TileLabels(*LEFT, np.ones((10, 14), np.int32), np.zeros(0, np.float32))
    with pytest.raises(InputError, match="window"):
        TileLabels(*LEFT, np.zeros((10, 13), np.int32), np.zeros(0, np.float32))
