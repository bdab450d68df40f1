"""Masks that are computed while the mouse button is still down."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject

from napari_sam._napari.coordinates import to_plane_xy
from napari_sam._napari.prompt_layers import DIGITS, TOOLS
from napari_sam.core.prompts import PointPrompt

if TYPE_CHECKING:
    from napari.layers import Points

    from napari_sam._napari.interaction import Interaction

__all__ = ["PressAhead"]


class PressAhead(QObject):  # type: ignore[misc]  # qtpy has no types
    """Let the model begin with a click when the button is pressed.

    napari puts a point when the button is released, about a tenth of a second later, and then the
    canvas is drawn. What was decoded until then is remembered by the predictor, so that the click
    itself finds its masks there. Where no click comes of it, nothing has happened.

    Parameters
    ----------
    interaction : Interaction
        Also the owner.
    """

    def __init__(self, interaction: Interaction) -> None:
        super().__init__(interaction)
        self._interaction = interaction
        self._followed: weakref.ref[Points] | None = None
        interaction.prompts.opened.connect(self._follow)

    def _follow(self) -> None:
        """Listen to the layer that points are put into."""
        points = self._interaction.prompts.points
        if points is None or (self._followed is not None and self._followed() is points):
            return
        self._followed = weakref.ref(points)
        listener = weakref.WeakMethod(self._on_press)  # layers hold their callbacks

        def on_press(layer: Points, event: Any) -> None:
            listen = listener()
            if listen is not None:
                listen(layer, event)

        points.mouse_drag_callbacks.append(on_press)

    def _on_press(self, layer: Points, event: Any) -> None:
        interaction = self._interaction
        engine, session = interaction.engine, interaction.session
        if layer.mode != TOOLS["point"] or engine.is_answering or not engine.is_ready:
            return
        point = self._point_at(layer, event.position)
        if point is not None:
            placed = session.prompts
            request = session.request_for(replace(placed, points=(*placed.points, point)))
            if request is not None:
                engine.predict(request, lambda *_: None)

    def _point_at(self, layer: Points, world: tuple[float, ...]) -> PointPrompt | None:
        """Return the prompt that a click will give, digit by digit."""
        interaction = self._interaction
        image, plane, axis = interaction.image, interaction.plane, interaction.channel_axis
        if image is None or plane is None:
            return None
        ignored = () if axis is None else (axis,)
        data = np.atleast_2d(layer.world_to_data(world))
        xy, on_plane = to_plane_xy(data, layer, image, plane, interaction.viewer.dims, ignored)
        x, y = (float(value) for value in np.round(xy[0], DIGITS))
        rows, cols = interaction.shape_yx
        if not (on_plane[0] and -0.5 <= x <= cols - 0.5 and -0.5 <= y <= rows - 0.5):
            return None
        return PointPrompt(x, y, interaction.session.next_is_positive)
