"""Drive a shown napari window as a person does: move, click, drag, press keys, open menus.

On Linux the events come from the X server, sent by xdotool, so that they take the whole way that a
person's take: through the window system, Qt's focus, napari's key bindings and mouse callbacks.
Elsewhere (and where xdotool is absent) Qt's own test events go to the window that would have got
them. Every call returns when Qt has dealt with what it did. A call that opens a modal dialog with
``exec`` returns only when the dialog is closed: let a QTimer close it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
from napari._qt.dialogs.qt_notification import NapariQtNotification
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QApplication, QMenu, QMenuBar, QWidget

from gui.hands import Button, Hand, best_hand, process_events, screen_pixel, wait_until

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer
    from numpy.typing import NDArray

__all__ = ["Driver", "process_events", "wait_until"]

Modifier = Literal["ctrl", "shift", "alt"]

# napari hands on moves of the mouse at most every 5 ms, the last of a series after that time.
THROTTLE_S = 0.02


class Driver:
    """Drive a shown viewer as a person does.

    Points of the canvas are in the viewer's world coordinates, or in the data coordinates of
    `layer` where one is given. The axes that are not displayed may be left out: then it is the
    plane that is shown.
    """

    def __init__(self, viewer: napari.Viewer, hand: Hand | None = None) -> None:
        self.viewer = viewer
        self.window = viewer.window._qt_window
        self.canvas: QWidget = viewer.window._qt_viewer.canvas.native
        self._hand = hand or best_hand()
        self._last_click: tuple[float, tuple[int, int], Button] = (0.0, (-1000, -1000), "left")
        wait_until(self.window.isVisible, "the window is shown")
        self.settle()
        self.activate()

    def settle(self) -> None:
        """Wait until the canvas keeps its size: it grows and shrinks while docks are added."""
        size = None
        while size != (size := (self.canvas.width(), self.canvas.height())):
            process_events(0.1)

    def show_all(self) -> None:
        """Fit all layers into the canvas as it is now; docks and sliders have made it smaller."""
        self.settle()
        self.viewer.reset_view()
        process_events()

    def look_at(self, centre: Sequence[float], zoom: float) -> None:
        """Put a world point of the shown plane into the middle, with `zoom` pixels per unit."""
        # Before napari 0.9 the camera is the viewer's own.
        camera = getattr(self.viewer, "scene", self.viewer).camera
        camera.center = (0.0, *centre)
        camera.zoom = zoom
        process_events()

    def activate(self, widget: QWidget | None = None) -> None:
        """Give the keyboard to the window, and in it to the widget, or to the canvas."""
        # Under a bare X server no window manager does so for a new window.
        self.window.activateWindow()
        wait_until(lambda: QApplication.activeWindow() is self.window, "the window is active")
        # Old versions of napari hide the canvas behind a welcome while there are no layers.
        ours = self.canvas if self.canvas.isVisible() else self.viewer.window._qt_viewer
        wanted = ours if widget is None else widget
        wanted.setFocus(Qt.FocusReason.OtherFocusReason)
        wait_until(wanted.hasFocus, f"{wanted} has the keyboard")

    def canvas_xy(self, point: Sequence[float], layer: Layer | None = None) -> tuple[float, float]:
        """Return where a point is on the canvas, in Qt's pixels (x, y), with their fractions."""
        dims = self.viewer.dims
        world = np.array(dims.point if layer is None else self._shown_data_point(layer), float)
        if layer is not None:
            displayed = _displayed_axes(self.viewer, layer)
            world[displayed if len(point) < layer.ndim else slice(None)] = point
            world = np.asarray(layer.data_to_world(world))
            shown = world[displayed]
        else:
            world[list(dims.displayed) if len(point) < dims.ndim else slice(None)] = point
            shown = world[list(dims.displayed)]
        view = self.viewer.window._qt_viewer.canvas.view
        x, y = (view.transform * view.scene.transform).map(shown[::-1])[:2]
        return float(x), float(y)

    def move(self, point: Sequence[float], layer: Layer | None = None) -> None:
        """Move the mouse to a point of the canvas, without pressing anything."""
        self._move_to(self._on_screen(point, layer))

    def click(
        self,
        point: Sequence[float],
        layer: Layer | None = None,
        *,
        modifiers: Iterable[Modifier] = (),
        button: Button = "left",
    ) -> None:
        """Click at a point of the canvas; never so soon that two clicks make a double click."""
        self._click_at(self._on_screen(point, layer), modifiers, button)

    def double_click(self, point: Sequence[float], layer: Layer | None = None) -> None:
        """Click twice, quickly, at a point of the canvas."""
        spot = self._on_screen(point, layer)
        self._wait_out_double_click(screen_pixel(spot), "left")
        self._move_to(spot)
        self._hand.double_click("left")
        self._last_click = (time.monotonic(), screen_pixel(spot), "left")
        process_events()

    def drag(
        self,
        points: Iterable[Sequence[float]],
        layer: Layer | None = None,
        *,
        modifiers: Iterable[Modifier] = (),
        button: Button = "left",
    ) -> None:
        """Press at the first point, move over the others, release at the last."""
        first, *others = [self._on_screen(point, layer) for point in points]
        self._wait_out_double_click(screen_pixel(first), button)
        self._move_to(first)
        with self.holding(*modifiers):
            self._hand.press(button)
            for spot in others:
                self._move_to(spot)
            self._hand.release(button)
        self._last_click = (time.monotonic(), screen_pixel([first, *others][-1]), button)
        process_events()

    def key(self, keys: str) -> None:
        """Press and release a key, with modifiers before it: ``ctrl+z``, ``Tab``, ``F1``, ``t``.

        It goes to what has the keyboard. Letters stand for keys, so that ``T`` is ``t``;
        a capital is ``shift+t``.
        """
        *modifiers, key = keys.split("+")
        if QApplication.activeWindow() is None and QApplication.activePopupWidget() is None:
            self.activate(self.window.focusWidget())  # a dialog was closed, no one took over
        self._hand.key(key, modifiers)
        process_events()

    @contextmanager
    def holding(self, *keys: str) -> Iterator[None]:
        """Hold keys down meanwhile: ``with driver.holding("shift"): ...``."""
        held = []
        try:
            for key in keys:
                self._hand.hold(key)
                held.append(key)
            yield
        finally:
            for key in reversed(held):
                self._hand.let_go(key)

    def type(self, text: str) -> None:
        """Type a text into what has the keyboard."""
        self._hand.type(text)
        process_events()

    def click_widget(
        self, widget: QWidget, at: QPoint | None = None, *, button: Button = "left"
    ) -> None:
        """Click in the middle of a widget, or at a place in it."""
        self._click_at(_in_widget(widget, at), (), button)

    def move_to_widget(self, widget: QWidget, at: QPoint | None = None) -> None:
        """Move the mouse over the middle of a widget, or over a place in it."""
        self._move_to(_in_widget(widget, at))

    def open_menu(self, *titles: str) -> None:
        """Click through the window's menus: ``open_menu("Plugins", "My plugin", "My widget")``."""
        self.close_menus()
        menu: QMenuBar | QMenu = self.window.menuBar()
        if menu.isNativeMenuBar():  # no widgets of Qt's, nothing to click on
            self.menu_action(*titles).trigger()
        else:
            for title in titles:
                action = _action_titled(menu, title)
                self.click_widget(menu, menu.actionGeometry(action).center())
                if (menu := action.menu()) is not None:
                    wait_until(menu.isVisible, f"the menu {title} is open")
        process_events()

    def menu_action(self, *titles: str) -> QAction:
        """Return an entry of the window's menus without opening them."""
        menu: QMenuBar | QMenu = self.window.menuBar()
        for title in titles:
            action = _action_titled(menu, title)
            if (menu := action.menu()) is not None:
                menu.aboutToShow.emit()  # entries are made, enabled and checked only then
        return action

    def close_menus(self) -> None:
        """Close every menu that is open."""
        while (popup := QApplication.activePopupWidget()) is not None:
            popup.close()
            process_events()

    def dismiss_notifications(self) -> None:
        """Take the messages away that napari shows on the canvas, where they catch clicks."""
        for message in self.window.findChildren(NapariQtNotification):
            message.close()
        process_events()

    def screenshot(self) -> NDArray[np.uint8]:
        """Return what the whole window shows, (H, W, 4), after all that was asked is drawn."""
        process_events()
        return self.viewer.screenshot(canvas_only=False, flash=False)

    def _shown_data_point(self, layer: Layer) -> Sequence[float]:
        return layer.world_to_data(self.viewer.dims.point)

    def _on_screen(self, point: Sequence[float], layer: Layer | None) -> QPointF:
        spot = QPointF(*self.canvas_xy(point, layer))
        if not self.canvas.rect().contains(spot.toPoint()):
            raise ValueError(
                f"{tuple(point)} is not on the canvas, but at {spot}: show_all() or move the camera"
            )
        on_screen = self.canvas.mapToGlobal(spot)
        if (under := QApplication.widgetAt(on_screen.toPoint())) is not self.canvas:
            raise ValueError(
                f"{tuple(point)} of the canvas is covered by {under}; dismiss_notifications()?"
            )
        return on_screen

    def _click_at(self, spot: QPointF, modifiers: Iterable[Modifier], button: Button) -> None:
        self._wait_out_double_click(screen_pixel(spot), button)
        self._move_to(spot)
        with self.holding(*modifiers):
            self._hand.press(button)
            self._hand.release(button)
        self._last_click = (time.monotonic(), screen_pixel(spot), button)
        process_events()

    def _wait_out_double_click(self, pixel: tuple[int, int], button: Button) -> None:
        when, where, which = self._last_click
        near = max(abs(a - b) for a, b in zip(pixel, where, strict=True)) < 20
        if near and which == button:
            until = when + QApplication.doubleClickInterval() / 1000 + 0.05
            wait_until(lambda: time.monotonic() > until)

    def _move_to(self, spot: QPointF) -> None:
        if not self.window.screen().geometry().contains(spot.toPoint()):
            raise ValueError(f"{spot} is beyond the screen: the window is too large for it")
        self._hand.move(spot)
        process_events(THROTTLE_S)


def _displayed_axes(viewer: napari.Viewer, layer: Layer) -> list[int]:
    """Return which axes of the layer are displayed, as rows and columns (planes before them)."""
    missing = viewer.dims.ndim - layer.ndim  # world axes that the layer lacks, in front
    return [axis - missing for axis in viewer.dims.displayed if axis >= missing]


def _in_widget(widget: QWidget, at: QPoint | None) -> QPointF:
    wait_until(widget.isVisible, f"{widget} is visible")
    before, spot = None, None
    while before is None or before != spot:  # docks slide and menus unfold for a moment
        process_events(0.03)
        place = at if at is not None else widget.rect().center()
        before, spot = spot, widget.mapToGlobal(place)
    under = QApplication.widgetAt(spot)
    if under is not widget and not widget.isAncestorOf(under):
        raise ValueError(f"{widget} cannot be clicked at {place}: {under} is there")
    return QPointF(spot)


def _action_titled(menu: QMenuBar | QMenu, title: str) -> QAction:
    titles = {_title(action): action for action in menu.actions() if action.isVisible()}
    if title not in titles:
        raise KeyError(f"There is no menu entry {title!r}, but {[t for t in titles if t]}")
    return titles[title]


def _title(action: QAction) -> str:
    return action.text().replace("&&", "\0").replace("&", "").replace("\0", "&")
