"""A layer with the pixels of the plane as the model gets them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from napari_sam._napari.coordinates import visible_region
from napari_sam._napari.model_view import model_view
from napari_sam._napari.viewer_layers import remove_layer
from napari_sam._napari.workers import Job, run_function
from napari_sam._napari.world import data_to_world
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_sam._napari.layers import LayerPlane
    from napari_sam.tiling import Contrast

__all__ = ["VIEW_NAME", "ModelViewLayer", "is_model_view"]

VIEW_NAME = "What the model sees"
_MARK = "napari_sam_model_view"
MAX_PIXELS = 2**24
"""Of a larger plane, the part on the screen is shown, at this resolution or coarser."""


class ModelViewLayer(QObject):  # type: ignore[misc]  # qtpy has no types
    """Show what the model sees of the plane in view.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QObject
        The owner.
    """

    def __init__(self, viewer: napari.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: Image | None = None
        self._job: Job | None = None
        self._is_on = False

    @property
    def is_on(self) -> bool:
        """Whether the picture is to be shown."""
        return self._is_on

    @property
    def layer(self) -> Image | None:
        """The layer, where it is in the viewer."""
        return self._layer

    def switch(self, is_on: bool) -> None:
        """Show the picture from the next update on, or take it away."""
        self._is_on = is_on
        if not is_on:
            self.remove()

    def update(
        self, image: Image, plane: Plane, pixels: LayerPlane | None, contrast: Contrast | None
    ) -> None:
        """Compute the picture in a worker, and show it when it is there, if it is to be shown.

        Parameters
        ----------
        image : napari.layers.Image
        plane : Plane
            Where it is shown.
        pixels : LayerPlane or None
        contrast : Contrast or None
            None where it is not known yet.
        """
        self._cancel()
        if not self._is_on or pixels is None or contrast is None:
            return
        level, region = self._part(image, plane, pixels)

        def shown(picture: NDArray[np.uint8]) -> None:
            self._job = None
            self._place(image, plane, pixels, level, region, picture)

        self._job = run_function(
            lambda: model_view(pixels, contrast, region, level), on_result=shown, parent=self
        )

    def remove(self) -> None:
        """Take the layer away."""
        self._cancel()
        layer, self._layer = self._layer, None
        if layer is not None:
            remove_layer(self._viewer, layer)

    def _cancel(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.close()

    def _part(self, image: Image, plane: Plane, pixels: LayerPlane) -> tuple[int, Region]:
        """Choose a resolution level, and the region of it that is shown."""
        shapes = pixels.levels_yx
        for level, shape in enumerate(shapes):
            if math.prod(shape) <= MAX_PIXELS:
                return level, Region.whole(shape)
        level = len(shapes) - 1
        view = visible_region(self._viewer, image, plane)
        scale = [coarse / fine for coarse, fine in zip(shapes[level], shapes[0], strict=True)]
        start = [int(low * s) for low, s in zip(view.start, scale, strict=True)]
        most = math.isqrt(MAX_PIXELS)
        stop = [
            min(math.ceil(high * s), first + most, length)
            for high, s, first, length in zip(view.stop, scale, start, shapes[level], strict=True)
        ]
        if min(b - a for a, b in zip(start, stop, strict=True)) < 1:
            start, stop = [0, 0], [min(length, most) for length in shapes[level]]
        return level, Region(tuple(start), tuple(stop))

    def _place(
        self,
        image: Image,
        plane: Plane,
        pixels: LayerPlane,
        level: int,
        region: Region,
        picture: NDArray[np.uint8],
    ) -> None:
        """Put the picture where its pixels lie in the image."""
        if image not in self._viewer.layers:
            return
        size = [1] * plane.ndim
        for axis, length in zip(plane.axes_yx, region.shape, strict=True):
            size[axis] = length
        flat = Plane(plane.axes_yx, (0,) * len(plane.position))
        data = np.zeros((*size, 3), np.uint8)
        for channel in range(3):
            flat.write(data[..., channel], None, picture[..., channel])
        affine = data_to_world(image) @ _to_image(plane, pixels, level, region)
        selection = set(self._viewer.layers.selection)
        old, self._layer = self._layer, None
        if old is not None:
            remove_layer(self._viewer, old)
        self._layer = Image(
            data,
            rgb=True,
            name=VIEW_NAME,
            metadata={_MARK: True},
            affine=affine,
            units=image.units,
            axis_labels=image.axis_labels,
        )
        self._viewer.layers.insert(self._viewer.layers.index(image) + 1, self._layer)
        self._viewer.layers.selection = selection & set(self._viewer.layers)


def is_model_view(layer: Layer) -> bool:
    """Tell whether a layer shows what the model sees, so that it is no image to segment.

    Parameters
    ----------
    layer : napari.layers.Layer

    Returns
    -------
    bool
    """
    return bool(layer.metadata.get(_MARK))


def _to_image(plane: Plane, pixels: LayerPlane, level: int, region: Region) -> NDArray[np.float64]:
    """Return the transform from a part of a level to the full image, pixel centres at integers."""
    matrix = np.eye(plane.ndim + 1)
    matrix[list(plane.other_axes), -1] = plane.position
    fine, coarse = pixels.levels_yx[0], pixels.levels_yx[level]
    for i, axis in enumerate(plane.axes_yx):
        factor = fine[i] / coarse[i]
        matrix[axis, axis] = factor
        matrix[axis, -1] = (region.start[i] + 0.5) * factor - 0.5
    return matrix
