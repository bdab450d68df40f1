"""Segment by clicks by keys, as they come from a keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gui.driver import Driver
from gui.hands import process_events, wait_until
from gui.segmenting import (
    A,
    B,
    C,
    D,
    cells,
    click,
    commit,
    mask_of,
    open_another,
    open_widget,
    preview_of,
    wait_for_mask,
)

if TYPE_CHECKING:
    import napari

    from napari_sam._napari.segment_widget import SegmentWidget


def at_work(viewer: napari.Viewer) -> tuple[SegmentWidget, Driver]:
    """Open the widget on an image, with the keyboard on the canvas."""
    viewer.add_image(cells())
    widget = open_widget(viewer)
    driver = Driver(viewer)
    driver.show_all()
    driver.move((90, 50))  # the mouse may have been left where a test wants it
    return widget, driver


@pytest.mark.parametrize("active", ["points", "shapes", "image"])
def test_every_key_with_each_layer_active(viewer: napari.Viewer, active: str) -> None:
    widget, driver = at_work(viewer)
    session, image = widget.interaction.session, widget.interaction.image
    widget.interaction.use_tool("box")
    layers = {"image": image, "points": widget.interaction.prompts.points}
    layers["shapes"] = widget.interaction.prompts.shapes
    viewer.layers.selection.active = layers[active]
    click(widget, A)
    wait_for_mask(widget)
    driver.move(A, image)
    driver.key("t")
    assert not session.next_is_positive
    driver.key("t")
    assert session.next_is_positive
    first = session.chosen[0]
    driver.key("Tab")
    assert session.chosen[0] == (first + 1) % len(session.candidates[0].masks)
    driver.key("shift+Tab")
    assert session.chosen[0] == first
    driver.key("c")
    labels = widget.actions_on_objects.layer
    assert labels.data[A] == 1
    driver.key("ctrl+z")
    assert labels.data[A] == 0
    assert session.prompts.points
    driver.key("ctrl+shift+z")
    assert labels.data[A] == 1
    driver.key("e")
    assert session.edited_label == 1
    assert session.prompts.points
    driver.key("shift+c")
    assert session.prompts.is_empty
    driver.key("r")
    assert session.edited_label == 1
    assert session.prompts.masks
    wait_for_mask(widget)
    driver.key("c")
    assert labels.data[A] == 1
    driver.key("x")
    assert labels.data[A] == 0
    driver.key("ctrl+z")
    assert labels.data[A] == 1
    driver.key("n")
    assert "no further" in widget.status.text()  # R went to this object
    driver.key("shift+n")
    assert "no further" in widget.status.text()
    assert viewer.layers.selection.active is layers[active]


def test_keys_with_the_labels_active(viewer: napari.Viewer) -> None:
    widget, driver = at_work(viewer)
    session = widget.interaction.session
    click(widget, A)
    wait_for_mask(widget)
    labels = commit(widget)
    click(widget, B)
    wait_for_mask(widget)
    viewer.layers.selection.active = labels
    driver.move(A, labels)
    driver.key("t")
    assert not session.next_is_positive
    first = session.chosen[0]
    driver.key("Tab")
    assert session.chosen[0] != first
    driver.key("c")
    assert labels.data[B] == 2
    driver.key("n")
    assert "Object" in widget.status.text()
    driver.key("r")
    assert session.edited_label == 1
    driver.key("shift+c")
    assert session.prompts.is_empty
    labels.data_setitem((np.array([90]), np.array([5])), 9)
    driver.key("ctrl+z")  # napari's own, for what was painted in this layer
    assert labels.data[90, 5] == 0
    assert labels.data[B] == 2


def test_an_object_without_a_mouse(viewer: napari.Viewer) -> None:
    widget, driver = at_work(viewer)
    driver.key("alt+Left")
    assert preview_of(widget).any()
    for _ in range(10):
        driver.key("alt+Left")
    for _ in range(11):
        driver.key("alt+Up")
    said = widget.status.text()
    x, y = (round(float(word.strip("xy. "))) for word in said.removeprefix("Pointer at").split(","))
    assert cells(centres_yx=[A])[y, x] > 100, said
    driver.key("t")
    driver.key("t")
    assert preview_of(widget).any()  # the pointer is still there
    driver.key("p")
    wait_for_mask(widget)
    assert mask_of(widget)[y, x]
    driver.key("c")
    assert widget.actions_on_objects.layer.data[y, x] == 1
    assert not preview_of(widget).any()


def test_pointer_on_a_smaller_image(viewer: napari.Viewer) -> None:
    viewer.add_image(cells(), name="large")
    widget = open_widget(viewer)
    for _ in range(30):
        widget.action("move_right")()
    viewer.add_image(cells()[:40, :40], name="small")
    widget.image_panel.image.choose(viewer.layers["small"])
    wait_until(lambda: widget.interaction.engine.is_ready)
    assert not preview_of(widget).any()
    widget.action("point_at_pointer")()
    (point,) = widget.interaction.session.prompts.points
    assert point.x < 40


def outline_around(widget: SegmentWidget) -> list[tuple[int, int]]:
    """Return the cells with an outline around their middle, which stays free."""
    preview = preview_of(widget)
    cut = {at: preview[at[0] - 20 : at[0] + 20, at[1] - 20 : at[1] + 20] for at in (A, D)}
    return [at for at, part in cut.items() if part.any() and not preview[at]]


def test_preview_under_the_mouse(viewer: napari.Viewer) -> None:
    widget, driver = at_work(viewer)
    image = widget.interaction.image
    driver.key("h")
    assert widget.prompt_panel.hover.isChecked()
    for at in (A, D):
        driver.move(at, image)
        wait_until(lambda at=at: outline_around(widget) == [at], "the outline under the mouse")
    assert widget.interaction.session.prompts.is_empty
    driver.click(D, image)
    wait_for_mask(widget)
    assert preview_of(widget)[D]
    driver.move(A, image)
    process_events(0.3)
    assert outline_around(widget) == []
    driver.key("shift+c")
    driver.move((26, 24), image)
    wait_until(lambda: outline_around(widget) == [A], "the outline under the mouse")
    driver.key("h")
    assert not preview_of(widget).any()
    driver.move(D, image)
    process_events(0.3)
    assert not preview_of(widget).any()
    assert not viewer.mouse_move_callbacks


def test_keys_act_once_with_two_widgets(viewer: napari.Viewer) -> None:
    first, driver = at_work(viewer)
    second = open_another(viewer)
    driver.settle()
    sessions = [widget.interaction.session for widget in (first, second)]
    click(first, A)
    click(second, C)
    for widget in (first, second):
        wait_for_mask(widget)
    for number, widget in enumerate((first, second)):
        chosen = [session.chosen[0] for session in sessions]
        viewer.layers.selection.active = widget.interaction.prompts.points
        driver.activate()
        driver.key("t")
        assert [session.next_is_positive for session in sessions].count(False) == 1
        assert not sessions[number].next_is_positive
        driver.key("t")
        driver.key("Tab")
        changed = [session.chosen[0] != chosen[i] for i, session in enumerate(sessions)]
        assert changed == [number == 0, number == 1]
    viewer.layers.selection.active = first.interaction.image
    driver.key("c")  # of the widget that was opened last
    assert sessions[1].prompts.is_empty
    assert not sessions[0].prompts.is_empty
    viewer.window.remove_dock_widget(second)
    process_events()
    driver.activate()
    viewer.layers.selection.active = first.interaction.image
    before = sessions[0].chosen[0]
    driver.key("Tab")
    assert sessions[0].chosen[0] != before
    driver.key("c")
    assert sessions[0].prompts.is_empty
