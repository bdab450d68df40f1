"""Layers of a viewer: removed without a crash, and kept on top.

napari 0.9 frees the OpenGL objects of a removed layer at once, in whichever OpenGL context is
current at that moment; outside of drawing, that is not the canvas's own. Another layer that is
added afterwards then ends the process with a segmentation fault.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

__all__ = ["guard_layer_removal", "raise_layers", "remove_layer"]

_guarded: weakref.WeakSet[Any] = weakref.WeakSet()


def guard_layer_removal(viewer: napari.viewer.Viewer) -> None:
    """Make the canvas's OpenGL context current whenever a layer is about to be removed.

    It holds as long as the window is open, also for layers that others remove. Asking again for
    the same viewer changes nothing.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        With a window.
    """
    canvas = viewer.window._qt_viewer.canvas.native
    if canvas in _guarded or not hasattr(canvas, "makeCurrent"):
        return
    _guarded.add(canvas)
    canvas_ref = weakref.ref(canvas)

    def make_current(event: Any) -> None:
        canvas = canvas_ref()
        with suppress(RuntimeError):  # Qt has destroyed the canvas, the layers live on
            if canvas is not None:
                canvas.makeCurrent()

    viewer.layers.events.removing.connect(make_current)


def remove_layer(viewer: napari.viewer.Viewer, layer: Layer) -> None:
    """Take a layer out of a viewer, unless somebody else did so.

    One that is selected goes a moment later: napari may be about to remove all that is selected,
    and stumbles over what has gone meanwhile.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari.layers.Layer
    """

    def remove() -> None:
        if layer in viewer.layers:
            viewer.layers.remove(layer)

    if layer in viewer.layers.selection:
        QTimer.singleShot(0, remove)
    else:
        remove()


def raise_layers(viewer: napari.viewer.Viewer, layers: Sequence[Layer]) -> None:
    """Move layers above all others.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layers : sequence of napari.layers.Layer
        From the lowest to the highest; those that are not in the viewer do not count.
    """
    everything = viewer.layers
    own = [layer for layer in layers if layer in everything]
    if list(everything)[len(everything) - len(own) :] != own:
        for layer in own:
            everything.move(everything.index(layer), len(everything))
