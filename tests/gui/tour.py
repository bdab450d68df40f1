"""What a new user does with the plugin, step by step, with real mouse and key events.

The tests walk it and look at the outcome of each step; ``tools/make_screenshots.py`` walks it and
takes the pictures of the documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPoint, QTimer
from qtpy.QtWidgets import QApplication, QDialog, QDialogButtonBox, QFileDialog

from gui.driver import Driver, process_events, wait_until
from napari_sam.training.synthetic import synthetic_stack

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels

    from napari_sam._napari.everything_widget import EverythingWidget
    from napari_sam._napari.segment_widget import SegmentWidget

__all__ = ["CELLS", "Tour", "iou"]

SAMPLE = "synthetic_nuclei"
PLUGIN = "Segment Anything for microscopy"
SHAPE_YX = (512, 512)
CELLS = (1, 6, 12, 18, 24, 30, 38, 45, 51, 61)
"""Labels of the nuclei that are clicked, spread over the list of all."""


class Tour:
    """One user, one viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        A shown and empty viewer.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self.viewer = viewer
        self.driver = Driver(viewer)
        stack = synthetic_stack(shape_zyx=(1, *SHAPE_YX), seed=0)
        self.truth: NDArray[np.int_] = np.asarray(stack[1][0])
        self.widget: SegmentWidget
        self.image: Image

    def open_sample(self) -> None:
        """File > Open Sample > ... > Synthetic nuclei (2D)."""
        self.driver.open_menu("File", "Open Sample", PLUGIN, "Synthetic nuclei (2D)")
        wait_until(lambda: len(self.viewer.layers) == 1, "the sample is open")
        self.image = self.viewer.layers[0]

    def open_widget(self) -> None:
        """Layers > Segment > Segment by clicks, and wait until a click can be answered."""
        self.driver.open_menu("Layers", "Segment", f"Segment by clicks ({PLUGIN})")
        docked = self.viewer.window._qt_window.findChildren(_widget_class())
        (self.widget,) = docked
        wait_until(lambda: self.widget.interaction.engine.is_ready, "the image is prepared")
        self.driver.show_all()

    def centre(self, label: int) -> tuple[int, int]:
        """Return the row and column of the pixel of a nucleus that is nearest to its centre."""
        pixels = np.argwhere(self.truth == label)
        nearest = np.abs(pixels - pixels.mean(axis=0)).sum(axis=1).argmin()
        row, col = pixels[nearest].tolist()
        return row, col

    def click(self, point_yx: tuple[float, float]) -> None:
        """Click a point of the image, and wait for the mask."""
        self.driver.click(point_yx, self.image)
        self.wait_for_mask()

    def wait_for_mask(self) -> None:
        """Wait until the mask of the last prompt stands there."""
        wait_until(lambda: self.session.is_current, "the mask is there")
        process_events()

    @property
    def session(self) -> Any:
        """The session of the widget."""
        return self.widget.interaction.session

    def mask(self) -> NDArray[np.bool_]:
        """Return the mask that the preview layer shows filled, in the image's frame."""
        shown = np.zeros(SHAPE_YX, np.bool_)
        for patch in self.session.chosen_masks():
            shown |= patch.to_plane(SHAPE_YX)
        return shown

    def labels(self) -> Labels:
        """Return the layer that objects are committed to."""
        layer = self.widget.actions_on_objects.layer
        assert layer is not None
        return layer

    def draw_box(self, label: int) -> None:
        """Take the box tool and draw around a nucleus."""
        self.driver.click_widget(self.widget.prompt_panel.tools["box"])
        rows, cols = np.nonzero(self.truth == label)
        top, left, bottom, right = rows.min() - 1, cols.min() - 1, rows.max() + 1, cols.max() + 1
        self.driver.drag(
            [(top, left), ((top + bottom) / 2, (left + right) / 2), (bottom, right)], self.image
        )
        self.wait_for_mask()

    def draw_boxes(self, labels: Sequence[int]) -> None:
        """Draw around several nuclei."""
        for label in labels:
            self.draw_box(label)

    def hover(self, label: int) -> None:
        """Point at a nucleus, and wait for the mask that a click would give."""
        self.driver.move(self.centre(label), self.image)
        wait_until(lambda: self.widget.interaction.hover.is_shown, "the mask is previewed")

    def take_points(self) -> None:
        """Take the tool for points."""
        self.driver.click_widget(self.widget.prompt_panel.tools["point"])

    def take_away(self, point_yx: tuple[float, float]) -> None:
        """Put a negative point: T, a click, and T again."""
        self.driver.key("t")
        self.click(point_yx)
        self.driver.key("t")

    def clear(self) -> None:
        """Take all prompts away."""
        self.driver.key("shift+c")
        wait_until(lambda: self.session.prompts.is_empty, "the prompts are gone")

    def commit(self, labels: Sequence[int] = ()) -> None:
        """Click nuclei and commit each; without any, commit what stands there."""
        for label in labels:
            self.click(self.centre(label))
            self.driver.key("c")
        if not labels:
            self.driver.key("c")
        wait_until(lambda: self.session.prompts.is_empty, "the masks are committed")

    def edit(self, label: int) -> None:
        """Point at a nucleus that was committed, and take it up again."""
        self.driver.move(self.centre(label), self.image)
        self.driver.key("e")
        self.wait_for_mask()

    def refine(self, label: int, layer: Labels) -> None:
        """Choose labels of another program, and refine the one at a nucleus."""
        self.widget.prompt_panel.mask_source.choose(layer)
        self.driver.move(self.centre(label), self.image)
        self.driver.key("r")
        self.wait_for_mask()

    def show_model_view(self, is_on: bool = True) -> None:
        """Tick the box for what the model sees, and wait for the layer."""
        from napari_sam._napari.model_view_layer import VIEW_NAME

        box = self.widget.image_panel.view
        if box.isChecked() != is_on:
            self.driver.click_widget(box, QPoint(8, box.height() // 2))
        wait_until(lambda: (VIEW_NAME in self.viewer.layers) == is_on, f"{VIEW_NAME} is shown")

    def close_dialogs(self) -> None:
        """Close all dialogs of the widget."""
        for dialog in self.widget.findChildren(QDialog):
            dialog.close()
        self.driver.activate()

    def close_widget(self) -> None:
        """Close the widget's dock, as its button does."""
        self.viewer.window.remove_dock_widget(self.widget)
        process_events()

    def open_stack(self) -> None:
        """File > Open Sample > ... > Synthetic nuclei (stack), in place of what is open."""
        self.viewer.layers.clear()
        self.driver.open_menu("File", "Open Sample", PLUGIN, "Synthetic nuclei (stack)")
        wait_until(lambda: len(self.viewer.layers) > 0, "the stack is open")
        self.image = next(layer for layer in self.viewer.layers if layer.ndim == 3)

    def segment_everything(self) -> EverythingWidget:
        """Layers > Segment > Segment everything."""
        self.driver.open_menu("Layers", "Segment", f"Segment everything ({PLUGIN})")
        widgets = self.viewer.window._qt_window.findChildren(_everything_class())
        (widget,) = widgets
        return widget

    def find_objects(self, widget: EverythingWidget) -> None:
        """Press the button, and wait until the objects of the slice are shown."""
        self.driver.click_widget(widget.run_panel.run)
        wait_until(lambda: widget.search.shown is not None, "objects are found")
        process_events()

    def estimate_cost(self, widget: EverythingWidget) -> None:
        """Choose all slices, press the button, and wait for the cost."""
        widget.scope_panel.choose("all")
        self.driver.click_widget(widget.run_panel.run)
        wait_until(lambda: widget.run_panel.status.text().count("\n") >= 2, "the cost is known")
        process_events()

    def write_stack(self, widget: EverythingWidget, path: Path) -> None:
        """Press the button, answer where to, and wait until all slices are on the disk."""
        QTimer.singleShot(0, lambda: _answer_file_dialog(path))
        self.driver.click_widget(widget.run_panel.run)
        wait_until(lambda: path.exists() and not widget.work.is_running, "the stack is done")
        process_events()

    def save(self, path: Path) -> None:
        """Save the labels, as the button does after its question."""
        self.widget.actions_on_objects.save_to(path)
        wait_until(lambda: "Saved in" in self.widget.status.text(), "the labels are saved")


def iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the intersection over union of two masks."""
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))


def _widget_class() -> type[SegmentWidget]:
    from napari_sam._napari.segment_widget import SegmentWidget

    return SegmentWidget


def _everything_class() -> type[EverythingWidget]:
    from napari_sam._napari.everything_widget import EverythingWidget

    return EverythingWidget


def _answer_file_dialog(path: Path) -> None:
    """Choose a path in the dialog that asks for one; wait for it where it is not open yet."""
    dialog = QApplication.activeModalWidget()
    if isinstance(dialog, QFileDialog):
        dialog.selectFile(str(path))
        buttons = dialog.findChild(QDialogButtonBox)
        buttons.button(QDialogButtonBox.StandardButton.Save).click()
    else:
        QTimer.singleShot(50, lambda: _answer_file_dialog(path))
