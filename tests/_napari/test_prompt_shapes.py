"""Drawn shapes become boxes, masks and points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_sam._napari.prompt_shapes import points_along, shape_prompt
from napari_sam.core.prompts import BoxPrompt, MaskPrompt

SHAPE_YX = (60, 80)
inside = st.floats(0, 55)


def corners(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def turned(vertices_xy: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Turn vertices around their centre."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = vertices_xy.mean(axis=0)
    return (vertices_xy - centre) @ turn.T + centre


def pixels(prompt: BoxPrompt | MaskPrompt | None) -> NDArray[np.bool_]:
    """Return the mask of a prompt on the whole plane."""
    assert isinstance(prompt, MaskPrompt)
    plane = np.zeros(SHAPE_YX, bool)
    row, col = prompt.origin_yx
    mask = prompt.to_array()
    plane[row : row + mask.shape[0], col : col + mask.shape[1]] = mask
    return plane


@given(inside, inside, st.floats(2.5, 90), st.floats(2.5, 90), st.integers(0, 3), st.booleans())
def test_an_upright_rectangle_is_the_box_within_the_image(
    left: float, top: float, width: float, height: float, first: int, is_reversed: bool
) -> None:
    drawn = np.roll(corners(left, top, left + width, top + height), first, axis=0)
    prompt = shape_prompt("rectangle", drawn[::-1] if is_reversed else drawn, SHAPE_YX)
    assert isinstance(prompt, BoxPrompt)
    wanted = left, top, min(left + width, 79.5), min(top + height, 59.5)
    np.testing.assert_allclose(prompt.xyxy, wanted)


def test_a_box_reaches_to_the_edges_of_the_outermost_pixels() -> None:
    prompt = shape_prompt("rectangle", corners(-20, -20, 200, 200), SHAPE_YX)
    assert prompt == BoxPrompt(-0.5, -0.5, 79.5, 59.5)


@pytest.mark.parametrize(
    "vertices",
    [
        corners(10, 10, 11, 40),  # a slip of the mouse
        corners(10, 10, 40, 11.5),
        corners(100, 10, 120, 40),  # beside the image
        corners(-40, 10, -10, 40),
        np.array([(10, 10), (30, 30), (10, 10), (30, 30)], float),  # not finished
        np.array([(10, 10)] * 4, float),
    ],
)
@pytest.mark.parametrize("kind", ["rectangle", "ellipse", "polygon"])
def test_what_was_not_meant_is_no_prompt(kind: str, vertices: NDArray[np.float64]) -> None:
    assert shape_prompt(kind, vertices, SHAPE_YX) is None


@given(st.floats(2, 88))
def test_a_turned_rectangle_is_the_mask_of_its_own_pixels(degrees: float) -> None:
    drawn = turned(corners(25, 20, 55, 40), degrees)
    mask = pixels(shape_prompt("rectangle", drawn, SHAPE_YX))
    rows, cols = np.indices(SHAPE_YX)
    angle = np.deg2rad(degrees)  # each pixel as the rectangle sees it
    x = (cols - 40) * np.cos(angle) + (rows - 30) * np.sin(angle)
    y = (rows - 30) * np.cos(angle) - (cols - 40) * np.sin(angle)
    certain = (np.abs(np.abs(x) - 15) > 1e-6) & (np.abs(np.abs(y) - 10) > 1e-6)
    wanted = (np.abs(x) < 15) & (np.abs(y) < 10)
    np.testing.assert_array_equal(mask[certain], wanted[certain])


def test_a_rectangle_turned_by_a_right_angle_is_a_box() -> None:
    prompt = shape_prompt("rectangle", turned(corners(25, 20, 55, 40), 90), SHAPE_YX)
    assert isinstance(prompt, BoxPrompt)
    np.testing.assert_allclose(prompt.xyxy, (30, 15, 50, 45))


@given(st.floats(20, 60), st.floats(20, 40), st.floats(3, 15), st.floats(3, 15), st.floats(0, 180))
def test_an_ellipse_has_its_area_and_centre(
    x: float, y: float, a: float, b: float, degrees: float
) -> None:
    drawn = turned(corners(x - a, y - b, x + a, y + b), degrees)
    mask = pixels(shape_prompt("ellipse", drawn, SHAPE_YX))
    rim = np.pi * (a + b)  # pixels that the edge runs through
    assert abs(mask.sum() - np.pi * a * b) < 0.8 * rim
    rows, cols = np.nonzero(mask)
    np.testing.assert_allclose((cols.mean(), rows.mean()), (x, y), atol=1)


def test_a_polygon_is_filled_and_cut_at_the_border() -> None:
    drawn = np.array([(-10, -10), (30, -10), (-10, 30)], float)
    mask = pixels(shape_prompt("polygon", drawn, SHAPE_YX))
    rows, cols = np.indices(SHAPE_YX)
    np.testing.assert_array_equal(mask[rows + cols < 20], True)
    np.testing.assert_array_equal(mask[rows + cols > 20], False)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=9))
def test_points_lie_along_the_scribble(vertices: list[tuple[float, float]]) -> None:
    line = np.array(vertices)
    points = points_along(line)
    assert 2 <= len(points) <= 8
    steps = np.diff(line, axis=0)
    nearest = np.full(len(points), np.inf)
    for start, step in zip(line, steps, strict=False):
        length = max(float(step @ step), 1e-12)
        along = np.clip(((points - start) @ step) / length, 0, 1)[:, np.newaxis]
        away = np.linalg.norm(points - (start + along * step), axis=1)
        nearest = np.minimum(nearest, away)
    assert nearest.max() < 1e-6


def test_points_of_a_scribble_are_evenly_spread() -> None:
    points = points_along(np.array([(0.0, 0.0), (40.0, 0.0), (64.0, 0.0)]))
    np.testing.assert_allclose(points[:, 0], [8, 24, 40, 56])
    np.testing.assert_allclose(points[:, 1], 0)


def test_a_scribble_in_a_stack_stays_on_its_slice() -> None:
    points = points_along(np.array([(3.0, 0.0, 0.0), (3.0, 30.0, 40.0)]))
    np.testing.assert_allclose(points[:, 0], 3)
    assert len(points) == 3
