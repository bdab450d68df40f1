"""The canvas keeps objects whole, and says who lies above whom."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.training.synthetic.canvas import Canvas, whole_objects
from napari_sam.training.synthetic.shapes import ellipse


def test_the_largest_piece_of_each_label_stays() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[2:8, 2:8] = 7
    labels[2:8, 8:12] = 3  # touches 7
    labels[12:18, 2:5] = 7  # a smaller piece of it
    labels[15, 20:25] = 9  # too small
    whole, origins = whole_objects(labels)
    assert origins.tolist() == [0, 3, 7]
    assert (whole == 1).sum() == 24
    assert (whole == 2).sum() == 36
    assert not whole[12:18].any()


def test_pieces_that_meet_at_a_corner_are_two() -> None:
    labels = np.zeros((12, 12), np.int32)
    labels[:6, :6] = 1
    labels[6:, 6:11] = 1
    whole, _ = whole_objects(labels)
    assert (whole > 0).sum() == 36


def paint_disc(canvas: Canvas, row: float, above: bool, min_free: float) -> bool:
    centre = np.array([row, 30.0])
    window = canvas.window(centre, 10)
    depth = ellipse(*canvas.offsets(window, centre), 10, 10, 0)
    return canvas.paint(window, depth, above=above, min_free=min_free, tag=row)


@pytest.mark.parametrize("above", [True, False])
def test_what_overlaps_hides_or_is_hidden(above: bool) -> None:
    canvas = Canvas((60, 60), 20, np.random.default_rng(0))
    assert paint_disc(canvas, 20, above=False, min_free=0.9)
    assert paint_disc(canvas, 34, above=above, min_free=0.5)
    assert not paint_disc(canvas, 35, above=above, min_free=0.5)  # no room
    scene = canvas.finish()
    assert scene.tags.tolist() == [0, 20, 34]
    sizes = np.bincount(scene.labels.ravel())[1:]
    assert (sizes[1] > sizes[0]) == above
    assert scene.overlap.sum() > 20
    assert scene.depth[20, 30] == pytest.approx(10, abs=0.1)
    assert not scene.depth[scene.labels == 0].any()


def test_edges_lie_on_both_sides_of_a_border() -> None:
    canvas = Canvas((60, 60), 20, np.random.default_rng(0))
    paint_disc(canvas, 30, above=False, min_free=0.9)
    scene = canvas.finish()
    edges = scene.edges() > 0
    assert (edges & (scene.labels > 0)).sum() > 40
    assert (edges & (scene.labels == 0)).sum() > 40
    assert not edges[25:35, 25:35].any()
