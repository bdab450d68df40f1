"""A combo box of the layers of a viewer that keeps up with what happens to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QWidget

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

__all__ = ["LayerCombo"]


class LayerCombo(QComboBox):  # type: ignore[misc]  # qtpy has no types
    """Choose one of a viewer's layers.

    Layers may come, go, and be renamed or reordered: the chosen one stays chosen as long as it is
    there.

    Parameters
    ----------
    viewer : napari.Viewer
    accepts : callable
        Tells whether a layer is offered.
    none_text : str, optional
        Text of a first entry that stands for no layer; without it, there is none.
    parent : QWidget, optional
    """

    layer_changed = Signal(object)
    """The layer that is now chosen, or None."""

    def __init__(
        self,
        viewer: napari.Viewer,
        accepts: Callable[[Layer], bool],
        none_text: str | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._accepts, self._none_text = viewer, accepts, none_text
        self._layers: list[Layer | None] = []
        self._chosen: Layer | None = None
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.currentIndexChanged.connect(self._on_index)
        self._events = viewer.layers.events
        for event in (self._events.inserted, self._events.removed, self._events.reordered):
            event.connect(self.refresh)
        self._named: list[Layer] = []
        self.refresh()

    @property
    def layer(self) -> Layer | None:
        """The chosen layer."""
        return self._chosen

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer that is offered."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def refresh(self, event: Any = None) -> None:
        """Offer the layers that are there now."""
        layers = [layer for layer in self._viewer.layers if self._accepts(layer)]
        self._follow_names(layers)
        offered: list[Layer | None] = [*reversed(layers)]  # as in napari's list: the top first
        if self._none_text is not None:
            offered.insert(0, None)
        self.blockSignals(True)
        self.clear()
        for layer in offered:
            self.addItem(self._none_text or "" if layer is None else layer.name)
        self._layers = offered
        chosen = self._chosen if self._chosen in offered else next(iter(offered), None)
        self.setCurrentIndex(offered.index(chosen) if offered else -1)
        self.blockSignals(False)
        self._set_chosen(chosen)

    def close_events(self) -> None:
        """Let go of the viewer."""
        for event in (self._events.inserted, self._events.removed, self._events.reordered):
            event.disconnect(self.refresh)
        self._follow_names([])
        self._layers, self._chosen = [], None

    def _follow_names(self, layers: list[Layer]) -> None:
        for layer in self._named:
            layer.events.name.disconnect(self.refresh)
        for layer in layers:
            layer.events.name.connect(self.refresh)
        self._named = layers

    def _on_index(self, index: int) -> None:
        self._set_chosen(self._layers[index] if 0 <= index < len(self._layers) else None)

    def _set_chosen(self, layer: Layer | None) -> None:
        if layer is not self._chosen:
            self._chosen = layer
            self.layer_changed.emit(layer)
