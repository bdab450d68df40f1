"""Frames and views: where the model looks, and how coordinates go there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from napari_sam.core.region import Region
from napari_sam.model.sam import InputSpec
from napari_sam.predict.frames import (
    Frame,
    fits_whole,
    frame_around,
    smallest_factor,
    view_around,
    view_of_frame,
)
from napari_sam.predict.windows import Window

NATIVE = InputSpec(size=128, native_resolution=True, stride=8, low_res_stride=2, pad_multiple=32)
RESIZED = InputSpec(size=128)

sides = st.integers(1, 3000)
factors = st.sampled_from([1, 2, 4, 8, 16])
unit = st.floats(0, 1)


@given(st.integers(0, 50), st.integers(0, 50), factors, st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_coordinates_go_to_the_frame_and_back(
    row: int, col: int, factor: int, x: float, y: float
) -> None:
    frame = Frame((row * factor, col * factor), (64, 64), factor)
    point = np.array([[x, y]])
    there_and_back = frame.points_to_plane(frame.points_to_frame(point))
    np.testing.assert_allclose(there_and_back, point, atol=1e-9)


@given(factors, st.integers(0, 20), st.integers(0, 20))
def test_the_centre_of_a_frame_pixel_is_that_of_its_block(factor: int, i: int, j: int) -> None:
    frame = Frame((3 * factor, 5 * factor), (99 * factor, 99 * factor), factor)
    columns = np.arange((5 + i) * factor, (5 + i + 1) * factor)
    rows = np.arange((3 + j) * factor, (3 + j + 1) * factor)
    in_frame = frame.points_to_frame([[columns.mean(), rows.mean()]])
    np.testing.assert_allclose(in_frame, [[i, j]])


def test_full_resolution_at_the_corner_changes_nothing() -> None:
    points = np.array([[0.0, 0.0], [12.5, 7.0]])
    np.testing.assert_array_equal(Frame.whole((40, 50)).points_to_frame(points), points)


def extent_in(shape: tuple[int, int], corners: tuple[float, ...]) -> tuple[float, ...]:
    x0, x1 = sorted((corners[0] * (shape[1] - 1), corners[1] * (shape[1] - 1)))
    y0, y1 = sorted((corners[2] * (shape[0] - 1), corners[3] * (shape[0] - 1)))
    return x0, y0, x1, y1


@given(st.tuples(sides, sides), st.tuples(unit, unit, unit, unit), st.sampled_from([64, 128, 1024]))
def test_windows_show_the_prompts_with_image_around(
    shape: tuple[int, int], corners: tuple[float, ...], size: int
) -> None:
    extent = extent_in(shape, corners)
    factor = smallest_factor(extent, shape, size)
    frame = frame_around(extent, shape, size, factor)
    shown = frame.region_yx
    assert shown.intersect(Region.whole(shape)) == shown
    margin = factor * (size // 16)
    for axis, (low, high) in enumerate(((extent[1], extent[3]), (extent[0], extent[2]))):
        start, stop = shown.start[axis], shown.stop[axis]
        assert start % factor == 0
        assert frame.size_yx[axis] == min(size, -(-shape[axis] // factor))
        assert start == 0 or start + margin <= low + 0.5
        assert stop == shape[axis] or high + 0.5 <= stop - margin
    if factor > 1:  # and no coarser than need be
        finer = size * factor // 2 - 2 * (size // 8) * factor // 2
        assert any(
            high - low > finer and length > size * factor // 2
            for low, high, length in (
                (extent[1], extent[3], shape[0]),
                (extent[0], extent[2], shape[1]),
            )
        )


@given(st.integers(2000, 30000), unit, factors)
def test_a_click_lies_in_the_inner_half_of_its_window(side: int, place: float, factor: int) -> None:
    x = place * (side - 1)
    frame = frame_around((x, x, x, x), (side, side), 128, factor)
    start, stop = frame.region_yx.start[1], frame.region_yx.stop[1]
    quarter = 32 * factor
    assert start == 0 or x + 0.5 >= start + quarter
    assert stop == side or x + 0.5 <= stop - quarter


def test_neighbouring_clicks_share_a_window() -> None:
    frames = {frame_around((x, 5000, x, 5000), (9000, 9000), 512) for x in range(4000, 4512, 8)}
    assert len(frames) <= 3


@given(st.tuples(sides, sides), st.tuples(unit, unit, unit, unit))
def test_decode_windows_are_centred_and_inside(
    shape: tuple[int, int], corners: tuple[float, ...]
) -> None:
    assume(fits_whole(shape, NATIVE))
    extent = extent_in(shape, corners)
    assume(smallest_factor(extent, shape, NATIVE.size) == 1)
    view = view_around(extent, Frame.whole(shape), NATIVE)
    padded = view.transform.padded_size_yx
    for axis, (low, high) in enumerate(((extent[1], extent[3]), (extent[0], extent[2]))):
        start = (view.window.y, view.window.x)[axis]
        length = view.window.size_yx[axis]
        assert start % NATIVE.stride == 0
        assert length == min(NATIVE.size, padded[axis])
        assert start >= 0
        assert start + length <= padded[axis]
        assert start == 0 or start + 8 <= low
        assert start + length == padded[axis] or high + 8 <= start + length


@pytest.mark.parametrize(
    ("view", "region", "per_pixel"),
    [
        (view_of_frame(Frame((0, 0), (90, 60)), NATIVE), Region((0, 0), (90, 60)), 0.5),
        (view_of_frame(Frame((64, 32), (101, 99), 4), NATIVE), Region((64, 32), (165, 131)), 0.125),
        (
            view_around((150, 150, 150, 150), Frame.whole((300, 210)), NATIVE),
            Region((80, 80), (208, 208)),
            0.5,
        ),
        (view_of_frame(Frame((0, 0), (256, 128)), RESIZED), Region((0, 0), (256, 128)), 0.125),
    ],
)
def test_views_know_what_they_show(view, region: Region, per_pixel: float) -> None:
    assert view.region_yx == region
    assert view.cells_per_pixel_yx == (per_pixel, per_pixel)
    for axis in (0, 1):
        edges = view.cell_edges(axis)
        assert len(edges) == view.low_res_size_yx[axis] + 1
        assert edges[0] == region.start[axis]
        assert edges[1] - edges[0] == pytest.approx(1 / per_pixel)
        assert edges[-1] >= region.stop[axis]


def test_prompts_reach_the_window() -> None:
    view = view_around((150, 150, 150, 150), Frame.whole((300, 210)), NATIVE)
    np.testing.assert_allclose(view.points_to_input([[150, 151]]), [[70, 71]])
    coarse = view_of_frame(Frame((64, 32), (400, 400), 4), NATIVE)
    np.testing.assert_allclose(coarse.points_to_input([[33.5, 69.5]]), [[0, 1]])
    resized = view_of_frame(Frame.whole((256, 128)), RESIZED)
    np.testing.assert_allclose(resized.points_to_input([[10, 20]]), [[5, 10]])  # as official SAM


def test_what_is_encoded_whole() -> None:
    assert fits_whole((2048, 2048), NATIVE)
    assert not fits_whole((2048, 2049), NATIVE)
    assert fits_whole((192, 10), RESIZED)
    assert not fits_whole((193, 10), RESIZED)


def test_a_window_of_a_model_that_resizes_is_its_frame() -> None:
    view = view_around((50, 50, 50, 50), Frame.whole((190, 120)), RESIZED)
    assert view.window == Window(0, 0, 128, 128)
