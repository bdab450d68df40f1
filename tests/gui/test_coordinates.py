"""In a shown window, a mouse position is the pixel of the plane that is drawn under the mouse."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import QPointF

from gui.driver import Driver

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

# A new layer is sliced along its last axes, before the viewer's order of axes reaches it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning"),
    pytest.mark.no_cover,  # other tests reach the same lines, and it takes half as long again
]

CODES = np.arange(72, dtype=np.uint8).reshape(8, 9)
GRAY = 3
"""Gray levels between two codes, so that a code survives drawing."""
DARKEST = 30
MARGIN = 2
"""Pixels of the screen at the edge of a drawn pixel that may fall on either side."""


def coded(codes: np.ndarray) -> np.ndarray:
    return (codes * GRAY + DARKEST).astype(np.uint8)


def stack(axis_of_slices: int, ndim: int = 3) -> np.ndarray:
    """Make a stack whose slices along one axis are the coded plane, in its middle, or even."""
    shape = [7] * ndim
    rest = [axis for axis in range(ndim) if axis != axis_of_slices][-2:]
    for axis, length in zip(rest, CODES.shape, strict=True):
        shape[axis] = length
    data = np.zeros(shape, np.uint8)
    index: list = [slice(None) if axis in rest else 3 for axis in range(ndim)]
    data[tuple(index)] = coded(CODES)
    return data


def pyramid(side: int, factor: int) -> list[np.ndarray]:
    """Make two levels: at each, blocks of pixels with one code."""
    full = coded(np.kron(CODES, np.ones((side, side), np.uint8)))
    return [full, full[::factor, ::factor]]


ANGLE = np.radians(25)
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
SKEW = np.array([[1.2, 0.3, 4], [-0.2, 0.8, -2], [0, 0, 1]])
TURN_ZX = np.eye(3)
TURN_ZX[np.ix_((0, 2), (0, 2))] = TURN

CASES = {
    "plain": (coded(CODES), {}, None),
    "moved and scaled": (coded(CODES), {"scale": (2, 0.5), "translate": (-3, 70)}, None),
    "rotated": (coded(CODES), {"rotate": 25, "scale": (1, 1.5)}, None),
    "sheared": (coded(CODES), {"shear": [0.4], "scale": (0.1, 0.2)}, None),
    "affine": (coded(CODES), {"affine": SKEW, "scale": (3, 2), "rotate": -40}, None),
    "mirrored": (coded(CODES), {"scale": (-1, 2)}, None),
    "stack": (stack(0), {"scale": (5, 1, 2)}, (0, 1, 2)),
    "columns first": (stack(0), {"scale": (5, 1, 2)}, (0, 2, 1)),
    "rolled": (stack(1), {"scale": (2, 0.3, 0.5), "translate": (5, 6, 7)}, (1, 0, 2)),
    "rolled twice": (stack(2), {"scale": (2, 0.3, 0.5)}, (2, 1, 0)),
    "rolled and rotated": (stack(1), {"rotate": TURN_ZX}, (1, 0, 2)),
    "four axes": (stack(0, 4), {"scale": (1, 2, 3, 4)}, (0, 1, 2, 3)),
    "four axes, rolled": (stack(2, 4), {"scale": (1, 2, 3, 4)}, (0, 2, 3, 1)),
    "colours": (np.repeat(coded(CODES)[..., np.newaxis], 3, axis=-1), {"rgb": True}, None),
    "fine level": (pyramid(4, 2), {"multiscale": True, "scale": (2, 3)}, None),
    "coarse level": (pyramid(256, 2), {"multiscale": True}, None),
    "coarse level, rotated": (pyramid(256, 2), {"multiscale": True, "rotate": 25}, None),
}


def show(viewer: napari.Viewer, name: str) -> tuple[Image, Driver]:
    data, options, order = CASES[name]
    image = viewer.add_image(
        data, contrast_limits=None if options.get("rgb") else (0, 255), **options
    )
    if order is not None:
        viewer.dims.order = order
        at = [3.0] * image.ndim
        world = image.data_to_world(at)
        for axis in order[:-2]:
            viewer.dims.set_point(axis, world[axis])
    driver = Driver(viewer)
    driver.show_all()
    return image, driver


def mouse_world(driver: Driver, spot: tuple[float, float]) -> tuple[float, ...]:
    """Move the mouse to a pixel of the canvas and tell what napari calls that place."""
    driver._move_to(driver.canvas.mapToGlobal(QPointF(*spot)))
    return tuple(driver.viewer.cursor.position)


def world_of_canvas(driver: Driver) -> np.ndarray:
    """Find how places of the canvas (1, x, y) become world coordinates, from real mouse moves."""
    spots = [(100, 100), (300, 100), (100, 300)]
    places = np.array([mouse_world(driver, spot) for spot in spots])
    return np.linalg.solve(np.array([(1, *spot) for spot in spots]), places)


def check_pixels_under_the_mouse(image: Image, driver: Driver) -> None:
    """Compare what is drawn all over the canvas with the pixels that we say are there."""
    from napari_sam._napari.coordinates import displayed_plane, world_to_plane_xy

    viewer = driver.viewer
    plane = displayed_plane(image, viewer.dims)
    data = image.data[0] if image.multiscale else _gray(image)
    to_world = world_of_canvas(driver)
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., 0].astype(int)
    assert picture.shape == (driver.canvas.height(), driver.canvas.width())
    seen = set()
    for y, x in itertools.product(*(range(10, n - 10, 9) for n in picture.shape)):
        around = picture[y - MARGIN : y + MARGIN + 1, x - MARGIN : x + MARGIN + 1]
        if np.ptp(around) or around[0, 0] < DARKEST:
            continue
        world = tuple(np.array([1, x, y]) @ to_world)
        col, row = np.rint(world_to_plane_xy(world, image, plane, viewer.dims)).astype(int)
        code = plane.read(data)[row, col]
        assert abs(code - picture[y, x]) < GRAY / 2, (x, y)
        seen.add(int(code))
    assert len(seen) > 60  # of 72: nearly every pixel was looked at


@pytest.mark.parametrize("name", CASES)
def test_the_pixel_under_the_mouse_is_the_one_drawn_there(viewer: napari.Viewer, name: str) -> None:
    image, driver = show(viewer, name)
    if image.multiscale:
        assert image.data_level == int(name.startswith("coarse"))
    check_pixels_under_the_mouse(image, driver)


def test_the_pixel_is_found_among_layers_of_other_units(viewer: napari.Viewer) -> None:
    image = viewer.add_image(
        stack(0),
        scale=(2, 0.1, 0.2),
        translate=(4, 1, 2),
        units=("um",) * 3,
        contrast_limits=(0, 255),
    )
    # napari knows units since 0.7, and then takes the smallest of all layers for the world
    per_um = 1000 if getattr(viewer.dims, "units", None) else 1
    place = (9 * per_um, 0.5 * per_um, 0.5 * per_um)
    viewer.add_points([place], units=("nm",) * 3, size=1, opacity=0)
    viewer.dims.set_point(0, 10 * per_um)
    driver = Driver(viewer)
    driver.show_all()
    check_pixels_under_the_mouse(image, driver)


@pytest.mark.parametrize("name", ["rotated", "rolled", "four axes, rolled", "coarse level"])
def test_a_click_makes_a_point_that_stands_on_the_pixel_clicked(
    viewer: napari.Viewer, name: str
) -> None:
    from napari_sam._napari.coordinates import (
        displayed_plane,
        plane_xy_to_world,
        to_plane_xy,
    )

    image, driver = show(viewer, name)
    points = viewer.add_points(
        ndim=image.ndim,
        scale=image.scale,
        translate=image.translate,
        rotate=image.rotate,
        affine=image.affine.affine_matrix,
        size=0.1,
    )
    points.mode = "add"
    driver.show_all()
    plane = displayed_plane(image, viewer.dims)
    rows, cols = plane.shape_yx(image.level_shapes[0][: image.ndim])
    clicked = [(1, 2), (cols - 2, rows - 3), (cols // 2, rows // 2)]
    for point_xy in clicked:
        driver.click(plane_xy_to_world(point_xy, image, plane, viewer.dims))
    points_xy, on_plane = to_plane_xy(points.data, points, image, plane, viewer.dims)
    assert on_plane.all()
    pixel_size = max(rows / driver.canvas.height(), cols / driver.canvas.width(), 0.5)
    np.testing.assert_allclose(points_xy, clicked, atol=1.5 * pixel_size)


@pytest.mark.parametrize("name", ["plain", "rotated", "rolled", "columns first", "coarse level"])
def test_the_visible_region_is_what_the_canvas_shows(viewer: napari.Viewer, name: str) -> None:
    from napari_sam._napari.coordinates import (
        camera_of,
        displayed_plane,
        visible_region,
        world_to_plane_xy,
    )

    image, driver = show(viewer, name)
    plane = displayed_plane(image, viewer.dims)
    shape_yx = plane.shape_yx(image.level_shapes[0][: image.ndim])
    assert visible_region(viewer, image, plane).shape == shape_yx
    camera_of(viewer).zoom *= 3.5
    driver.settle()
    to_world = world_of_canvas(driver)
    width, height = driver.canvas.width(), driver.canvas.height()
    corners_xy = np.array(
        [
            world_to_plane_xy(tuple(np.array([1, x, y]) @ to_world), image, plane, viewer.dims)
            for x, y in itertools.product((0, width), (0, height))
        ]
    )
    region = visible_region(viewer, image, plane)
    low = np.clip(corners_xy.min(axis=0)[::-1] + 0.5, 0, shape_yx)
    high = np.clip(corners_xy.max(axis=0)[::-1] + 0.5, 0, shape_yx)
    slack = 1 + 2 * max(shape_yx) / height
    np.testing.assert_allclose(region.start, low, atol=slack)
    np.testing.assert_allclose(region.stop, high, atol=slack)
    assert np.prod(region.shape) < np.prod(shape_yx)


def _gray(image: Image) -> np.ndarray:
    return image.data[..., 0] if image.rgb else image.data
