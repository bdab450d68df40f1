"""From the world of a viewer to the data of one layer: scale, rotation, units, missing axes.

A plane on the screen must be a plane of the layer's array, or its pixels could be neither read nor
written. So each transform is looked at before it is used, and what a rotation or shear out of the
plane leaves in the numbers by rounding is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.transforms import Affine
from numpy.typing import NDArray

from napari_sam.core.errors import InputError

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Layer

__all__ = ["apply", "axis_offset", "data_to_world", "inverse", "nearest", "world_to_data"]

MIXING_TOLERANCE = 1e-6
"""Slices per pixel, and pixels per slice, that a plane may be out of the screen's."""
ROUNDING_DIGITS = 6
"""Half a slice is half a slice whatever way a coordinate was computed."""


def axis_offset(layer: Layer, dims: Dims) -> int:
    """Count the viewer's axes that a layer lacks: layers have the last axes of the viewer.

    Parameters
    ----------
    layer : napari.layers.Layer
    dims : napari.components.Dims

    Returns
    -------
    int

    Raises
    ------
    InputError
        When the layer has more axes than the viewer, and so is not in it.
    """
    if layer.ndim > dims.ndim:
        raise InputError(
            f"The layer '{layer.name}' has {layer.ndim} axes and the viewer has {dims.ndim}",
            rule="A viewer has as many axes as the layer with the most",
            cure="Add the layer to the viewer first",
        )
    return int(dims.ndim - layer.ndim)


def data_to_world(layer: Layer) -> NDArray[np.float64]:
    """Return the transform of a layer, without regard to units.

    Parameters
    ----------
    layer : napari.layers.Layer

    Returns
    -------
    ndarray, shape (D + 1, D + 1)
        Homogeneous matrix from data coordinates to the world.
    """
    placed = Affine(
        scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear
    )
    return np.asarray(layer.affine.affine_matrix @ placed.affine_matrix, dtype=np.float64)


def world_to_data(layer: Layer, dims: Dims, axes_yx: tuple[int, int]) -> NDArray[np.float64]:
    """Return the transform from the viewer's world to a layer, if it keeps the plane.

    Parameters
    ----------
    layer : napari.layers.Layer
    dims : napari.components.Dims
    axes_yx : tuple of int
        The axes of the layer that are displayed.

    Returns
    -------
    ndarray, shape (D + 1, D + 1)
        Homogeneous matrix from the last D axes of the world to data coordinates. It takes each
        displayed axis from displayed ones only, and each other axis from the others only.

    Raises
    ------
    InputError
        When the layer is turned out of the plane.
    """
    to_world = np.diag([*_unit_factors(layer, dims), 1.0]) @ data_to_world(layer)
    is_shown = np.isin(np.arange(layer.ndim), axes_yx)
    linear = to_world[:-1, :-1]
    in_plane = np.where(is_shown[:, np.newaxis] == is_shown, linear, 0.0)
    if not _is_same_step(in_plane, linear):
        raise InputError(
            f"The layer '{layer.name}' is rotated or sheared out of the plane that is displayed",
            rule="A plane on the screen is a plane of pixels: rotation and shear stay within it",
            cure="Display the two axes that the rotation turns, or set the rotation and shear to "
            "none; an oblique plane needs an image that was resampled along it",
        )
    to_world[:-1, :-1] = in_plane
    return inverse(to_world)


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the transform that leads back.

    Parameters
    ----------
    matrix : ndarray, shape (D + 1, D + 1)

    Returns
    -------
    ndarray, shape (D + 1, D + 1)
    """
    return np.linalg.inv(matrix).astype(np.float64)


def apply(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Transform points.

    Parameters
    ----------
    matrix : ndarray, shape (D + 1, D + 1)
        Homogeneous.
    points : ndarray, shape (N, D)

    Returns
    -------
    ndarray, shape (N, D)
    """
    moved: NDArray[np.float64] = points @ matrix[:-1, :-1].T + matrix[:-1, -1]
    return moved


def nearest(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to whole numbers as napari does when it slices: halves to the even neighbour.

    Parameters
    ----------
    coordinates : ndarray

    Returns
    -------
    ndarray
        Whole numbers, of the same shape.
    """
    return np.rint(np.round(coordinates, ROUNDING_DIGITS))


def _is_same_step(in_plane: NDArray[np.float64], linear: NDArray[np.float64]) -> bool:
    """Tell whether two (D, D) maps move data by the same pixels and slices."""
    try:
        steps = np.linalg.solve(in_plane, linear)
    except np.linalg.LinAlgError:
        return False
    return bool(np.abs(steps - np.eye(len(steps))).max() <= MIXING_TOLERANCE)


def _unit_factors(layer: Layer, dims: Dims) -> list[float]:
    """Return what the layer's units are in those of the viewer, one per axis of the layer."""
    world_units: Sequence[Any] | None = getattr(dims, "units", None)  # since napari 0.7
    if world_units is None or len(world_units) < layer.ndim:
        return [1.0] * int(layer.ndim)
    pairs = zip(layer.units, world_units[-layer.ndim :], strict=True)
    return [
        float((1.0 * unit).m_as(world_unit)) if unit.is_compatible_with(world_unit) else 1.0
        for unit, world_unit in pairs
    ]
