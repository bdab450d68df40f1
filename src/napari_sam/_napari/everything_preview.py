"""The layer that shows what was found on a plane, before it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_sam._napari.preview_layer import PREVIEW_NAME
from napari_sam._napari.viewer_layers import remove_layer
from napari_sam._napari.world import data_to_world
from napari_sam.core.plane import Plane

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

__all__ = ["EVERYTHING_PREVIEW_NAME", "EverythingPreview"]

EVERYTHING_PREVIEW_NAME = f"{PREVIEW_NAME}: everything"


class EverythingPreview:
    """Show the objects of one plane in a labels layer of its own.

    Parameters
    ----------
    viewer : napari.Viewer
        The layer is added to it with the first result.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._layer: Labels | None = None
        self._plane: Plane | None = None

    @property
    def layer(self) -> Labels | None:
        """The layer, where it is in the viewer."""
        return self._layer

    def show(self, labels: NDArray[np.integer], image: Image, plane: Plane) -> None:
        """Replace what is shown.

        Parameters
        ----------
        labels : ndarray of int, shape (rows, columns)
            0 is background.
        image : napari.layers.Image
            The layer that they belong to.
        plane : Plane
            The plane of it that they lie on.
        """
        flat = Plane(plane.axes_yx, (0,) * len(plane.position))
        shape = [1] * plane.ndim
        for axis, length in zip(plane.axes_yx, labels.shape, strict=True):
            shape[axis] = length
        # napari draws integers of 8 and 16 bits several times as fast as longer ones
        dtype = np.uint16 if labels.max(initial=0) < 2**16 else np.uint32
        layer = self._layer
        fits = layer is not None and layer.data.shape == tuple(shape) and layer.data.dtype == dtype
        if layer is None or not fits or plane != self._plane:
            pixels = np.zeros(shape, dtype)
            flat.write(pixels, None, labels)
            self._plane = plane
            self._put(pixels, image)
            return
        flat.write(layer.data, None, labels)
        layer.affine = _affine(image, plane)
        layer.refresh(extent=False)

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        layer, self._layer = self._layer, None
        if layer is not None:
            remove_layer(self._viewer, layer)

    def forget(self) -> None:
        """Do without the layer, which somebody else has taken out."""
        self._layer = None

    def _put(self, pixels: NDArray[Any], image: Image) -> None:
        """Add the layer and leave the selection as it is."""
        assert self._plane is not None
        affine = _affine(image, self._plane)
        if self._layer is not None and self._layer.ndim == pixels.ndim:
            self._layer.data = pixels
            self._layer.affine = affine
            self._layer.units, self._layer.axis_labels = image.units, image.axis_labels
            return
        self.remove()
        selection = set(self._viewer.layers.selection)
        self._layer = Labels(
            pixels,
            name=EVERYTHING_PREVIEW_NAME,
            affine=affine,
            units=image.units,
            axis_labels=image.axis_labels,
        )
        self._layer.editable = False
        self._viewer.add_layer(self._layer)
        self._viewer.layers.selection = selection


def _affine(image: Image, plane: Plane) -> NDArray[np.float64]:
    """Return the image's transform, moved to the plane."""
    moved = np.eye(plane.ndim + 1)
    moved[list(plane.other_axes), -1] = plane.position
    affine: NDArray[np.float64] = data_to_world(image) @ moved
    return affine
