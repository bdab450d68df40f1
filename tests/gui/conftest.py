"""A real napari window for each test, and a look at what it leaves behind."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import napari

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 60.0

NO_SCREEN = (
    "This test opens a window, and there is no screen. Run `make test`, which starts one, "
    "or leave such tests out: pytest -m 'not gui'."
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.gui)


@pytest.fixture(scope="session")
def screen() -> None:
    """Fail in words where Qt would abort the process."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        pytest.fail(NO_SCREEN, pytrace=False)


@pytest.fixture(autouse=True)
def no_error_is_lost(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which Qt called something of ours that raised; Qt would abort the process."""
    raised: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _trace: raised.append(error))
    yield
    if raised:
        raise raised[0]


@pytest.fixture
def nothing_left_behind() -> Iterator[None]:
    """Fail if a thread or a window widget that the test made is still there afterwards."""
    threads_before = running_threads()
    widgets_before = window_widgets()
    yield
    process_events_until(lambda: window_widgets() <= widgets_before)
    process_events_until(lambda: running_threads() <= threads_before)


@pytest.fixture
def viewer(screen: None, nothing_left_behind: None) -> Iterator[napari.Viewer]:
    """Show a napari viewer, and close it when the test is over."""
    import napari

    shown = napari.Viewer(show=True)
    process_events_until(shown.window._qt_window.isVisible)
    yield shown
    shown.close()


@pytest.fixture
def notes() -> Iterator[list[str]]:
    """The notifications of napari that a test causes, also those that were shown a moment ago."""
    from napari.utils.notifications import notification_manager

    from napari_sam._napari import notices

    seen: list[str] = []

    def note(notification: Any) -> None:
        seen.append(notification.message)

    notices._shown_at.clear()
    notification_manager.notification_ready.connect(note)
    yield seen
    notification_manager.notification_ready.disconnect(note)
    notices._shown_at.clear()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Return a function that lets Qt work until a condition holds, or fails."""
    return process_events_until


def running_threads() -> set[threading.Thread]:
    """Return the threads, without those that zarr and dask keep for the life of the process."""
    of_zarr = ("zarr", "asyncio_")  # its event loop, and the threads that read files for it
    ours = {thread for thread in threading.enumerate() if not thread.name.startswith(of_zarr)}
    dask_pool = getattr(sys.modules.get("dask.threaded"), "default_pool", None)
    return ours - getattr(dask_pool, "_threads", set())


def window_widgets() -> set[str]:
    """Return what tells all widgets without a parent apart: windows, menus, popups."""
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance()
    return {repr(widget) for widget in application.topLevelWidgets()} if application else set()


def process_events_until(condition: Callable[[], bool]) -> None:
    """Let Qt work until the condition holds; fail if it does not within the time."""
    from qtpy.QtCore import QCoreApplication, QEvent
    from qtpy.QtWidgets import QApplication

    deadline = time.monotonic() + TIMEOUT_S
    next_collection = time.monotonic()
    while not condition():
        now = time.monotonic()
        if now > deadline:
            pytest.fail(f"Not so within {TIMEOUT_S} s: {threading.enumerate()}, {window_widgets()}")
        QApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        if now >= next_collection:
            gc.collect()  # it takes long with torch loaded
            next_collection = time.monotonic() + 10 * (time.monotonic() - now)
        time.sleep(0.01)
