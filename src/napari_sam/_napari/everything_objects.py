"""Objects that are kept, in the session of Segment by clicks where that is open."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_sam._napari.everything_keep import KeepPlan, keep_steps, write_plan
from napari_sam._napari.everything_search import Work
from napari_sam._napari.followed_layers import FollowedLayers
from napari_sam._napari.label_layers import add_label_layer, label_target_of, refresh_after_write
from napari_sam._napari.notices import show_error
from napari_sam._napari.object_actions import LABELS_NAME
from napari_sam.core.errors import NapariSamError
from napari_sam.pipeline.session import Session

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels

    from napari_sam._napari.segment_widget import SegmentWidget
    from napari_sam.core.plane import Plane
    from napari_sam.pipeline.commit import OverwriteRule
    from napari_sam.predict import SegmentedImage

__all__ = ["ObjectKeeper", "open_segment_widget"]

DESCRIPTION = "Segment everything"


class ObjectKeeper(QObject):  # type: ignore[misc]  # qtpy has no types
    """Write what was found into labels layers, and take it back.

    Parameters
    ----------
    viewer : napari.Viewer
    work : Work
        Does one thing at a time.
    parent : QObject
        The widget.
    """

    kept = Signal(object, object)
    """The labels layer, and the KeepPlan that was written."""
    history_changed = Signal()
    """Something can be undone, or no longer."""

    def __init__(self, viewer: napari.Viewer, work: Work, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._work = work
        self._own = Session()
        self._layers = FollowedLayers(self._own)
        self._own.subscribe(self._layers.show_changes)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def session(self) -> Session:
        """The session that steps are recorded in."""
        widget = open_segment_widget(self._viewer)
        session: Session = self._own if widget is None else widget.interaction.session
        return session

    def keep(
        self,
        found: SegmentedImage,
        image: Image,
        plane: Plane,
        layer: Labels | None,
        rule: OverwriteRule,
        channel_axis: int | None,
    ) -> None:
        """Write objects into a labels layer, as one step.

        Parameters
        ----------
        found : SegmentedImage
        image : napari.layers.Image
        plane : Plane
            The plane of the image that they lie on.
        layer : napari.layers.Labels or None
            None for a new one.
        rule : {"keep", "overwrite", "only_empty"}
            What happens where an object meets an old one.
        channel_axis : int or None
            Axis of the image that counts channels.

        Raises
        ------
        NapariSamError
            When the layer cannot be made or written.
        """
        into = layer
        if into is None:
            selection = set(self._viewer.layers.selection)
            into = add_label_layer(self._viewer, image, LABELS_NAME, channel_axis=channel_axis)
            self._viewer.layers.selection = selection
        target = label_target_of(into)
        self._work.run(
            lambda: keep_steps(found, plane, target, rule),
            text="Writing the objects …",
            on_step=lambda _: None,
            on_result=lambda plan: self._write(
                plan, into, (found, image, plane, into, rule, channel_axis)
            ),
        )

    def undo(self) -> str | None:
        """Take the last step back."""
        return self._guarded(self.session.undo)

    def redo(self) -> str | None:
        """Do the step again that was taken back."""
        return self._guarded(self.session.redo)

    def close(self) -> None:
        """Let go of the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._layers.clear()
        self._own.close()

    def _write(self, plan: KeepPlan, layer: Labels, again: tuple[Any, ...]) -> None:
        """Write a plan, or make it anew when the labels have changed since."""
        if layer not in self._viewer.layers:
            return
        try:
            if not write_plan(plan):
                self.keep(*again)
                return
            self._record(plan, layer)
        except NapariSamError as error:
            show_error(error)
            return
        self.kept.emit(layer, plan)

    def _record(self, plan: KeepPlan, layer: Labels) -> None:
        widget = open_segment_widget(self._viewer)
        if widget is not None:
            widget.actions_on_objects.set_layer(layer)  # it then keeps the layer up to date
            widget.interaction.session.record_change(DESCRIPTION, plan.changes, plan.records)
        else:
            self._layers.follow(layer, plan.target)
            self._own.record_change(DESCRIPTION, plan.changes, plan.records)
        refresh_after_write(layer, plan.target)
        self.history_changed.emit()

    def _guarded(self, step: Any) -> str | None:
        try:
            done: str | None = step()
        except NapariSamError as error:
            show_error(error)
            return None
        self.history_changed.emit()
        return done

    def _on_removed(self, event: Any) -> None:
        target = self._layers.drop(event.value)
        if target is not None:
            self._own.discard_target(target)
            self.history_changed.emit()


def open_segment_widget(viewer: napari.Viewer) -> SegmentWidget | None:
    """Find the widget for segmenting by clicks in a viewer.

    Parameters
    ----------
    viewer : napari.Viewer

    Returns
    -------
    SegmentWidget or None
        None where it is not open.
    """
    module = sys.modules.get("napari_sam._napari.segment_widget")
    if module is None:
        return None
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, module.SegmentWidget):
            found: SegmentWidget = widget
            return found
    return None
