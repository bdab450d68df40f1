"""Draw labels again after their pixels were changed behind napari's back.

napari offers no public call for a part of a layer. What its brush uses is looked up by name here,
and where a version of napari lacks it, the whole layer is refreshed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.plane import Plane
from napari_sam.core.region import Region

if TYPE_CHECKING:
    from napari.layers import Labels

__all__ = ["redraw", "redraw_region"]

_NEEDED = ("_slice", "_slice_input", "_data_slice", "_raw_to_displayed", "_update_thumbnail")
Spans = list[slice]


def redraw(layer: Labels) -> None:
    """Draw all of a layer again.

    Parameters
    ----------
    layer : napari.layers.Labels
    """
    # napari keeps the coarsest level of a 2D pyramid in memory, where it does not change
    forget = getattr(layer, "_reset_thumbnail_level_data", None)
    if layer.multiscale and forget is not None:
        forget()
    layer.refresh()


def redraw_region(layer: Labels, plane: Plane, region_yx: Region) -> bool:
    """Draw a part of a plane again, if it is on the screen.

    Parameters
    ----------
    layer : napari.layers.Labels
    plane : Plane
        A plane of the layer.
    region_yx : Region
        Rows and columns of the plane.

    Returns
    -------
    bool
        False when it is on the screen and only :func:`redraw` can show it.
    """
    if not all(hasattr(layer, name) for name in _NEEDED) or not layer.loaded:
        return False
    spans = _spans(plane, region_yx)
    displayed = list(layer._slice_input.displayed)
    if not _is_shown(layer, spans, displayed) or region_yx.is_empty:
        return True
    shape = tuple(int(layer.data.shape[axis]) for axis in displayed)
    fits = len(displayed) == 2 and layer._slice.image.raw.shape == shape
    if layer.multiscale or not layer.visible or not fits:
        return False
    _draw(layer, spans, displayed)
    return True


def _spans(plane: Plane, region_yx: Region) -> Spans:
    """Write a part of a plane as one slice per axis."""
    index = plane.index(region_yx)
    return [part if isinstance(part, slice) else slice(part, part + 1) for part in index]


def _is_shown(layer: Labels, spans: Spans, displayed: list[int]) -> bool:
    """Tell whether the slice on the screen meets the spans."""
    point = layer._data_slice.point
    others = (axis for axis in range(layer.ndim) if axis not in displayed)
    return all(spans[axis].start <= round(float(point[axis])) < spans[axis].stop for axis in others)


def _draw(layer: Labels, spans: Spans, displayed: list[int]) -> None:
    """Bring napari's copy of the slice up to date, and its texture."""
    raw, view = layer._slice.image.raw, layer._slice.image.view
    point = layer._data_slice.point
    source = tuple(
        spans[axis] if axis in displayed else round(float(point[axis]))
        for axis in range(layer.ndim)
    )
    values = np.asarray(layer.data[source])
    part = tuple(spans[axis] for axis in displayed)
    raw[part] = values if displayed[0] < displayed[1] else values.T
    if layer.contour > 0:  # outlines of the neighbours change too
        margin = int(layer.contour) + 1
        part = tuple(
            slice(max(span.start - margin, 0), min(span.stop + margin, length))
            for span, length in zip(part, raw.shape, strict=True)
        )
    view[part] = layer._raw_to_displayed(raw, data_slice=part)
    layer.events.labels_update(data=view[part], offset=[span.start for span in part])
    layer._update_thumbnail()
