"""Helpers for tests of the widget Segment by clicks: open it, click, hold its work back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gui.hands import wait_until

if TYPE_CHECKING:
    import napari
    import pytest
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_sam._napari.segment_widget import SegmentWidget

__all__ = [
    "A",
    "B",
    "C",
    "D",
    "Gate",
    "cells",
    "click",
    "commit",
    "hold",
    "mask_of",
    "open_another",
    "open_widget",
    "preview_of",
    "wait_for_mask",
    "wait_until_ready",
    "works",
]

PLUGIN, TITLE = "napari-sam", "Segment by clicks"
SIZE = 96
RADIUS = 12
A, B, C, D = (24, 24), (24, 70), (70, 26), (70, 70)
"""Row and column of the centres of the cells that `cells` draws."""
WAIT_S = 20.0


def cells(
    n_slices: int = 1, centres_yx: Sequence[tuple[int, int]] = (A, B, C, D), seed: int = 0
) -> NDArray[np.uint8]:
    """Draw bright discs on dark ground; (rows, cols), or (slices, rows, cols) for several."""
    rows, cols = np.mgrid[:SIZE, :SIZE]
    picture = np.full((SIZE, SIZE), 30.0)
    for row, col in centres_yx:
        picture += 150 / (1 + np.exp(np.hypot(rows - row, cols - col) - RADIUS))
    noise = np.random.default_rng(seed).normal(0, 6, (n_slices, SIZE, SIZE))
    stack = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return stack if n_slices > 1 else stack[0]


def open_widget(viewer: napari.Viewer, *, is_ready: bool = True) -> SegmentWidget:
    """Open the widget, and wait until a click is answered at once."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, TITLE)
    if is_ready:
        wait_until_ready(widget)
    return widget


def open_another(viewer: napari.Viewer) -> SegmentWidget:
    """Open one more instance of the widget in a viewer that has one."""
    from napari_sam._napari.segment_widget import SegmentWidget

    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="another")
    wait_until_ready(widget)
    return widget


def wait_until_ready(widget: SegmentWidget) -> None:
    """Wait until a click on the plane in view is answered at once."""
    wait_until(lambda: widget.interaction.engine.is_ready, "the plane is prepared")


def click(widget: SegmentWidget, *points_yx: tuple[int, int]) -> None:
    """Add points to the points layer on the plane in view, as clicks do."""
    layer, dims = widget.interaction.prompts.points, widget.interaction.viewer.dims
    offset = dims.ndim - layer.ndim
    for point_yx in points_yx:
        world = np.array(dims.point, float)
        data = np.array(layer.world_to_data(world[offset:]))
        data[[axis - offset for axis in dims.displayed]] = point_yx
        layer.add(data)


def wait_for_mask(widget: SegmentWidget) -> None:
    """Wait until there are masks for the prompts as they are."""
    wait_until(lambda: widget.interaction.session.is_current, "the mask is there")


def mask_of(widget: SegmentWidget, i: int = 0) -> NDArray[np.bool_]:
    """Return the chosen mask of an object, on its whole plane."""
    interaction = widget.interaction
    return interaction.session.chosen_masks()[i].to_plane(interaction.shape_yx)


def preview_of(widget: SegmentWidget) -> NDArray[np.bool_]:
    """Return where the preview shows something on the plane that it lies on."""
    layer, interaction = widget.interaction.preview.layer, widget.interaction
    if layer is None or not layer.visible:
        return np.zeros(interaction.shape_yx, bool)
    assert layer in interaction.viewer.layers
    return np.squeeze(np.asarray(layer.data)) > 0


def commit(widget: SegmentWidget) -> Labels:
    """Commit what stands, and return the labels layer."""
    widget.action("commit")()
    return widget.actions_on_objects.layer


def works(widget: SegmentWidget, point_yx: tuple[int, int] = A) -> Labels:
    """Check that a click gives a mask, that it is shown, and that it becomes an object."""
    widget.action("clear")()
    click(widget, point_yx)
    wait_for_mask(widget)
    mask = mask_of(widget)
    assert mask[point_yx]
    assert 300 < mask.sum() < 700
    assert preview_of(widget)[point_yx]
    layer = commit(widget)
    target = widget.actions_on_objects._target_of(layer)
    plane = target.plane_of(widget.interaction.plane)
    assert plane.read(np.asarray(layer.data))[point_yx] > 0
    assert not preview_of(widget).any()
    return layer


class Gate:
    """Holds a worker until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        """Let the worker go on, and all who come later."""
        self._opened.set()

    def pass_through(self) -> None:
        """Wait in the worker's thread."""
        self.reached.set()
        self._opened.wait(WAIT_S)

    def wait_until_reached(self) -> None:
        """Wait until a worker stands before the gate."""
        wait_until(self.reached.is_set, "the worker is at work")


def hold(
    monkeypatch: pytest.MonkeyPatch, method: str, then: Callable[[], None] = lambda: None
) -> Gate:
    """Hold `prepare` or `predict` of the predictor back; then call something in its thread."""
    from napari_sam.pipeline.interactive import InteractivePredictor

    gate = Gate()
    real = getattr(InteractivePredictor, method)

    def held_steps(*args: Any, **options: Any) -> Iterator[Any]:
        gate.pass_through()
        then()
        yield from real(*args, **options)

    def held(*args: Any, **options: Any) -> Any:
        gate.pass_through()
        then()
        return real(*args, **options)

    monkeypatch.setattr(InteractivePredictor, method, held_steps if method == "prepare" else held)
    return gate
