"""A combo box whose entries may be greyed, each with the reason as its tooltip."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QStandardItem, QWheelEvent
from qtpy.QtWidgets import QComboBox, QWidget

__all__ = ["Choice", "ChoiceBox"]


@dataclass(frozen=True)
class Choice:
    """One entry.

    Attributes
    ----------
    key : str
        What is chosen.
    text : str
        What the user reads.
    tip : str
        Its tooltip: what it is, or why it cannot be chosen.
    is_available : bool
        Whether it can be chosen.
    """

    key: str
    text: str
    tip: str = ""
    is_available: bool = True


class ChoiceBox(QComboBox):  # type: ignore[misc]  # qtpy has no types
    """Choose one of some keys.

    The mouse wheel changes nothing, because whoever scrolls past would load another model.

    Parameters
    ----------
    name : str
        Name for screen readers.
    tip : str
        What is chosen here.
    parent : QWidget, optional
        The parent.
    """

    key_changed = Signal(str)
    """Another key is chosen now, by the user or by the program."""
    key_chosen = Signal(str)
    """The user chose another key; comes after `key_changed`."""

    def __init__(self, name: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._key = ""
        self._tip = tip
        self.setAccessibleName(name)
        self.setAccessibleDescription(tip)
        # as narrow as the dock allows; the list that opens is as wide as its texts
        self.setSizeAdjustPolicy(self.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(10)
        self.activated.connect(self._on_activated)

    @property
    def key(self) -> str:
        """The chosen key."""
        return self._key

    def fill(self, choices: Iterable[Choice], key: str) -> None:
        """Replace all entries.

        Parameters
        ----------
        choices : iterable of Choice
            The new entries.
        key : str
            The key that is chosen now; one of them.
        """
        self.clear()
        for choice in choices:
            self.model().appendRow(_item(choice))
        self.view().setMinimumWidth(
            self.view().sizeHintForColumn(0) + 2 * self.frameSize().height()
        )
        self._set(key)

    def choose(self, key: str) -> bool:
        """Choose a key.

        Parameters
        ----------
        key : str
            One of the keys.

        Returns
        -------
        bool
            Whether there is such a key.
        """
        if self.findData(key) < 0:
            return False
        self._set(key)
        return True

    def showPopup(self) -> None:  # noqa: N802
        """Open the list, as wide as its texts."""
        view = self.view()
        view.setMinimumWidth(
            view.sizeHintForColumn(0) + view.verticalScrollBar().sizeHint().width()
        )
        super().showPopup()

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        """Leave the wheel to what can be scrolled."""
        event.ignore()

    def _on_activated(self, index: int) -> None:
        key = self.itemData(index)
        if key != self._key:
            self._set(key)
            self.key_chosen.emit(key)

    def _set(self, key: str) -> None:
        index = self.findData(key)
        self.setCurrentIndex(index)
        tip = self.itemData(index, Qt.ItemDataRole.ToolTipRole)
        self.setToolTip(f"{self._tip}\n\n{tip}" if tip else self._tip)
        if key != self._key:
            self._key = key
            self.key_changed.emit(key)


def _item(choice: Choice) -> QStandardItem:
    item = QStandardItem(choice.text)
    item.setData(choice.key, Qt.ItemDataRole.UserRole)
    item.setToolTip(choice.tip)
    item.setEnabled(choice.is_available)
    return item
