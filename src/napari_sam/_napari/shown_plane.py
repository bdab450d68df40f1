"""The plane of an image that is on the screen, and how to bring another one there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam._napari.coordinates import (
    camera_of,
    displayed_plane,
    plane_xy_to_world,
    world_to_plane_xy,
)
from napari_sam._napari.world import axis_offset
from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

__all__ = ["center_on", "mouse_on_plane", "plane_on_screen", "show_plane", "without_channel"]


def plane_on_screen(image: Image, viewer: napari.Viewer, channel_axis: int | None) -> Plane:
    """Find the plane of an image that is on the screen.

    Parameters
    ----------
    image : napari.layers.Image
    viewer : napari.Viewer
    channel_axis : int or None
        The axis of the image that counts channels.

    Returns
    -------
    Plane

    Raises
    ------
    InputError
        When there is none that can be segmented; the message says what hinders.
    """
    plane = displayed_plane(image, viewer.dims)
    if channel_axis in plane.axes_yx:
        raise InputError(
            f"The viewer displays axis {channel_axis}, which was chosen to count channels",
            rule="A plane has rows and columns of one image, not its channels",
            cure="Roll the viewer's axes until rows and columns are displayed, or choose another "
            "channel axis",
        )
    return plane


def without_channel(plane: Plane, channel_axis: int | None) -> Plane:
    """Count a plane on the first channel: prompts stand on all channels alike.

    Parameters
    ----------
    plane : Plane
    channel_axis : int or None

    Returns
    -------
    Plane
    """
    return plane if channel_axis is None else plane.with_position(channel_axis, 0)


def show_plane(
    viewer: napari.Viewer, image: Image, plane: Plane, channel_axis: int | None = None
) -> None:
    """Bring a plane to the screen: in 2D, with its axes displayed, and the sliders on it.

    Parameters
    ----------
    viewer : napari.Viewer
    image : napari.layers.Image
    plane : Plane
        A plane of `image`.
    channel_axis : int, optional
        The axis whose slider stays where it is.
    """
    dims = viewer.dims
    offset = axis_offset(image, dims)
    shown = [axis + offset for axis in plane.axes_yx]
    dims.ndisplay = 2
    if list(dims.displayed) != shown:
        dims.order = (*(axis for axis in dims.order if axis not in shown), *shown)
    world = plane_xy_to_world((0, 0), image, plane, dims)
    moved = [axis + offset for axis in plane.other_axes if axis != channel_axis]
    dims.set_point(moved, [world[axis] for axis in moved])


def center_on(
    viewer: napari.Viewer, image: Image, plane: Plane, point_xy: tuple[float, float]
) -> None:
    """Put a point of the plane on the screen into the middle of the canvas.

    Parameters
    ----------
    viewer : napari.Viewer
    image : napari.layers.Image
    plane : Plane
        A plane of `image`.
    point_xy : tuple of float
        Plane pixels.
    """
    world = plane_xy_to_world(point_xy, image, plane, viewer.dims)
    camera = camera_of(viewer)
    center = list(camera.center)
    center[-2:] = [world[axis] for axis in viewer.dims.displayed]
    camera.center = tuple(center)


def mouse_on_plane(viewer: napari.Viewer, image: Image, plane: Plane) -> tuple[float, float] | None:
    """Tell where the mouse is on a plane.

    Parameters
    ----------
    viewer : napari.Viewer
    image : napari.layers.Image
    plane : Plane
        The plane of `image` that is on the screen.

    Returns
    -------
    tuple of float or None
        (x, y) in plane pixels; None beyond the image.
    """
    x, y = world_to_plane_xy(viewer.cursor.position, image, plane, viewer.dims)
    rows, cols = plane.shape_yx(image.level_shapes[0][: image.ndim])
    is_inside = -0.5 <= x <= cols - 0.5 and -0.5 <= y <= rows - 0.5
    return (x, y) if is_inside else None
