"""A last call for a widget that Qt has destroyed, as when its window is closed.

Where widget and slot are garbage together, Python takes the slot apart before Qt calls it, and the
process crashes. So what is called is kept here until then.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QWidget

__all__ = ["call_when_destroyed"]

_waiting: set[_LastCall] = set()


def call_when_destroyed(widget: QWidget, function: Callable[[Any], None]) -> None:
    """Call a function when Qt has destroyed a widget that Python still knows.

    Parameters
    ----------
    widget : QWidget
        It is not kept alive.
    function : callable
        Takes the widget, of which nothing of Qt's may be used any more. It does not refer to the
        widget itself.
    """
    widget.destroyed.connect(_LastCall(widget, function))


class _LastCall:
    def __init__(self, widget: QWidget, function: Callable[[Any], None]) -> None:
        self._widget = weakref.ref(widget)
        self._function = function
        _waiting.add(self)

    def __call__(self, *_: object) -> None:
        _waiting.discard(self)
        widget = self._widget()
        if widget is not None:
            self._function(widget)
