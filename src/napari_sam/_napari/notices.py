"""Notifications of napari: errors with their cure, warnings, information; each one once."""

from __future__ import annotations

import threading
import time
import traceback

from napari.utils.notifications import (
    ErrorNotification,
    Notification,
    NotificationSeverity,
    notification_manager,
)

from napari_sam.core.errors import NapariSamError

__all__ = ["error_text", "show_error", "show_info", "show_warning"]

# napari takes a notification away after 4 seconds: the same one may come again after that
_REPEAT_AFTER_S = 5.0

_lock = threading.Lock()
_shown_at: dict[tuple[str, str], float] = {}  # severity and message -> when


def error_text(error: BaseException) -> str:
    """Return what a user should read of an error.

    Parameters
    ----------
    error : BaseException
        Any exception.

    Returns
    -------
    str
        One line each for what was given, the rule and the cure of a `NapariSamError`; otherwise
        the exception's kind and message.
    """
    if isinstance(error, NapariSamError):
        return "\n".join((error.given, error.rule, error.cure))
    message = str(error).strip()
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def show_error(error: BaseException) -> None:
    """Show an error as a notification.

    A `NapariSamError` says in words what to do, and needs no traceback. That of any other
    exception is a button of the notification. The variables in its frames are let go, because
    napari keeps every notification, and they may be tensors in a device's memory.

    Parameters
    ----------
    error : BaseException
        Any exception.
    """
    text = error_text(error)
    if isinstance(error, NapariSamError):
        _show(Notification(text, NotificationSeverity.ERROR))
        return
    notification = ErrorNotification(error)
    notification.message = text
    _clear_frames(error)
    _show(notification)


def show_warning(message: str) -> None:
    """Show a warning as a notification.

    Parameters
    ----------
    message : str
        Plain text; the first line is seen at once.
    """
    _show(Notification(message, NotificationSeverity.WARNING))


def show_info(message: str) -> None:
    """Show information as a notification.

    Parameters
    ----------
    message : str
        Plain text; the first line is seen at once.
    """
    _show(Notification(message, NotificationSeverity.INFO))


def _show(notification: Notification) -> None:
    if _is_new(str(notification.severity), notification.message):
        notification_manager.dispatch(notification)


def _is_new(severity: str, message: str) -> bool:
    """Tell whether the same was not shown a moment ago, and remember that it is now."""
    now = time.monotonic()
    with _lock:
        for key, shown_at in list(_shown_at.items()):
            if now - shown_at >= _REPEAT_AFTER_S:
                del _shown_at[key]
        if (severity, message) in _shown_at:
            return False
        _shown_at[severity, message] = now
        return True


def _clear_frames(error: BaseException | None) -> None:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
