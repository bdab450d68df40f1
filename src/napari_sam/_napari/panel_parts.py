"""Parts that widgets are put together from: sections, what scrolls them, and buttons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QPushButton, QScrollArea, QVBoxLayout, QWidget
from superqt import QCollapsible

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Column", "WheelGuard", "column_of", "push_button", "section"]

MIN_HEIGHT = 120


class Column(QScrollArea):  # type: ignore[misc]  # qtpy has no types
    """Scrolls up and down only: it is as wide as what is in it.

    Parameters
    ----------
    inside : QWidget
        What is scrolled.
    """

    def __init__(self, inside: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(inside)

    def minimumSizeHint(self) -> QSize:  # noqa: N802  (Qt's name)
        """Ask for the width of the content and of the scroll bar."""
        width = self.widget().minimumSizeHint().width() if self.widget() else 0
        return QSize(width + self.verticalScrollBar().sizeHint().width(), MIN_HEIGHT)


class WheelGuard(QObject):  # type: ignore[misc]  # qtpy has no types
    """Keeps the mouse wheel from changing numbers that are only scrolled past.

    Parameters
    ----------
    widgets : iterable of QWidget
        Spin boxes, sliders and combo boxes; the wheel moves them only with the keyboard in them.
    parent : QObject
        With it the guard ends.
    """

    def __init__(self, widgets: Iterable[QWidget], parent: QObject) -> None:
        super().__init__(parent)
        for widget in widgets:
            if widget.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802  (Qt's name)
        """Leave the wheel to what can be scrolled."""
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


def section(title: str, panel: QWidget, *, is_open: bool = True) -> QCollapsible:
    """Put a panel under a title that opens and closes it.

    Parameters
    ----------
    title : str
    panel : QWidget
    is_open : bool

    Returns
    -------
    QCollapsible
    """
    box = QCollapsible(title)
    box.setDuration(0)
    box.addWidget(panel)
    box.layout().setContentsMargins(0, 0, 0, 0)
    box.layout().setSpacing(0)
    box.content().layout().setContentsMargins(4, 4, 4, 4)
    if is_open:
        box.expand(animate=False)
    return box


def column_of(*panels: tuple[str, QWidget]) -> QWidget:
    """Put panels one below the other, each under its title.

    Parameters
    ----------
    *panels : tuple of str and QWidget
        Title and panel, from top to bottom.

    Returns
    -------
    QWidget
        What a :class:`Column` scrolls.
    """
    inside = QWidget()
    layout = QVBoxLayout(inside)
    for title, panel in panels:
        layout.addWidget(section(title, panel))
    layout.addStretch(1)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(2)
    return inside


def push_button(text: str, tip: str, parent: QWidget) -> QPushButton:
    """Make a button that screen readers name by its text, and describe by its tip.

    Parameters
    ----------
    text : str
        With ``&`` before the letter of its key.
    tip : str
    parent : QWidget

    Returns
    -------
    QPushButton
    """
    button = QPushButton(text, parent)
    button.setToolTip(tip)
    button.setAccessibleName(text.replace("&", "").removesuffix("…"))
    button.setAccessibleDescription(tip)
    return button
