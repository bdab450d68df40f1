"""Panels of the widget: where objects go, and the buttons that begin, pause and end a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_sam._napari.choice_box import Choice, ChoiceBox
from napari_sam._napari.everything_words import counted, found_scale_text
from napari_sam._napari.layer_combo import LayerCombo
from napari_sam._napari.object_panel import RULES
from napari_sam._napari.preview_layer import is_preview

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_sam._napari.everything_search import PlaneSearch, Work
    from napari_sam.pipeline.commit import OverwriteRule

__all__ = ["ResultPanel", "RunPanel"]

MAX_PROGRESS = 10_000
_NEXT = {
    (False, False): ("Segme&nt slice", "Find all objects on this slice; the result is a preview."),
    (True, False): ("Estimate c&ost", "Time one tile, and tell what all of them will take."),
    (True, True): ("Segme&nt…", "Choose where the labels go, and begin."),
}


class ResultPanel(QWidget):  # type: ignore[misc]  # qtpy has no types
    """What was found on this slice, and which labels layer keeps it.

    Parameters
    ----------
    viewer : napari.Viewer
    fits : callable
        Tells whether objects of the image can go into a layer.
    parent : QWidget, optional
    """

    rule_chosen = Signal(str)
    """What happens where a new object meets an old one."""

    def __init__(
        self,
        viewer: napari.Viewer,
        fits: Callable[[Layer], bool],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.count = QLabel()
        self.count.setAccessibleName("Objects found")
        self.count.setWordWrap(True)
        self.target = LayerCombo(
            viewer,
            lambda layer: (
                type(layer).__name__ == "Labels" and not is_preview(layer) and fits(layer)
            ),
            none_text="New labels layer",
        )
        self.target.setToolTip("The labels layer that objects are written into.")
        self.target.setAccessibleName("Into")
        self.rule = ChoiceBox("Overlap", "What happens where a new object meets an old one.", self)
        self.rule.fill([Choice(name, text, tip) for name, (text, tip) in RULES.items()], "keep")
        self.rule.key_chosen.connect(self.rule_chosen)
        self.keep = _button("&Keep", "Write the objects into the labels layer.")
        self.discard = _button("Discard", "Take the preview away.")
        self.undo = _button("&Undo", "Take the last step back.")
        self.redo = _button("Redo", "Do it again.")
        form = QFormLayout()
        form.addRow("Into", self.target)
        form.addRow("Overlap", self.rule)
        grid = QGridLayout()
        for i, button in enumerate((self.keep, self.discard, self.undo, self.redo)):
            grid.addWidget(button, i // 2, i % 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.count)
        layout.addLayout(form)
        layout.addLayout(grid)

    def show_found(self, search: PlaneSearch, *, is_current: bool, is_busy: bool) -> None:
        """Show how many objects there are, and what can be done with them.

        Parameters
        ----------
        search : PlaneSearch
        is_current : bool
            Whether the options are still those that the masks were found with.
        is_busy : bool
            Whether something else is being done.
        """
        self.keep.setEnabled(search.shown is not None and not is_busy)
        self.discard.setEnabled(search.request is not None)
        self.count.setVisible(search.shown is not None)
        if search.shown is None:
            return
        words = counted(len(search.shown.objects), "object")
        if not is_current:
            words += " of the options before; segment again to apply the new ones."
        elif search.is_below_floor:
            words += f". Nothing was looked for below {min(search.floors):.2f}; segment again."
        elif search.found is not None:
            words += found_scale_text(search.found.estimated_diameter, search.found.scale)
        self.count.setText(words)

    @property
    def overwrite_rule(self) -> OverwriteRule:
        """What happens where a new object meets an old one."""
        key = self.rule.key
        return "overwrite" if key == "overwrite" else "keep" if key == "keep" else "only_empty"


class RunPanel(QWidget):  # type: ignore[misc]  # qtpy has no types
    """Status, progress, and the buttons.

    Parameters
    ----------
    parent : QWidget, optional
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setAccessibleName("Status")
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setAccessibleName("Progress")
        self.run = _button("Segme&nt", "")
        self.pause = _button("Pause", "Wait until you go on; what is done stays.")
        self.cancel = _button("Ca&ncel", "Stop within a tile; what is done stays.")
        self.resume = _button(
            "Resume unfinished…", "Complete labels on disk whose run was stopped."
        )
        buttons = QHBoxLayout()
        buttons.addWidget(self.run, 1)
        buttons.addWidget(self.resume)
        buttons.addWidget(self.pause, 1)
        buttons.addWidget(self.cancel, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.status)
        layout.addWidget(self.progress)
        layout.addLayout(buttons)

    def show_work(self, work: Work, message: str, *, can_pause: bool, can_run: bool) -> None:
        """Show what is being done, and what can be.

        Parameters
        ----------
        work : Work
        message : str
            What is said while nothing is done.
        can_pause : bool
            Whether it is worth while to pause it.
        can_run : bool
            Whether a run can begin.
        """
        is_running = work.is_running
        had_focus = [button for button in (self.run, self.cancel) if button.hasFocus()]
        words = "Paused. " if work.is_paused else ""
        self.status.setText(words + work.progress.text if is_running else message)
        self.status.setVisible(bool(self.status.text()))
        done, total = _scaled(work.progress.done, work.progress.total)
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.progress.setVisible(is_running)
        for button, is_seen in (
            (self.cancel, is_running),
            (self.pause, is_running and can_pause),
            (self.run, not is_running),
            (self.resume, not is_running),
        ):
            button.setVisible(is_seen)
        self.run.setEnabled(can_run)
        self.cancel.setEnabled(not work.is_cancelled)
        self.pause.setEnabled(not work.is_cancelled)
        self.pause.setText("Go on" if work.is_paused else "Pause")
        if had_focus and not had_focus[0].isVisible():  # the keyboard stays on what comes instead
            (self.cancel if is_running else self.run).setFocus()

    def show_next(self, *, is_volume: bool, is_estimated: bool) -> None:
        """Say what the first button does.

        Parameters
        ----------
        is_volume : bool
            Whether the result is written to disk.
        is_estimated : bool
            Whether its cost is known.
        """
        text, tip = _NEXT[is_volume, is_volume and is_estimated]
        self.run.setText(text)
        self.run.setToolTip(tip)
        self.run.setAccessibleName(text.replace("&", "").removesuffix("…"))


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setAccessibleName(text.replace("&", "").removesuffix("…"))
    return button


def _scaled(done: int, total: int) -> tuple[int, int]:
    """Fit steps of any number into Qt's integers."""
    if total == 0:  # no busy sign: its animation redraws the whole window all the time
        return 0, 1
    if total > MAX_PROGRESS:
        return done * MAX_PROGRESS // total, MAX_PROGRESS
    return done, total
