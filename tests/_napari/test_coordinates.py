"""Coordinates of layers, world and plane agree with napari's own, for every way a layer can lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Points, Shapes

from napari_sam._napari.coordinates import (
    displayed_plane,
    from_plane_xy,
    plane_xy_to_world,
    shares_grid,
    to_plane_xy,
    visible_region,
    world_to_plane_xy,
)
from napari_sam._napari.world import data_to_world
from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane

few = settings(max_examples=60)

# A new layer is sliced along its last axes, before the viewer's order of axes reaches it.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    """Make an array in which each pixel says which one it is."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def placement(rng: np.random.Generator, ndim: int, shown: tuple[int, ...]) -> dict:
    """Choose scale, rotation, shear, translation and affine that all keep the plane `shown`."""
    rotate, shear, affine = np.eye(ndim), np.eye(ndim), np.eye(ndim + 1)
    if len(shown) == 2:
        angle = rng.uniform(-np.pi, np.pi)
        block = np.ix_(shown, shown)
        rotate[block] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        shear[min(shown), max(shown)] = rng.uniform(-1, 1)
        affine[block] += rng.uniform(-0.3, 0.3, (2, 2))
    affine[:-1, -1] = rng.uniform(-20, 20, ndim)
    scale = rng.choice([-1, 1], ndim) * 10 ** rng.uniform(-1.5, 1.5, ndim)
    return {
        "scale": scale,
        "rotate": rotate,
        "shear": shear,
        "translate": rng.uniform(-50, 50, ndim),
        "affine": affine,
    }


@dataclass
class Scene:
    viewer: ViewerModel
    image: Image
    plane: Plane
    rng: np.random.Generator

    def go_to(self, plane: Plane) -> None:
        """Move the sliders so that a plane of the image is shown."""
        at = np.zeros(self.image.ndim)
        at[list(plane.other_axes)] = plane.position
        point = np.array(self.viewer.dims.point)
        point[-self.image.ndim :] = self.image.data_to_world(at)
        self.viewer.dims.point = point


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Draw an image in a viewer that has at least its axes, displayed in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ndim = draw(st.integers(2, 5))
    world_ndim = draw(st.integers(ndim, 5))
    order = draw(st.permutations(range(world_ndim)))
    shown = tuple(axis - (world_ndim - ndim) for axis in order[-2:])
    assume(min(shown) >= 0)
    shape = tuple(int(n) for n in rng.integers(3, 7, ndim))
    image = Image(numbered(shape), **placement(rng, ndim, shown))
    viewer = ViewerModel()
    viewer.add_layer(Points(np.zeros((1, world_ndim)), ndim=world_ndim))
    viewer.add_layer(image)
    viewer.dims.order = order
    others = [axis for axis in range(ndim) if axis not in shown]
    scene = Scene(viewer, image, Plane(shown, [rng.integers(shape[a]) for a in others]), rng)
    scene.go_to(scene.plane)
    return scene


def another_layer(scene: Scene) -> Layer:
    """Make a points layer that lies otherwise and may have more or fewer axes than the image."""
    world_ndim, image = scene.viewer.dims.ndim, scene.image
    fewest = world_ndim - min(scene.viewer.dims.displayed)
    ndim = int(scene.rng.integers(fewest, world_ndim + 1))
    shown = tuple(axis + ndim - image.ndim for axis in scene.plane.axes_yx)
    return Points(ndim=ndim, **placement(scene.rng, ndim, shown))


@few
@given(scenes())
def test_the_displayed_plane_is_the_one_that_napari_shows(scene: Scene) -> None:
    plane = displayed_plane(scene.image, scene.viewer.dims)
    assert plane == scene.plane
    pixels = plane.read(scene.image.data)
    for row, col in scene.rng.integers(0, pixels.shape, (5, 2)):
        world = plane_xy_to_world((col, row), scene.image, plane, scene.viewer.dims)
        assert scene.image.get_value(world, world=True) == pixels[row, col]


@few
@given(scenes())
def test_the_mouse_finds_the_pixel_that_napari_finds_under_it(scene: Scene) -> None:
    dims, pixels = scene.viewer.dims, scene.plane.read(scene.image.data)
    for at_xy in scene.rng.uniform(-0.499, np.subtract(pixels.shape[::-1], 0.501), (5, 2)):
        world = plane_xy_to_world(tuple(at_xy), scene.image, scene.plane, dims)
        assert len(world) == dims.ndim
        found = world_to_plane_xy(world, scene.image, scene.plane, dims)
        np.testing.assert_allclose(found, at_xy, atol=1e-8)
        col, row = np.rint(found).astype(int)
        assert scene.image.get_value(world, world=True) == pixels[row, col]


@few
@given(scenes())
def test_points_go_to_any_layer_and_come_back(scene: Scene) -> None:
    layer, dims = another_layer(scene), scene.viewer.dims
    points_xy = scene.rng.uniform(-5, 10, (6, 2))
    placed = from_plane_xy(points_xy, scene.plane, layer, scene.image, dims)
    assert placed.shape == (6, layer.ndim)
    for point_xy, there in zip(points_xy, placed, strict=True):
        world = plane_xy_to_world(tuple(point_xy), scene.image, scene.plane, dims)
        np.testing.assert_allclose(
            layer.data_to_world(there), world[-layer.ndim :], rtol=1e-9, atol=1e-6
        )
    back_xy, on_plane = to_plane_xy(placed, layer, scene.image, scene.plane, dims)
    np.testing.assert_allclose(back_xy, points_xy, atol=1e-7)
    assert on_plane.all()


@few
@given(scenes())
def test_a_point_stands_on_one_plane_only(scene: Scene) -> None:
    assume(scene.image.ndim > 2)
    dims, full = scene.viewer.dims, Points(ndim=scene.viewer.dims.ndim)
    axis = scene.rng.choice(scene.plane.other_axes)
    elsewhere = scene.plane.with_position(axis, scene.plane.position_along(axis) + 1)
    placed = from_plane_xy([(1, 2)], elsewhere, full, scene.image, dims)
    points_xy, on_plane = to_plane_xy(placed, full, scene.image, scene.plane, dims)
    np.testing.assert_allclose(points_xy, [(1, 2)], atol=1e-7)
    assert not on_plane.any()
    for ignored in ([axis], range(scene.image.ndim)):
        assert to_plane_xy(placed, full, scene.image, scene.plane, dims, ignored)[1].all()


@few
@given(scenes())
def test_the_transform_is_the_one_that_napari_uses(scene: Scene) -> None:
    for layer in (scene.image, another_layer(scene)):
        point = scene.rng.uniform(-10, 10, layer.ndim)
        ours = data_to_world(layer) @ [*point, 1]
        np.testing.assert_allclose(ours[:-1], layer.data_to_world(point), rtol=1e-9, atol=1e-9)


def test_axes_that_the_image_lacks_are_the_viewers() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(numbered((8, 9)))
    points = viewer.add_points([(0, 1, 2), (3, 1, 2), (3.4, 5, 6)], ndim=3)
    viewer.dims.set_point(0, 3)
    plane = displayed_plane(image, viewer.dims)
    assert plane == Plane((0, 1))
    points_xy, on_plane = to_plane_xy(points.data, points, image, plane, viewer.dims)
    np.testing.assert_array_equal(points_xy, [(2, 1), (2, 1), (6, 5)])
    np.testing.assert_array_equal(on_plane, [False, True, True])
    placed = from_plane_xy([(7, 4)], plane, points, image, viewer.dims)
    np.testing.assert_array_equal(placed, [(3, 4, 7)])


def test_a_layer_of_two_axes_stands_on_every_slice() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(numbered((3, 4, 8, 9)), scale=(1, 2, 0.5, 0.5))
    points = viewer.add_points([(1, 2)], scale=(0.25, 0.25))
    viewer.dims.point = (2, 4, 0, 0)
    plane = displayed_plane(image, viewer.dims)
    assert plane == Plane((2, 3), (2, 2))
    points_xy, on_plane = to_plane_xy(points.data, points, image, plane, viewer.dims)
    np.testing.assert_allclose(points_xy, [(1, 0.5)])
    assert on_plane.all()


def test_no_points_are_no_points() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(numbered((3, 8, 9)))
    points = viewer.add_points(ndim=3)
    plane = displayed_plane(image, viewer.dims)
    points_xy, on_plane = to_plane_xy(points.data, points, image, plane, viewer.dims)
    assert points_xy.shape == (0, 2)
    assert on_plane.shape == (0,)
    assert from_plane_xy(np.empty((0, 2)), plane, points, image, viewer.dims).shape == (0, 3)


def test_vertices_of_a_shape_are_brought_over() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(numbered((3, 8, 9)), scale=(1, 2, 2))
    shapes = Shapes([np.array([(1, 2, 4), (1, 2, 8), (1, 6, 8), (1, 6, 4)])], ndim=3)
    viewer.add_layer(shapes)
    viewer.dims.set_point(0, 1)
    plane = displayed_plane(image, viewer.dims)
    vertices_xy, on_plane = to_plane_xy(shapes.data[0], shapes, image, plane, viewer.dims)
    np.testing.assert_array_equal(vertices_xy, [(2, 1), (4, 1), (4, 3), (2, 3)])
    assert on_plane.all()


@pytest.mark.parametrize("world_z", [0.0, 0.5, 1.0, 1.5, 2.5, 3.5])
def test_half_a_slice_is_rounded_as_napari_rounds_it(world_z: float) -> None:
    viewer = ViewerModel()
    viewer.add_image(numbered((9, 8, 9)), scale=(0.5, 1, 1))
    image = viewer.add_image(numbered((5, 8, 9)))
    points = viewer.add_points(ndim=3, scale=(0.3, 1, 1))
    viewer.dims.set_point(0, world_z)
    plane = displayed_plane(image, viewer.dims)
    world = (world_z, 0, 0)
    assert plane.read(image.data)[0, 0] == image.get_value(world, world=True)
    points.add(points.world_to_data((world_z, 2, 3)))
    assert to_plane_xy(points.data, points, image, plane, viewer.dims)[1].all()


def test_layers_in_other_units_meet_where_napari_draws_them() -> None:
    viewer = ViewerModel()
    unit = ("micrometer",) * 3
    image = viewer.add_image(numbered((5, 8, 9)), scale=(2, 0.1, 0.1), units=unit)
    nano = viewer.add_labels(
        np.zeros((5, 8, 9), int), scale=(2000, 100, 100), units=("nanometer",) * 3
    )
    if getattr(viewer.dims, "units", None) is None:
        pytest.skip("This napari draws layers without regard to their units.")
    viewer.dims.set_current_step(0, 3)
    plane = displayed_plane(image, viewer.dims)
    assert plane == displayed_plane(nano, viewer.dims) == Plane((1, 2), (3,))
    assert shares_grid(nano, image, plane, viewer.dims)
    world = plane_xy_to_world((2, 1), image, plane, viewer.dims)
    np.testing.assert_allclose(world, (6000, 100, 200))  # the viewer takes the smaller unit
    np.testing.assert_allclose(
        from_plane_xy([(2, 1)], plane, nano, image, viewer.dims), [(3, 1, 2)]
    )
    pixels = viewer.add_labels(np.zeros((5, 8, 9), int), scale=(2, 0.1, 0.1))
    assert viewer.dims.units is None  # pixels and metres have no common unit: napari takes numbers
    assert shares_grid(pixels, image, plane, viewer.dims)
    assert not shares_grid(nano, image, plane, viewer.dims)


@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (0, 2)])
def test_a_rotation_out_of_the_plane_is_refused_with_a_cure(axes: tuple[int, int]) -> None:
    angle = np.radians(10)
    rotate = np.eye(3)
    rotate[np.ix_(axes, axes)] = [
        [np.cos(angle), -np.sin(angle)],
        [np.sin(angle), np.cos(angle)],
    ]
    viewer = ViewerModel()
    image = viewer.add_image(numbered((5, 8, 9)))
    turned = Labels(np.zeros((5, 8, 9), int), rotate=rotate, scale=(5, 0.1, 0.1))
    plane = displayed_plane(image, viewer.dims)
    if axes == (1, 2):
        assert displayed_plane(turned, viewer.dims).axes_yx == (1, 2)
        return
    for refused in (
        lambda: displayed_plane(turned, viewer.dims),
        lambda: to_plane_xy([(0, 0, 0)], turned, image, plane, viewer.dims),
        lambda: from_plane_xy([(0, 0)], plane, turned, image, viewer.dims),
        lambda: world_to_plane_xy((0, 0, 0), turned, plane, viewer.dims),
    ):
        with pytest.raises(InputError, match="Display the two axes that the rotation turns"):
            refused()
    assert not shares_grid(turned, image, plane, viewer.dims)


def test_a_quarter_turn_out_of_the_plane_is_refused_too() -> None:
    viewer = ViewerModel()
    viewer.add_points(ndim=3)
    swapped = Image(numbered((5, 8, 9)), rotate=[[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    with pytest.raises(InputError, match="rotated or sheared out of the plane"):
        displayed_plane(swapped, viewer.dims)


def test_three_dimensions_are_refused_with_a_cure() -> None:
    viewer = ViewerModel(ndisplay=3)
    image = viewer.add_image(numbered((5, 8, 9)))
    with pytest.raises(InputError, match="Switch the viewer back to 2D"):
        displayed_plane(image, viewer.dims)


def test_a_layer_without_a_displayed_axis_is_refused_with_a_cure() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(numbered((5, 8, 9)))
    flat = viewer.add_image(numbered((8, 9)))
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(InputError, match="Roll or transpose the axes back"):
        displayed_plane(flat, viewer.dims)
    plane = displayed_plane(image, viewer.dims)
    with pytest.raises(InputError, match="Use a layer with 3 axes"):
        to_plane_xy([(0, 0)], flat, image, plane, viewer.dims)


def test_a_slice_beyond_the_layer_is_refused_with_a_cure() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(numbered((5, 8, 9)))
    viewer.add_points([(9, 0, 0)])
    for z, is_inside in [(0, True), (4, True), (5, False), (9, False)]:
        viewer.dims.set_point(0, z)
        if is_inside:
            assert displayed_plane(image, viewer.dims).position == (z,)
        else:
            with pytest.raises(InputError, match="Move the slider back"):
                displayed_plane(image, viewer.dims)


def test_a_layer_that_is_in_no_viewer_is_refused_with_a_cure() -> None:
    with pytest.raises(InputError, match="Add the layer to the viewer first"):
        displayed_plane(Image(numbered((5, 8, 9))), ViewerModel().dims)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (np.zeros((8, 9, 3), np.uint8), {"rgb": True}),
        ([np.zeros((8, 9)), np.zeros((4, 5))], {"multiscale": True}),
        (
            [np.zeros((8, 9, 4), np.uint8), np.zeros((4, 5, 4), np.uint8)],
            {"multiscale": True, "rgb": True},
        ),
    ],
)
def test_colours_and_levels_are_no_axes_of_the_plane(data: object, options: dict) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(data, **options)
    labels = viewer.add_labels(np.zeros((8, 9), int))
    plane = displayed_plane(image, viewer.dims)
    assert plane == Plane((0, 1))
    assert shares_grid(labels, image, plane, viewer.dims)


@pytest.mark.parametrize(
    ("changes", "shares"),
    [
        ({}, True),
        ({"translate": (0, 0, 0.001)}, True),
        ({"translate": (7, 0, 0)}, True),  # another slice is no other grid
        ({"translate": (0, 0.25, 0)}, False),
        ({"scale": (1, 0.5, 0.51)}, False),
        ({"rotate": 1}, False),
    ],
)
def test_labels_share_a_grid_when_their_pixels_lie_on_the_images(
    changes: dict, shares: bool
) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(numbered((5, 8, 9)), scale=(1, 0.5, 0.5))
    labels = viewer.add_labels(np.zeros((5, 8, 9), int), **({"scale": (1, 0.5, 0.5)} | changes))
    plane = displayed_plane(image, viewer.dims)
    assert shares_grid(labels, image, plane, viewer.dims) == shares
    smaller = viewer.add_labels(np.zeros((5, 8, 8), int), scale=(1, 0.5, 0.5))
    assert not shares_grid(smaller, image, plane, viewer.dims)


def test_the_visible_region_is_clipped_to_the_plane() -> None:
    from napari_sam._napari.coordinates import camera_of

    viewer = ViewerModel()
    image = viewer.add_image(numbered((3, 100, 200)), scale=(1, 2, 2))
    plane = displayed_plane(image, viewer.dims)
    camera = camera_of(viewer)
    height, width = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size
    camera.zoom = 20.0  # canvas pixels per unit of the world
    camera.center = (0, 100, 200)
    region = visible_region(viewer, image, plane)
    half_y, half_x = height / 80, width / 80  # in pixels of 2 units
    assert region.start == (np.floor(50.5 - half_y), np.floor(100.5 - half_x))
    assert region.stop == (np.ceil(50.5 + half_y), np.ceil(100.5 + half_x))
    camera.zoom = 0.1
    assert visible_region(viewer, image, plane).shape == (100, 200)
    camera.zoom = 20.0
    camera.center = (0, -3000, 100)
    assert visible_region(viewer, image, plane).is_empty
