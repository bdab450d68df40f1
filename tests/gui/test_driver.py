"""The driver's own promises: what it does arrives at napari where and as a person's would."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from qtpy.QtGui import QGuiApplication

from gui.driver import Driver, process_events, wait_until
from gui.hands import QtHand, XHand, best_hand


def drive(viewer):
    driver = Driver(viewer)
    driver.show_all()
    return driver


def add_image(viewer):
    return viewer.add_image(np.zeros((3, 40, 60)), scale=(2, 0.5, 0.25), translate=(0, 7, -3))


@pytest.mark.parametrize("point", [(5, 7), (39, 59), (0, 0)])
def test_a_click_adds_a_point_at_the_pixel_of_a_moved_and_scaled_layer(viewer, point) -> None:
    image = add_image(viewer)
    points = viewer.add_points(ndim=3, scale=image.scale, translate=image.translate, size=1)
    viewer.dims.set_current_step(0, 1)
    points.mode = "add"
    driver = drive(viewer)
    driver.click(point, points)
    np.testing.assert_array_equal(np.round(points.data), [(1, *point)])


def test_points_are_found_when_axes_are_transposed(viewer) -> None:
    image = add_image(viewer)
    viewer.dims.order = (1, 2, 0)
    viewer.dims.set_current_step(1, 11)
    driver = drive(viewer)
    seen = []
    viewer.mouse_drag_callbacks.append(lambda _viewer, event: seen.append(event.position))
    driver.click((2, 11, 33), image)
    driver.click((33, 1), image)  # in the order in which the axes are displayed
    positions = [tuple(np.round(image.world_to_data(position)).astype(int)) for position in seen]
    assert positions == [(2, 11, 33), (1, 11, 33)]


def test_a_move_arrives_without_a_press(viewer) -> None:
    image = add_image(viewer)
    driver = drive(viewer)
    presses = []
    viewer.mouse_drag_callbacks.append(lambda _viewer, event: presses.append(event))
    for point in [(4, 4), (20, 30)]:
        driver.move(point, image)
        shown = image.world_to_data(viewer.cursor.position)[1:]
        np.testing.assert_array_equal(np.round(shown), point)
    assert not presses


def test_a_drag_draws_a_rectangle(viewer) -> None:
    viewer.add_image(np.zeros((40, 60)))
    shapes = viewer.add_shapes()
    shapes.mode = "add_rectangle"
    drive(viewer).drag([(5, 10), (12, 20), (30, 50)])
    (rectangle,) = shapes.data
    np.testing.assert_allclose(rectangle.min(axis=0), (5, 10), atol=0.1)
    np.testing.assert_allclose(rectangle.max(axis=0), (30, 50), atol=0.1)


def test_two_clicks_at_one_place_are_no_double_click_but_a_double_click_is(viewer) -> None:
    viewer.add_image(np.zeros((40, 60)))
    driver = drive(viewer)
    double = []
    viewer.mouse_double_click_callbacks.append(lambda _viewer, event: double.append(event))
    driver.click((10, 10))
    driver.click((10, 10))
    assert not double
    driver.double_click((10, 10))
    assert len(double) == 1


def test_modifiers_and_buttons_arrive_with_a_click(viewer) -> None:
    viewer.add_image(np.zeros((40, 60)))
    driver = drive(viewer)
    seen = []
    viewer.mouse_drag_callbacks.append(
        lambda _viewer, event: seen.append((event.button, {m.name for m in event.modifiers}))
    )
    driver.click((10, 10), modifiers=["shift"])
    driver.click((20, 40), modifiers=["ctrl", "shift"], button="right")
    driver.click((30, 10))
    assert seen == [(1, {"Shift"}), (2, {"Control", "Shift"}), (1, set())]


def test_keys_reach_the_bindings_of_the_viewer_and_of_the_layer(viewer) -> None:
    layer = viewer.add_points(ndim=2)
    driver = drive(viewer)
    seen = []
    for keys in ["Control-Z", "Control-Shift-Z", "F1", "Escape", "N", "Shift-N"]:
        viewer.bind_key(keys, lambda _viewer, keys=keys: seen.append(keys), overwrite=True)
    # Without the layer's own binding, S would turn the tool to selecting points.
    layer.bind_key("S", lambda _layer: seen.append("S of the layer"))
    for keys in ["ctrl+z", "ctrl+shift+z", "F1", "Escape", "n", "shift+n", "s"]:
        driver.key(keys)
    assert seen == [
        "Control-Z", "Control-Shift-Z", "F1", "Escape", "N", "Shift-N", "S of the layer"
    ]  # fmt: skip


def test_tab_reaches_a_shortcut_round_the_canvas_and_no_field_of_a_dock(viewer) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtGui import QKeySequence
    from qtpy.QtWidgets import QLineEdit, QShortcut, QVBoxLayout, QWidget

    panel, line = QWidget(), QLineEdit()
    panel.setLayout(QVBoxLayout())
    panel.layout().addWidget(line)
    panel.layout().addWidget(QLineEdit())
    viewer.window.add_dock_widget(panel)
    viewer.add_image(np.zeros((40, 60)))
    driver = drive(viewer)
    seen = []
    shortcut = QShortcut(QKeySequence("Tab"), viewer.window._qt_viewer)
    shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
    shortcut.activated.connect(lambda: seen.append("Tab"))
    driver.click((20, 30))
    driver.key("Tab")
    assert seen == ["Tab"]
    driver.click_widget(line)
    driver.key("Tab")
    assert seen == ["Tab"]
    assert not line.hasFocus()


def test_the_mouse_is_moved_by_the_x_server_where_there_is_one(viewer, monkeypatch) -> None:
    if QGuiApplication.platformName() != "xcb":
        assert isinstance(best_hand(), QtHand)
        return
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/xdotool")
    assert isinstance(best_hand(), XHand)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.delenv("CI", raising=False)
    assert isinstance(best_hand(), QtHand)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(FileNotFoundError, match="xdotool is missing"):
        best_hand()


def test_events_of_qt_do_what_those_of_the_x_server_do(viewer) -> None:
    viewer.add_image(np.zeros((40, 60)))
    shapes = viewer.add_shapes()
    shapes.mode = "add_rectangle"
    seen = []
    viewer.bind_key("Control-Shift-Z", lambda _viewer: seen.append("Control-Shift-Z"))
    viewer.mouse_double_click_callbacks.append(lambda _viewer, event: seen.append("double"))
    driver = Driver(viewer, hand=QtHand())
    driver.show_all()
    driver.drag([(5, 10), (12, 20), (30, 50)])
    (rectangle,) = shapes.data
    np.testing.assert_allclose(rectangle.max(axis=0), (30, 50), atol=0.1)
    shapes.mode = "pan_zoom"
    driver.double_click((10, 10))
    driver.key("ctrl+shift+z")
    assert seen == ["double", "Control-Shift-Z"]


def test_text_and_clicks_reach_widgets_in_a_dock(viewer) -> None:
    from qtpy.QtWidgets import QLineEdit, QPushButton, QVBoxLayout, QWidget

    panel, line, button = QWidget(), QLineEdit(), QPushButton("Press")
    panel.setLayout(QVBoxLayout())
    panel.layout().addWidget(line)
    panel.layout().addWidget(button)
    pressed = []
    button.clicked.connect(lambda: pressed.append(line.text()))
    viewer.window.add_dock_widget(panel)
    driver = drive(viewer)
    driver.click_widget(line)
    driver.type("Two Words 12")
    driver.click_widget(button)
    assert pressed == ["Two Words 12"]


def test_menus_open_by_clicks(viewer) -> None:
    driver = drive(viewer)
    driver.open_menu("File", "Open Sample", "Segment Anything for microscopy")
    driver.close_menus()
    driver.open_menu(
        "File", "Open Sample", "Segment Anything for microscopy", "Synthetic nuclei (2D)"
    )
    wait_until(lambda: len(viewer.layers) == 1)
    with pytest.raises(KeyError, match=r"no menu entry 'Fyle', but.*'File'"):
        driver.open_menu("Fyle")


def test_a_point_outside_the_canvas_is_refused(viewer) -> None:
    viewer.add_image(np.zeros((40, 60)))
    with pytest.raises(ValueError, match="not on the canvas"):
        drive(viewer).click((1000, 1000))


def test_a_point_under_a_message_is_refused_until_the_message_is_gone(viewer) -> None:
    from napari.utils.notifications import show_info

    viewer.add_image(np.zeros((400, 600)))
    driver = drive(viewer)
    height, width = driver.canvas.height(), driver.canvas.width()
    driver.look_at((200, 300), zoom=1)
    below = (200 + height / 2 - 30, 300 + width / 2 - 200)  # messages are in this corner
    show_info("A message over the canvas")
    process_events(0.5)  # it slides in
    with pytest.raises(ValueError, match="covered by"):
        driver.move(below)
    driver.dismiss_notifications()
    driver.move(below)
    np.testing.assert_allclose(viewer.cursor.position, below, atol=1)


def test_the_screenshot_shows_the_whole_window(viewer) -> None:
    driver = drive(viewer)
    ratio = driver.window.devicePixelRatio()
    assert driver.screenshot().shape[1] == round(driver.window.width() * ratio)
