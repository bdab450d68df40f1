"""Calls from worker threads into the thread of the windows, and warnings on the same way.

Qt objects may only be touched in the thread that runs the event loop. One object of the whole
process takes calls from all threads there. It is never deleted, so that no thread can meet a
signal whose object is gone, which is what makes a worker's last words disappear otherwise.
"""

from __future__ import annotations

import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from qtpy.QtCore import QCoreApplication, QObject, Qt, QTimer, Signal

from napari_sam._napari.notices import show_warning
from napari_sam.core.errors import NapariSamWarning

__all__ = ["Closable", "Mailbox", "call_safely", "mailbox", "warnings_as_notices"]


class Closable(Protocol):
    """What ends with the application."""

    def close(self) -> None:
        """End, and stay silent from now on."""


class Mailbox(QObject):  # type: ignore[misc]  # qtpy has no types
    """Runs functions in the thread of the event loop; use `mailbox`."""

    _arrived = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._open_at_quit: weakref.WeakSet[Any] = weakref.WeakSet()
        application = QCoreApplication.instance()
        self.moveToThread(application.thread())
        self._arrived.connect(self._open, Qt.ConnectionType.QueuedConnection)
        application.aboutToQuit.connect(self._close_all)

    def post(self, function: Callable[[], None]) -> None:
        """Call a function from the event loop, soon; may be used in any thread."""
        self._arrived.emit(function)

    def post_later(self, milliseconds: int, function: Callable[[], None]) -> None:
        """Call a function from the event loop after a while; only for the event loop's thread."""
        QTimer.singleShot(milliseconds, partial(call_safely, function))

    def close_at_quit(self, thing: Closable) -> None:
        """Close a thing when the application quits, if it is still there."""
        self._open_at_quit.add(thing)

    def _open(self, function: Callable[[], None]) -> None:
        call_safely(function)

    def _close_all(self) -> None:
        for thing in list(self._open_at_quit):
            thing.close()


_mailbox: Mailbox | None = None


def mailbox() -> Mailbox:
    """Return the process's mailbox; the first call has to come from the event loop's thread."""
    global _mailbox
    if _mailbox is None:
        _mailbox = Mailbox()
    return _mailbox


def call_safely(function: Callable[..., None], *arguments: object) -> None:
    """Call a function; hand its exception to `sys.excepthook`.

    An exception that leaves a slot makes PyQt abort the process unless somebody has replaced the
    hook. Called here, the hook shows it in napari, or prints it where there is no napari.

    Parameters
    ----------
    function : callable
        What to call.
    *arguments : object
        Its arguments.
    """
    try:
        function(*arguments)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)


# Python's warning hook belongs to the whole process. `warnings.catch_warnings` in a thread would
# put back at its end what another thread had put there meanwhile; so the hook is replaced once for
# all workers, and looks itself in which thread it runs.
_lock = threading.Lock()
_listening = threading.local()
_listeners = 0
_hook_before: Callable[..., None] = warnings.showwarning


@contextmanager
def warnings_as_notices() -> Iterator[None]:
    """Show each `NapariSamWarning` of this thread as a notification of napari.

    Every one is shown, also where Python would show only the first of its place, and also where
    warnings are errors. Warnings of other categories and threads go their usual way.

    Yields
    ------
    None
        Nothing.
    """
    _start_listening()
    _listening.is_on = True
    try:
        yield
    finally:
        _listening.is_on = False
        _stop_listening()


def _start_listening() -> None:
    global _listeners, _hook_before
    with _lock:
        _listeners += 1
        if warnings.showwarning is not _hook:
            _hook_before = warnings.showwarning
            warnings.showwarning = _hook
        # every change of the filters makes Python forget which warnings it has shown
        if ("always", None, NapariSamWarning, None, 0) not in warnings.filters:
            warnings.filterwarnings("always", category=NapariSamWarning)


def _stop_listening() -> None:
    global _listeners
    with _lock:
        _listeners -= 1
        # another hook may stand there by now, and may come back to ours later: ours stays valid
        if _listeners == 0 and warnings.showwarning is _hook:
            warnings.showwarning = _hook_before


def _hook(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    if getattr(_listening, "is_on", False) and issubclass(category, NapariSamWarning):
        mailbox().post(partial(show_warning, str(message)))
    else:
        _hook_before(message, category, *place, **more)
