"""The mask under the mouse, before a click."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_sam.core.prompts import PointPrompt, PromptSet
from napari_sam.pipeline.candidates import ObjectCandidates, PredictionRequest

if TYPE_CHECKING:
    from napari_sam._napari.interaction import Interaction

__all__ = ["HoverPreview"]

REST_MS = 60
"""The mouse has to rest this long."""


class HoverPreview(QObject):  # type: ignore[misc]  # qtpy has no types
    """Show the outline that a click would give, as long as there is no prompt.

    Parameters
    ----------
    interaction : Interaction
        Also the owner.
    """

    def __init__(self, interaction: Interaction) -> None:
        super().__init__(interaction)
        self._interaction = interaction
        self._is_on = False
        self._is_shown = False
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self._ask)

    @property
    def is_on(self) -> bool:
        """Whether the mask under the mouse is shown."""
        return self._is_on

    @property
    def is_shown(self) -> bool:
        """Whether a mask stands there now."""
        return self._is_shown

    def switch(self, is_on: bool) -> None:
        """Show the mask under the mouse, or not."""
        if is_on == self._is_on:
            return
        if is_on:
            self._is_on = True
            self._interaction.viewer.mouse_move_callbacks.append(self._on_mouse_move)
        else:
            self.let_go()
            self.end()

    def let_go(self) -> None:
        """Hear no more of the mouse; nothing of Qt's is used."""
        if self._is_on:
            self._is_on = False
            self._interaction.viewer.mouse_move_callbacks.remove(self._on_mouse_move)

    def end(self) -> None:
        """Take the mask away until the mouse moves again."""
        self._rest.stop()
        if self._is_shown:
            self._is_shown = False
            self._interaction.preview.clear()

    def _on_mouse_move(self, viewer: Any, event: Any) -> None:
        interaction = self._interaction
        if interaction.session.prompts.is_empty and interaction.engine.is_ready:
            self._rest.start()

    def _ask(self) -> None:
        interaction = self._interaction
        at, plane = interaction.mouse_xy(), interaction.plane
        if at is None or plane is None or not interaction.session.prompts.is_empty:
            self.end()
            return
        if not interaction.engine.is_ready:
            return
        prompts = PromptSet(points=(PointPrompt(*at, is_positive=True),))
        request = PredictionRequest(-1, plane, (prompts,), interaction.session.preference)
        interaction.engine.predict(request, self._show)

    def _show(self, request: PredictionRequest, found: tuple[ObjectCandidates, ...]) -> None:
        interaction = self._interaction
        is_late = request.plane != interaction.plane or not interaction.session.prompts.is_empty
        if is_late or not self._is_on or interaction.image is None:
            return
        self._is_shown = True
        chosen = found[0].preferred(interaction.session.preference)
        mask = found[0].masks[chosen].at(interaction.session.threshold)
        interaction.show_masks([], [(chosen, mask)])
