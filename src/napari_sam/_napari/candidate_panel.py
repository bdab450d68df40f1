"""The candidate masks of the active object, their scores, and how they are chosen."""

from __future__ import annotations

from typing import get_args

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFormLayout,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider

from napari_sam._napari.preview_layer import CANDIDATE_COLORS
from napari_sam.pipeline.candidates import THRESHOLD_RANGE, ObjectCandidates, Preference

__all__ = ["CandidatePanel"]

_COLUMNS = ("Mask", "Pred. IoU", "Stability", "Pixels")
_PREFERENCES = {
    "best": "Best by its scores",
    "whole": "Whole",
    "part": "Part",
    "sub-part": "Sub-part",
}
_ROWS = 4


class CandidatePanel(QWidget):  # type: ignore[misc]  # qtpy has no types
    """Table of candidates, preference and threshold."""

    chosen = Signal(int)
    """The user chose a candidate by its row."""
    preference_changed = Signal(str)
    """The user chose what an ambiguous click means."""
    threshold_changed = Signal(float)
    """The user moved the threshold."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table = self._make_table()
        self.preference = QComboBox()
        for name in get_args(Preference):
            self.preference.addItem(_PREFERENCES[name], name)
        self.preference.setToolTip(
            "What one click means where it may mean a cell or its nucleus. Remembered."
        )
        self.preference.setAccessibleName("Prefer")
        self.threshold = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(*THRESHOLD_RANGE)
        self.threshold.setValue(0)
        self.threshold.setDecimals(1)
        self.threshold.setToolTip("Threshold of the mask logits: to the right, masks shrink.")
        self.threshold.setAccessibleName("Threshold")
        self.preference.activated.connect(
            lambda _: self.preference_changed.emit(self.preference.currentData())
        )
        self.threshold.valueChanged.connect(self.threshold_changed)
        form = QFormLayout()
        form.addRow("P&refer", self.preference)
        form.addRow("Threshol&d", self.threshold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        layout.addLayout(form)

    def show_preference(self, preference: str) -> None:
        """Show what is preferred."""
        self.preference.setCurrentIndex(self.preference.findData(preference))

    def show_threshold(self, threshold: float) -> None:
        """Show the threshold."""
        with QSignalBlocker(self.threshold):
            self.threshold.setValue(threshold)

    def show_candidates(
        self, candidates: ObjectCandidates | None, chosen: int, threshold: float
    ) -> None:
        """List the candidates of an object; None for none."""
        with QSignalBlocker(self.table):
            self.table.clearContents()
            masks = () if candidates is None else candidates.masks
            for row, mask in enumerate(masks):
                area = mask.at(threshold).area
                texts = (
                    _name(row, candidates is not None and candidates.is_ambiguous),
                    f"{mask.predicted_iou:.2f}",
                    f"{mask.stability_score:.2f}",
                    f"{area}",
                )
                for column, text in enumerate(texts):
                    self.table.setItem(row, column, _cell(text))
                icon = _swatch(CANDIDATE_COLORS[row % len(CANDIDATE_COLORS)])
                self.table.item(row, 0).setIcon(icon)
            if masks:
                self.table.selectRow(chosen)
            else:
                self.table.clearSelection()

    def _make_table(self) -> QTableWidget:
        table = QTableWidget(_ROWS, len(_COLUMNS))
        table.setHorizontalHeaderLabels(_COLUMNS)
        table.setAccessibleName("Candidate masks")
        table.setToolTip("What the model offers. Tab takes the next one; a click chooses.")
        table.verticalHeader().hide()
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setTabKeyNavigation(False)
        table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        table.verticalHeader().setDefaultSectionSize(table.fontMetrics().height() + 6)
        table.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        height = table.verticalHeader().defaultSectionSize() * _ROWS
        table.setFixedHeight(height + table.horizontalHeader().sizeHint().height() + 8)
        table.itemSelectionChanged.connect(self._on_selection)
        return table

    def _on_selection(self) -> None:
        row = self.table.currentRow()
        if self.table.item(row, 0) is not None:
            self.chosen.emit(row)


def _name(row: int, is_ambiguous: bool) -> str:
    return f"{row + 1}" if is_ambiguous else ("Single" if row == 0 else f"{row}")


def _cell(text: str) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
    return item


def _swatch(color: str) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(color))
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # Qt would tint it
    return icon
