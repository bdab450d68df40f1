"""Which planes will be looked at next."""

from __future__ import annotations

from collections.abc import Sequence

from napari_sam.core.plane import Plane

__all__ = ["move_between", "planes_ahead"]

PLANES_AHEAD = 2


def move_between(before: Plane | None, after: Plane | None) -> tuple[int, int] | None:
    """Tell along which axis, and in which direction, the view moved.

    Parameters
    ----------
    before, after : Plane or None

    Returns
    -------
    tuple of int or None
        Axis, and 1 or -1; None where nothing tells.
    """
    if before is None or after is None or before.axes_yx != after.axes_yx:
        return None
    for axis, old, new in zip(after.other_axes, before.position, after.position, strict=True):
        if old != new:
            return axis, 1 if new > old else -1
    return None


def planes_ahead(plane: Plane, move: tuple[int, int] | None, shape: Sequence[int]) -> list[Plane]:
    """List the planes that come next when the view goes on as it moved last.

    Parameters
    ----------
    plane : Plane
        The plane in view.
    move : tuple of int or None
        From `move_between`; by default, forward along the last axis that is not displayed.
    shape : sequence of int
        Of the image.

    Returns
    -------
    list of Plane
        The nearest first.
    """
    if not plane.position:
        return []
    axis, direction = move or (plane.other_axes[-1], 1)
    index = plane.position_along(axis)
    wanted = [index + direction * step for step in range(1, PLANES_AHEAD + 1)]
    return [plane.with_position(axis, i) for i in wanted if 0 <= i < shape[axis]]
