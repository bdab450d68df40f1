"""Depth is a distance to the edge, in pixels, and shapes unite without a corner."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.training.synthetic.shapes import ellipse, merge, stroke

ROWS, COLS = (plane.astype(np.float32) - 30 for plane in np.indices((61, 61)))


def test_an_ellipse_has_its_axes_and_its_depth() -> None:
    depth = ellipse(ROWS, COLS, 20, 8, 0)
    assert depth[30, 30] == pytest.approx(8)
    assert depth[30, 51] < 0 < depth[30, 49]  # the long axis lies along the columns
    assert depth[39, 30] < 0 < depth[37, 30]
    turned = ellipse(ROWS, COLS, 20, 8, np.pi / 2)
    assert turned == pytest.approx(depth.T, abs=1e-4)


def test_a_stroke_narrows_on_its_way() -> None:
    depth = stroke(ROWS, COLS, np.zeros(2), np.array([0.0, 20.0]), 6, 2)
    assert depth[30, [30, 40, 50]] == pytest.approx([6, 4, 2])
    assert depth[30, 54] == pytest.approx(-2)
    assert depth[30, 22] == pytest.approx(-2)


def test_a_web_fills_the_corner_between_two_shapes_only() -> None:
    one = ellipse(ROWS, COLS, 20, 4, 0)
    other = ellipse(ROWS, COLS, 20, 4, np.pi / 2)
    united, plain = merge(one, other, 8), np.maximum(one, other)
    grown = (united > 0) & (plain <= 0)
    assert grown[34:37, 34:37].any()
    assert not grown[30, :].any()
    assert united[30, 10] == pytest.approx(plain[30, 10], abs=0.1)
