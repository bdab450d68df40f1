"""Bind the keys of the plugin while its widget is open, and give back what was bound before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QShortcut

from napari_sam._napari.keys import KEYS, Key

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

__all__ = ["KeyBindings"]

_FOCUS_KEYS = {"Tab": "Tab", "Shift-Tab": "Shift+Tab"}
"""Qt moves the focus with these before napari sees them, so they need shortcuts of Qt."""


class KeyBindings:
    """The keys of one widget.

    A key bound to the viewer alone does not fire while a layer is active whose class has the same
    key, so that keys are bound to the plugin's own layers and to the image as well. Other labels
    layers keep napari's keys for painting. Where several widgets are open in a viewer, a key acts
    once: in the widget that the active layer belongs to, or else in the one that was opened last.

    Parameters
    ----------
    viewer : napari.Viewer
    actions : callable
        Returns what an action of :data:`~napari_sam._napari.keys.KEYS` calls.
    """

    def __init__(self, viewer: napari.Viewer, actions: Callable[[str], Callable[[], None]]) -> None:
        self._viewer = viewer
        self._actions = actions
        self._layers: list[Any] = []
        self._shared = _keys_of.setdefault(id(viewer), _SharedKeys(viewer))
        self._shared.widgets.append(self)
        self._shared.update()

    def follow(self, layers: Iterable[Layer]) -> None:
        """Bind the keys to these layers, and no longer to others."""
        self._layers = list(layers)
        self._shared.update()

    def close(self) -> None:
        """Unbind everything; twice does nothing."""
        if self not in self._shared.widgets:
            return
        self._shared.widgets.remove(self)
        self._shared.update()
        self._layers = []
        if not self._shared.widgets:
            self._shared.close()
            _keys_of.pop(id(self._viewer), None)

    @property
    def owners(self) -> list[Any]:
        """The viewer and the layers that have the keys."""
        return [self._viewer, *self._layers]

    def act(self, action: str) -> None:
        """Do what a key stands for."""
        self._actions(action)()


class _SharedKeys:
    """What is bound in one viewer, for all widgets that are open in it."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.widgets: list[KeyBindings] = []
        self._viewer = viewer
        self._functions = {
            key.sequence: self._function(key.action)
            for key in KEYS
            if key.sequence not in _FOCUS_KEYS
        }
        self._bound: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._shortcuts: list[QShortcut] = []

    def update(self) -> None:
        """Bind the keys to what the widgets want, and no longer to anything else."""
        if self.widgets and not self._shortcuts:
            self._shortcuts = [self._shortcut(key) for key in KEYS if key.sequence in _FOCUS_KEYS]
        wanted = {id(owner): owner for widget in self.widgets for owner in widget.owners}
        for number in self._bound.keys() - wanted.keys():
            self._unbind(number)
        for number in wanted.keys() - self._bound.keys():
            self._bind(wanted[number])

    def close(self) -> None:
        """Take the shortcuts of Qt away."""
        for shortcut in self._shortcuts:
            with suppress(RuntimeError):  # it has gone with the window
                shortcut.setEnabled(False)
                shortcut.deleteLater()
        self._shortcuts.clear()
        self._functions.clear()

    def _function(self, action: str) -> Callable[[Any], None]:
        def call(owner: Any) -> None:
            self._act(owner, action)

        return call

    def _act(self, owner: Any, action: str) -> None:
        theirs = [w for w in self.widgets if any(each is owner for each in w.owners)]
        for widget in (theirs or self.widgets)[-1:]:
            widget.act(action)

    def _shortcut(self, key: Key) -> QShortcut:
        canvas_area = self._viewer.window._qt_viewer
        shortcut = QShortcut(QKeySequence(_FOCUS_KEYS[key.sequence]), canvas_area)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(
            lambda: self._act(self._viewer.layers.selection.active, key.action)
        )
        return shortcut

    def _bind(self, owner: Any) -> None:
        before = {}
        for sequence, function in self._functions.items():
            before[sequence] = owner.bind_key(sequence, None)
            owner.bind_key(sequence, function, overwrite=True)
        self._bound[id(owner)] = owner, before

    def _unbind(self, number: int) -> None:
        owner, before = self._bound.pop(number)
        for sequence, function in self._functions.items():
            current = owner.bind_key(sequence, None)
            if current is not function and current is not None:  # somebody else took it since
                owner.bind_key(sequence, current)
            elif before[sequence] is not None:
                owner.bind_key(sequence, before[sequence])


_keys_of: dict[int, _SharedKeys] = {}
"""By the id of the viewer, as long as a widget is open in it."""
