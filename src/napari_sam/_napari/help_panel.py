"""The list of keys, and the shortest way to a first object."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sam._napari.keys import KEYS

__all__ = ["HelpDialog"]

_STEPS = (
    "1. Choose an image. The model looks once at the slice on the screen.\n"
    "2. Click an object: its mask appears. Click what is missing; press T and click what is too "
    "much.\n"
    "3. Tab goes through the candidate masks, C writes the object into the labels layer.\n"
    "Keys act while the canvas has the keyboard: click it, or press Tab until it has."
)
_ROW_MARGIN = 8
_SIZE = (600, 640)
"""Room for all keys, on a screen of 768 rows too."""


class HelpDialog(QDialog):  # type: ignore[misc]  # qtpy has no types
    """Show the keys.

    Parameters
    ----------
    parent : QWidget
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Segment Anything: help")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        steps = QLabel(_STEPS)
        steps.setWordWrap(True)
        table = QTableWidget(len(KEYS), 2)
        table.setAccessibleName("Keys")
        table.horizontalHeader().hide()
        table.verticalHeader().hide()
        table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        for row, key in enumerate(KEYS):
            table.setItem(row, 0, QTableWidgetItem(key.shown))
            table.setItem(row, 1, QTableWidgetItem(key.does))
        table.verticalHeader().setMinimumSectionSize(0)
        table.verticalHeader().setDefaultSectionSize(table.fontMetrics().height() + _ROW_MARGIN)
        table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.close)
        layout = QVBoxLayout(self)
        layout.addWidget(steps)
        layout.addWidget(table)
        layout.addWidget(buttons)
        self.resize(*_SIZE)
