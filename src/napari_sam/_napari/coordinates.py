"""Between the coordinates of layers, the viewer's world, and the pixels of the displayed plane.

With :mod:`napari_sam._napari.world`, the only module of the plugin that converts. Three frames
meet here:

- *data coordinates* of a layer: one value per axis of its array, pixel centres at whole numbers;
- the *world* of a viewer: one value per axis of ``viewer.dims``, in ``viewer.dims.units`` where
  napari knows units (from 0.7 on). A layer of fewer axes has the last ones;
- *plane pixels* of an image layer: (x, y) at full resolution, the centre of the first pixel at
  (0, 0), x along the columns and y along the rows of a :class:`~napari_sam.core.plane.Plane`.

Nothing here changes a layer or needs a window.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam._napari.world import apply, axis_offset, inverse, nearest, world_to_data
from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region

if TYPE_CHECKING:
    from napari.components import Dims, ViewerModel
    from napari.layers import Layer

__all__ = [
    "camera_of",
    "displayed_axes",
    "displayed_plane",
    "from_plane_xy",
    "plane_xy_to_world",
    "shares_grid",
    "to_plane_xy",
    "visible_region",
    "world_to_plane_xy",
]

GRID_TOLERANCE = 1e-2
"""Pixels that two layers' grids may differ by at the corners of a plane."""


def displayed_axes(layer: Layer, dims: Dims) -> tuple[int, int]:
    """Tell which axes of a layer are the rows and columns on the screen.

    Parameters
    ----------
    layer : napari.layers.Layer
    dims : napari.components.Dims
        ``viewer.dims``, with its axes in any order.

    Returns
    -------
    tuple of int

    Raises
    ------
    InputError
        When the viewer shows three dimensions, or a displayed axis that the layer lacks.
    """
    if dims.ndisplay != 2:
        raise InputError(
            "The viewer shows three dimensions",
            rule="Objects are segmented on one 2D plane",
            cure="Switch the viewer back to 2D with the cube button below the layer list",
        )
    offset = axis_offset(layer, dims)
    row_axis, col_axis = (int(axis) - offset for axis in dims.displayed)
    if min(row_axis, col_axis) < 0:
        raise InputError(
            f"The layer '{layer.name}' has {layer.ndim} axes and lies across another plane than "
            "the one on the screen",
            rule="A layer has both axes that the viewer displays",
            cure="Roll or transpose the axes back with the buttons below the layer list, or use a "
            f"layer with all {dims.ndim} axes of the viewer",
        )
    return row_axis, col_axis


def displayed_plane(layer: Layer, dims: Dims) -> Plane:
    """Find the plane of an image or labels layer that is on the screen.

    Where napari averages a thick slice, it is the plane in its middle.

    Parameters
    ----------
    layer : napari.layers.Image or napari.layers.Labels
        Of a multiscale layer, the plane of its full resolution.
    dims : napari.components.Dims
        ``viewer.dims``.

    Returns
    -------
    Plane

    Raises
    ------
    InputError
        When the viewer shows three dimensions, the layer lacks a displayed axis, is turned out of
        the plane, or ends before the slice that the viewer shows.
    """
    axes_yx = displayed_axes(layer, dims)
    to_data = world_to_data(layer, dims, axes_yx)
    point = np.asarray(dims.point, dtype=float)[axis_offset(layer, dims) :]
    others = [axis for axis in range(layer.ndim) if axis not in axes_yx]
    position = [int(i) for i in nearest(apply(to_data, point[np.newaxis])[0, others])]
    lengths = [int(layer.level_shapes[0][axis]) for axis in others]
    for axis, i, length in zip(others, position, lengths, strict=True):
        if not 0 <= i < length:
            raise InputError(
                f"The viewer shows slice {i} along axis {axis} of the layer '{layer.name}'",
                rule=f"The layer has the slices 0 to {length - 1} there",
                cure="Move the slider back to where the layer is visible",
            )
    return Plane(axes_yx, tuple(position))


def to_plane_xy(
    coordinates: ArrayLike,
    layer: Layer,
    image_layer: Layer,
    plane: Plane,
    dims: Dims,
    ignored_axes: Collection[int] = (),
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Bring points or the vertices of a shape onto a plane of an image.

    Parameters
    ----------
    coordinates : array_like, shape (N, D)
        Data coordinates of `layer`, which has D axes.
    layer : napari.layers.Layer
        The layer that they stand in; its axes may be more or fewer than the image's.
    image_layer : napari.layers.Layer
        The layer that `plane` is a plane of.
    plane : Plane
    dims : napari.components.Dims
        ``viewer.dims``; its point decides along axes that the image lacks.
    ignored_axes : collection of int
        Axes of the image, such as its channels, along which a point stands on every plane.

    Returns
    -------
    points_xy : ndarray, shape (N, 2)
        Where they stand, in plane pixels.
    on_plane : ndarray of bool, shape (N,)
        Whether this plane is the nearest one to each. Axes that `layer` lacks do not count.

    Raises
    ------
    InputError
        When a layer lacks a displayed axis or is turned out of the plane.
    """
    points = np.asarray(coordinates, dtype=np.float64).reshape(-1, layer.ndim)
    world = _layer_to_world(points, layer, image_layer, plane, dims)
    to_image = world_to_data(image_layer, dims, plane.axes_yx)
    image_offset = axis_offset(image_layer, dims)
    in_image = apply(to_image, world[:, image_offset:])
    row_axis, col_axis = plane.axes_yx

    on_plane = np.ones(len(points), dtype=np.bool_)
    n_lacking = image_offset - axis_offset(layer, dims)  # layer axes that the image lacks
    if n_lacking > 0:
        shown = _layer_point(layer, image_layer, plane, dims)[:n_lacking]
        on_plane &= (nearest(points[:, :n_lacking]) == nearest(shown)).all(axis=1)
    for axis, position in zip(plane.other_axes, plane.position, strict=True):
        if axis not in ignored_axes and axis + n_lacking >= 0:
            on_plane &= nearest(in_image[:, axis]) == position
    return in_image[:, [col_axis, row_axis]], on_plane


def from_plane_xy(
    points_xy: ArrayLike, plane: Plane, layer: Layer, image_layer: Layer, dims: Dims
) -> NDArray[np.float64]:
    """Put points of a plane into a layer.

    Parameters
    ----------
    points_xy : array_like, shape (N, 2)
        Plane pixels.
    plane : Plane
        A plane of `image_layer`.
    layer : napari.layers.Layer
        The layer that will hold them.
    image_layer : napari.layers.Layer
    dims : napari.components.Dims
        ``viewer.dims``; its point decides along axes that the image lacks.

    Returns
    -------
    ndarray, shape (N, D)
        Data coordinates in `layer`, which has D axes.

    Raises
    ------
    InputError
        When a layer lacks a displayed axis or is turned out of the plane.
    """
    world = _plane_to_world(np.asarray(points_xy, dtype=np.float64), plane, image_layer, dims)
    to_data = world_to_data(layer, dims, _matching_axes(layer, image_layer, plane, dims))
    return apply(to_data, world[:, axis_offset(layer, dims) :])


def world_to_plane_xy(
    position: Sequence[float], image_layer: Layer, plane: Plane, dims: Dims
) -> tuple[float, float]:
    """Tell where on a plane a position of the mouse is.

    Parameters
    ----------
    position : sequence of float
        ``viewer.cursor.position`` or ``event.position``: one value per axis of the viewer.
    image_layer : napari.layers.Layer
        The layer that `plane` is a plane of.
    plane : Plane
    dims : napari.components.Dims
        ``viewer.dims``.

    Returns
    -------
    tuple of float
        (x, y) in plane pixels; rounded, the pixel under the mouse. It may lie outside the image.

    Raises
    ------
    InputError
        When the image is turned out of the plane.
    """
    to_data = world_to_data(image_layer, dims, plane.axes_yx)
    world = np.asarray(position, dtype=np.float64)[np.newaxis, -image_layer.ndim :]
    at = apply(to_data, world)[0]
    return float(at[plane.axes_yx[1]]), float(at[plane.axes_yx[0]])


def plane_xy_to_world(
    point_xy: tuple[float, float], image_layer: Layer, plane: Plane, dims: Dims
) -> tuple[float, ...]:
    """Tell where in the viewer's world a point of a plane is.

    Parameters
    ----------
    point_xy : tuple of float
        Plane pixels.
    image_layer : napari.layers.Layer
        The layer that `plane` is a plane of.
    plane : Plane
    dims : napari.components.Dims
        ``viewer.dims``; its point decides along axes that the image lacks.

    Returns
    -------
    tuple of float
        One value per axis of the viewer.

    Raises
    ------
    InputError
        When the image is turned out of the plane.
    """
    world = _plane_to_world(np.asarray([point_xy], dtype=np.float64), plane, image_layer, dims)
    return tuple(float(value) for value in world[0])


def visible_region(viewer: ViewerModel, image_layer: Layer, plane: Plane) -> Region:
    """Tell which part of a plane the viewer shows.

    Parameters
    ----------
    viewer : napari.Viewer
        Where its canvas is divided into a grid, each cell shows less than what is told.
    image_layer : napari.layers.Image or napari.layers.Labels
        The layer that `plane` is a plane of.
    plane : Plane

    Returns
    -------
    Region
        Rows and columns at full resolution; empty when the image is out of sight.

    Raises
    ------
    InputError
        When the image is turned out of the plane.
    """
    dims = viewer.dims
    camera = camera_of(viewer)
    canvas_yx = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size
    half_yx = np.asarray(canvas_yx) / (2 * camera.zoom)
    offset = axis_offset(image_layer, dims)
    corners = np.tile(np.asarray(dims.point, dtype=np.float64), (4, 1))
    signs = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    corners[:, [axis + offset for axis in plane.axes_yx]] = camera.center[-2:] + signs * half_yx
    to_data = world_to_data(image_layer, dims, plane.axes_yx)
    yx = apply(to_data, corners[:, offset:])[:, plane.axes_yx]
    spans = []
    shape_yx = plane.shape_yx(image_layer.level_shapes[0][: image_layer.ndim])
    for low, high, length in zip(yx.min(axis=0), yx.max(axis=0), shape_yx, strict=True):
        start = min(max(math.floor(low + 0.5), 0), length)  # pixel i reaches from i - 0.5 on
        spans.append((start, max(min(math.ceil(high + 0.5), length), start)))
    return Region((spans[0][0], spans[1][0]), (spans[0][1], spans[1][1]))


def camera_of(viewer: ViewerModel) -> Any:
    """Return the camera, wherever this napari keeps it.

    Parameters
    ----------
    viewer : napari.Viewer

    Returns
    -------
    napari.components.Camera
    """
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def shares_grid(layer: Layer, image_layer: Layer, plane: Plane, dims: Dims) -> bool:
    """Tell whether a labels layer has the same pixels as a plane of an image.

    Parameters
    ----------
    layer : napari.layers.Labels
    image_layer : napari.layers.Image
        The layer that `plane` is a plane of.
    plane : Plane
    dims : napari.components.Dims
        ``viewer.dims``.

    Returns
    -------
    bool
        Whether the plane's pixels are those of `layer`, in the same places and as many. Which
        slices the layer has is not looked at.
    """
    try:
        rows, cols = plane.shape_yx(image_layer.level_shapes[0][: image_layer.ndim])
        axes_yx = _matching_axes(layer, image_layer, plane, dims)
        corners_xy = np.array([(0, 0), (cols - 1, 0), (0, rows - 1), (cols - 1, rows - 1)])
        found = from_plane_xy(corners_xy, plane, layer, image_layer, dims)
    except InputError:
        return False
    lengths = tuple(int(layer.level_shapes[0][axis]) for axis in axes_yx)
    is_near = np.abs(found[:, axes_yx][:, ::-1] - corners_xy).max() <= GRID_TOLERANCE
    return lengths == (rows, cols) and bool(is_near)


def _layer_to_world(
    points: NDArray[np.float64], layer: Layer, image_layer: Layer, plane: Plane, dims: Dims
) -> NDArray[np.float64]:
    """Turn (N, D) data coordinates into world ones, (N, axes of the viewer)."""
    to_data = world_to_data(layer, dims, _matching_axes(layer, image_layer, plane, dims))
    world = np.tile(np.asarray(dims.point, dtype=np.float64), (len(points), 1))
    world[:, axis_offset(layer, dims) :] = apply(inverse(to_data), points)
    return world


def _plane_to_world(
    points_xy: NDArray[np.float64], plane: Plane, image_layer: Layer, dims: Dims
) -> NDArray[np.float64]:
    """Turn (N, 2) plane pixels into world coordinates, (N, axes of the viewer)."""
    points_xy = points_xy.reshape(-1, 2)
    to_data = world_to_data(image_layer, dims, plane.axes_yx)
    in_image = np.empty((len(points_xy), plane.ndim))
    in_image[:, list(plane.other_axes)] = plane.position
    in_image[:, plane.axes_yx] = points_xy[:, ::-1]
    world = np.tile(np.asarray(dims.point, dtype=np.float64), (len(points_xy), 1))
    world[:, axis_offset(image_layer, dims) :] = apply(inverse(to_data), in_image)
    return world


def _layer_point(layer: Layer, image_layer: Layer, plane: Plane, dims: Dims) -> NDArray[np.float64]:
    """Turn the viewer's point into data coordinates of a layer, (D,)."""
    to_data = world_to_data(layer, dims, _matching_axes(layer, image_layer, plane, dims))
    point = np.asarray(dims.point, dtype=np.float64)[axis_offset(layer, dims) :]
    at: NDArray[np.float64] = apply(to_data, point[np.newaxis])[0]
    return at


def _matching_axes(layer: Layer, image_layer: Layer, plane: Plane, dims: Dims) -> tuple[int, int]:
    """Find the axes of a layer that are the rows and columns of an image's plane."""
    shift = axis_offset(image_layer, dims) - axis_offset(layer, dims)
    row_axis, col_axis = (axis + shift for axis in plane.axes_yx)
    if min(row_axis, col_axis) < 0:
        raise InputError(
            f"The layer '{layer.name}' has {layer.ndim} axes, the image '{image_layer.name}' "
            f"{image_layer.ndim}",
            rule="A layer on a plane of an image has the two axes of that plane; axes are counted "
            "from the last",
            cure=f"Use a layer with {image_layer.ndim} axes",
        )
    return row_axis, col_axis
