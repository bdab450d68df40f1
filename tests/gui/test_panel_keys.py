"""Alt with an underlined letter leads to one control, and takes no key away from napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QAbstractButton, QLabel, QWidget

if TYPE_CHECKING:
    import napari

MENUS = "FVLPWH"
SHORTCUTS = "SC"  # Alt+S and Alt+C are screenshots


def letters(widget: QWidget) -> list[str]:
    """Underlined letters of a widget's labels and buttons that are seen."""
    labels = [label for label in widget.findChildren(QLabel) if label.buddy() is not None]
    both = (*labels, *widget.findChildren(QAbstractButton))
    texts = [each.text() for each in both if not each.isHidden()]
    keys = [QKeySequence.mnemonic(text).toString() for text in texts]
    return [key[-1] for key in keys if key]


@pytest.mark.parametrize("title", ["Segment by clicks", "Segment everything"])
def test_underlined_letters_are_told_apart(viewer: napari.Viewer, title: str) -> None:
    _, widget = viewer.window.add_plugin_dock_widget("napari-sam", title)
    found = letters(widget)
    assert len(found) > 10
    assert len(set(found)) == len(found), sorted(found)
    assert not set(found) & set(MENUS + SHORTCUTS), sorted(found)
