"""Where the driver's mouse and keyboard events come from: the X server, or Qt's own test events."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal, Protocol

from qtpy.QtCore import QCoreApplication, QEvent, QObject, QPoint, QPointF, Qt
from qtpy.QtGui import QCursor, QGuiApplication, QKeySequence, QWindow
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

__all__ = [
    "Button",
    "Hand",
    "QtHand",
    "XHand",
    "best_hand",
    "process_events",
    "screen_pixel",
    "wait_until",
]

Button = Literal["left", "middle", "right"]

TIMEOUT_S = 240.0
"""Far more than anything takes: threads of the engine stand back behind all other programs, and
on a busy computer they wait for minutes."""
NO_XDOTOOL = (
    "xdotool is missing, so no real mouse can be moved. On Debian and Ubuntu: "
    "sudo apt-get install xdotool (`make test` does that where it may)."
)
# The driver names keys as napari does; X has other names for these.
_X_NAMES = {
    "Enter": "Return",
    "Space": "space",
    "Backspace": "BackSpace",
    "PageUp": "Prior",
    "PageDown": "Next",
    "[": "bracketleft",
    "]": "bracketright",
    "=": "equal",
    "-": "minus",
    "/": "slash",
}
_MODIFIERS = {
    "ctrl": (Qt.Key.Key_Control, Qt.KeyboardModifier.ControlModifier),
    "shift": (Qt.Key.Key_Shift, Qt.KeyboardModifier.ShiftModifier),
    "alt": (Qt.Key.Key_Alt, Qt.KeyboardModifier.AltModifier),
    "meta": (Qt.Key.Key_Meta, Qt.KeyboardModifier.MetaModifier),
}
_MODIFIER_KEYS = [key for key, _ in _MODIFIERS.values()]


class Hand(Protocol):
    """One hand on the mouse, one on the keyboard; spots are global, in Qt's pixels."""

    def move(self, spot: QPointF) -> None:
        """Move the mouse."""

    def press(self, button: Button) -> None:
        """Press a button where the mouse is."""

    def release(self, button: Button) -> None:
        """Release it."""

    def double_click(self, button: Button) -> None:
        """Click twice where the mouse is, faster than anything can come between."""

    def key(self, key: str, modifiers: list[str]) -> None:
        """Press and release a key while modifiers are down."""

    def hold(self, key: str) -> None:
        """Press a key without releasing it."""

    def let_go(self, key: str) -> None:
        """Release a key that is held."""

    def type(self, text: str) -> None:
        """Press and release the keys that write the text."""


def best_hand() -> Hand:
    """Return the X server's events where xdotool can send them, else Qt's own.

    Raises
    ------
    FileNotFoundError
        Under CI on Linux without xdotool: there the real way is to be tested.
    """
    if QGuiApplication.platformName() == "xcb":
        if shutil.which("xdotool"):
            return XHand()
        if os.environ.get("CI") and sys.platform.startswith("linux"):
            raise FileNotFoundError(NO_XDOTOOL)
    return QtHand()


def process_events(seconds: float = 0.0) -> None:
    """Let Qt work off what has arrived, for at least so long."""
    until = time.monotonic() + seconds
    while True:
        QApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, 0)
        if time.monotonic() >= until:
            return
        time.sleep(0.002)


def wait_until(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Let Qt work until the condition holds.

    Raises
    ------
    TimeoutError
        If it does not hold in time.
    """
    until = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"Not so within {TIMEOUT_S:.0f} s: {what}")
        process_events(0.005)


class XHand:
    """Events from the X server; each call waits until Qt has had what it sent."""

    _BUTTONS: ClassVar[dict[Button, str]] = {"left": "1", "middle": "2", "right": "3"}

    def move(self, spot: QPointF) -> None:
        x, y = screen_pixel(spot)
        if _mouse_pixel() == (x, y):
            return  # the X server sends no event then
        with _arrivals(QEvent.Type.MouseMove):
            _xdotool("mousemove", str(x), str(y))

    def press(self, button: Button) -> None:
        with _arrivals(QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonDblClick):
            _xdotool("mousedown", self._BUTTONS[button])

    def release(self, button: Button) -> None:
        with _arrivals(QEvent.Type.MouseButtonRelease):
            _xdotool("mouseup", self._BUTTONS[button])

    def double_click(self, button: Button) -> None:
        with _arrivals(QEvent.Type.MouseButtonRelease, times=2):
            _xdotool("click", "--repeat", "2", "--delay", "20", self._BUTTONS[button])

    def key(self, key: str, modifiers: list[str]) -> None:
        # One call: a key that stays down while Qt works would repeat itself.
        with _arrivals(QEvent.Type.KeyRelease):
            _xdotool("key", "+".join([*modifiers, _x_name(key)]))

    def hold(self, key: str) -> None:
        with _arrivals(QEvent.Type.KeyPress, modifiers_count=True):
            _xdotool("keydown", _x_name(key))

    def let_go(self, key: str) -> None:
        with _arrivals(QEvent.Type.KeyRelease, modifiers_count=True):
            _xdotool("keyup", _x_name(key))

    def type(self, text: str) -> None:
        with _arrivals(QEvent.Type.KeyRelease, times=len(text)):
            _xdotool("type", "--delay", "2", text)


class QtHand:
    """Qt's test events, sent to the window that X would have sent them to."""

    _BUTTONS: ClassVar[dict[Button, Qt.MouseButton]] = {
        "left": Qt.MouseButton.LeftButton,
        "middle": Qt.MouseButton.MiddleButton,
        "right": Qt.MouseButton.RightButton,
    }

    def __init__(self) -> None:
        self._spot = QPoint()
        self._grabbed_by: QWindow | None = None  # the window where a button went down
        self._held: list[str] = []

    def move(self, spot: QPointF) -> None:
        self._spot = spot.toPoint()
        window = self._under_mouse()
        QTest.mouseMove(window, window.mapFromGlobal(self._spot))

    def press(self, button: Button) -> None:
        self._grabbed_by = window = self._under_mouse()
        QTest.mousePress(window, *self._mouse_words(window, button))

    def release(self, button: Button) -> None:
        window = self._under_mouse()
        self._grabbed_by = None
        QTest.mouseRelease(window, *self._mouse_words(window, button))

    def double_click(self, button: Button) -> None:
        window = self._under_mouse()
        QTest.mouseDClick(window, *self._mouse_words(window, button))

    def key(self, key: str, modifiers: list[str]) -> None:
        for modifier in modifiers:
            self.hold(modifier)
        QTest.keyClick(_keyboard_window(), _qt_key(key), self._modifiers())
        for modifier in reversed(modifiers):
            self.let_go(modifier)

    def hold(self, key: str) -> None:
        QTest.keyPress(_keyboard_window(), _qt_key(key), self._modifiers())
        self._held.append(key)

    def let_go(self, key: str) -> None:
        self._held.remove(key)
        QTest.keyRelease(_keyboard_window(), _qt_key(key), self._modifiers())

    def type(self, text: str) -> None:
        for letter in text:
            QTest.keyClick(_keyboard_window(), letter)

    def _modifiers(self) -> Qt.KeyboardModifier:
        flags = Qt.KeyboardModifier.NoModifier
        for key in self._held:
            if key in _MODIFIERS:
                flags |= _MODIFIERS[key][1]
        return flags

    def _mouse_words(
        self, window: QWindow, button: Button
    ) -> tuple[Qt.MouseButton, Qt.KeyboardModifier, QPoint]:
        return self._BUTTONS[button], self._modifiers(), window.mapFromGlobal(self._spot)

    def _under_mouse(self) -> QWindow:
        popup = QApplication.activePopupWidget()
        under = popup.windowHandle() if popup else QGuiApplication.topLevelAt(self._spot)
        window = self._grabbed_by or under
        if window is None:
            raise ValueError(f"No window of this application is at {self._spot}")
        return window


def screen_pixel(spot: QPointF) -> tuple[int, int]:
    """Return the pixel of the screen, as the X server counts them, at a global position of Qt."""
    screen = QGuiApplication.screenAt(spot.toPoint()) or QGuiApplication.primaryScreen()
    corner, ratio = screen.geometry().topLeft(), screen.devicePixelRatio()
    return (
        round(corner.x() + (spot.x() - corner.x()) * ratio),
        round(corner.y() + (spot.y() - corner.y()) * ratio),
    )


class _Counter(QObject):
    """Counts events from the window system, which all come to a QWindow first."""

    def __init__(self, types: tuple[QEvent.Type, ...], modifiers_count: bool) -> None:
        super().__init__()
        self.count = 0
        self._types = types
        self._modifiers_count = modifiers_count

    def eventFilter(self, receiver: QObject | None, event: QEvent | None) -> bool:
        if event is not None and event.type() in self._types and isinstance(receiver, QWindow):
            is_modifier = hasattr(event, "key") and event.key() in _MODIFIER_KEYS
            self.count += self._modifiers_count or not is_modifier
        return False


@contextmanager
def _arrivals(*types: QEvent.Type, times: int = 1, modifiers_count: bool = False) -> Iterator[None]:
    """Wait at the end until so many events of these types have reached a window of ours."""
    application = QApplication.instance()
    counter = _Counter(types, modifiers_count)
    application.installEventFilter(counter)
    try:
        yield
        wait_until(
            lambda: counter.count >= times,
            f"{times} of {[kind.name for kind in types]} reach a window of this application; "
            f"active is {QApplication.activeWindow()}, the mouse is at {QCursor.pos()}",
        )
    finally:
        application.removeEventFilter(counter)


def _xdotool(*words: str) -> str:
    done = subprocess.run(
        ["xdotool", *words], check=True, timeout=TIMEOUT_S, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def _mouse_pixel() -> tuple[int, int]:
    # Qt's own answer is rounded to its pixels, which are larger on a screen of high resolution.
    words = dict(word.split("=") for word in _xdotool("getmouselocation", "--shell").split())
    return int(words["X"]), int(words["Y"])


def _x_name(key: str) -> str:
    return key.lower() if len(key) == 1 and key.isalpha() else _X_NAMES.get(key, key)


def _qt_key(key: str) -> Qt.Key:
    if key in _MODIFIERS:
        return _MODIFIERS[key][0]
    return QKeySequence(key)[0].key()


def _keyboard_window() -> QWindow:
    popup = QApplication.activePopupWidget()
    return popup.windowHandle() if popup else QGuiApplication.focusWindow()
