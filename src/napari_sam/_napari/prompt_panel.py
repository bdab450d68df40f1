"""The tools for prompts, and what the next point means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_sam._napari.layer_combo import LayerCombo
from napari_sam._napari.preview_layer import is_preview
from napari_sam._napari.prompt_layers import TOOLS

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

__all__ = ["PromptPanel"]

_TIPS = {
    "point": "Click an object; click again to correct. T switches the sign.",
    "box": "Draw a box around an object. Several boxes are several objects at once.",
    "ellipse": "Draw an ellipse over an object, as a mask to start from.",
    "polygon": "Click the corners of a polygon, as a mask to start from. Double-click ends it.",
    "scribble": "Draw a line over an object; it becomes points of the current sign.",
}
_PER_ROW = 3


class PromptPanel(QWidget):  # type: ignore[misc]  # qtpy has no types
    """Choose a tool, the sign of points, the source of masks, and the hover preview.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QWidget, optional
    """

    tool_chosen = Signal(str)
    """A tool of `prompt_layers.TOOLS`."""
    sign_chosen = Signal(bool)
    """Whether the next points are positive."""
    hover_chosen = Signal(bool)
    """Whether the mask under the mouse is shown."""

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tools = {tool: self._tool_button(tool) for tool in TOOLS}
        grid = QGridLayout()
        for i, button in enumerate(self.tools.values()):
            grid.addWidget(button, i // _PER_ROW, i % _PER_ROW)
        self.positive = QRadioButton("P&ositive")
        self.positive.setToolTip("The next points lie on the object (T switches).")
        self.negative = QRadioButton("&Negative")
        self.negative.setToolTip("The next points lie on what is not the object (T switches).")
        self.positive.setChecked(True)
        self._signs = QButtonGroup(self)
        self._signs.addButton(self.positive)
        self._signs.addButton(self.negative)
        self.positive.clicked.connect(lambda: self.sign_chosen.emit(True))
        self.negative.clicked.connect(lambda: self.sign_chosen.emit(False))
        signs = QHBoxLayout()
        signs.addWidget(self.positive)
        signs.addWidget(self.negative)
        self.hover = QCheckBox("Preview under the mouse")
        self.hover.setToolTip("Show the mask that a click would give (H).")
        self.hover.clicked.connect(self.hover_chosen)
        self.mask_source = LayerCombo(viewer, _is_labels, none_text="Labels of the objects")
        self.mask_source.setToolTip(
            "Where R takes a label as a mask to start from, for example a result of Cellpose."
        )
        self.mask_source.setAccessibleName("Mask from")
        form = QFormLayout()
        form.addRow("Points", signs)
        form.addRow("Mas&k from", self.mask_source)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(grid)
        layout.addLayout(form)
        layout.addWidget(self.hover)

    def show_state(self, is_positive: bool, hover_is_on: bool) -> None:
        """Show the sign of the next point and the hover preview."""
        (self.positive if is_positive else self.negative).setChecked(True)
        self.hover.setChecked(hover_is_on)

    def _tool_button(self, tool: str) -> QPushButton:
        button = QPushButton(tool.capitalize())
        button.setToolTip(_TIPS[tool])
        button.clicked.connect(lambda: self.tool_chosen.emit(tool))
        return button


def _is_labels(layer: Layer) -> bool:
    return type(layer).__name__ == "Labels" and not is_preview(layer)
