"""Where objects go, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_sam._napari.layer_combo import LayerCombo
from napari_sam._napari.preview_layer import is_preview

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

__all__ = ["RULES", "ObjectPanel"]

RULES = {
    "keep": ("Keep old objects", "An old object keeps its pixels; the new one gets the rest."),
    "overwrite": ("Overwrite", "The new object takes all its pixels, also from old ones."),
    "only_empty": ("Only empty pixels", "A mask that touches an old object is refused."),
}
"""Name and tooltip of each overwrite rule."""
_STEPS = (
    ("commit", "Commit", "Write the mask into the labels layer as an object (C)."),
    ("clear", "Clear", "Take the prompts away (Shift+C)."),
    ("undo", "&Undo", "Take the last step back (Ctrl+Z)."),
    ("redo", "Redo", "Do it again (Ctrl+Shift+Z)."),
)
_BUTTONS = (
    ("previous_object", "Previous", "Go to the object before (Shift+N)."),
    ("next_object", "Next", "Go to the next object (N)."),
    ("edit_current", "Edit", "Take up the prompts of the selected object again (E at the mouse)."),
    ("delete_current", "Delete", "Erase the selected object (X at the mouse)."),
    ("save", "Save…", "Save the labels as OME-Zarr, on their own or into the image's own file."),
)
_PER_ROW = 3


class ObjectPanel(QWidget):  # type: ignore[misc]  # qtpy has no types
    """Target layer, overwrite rule, and buttons.

    The buttons for each step of the work are in a row of their own, `steps`, so that they can stand
    where they are always seen.

    Parameters
    ----------
    viewer : napari.Viewer
    fits : callable
        Tells whether objects of the image can go into a layer.
    parent : QWidget, optional
    """

    pressed = Signal(str)
    """The name of the action whose button was pressed."""
    rule_chosen = Signal(str)
    """What happens where a new object meets an old one."""

    def __init__(
        self,
        viewer: napari.Viewer,
        fits: Callable[[Layer], bool],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.target = LayerCombo(
            viewer,
            lambda layer: (
                type(layer).__name__ == "Labels" and not is_preview(layer) and fits(layer)
            ),
            none_text="New labels layer",
        )
        self.target.setToolTip("The labels layer that objects are written into.")
        self.target.setAccessibleName("Into")
        self.rule = QComboBox()
        for name, (text, tip) in RULES.items():
            self.rule.addItem(text, name)
            self.rule.setItemData(self.rule.count() - 1, tip, 3)  # Qt.ToolTipRole
        self.rule.setToolTip("What happens where a new object meets an old one.")
        self.rule.setAccessibleName("Overlap")
        self.rule.activated.connect(lambda _: self.rule_chosen.emit(self.rule.currentData()))
        form = QFormLayout()
        form.addRow("Into", self.target)
        form.addRow("Overlap", self.rule)
        self.buttons = {
            name: self._button(name, text, tip) for name, text, tip in (*_STEPS, *_BUTTONS)
        }
        self.steps = QWidget()
        row = QHBoxLayout(self.steps)
        row.setContentsMargins(0, 0, 0, 0)
        for name, *_ in _STEPS:
            row.addWidget(self.buttons[name], 1)
        grid = QGridLayout()
        for i, (name, *_) in enumerate(_BUTTONS):
            grid.addWidget(self.buttons[name], i // _PER_ROW, i % _PER_ROW)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addLayout(grid)

    def show_rule(self, rule: str) -> None:
        """Show the overwrite rule."""
        self.rule.setCurrentIndex(self.rule.findData(rule))

    def _button(self, name: str, text: str, tip: str) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.clicked.connect(lambda: self.pressed.emit(name))
        return button
