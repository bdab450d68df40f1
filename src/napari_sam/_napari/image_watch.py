"""Hear when an image, or a layer that is one of its channels, changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

if TYPE_CHECKING:
    from napari.layers import Image

__all__ = ["ImageWatch"]

_TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine")
SETTLE_MS = 300
"""Contrast limits are dragged: they count when they have stood still for this long."""


class ImageWatch(QObject):  # type: ignore[misc]  # qtpy has no types
    """Follow the layers of one image.

    Parameters
    ----------
    parent : QObject
        The owner.
    """

    pixels_changed = Signal()
    """A layer was given other data."""
    moved = Signal(str)
    """The name of a transform of the first layer that has changed."""
    limits_changed = Signal()
    """The contrast limits of a layer are others now."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._followed: list[tuple[Any, Callable[[Any], None]]] = []
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self.limits_changed)

    def follow(self, layers: Sequence[Image]) -> None:
        """Follow these layers, and no longer others.

        Parameters
        ----------
        layers : sequence of napari.layers.Image
            The image, then what else its channels are in.
        """
        for event, callback in self._followed:
            event.disconnect(callback)
        self._followed.clear()
        for layer in layers:
            # last: those who tell new pixels from old ones have to hear of them first
            self._connect(layer.events.data, self._on_data)
            self._connect(layer.events.contrast_limits, self._on_limits)
        for name in _TRANSFORMS if layers else ():
            self._connect(getattr(layers[0].events, name), self._on_moved)

    def _connect(self, event: Any, callback: Callable[[Any], None]) -> None:
        event.connect(callback, position="last")
        self._followed.append((event, callback))

    def _on_data(self, event: Any) -> None:
        self.pixels_changed.emit()

    def _on_moved(self, event: Any) -> None:
        self.moved.emit(event.type)

    def _on_limits(self, event: Any) -> None:
        self._settle.start()
