"""The layer that shows what the prompts give: masks filled, candidates as outlines.

One labels layer is drawn on again and again. Its *page* covers the whole plane where that is small,
else a part around the masks, because moving a page takes napari longer than drawing on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_sam._napari.coordinates import camera_of
from napari_sam._napari.viewer_layers import remove_layer
from napari_sam._napari.world import data_to_world
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.pipeline.candidates import MaskPatch

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Layer

__all__ = ["CANDIDATE_COLORS", "PREVIEW_NAME", "PreviewLayer", "is_preview"]

PREVIEW_NAME = "SAM preview"
_MARK = "napari_sam_preview"
PAGE = 2048
"""Least rows and columns of a page, where the plane has them."""
CANDIDATE_COLORS = ("#56b4e9", "#f0e442", "#cc79a7", "#ffffff")
"""Outlines of the candidates, also told apart by people who see few colours (Okabe and Ito)."""
FILL_COLORS = ("#e69f00", "#009e73", "#0072b2", "#d55e00", "#56b4e9", "#f0e442")
_FIRST_FILL = len(CANDIDATE_COLORS) + 1
_FILL_OPACITY = 0.45


class _Shown(NamedTuple):
    """What is drawn; to draw it again costs napari a refresh and a frame."""

    image: Image
    plane: Plane
    zoom: float
    parts: tuple[MaskPatch | int, ...]

    @classmethod
    def of(
        cls,
        viewer: napari.Viewer,
        image: Image,
        plane: Plane,
        masks: Sequence[MaskPatch],
        outlines: Sequence[tuple[int, MaskPatch]],
    ) -> _Shown:
        zoom = float(camera_of(viewer).zoom)
        lines = (part for outline in outlines for part in outline)
        return cls(image, plane, zoom, (*masks, *lines))

    def equals(self, other: _Shown | None) -> bool:
        return (
            other is not None
            and self.image is other.image
            and (self.plane, self.zoom) == (other.plane, other.zoom)
            and len(self.parts) == len(other.parts)
            and all(one is another for one, another in zip(self.parts, other.parts, strict=True))
        )


class PreviewLayer:
    """Draw masks over an image.

    Parameters
    ----------
    viewer : napari.Viewer
        The layer is added to it with the first mask.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._layer: Labels | None = None
        self._image: Image | None = None
        self._plane: Plane | None = None
        self._page: Region | None = None
        self._pixels: NDArray[np.uint8] = np.zeros((1, 1), np.uint8)
        self._drawn: list[Region] = []
        self._shown: _Shown | None = None

    @property
    def layer(self) -> Labels | None:
        """The layer, where it is in the viewer."""
        return self._layer

    def show(
        self,
        image: Image,
        plane: Plane,
        shape_yx: tuple[int, int],
        masks: Sequence[MaskPatch],
        outlines: Sequence[tuple[int, MaskPatch]] = (),
    ) -> None:
        """Replace what is shown.

        Parameters
        ----------
        image : napari.layers.Image
            The layer that the masks belong to.
        plane : Plane
            The plane of it that they lie on.
        shape_yx : tuple of int
            Rows and columns of the plane.
        masks : sequence of MaskPatch
            Filled, in turn with each colour.
        outlines : sequence of (int, MaskPatch)
            Drawn as outlines, each with the number of its colour in `CANDIDATE_COLORS`.
        """
        self._shown, before = _Shown.of(self._viewer, image, plane, masks, outlines), self._shown
        if self._shown.equals(before) and self._drawn and self._layer in self._viewer.layers:
            self._follow(image)
            return
        patches = [patch.clipped(shape_yx) for patch in masks]
        lines = [(number, patch.clipped(shape_yx)) for number, patch in outlines]
        everything = [*patches, *(patch for _, patch in lines)]
        regions = [patch.region_yx for patch in everything if not patch.is_empty]
        if not regions:
            self.clear()
            return
        self._turn_page(image, plane, shape_yx, _around(regions))
        self._wipe()
        assert self._page is not None
        for number, patch in enumerate(patches):
            if not patch.is_empty:
                fill = _FIRST_FILL + number % len(FILL_COLORS)
                self._draw(patch.mask, patch.region_yx, fill)
        width = self._line_width()
        for number, patch in lines:
            if not patch.is_empty:
                self._draw(_outline(patch.mask, width), patch.region_yx, number + 1)
        self._refresh()

    def clear(self) -> None:
        """Show nothing."""
        if self._drawn:
            self._wipe()
            self._refresh()

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        layer, self._layer = self._layer, None
        self.forget()
        if layer is not None:
            remove_layer(self._viewer, layer)

    def forget(self) -> None:
        """Begin anew, because the layer has gone or belongs to another image."""
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = None
        self._image, self._plane, self._page, self._drawn = None, None, None, []

    def _turn_page(
        self, image: Image, plane: Plane, shape_yx: tuple[int, int], needed: Region
    ) -> None:
        """Make sure that the page holds a region of the plane."""
        if self._layer is not None and self._layer not in self._viewer.layers:
            self.forget()
        same = image is self._image and plane == self._plane
        if same and self._page is not None and needed.intersect(self._page) == needed:
            self._follow(image)
            return
        page = _page_around(needed, shape_yx)
        size = [1] * plane.ndim
        for axis, length in zip(plane.axes_yx, page.shape, strict=True):
            size[axis] = length
        self._image, self._plane, self._page, self._drawn = image, plane, page, []
        if self._layer is None or self._layer.ndim != plane.ndim:
            self.remove()
            self._image, self._plane, self._page = image, plane, page
            self._pixels = np.zeros(size, np.uint8)
            self._layer = self._add_layer(image)
        else:
            self._pixels = np.zeros(size, np.uint8)
            self._layer.data = self._pixels
            self._layer.units, self._layer.axis_labels = image.units, image.axis_labels
        self._follow(image)

    def _add_layer(self, image: Image) -> Labels:
        """Add the layer and leave the selection as it is: clicks go to the layer with prompts."""
        selection = set(self._viewer.layers.selection)
        layer = Labels(
            self._pixels,
            name=PREVIEW_NAME,
            metadata={_MARK: True},
            colormap=_colormap(),
            opacity=1.0,
            affine=self._affine(image),
            units=image.units,
            axis_labels=image.axis_labels,
        )
        layer.editable = False
        self._viewer.add_layer(layer)
        self._viewer.layers.selection = selection
        return layer

    def _follow(self, image: Image) -> None:
        """Lie where the image lies, also after it was moved."""
        affine = self._affine(image)
        if self._layer is not None and not np.array_equal(self._layer.affine.affine_matrix, affine):
            self._layer.affine = affine

    def _affine(self, image: Image) -> NDArray[np.float64]:
        """Return the image's transform, moved to the first pixel of the page."""
        assert self._plane is not None
        assert self._page is not None
        offset = np.zeros(self._plane.ndim)
        offset[list(self._plane.other_axes)] = self._plane.position
        offset[list(self._plane.axes_yx)] = self._page.start
        moved = np.eye(len(offset) + 1)
        moved[:-1, -1] = offset
        affine: NDArray[np.float64] = data_to_world(image) @ moved
        return affine

    def _draw(self, mask: NDArray[np.bool_], region: Region, value: int) -> None:
        assert self._plane is not None
        assert self._page is not None
        inside = region.relative_to(self._page)
        flat = Plane(self._plane.axes_yx, (0,) * len(self._plane.position))
        block = flat.read(self._pixels, inside)
        block[mask] = value
        self._drawn.append(inside)

    def _wipe(self) -> None:
        if self._plane is None:
            return
        flat = Plane(self._plane.axes_yx, (0,) * len(self._plane.position))
        for region in self._drawn:
            flat.write(self._pixels, region, 0)
        self._drawn = []

    def _refresh(self) -> None:
        if self._layer is not None:
            self._layer.refresh(thumbnail=False, highlight=False, extent=False)

    def _line_width(self) -> int:
        """Pixels of an outline that can be seen at the zoom of the viewer."""
        zoom = float(camera_of(self._viewer).zoom)
        assert self._plane is not None
        in_plane = data_to_world(self._image)[:, list(self._plane.axes_yx)]
        scale = float(np.linalg.norm(in_plane, axis=0).min())
        return int(np.clip(round(1.5 / max(zoom * scale, 1e-3)), 1, 16))


def is_preview(layer: Layer) -> bool:
    """Tell whether a layer shows results that are not kept yet, so that nothing is put into it.

    Parameters
    ----------
    layer : napari.layers.Layer

    Returns
    -------
    bool
    """
    return bool(layer.metadata.get(_MARK)) or str(layer.name).startswith(PREVIEW_NAME)


def _around(regions: Sequence[Region]) -> Region:
    starts, stops = zip(*((region.start, region.stop) for region in regions), strict=True)
    return Region(tuple(np.min(starts, axis=0).tolist()), tuple(np.max(stops, axis=0).tolist()))


def _page_around(needed: Region, shape_yx: tuple[int, int]) -> Region:
    """Choose a page with room on all sides."""
    start, stop = [], []
    for low, high, length in zip(needed.start, needed.stop, shape_yx, strict=True):
        size = min(max(PAGE, 2 * (high - low)), length)
        first = min(max((low + high - size) // 2, 0), length - size)
        start.append(first)
        stop.append(first + size)
    return Region(tuple(start), tuple(stop))


def _outline(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Find the pixels of a mask (h, w) within some pixels of its edge."""
    from scipy import ndimage

    padded = np.pad(mask, 1)
    inner = ndimage.binary_erosion(padded, iterations=width)[1:-1, 1:-1]
    outline: NDArray[np.bool_] = mask & ~inner
    return outline


def _colormap() -> DirectLabelColormap:
    colors: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    colors.update(enumerate(CANDIDATE_COLORS, start=1))
    for value, color in zip(itertools.count(_FIRST_FILL), FILL_COLORS, strict=False):
        rgb = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        colors[value] = (*rgb, _FILL_OPACITY)
    return DirectLabelColormap(color_dict=colors)
