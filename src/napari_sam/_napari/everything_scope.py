"""Which slices are segmented: the one in view, all, or a range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QSpinBox, QWidget

from napari_sam._napari.choice_box import Choice, ChoiceBox
from napari_sam._napari.panel_parts import WheelGuard
from napari_sam.pipeline.config import SliceRange

__all__ = ["Scope", "ScopePanel"]

Scope = Literal["slice", "all", "range"]

_TEXTS: dict[Scope, tuple[str, str]] = {
    "slice": ("This slice", "The slice in view; the result is a preview that can be filtered."),
    "all": ("All slices", "Every slice; the result is written to disk while it is computed."),
    "range": ("A range of slices", "Some slices; the result is written to disk."),
}
_AXES = {"Z": ("Slices z", "slice along z"), "T": ("Times", "time point")}


class ScopePanel(QWidget):  # type: ignore[misc]  # qtpy has no types
    """Choose the slices.

    Parameters
    ----------
    parent : QWidget, optional
    """

    changed = Signal()
    """Other slices are chosen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lengths: dict[str, int] = {}
        self.scopes = ChoiceBox("Segment", "Which slices are segmented.", self)
        self.rows = {axis: _Row(tip, self) for axis, (_, tip) in _AXES.items()}
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow("Segment", self.scopes)
        for axis, (label, _) in _AXES.items():
            self._form.addRow(label, self.rows[axis])
            self._form.labelForField(self.rows[axis]).setBuddy(self.rows[axis].first)
            self.rows[axis].changed.connect(self.changed)
        boxes = [box for row in self.rows.values() for box in (row.first, row.last)]
        self._guard = WheelGuard(boxes, self)
        self.scopes.key_changed.connect(self._on_scope)
        self.set_axes({}, "There is no image.")

    @property
    def scope(self) -> Scope:
        """Which slices are segmented."""
        key = self.scopes.key
        return "all" if key == "all" else "range" if key == "range" else "slice"

    @property
    def is_stack(self) -> bool:
        """Whether the image has more than one slice."""
        return any(length > 1 for length in self._lengths.values())

    def choose(self, scope: Scope) -> None:
        """Choose the slices; where there is only one, it is that one."""
        self.scopes.choose(scope if self.is_stack else "slice")

    def set_axes(self, lengths: Mapping[str, int], reason: str = "") -> None:
        """Offer the slices of an image.

        Parameters
        ----------
        lengths : mapping of str to int
            Length of the axes Z and T, as far as the image has them; empty for a 2D image.
        reason : str
            Why there are none to choose from.
        """
        self._lengths = dict(lengths)
        why = "" if self.is_stack else reason or "The image has one slice only."
        choices = [
            Choice(scope, text, why or tip, scope == "slice" or not why)
            for scope, (text, tip) in _TEXTS.items()
        ]
        self.scopes.fill(choices, "slice" if why else self.scope)
        for axis, row in self.rows.items():
            row.set_length(self._lengths.get(axis, 1))
            self._form.setRowVisible(row, self._lengths.get(axis, 1) > 1)
        self._grey()

    def ranges(self, position: Mapping[str, int]) -> tuple[SliceRange, SliceRange]:
        """Return the chosen slices as a run takes them.

        Parameters
        ----------
        position : mapping of str to int
            Index along Z and T of the slice in view.

        Returns
        -------
        tuple of SliceRange
            ``SegmentConfig.slices`` and ``SegmentConfig.times``.
        """
        chosen = {axis: self._range_of(axis, position) for axis in self._lengths}
        if "Z" in chosen:
            return chosen["Z"], chosen.get("T", SliceRange())
        return chosen.get("T", SliceRange()), SliceRange()

    def _range_of(self, axis: str, position: Mapping[str, int]) -> SliceRange:
        first, last = 0, self._lengths[axis] - 1
        if self.scope == "slice":
            first = last = position[axis]
        elif self.scope == "range":
            first, last = self.rows[axis].ends
        is_all = (first, last) == (0, self._lengths[axis] - 1)
        return SliceRange() if is_all else SliceRange(first, last + 1)

    def _on_scope(self, _: str) -> None:
        self._grey()
        self.changed.emit()

    def _grey(self) -> None:
        for row in self.rows.values():
            row.setEnabled(self.scope == "range")


class _Row(QWidget):  # type: ignore[misc]  # qtpy has no types
    """First and last index along one axis."""

    changed = Signal()

    def __init__(self, name: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.first = _index_box(f"First {name}", f"The first {name}, counted from 0.")
        self.last = _index_box(f"Last {name}", f"The last {name}, which is segmented too.")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.first, 1)
        layout.addWidget(QLabel("to"))
        layout.addWidget(self.last, 1)
        self.first.valueChanged.connect(self._on_first)
        self.last.valueChanged.connect(self._on_last)

    @property
    def ends(self) -> tuple[int, int]:
        """First and last index."""
        return self.first.value(), self.last.value()

    def set_length(self, length: int) -> None:
        """Offer the indices of an axis; all of them when it is another length."""
        if self.last.maximum() == length - 1:
            return
        with QSignalBlocker(self.first), QSignalBlocker(self.last):
            self.first.setRange(0, length - 1)
            self.last.setRange(0, length - 1)
            self.first.setValue(0)
            self.last.setValue(length - 1)

    def _on_first(self, value: int) -> None:
        with QSignalBlocker(self.last):
            self.last.setValue(max(value, self.last.value()))
        self.changed.emit()

    def _on_last(self, value: int) -> None:
        with QSignalBlocker(self.first):
            self.first.setValue(min(value, self.first.value()))
        self.changed.emit()


def _index_box(name: str, tip: str) -> QSpinBox:
    box = QSpinBox()
    box.setAccessibleName(name)
    box.setToolTip(tip)
    box.setKeyboardTracking(False)
    box.setRange(0, 0)
    return box
