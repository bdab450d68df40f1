"""From preview to label layer and back: commit, edit, refine, delete, undo."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam._napari.coordinates import shares_grid
from napari_sam._napari.followed_layers import FollowedLayers
from napari_sam._napari.interaction import Interaction
from napari_sam._napari.label_layers import add_label_layer, label_target_of
from napari_sam._napari.notices import show_error
from napari_sam._napari.save_dialog import ask_for_target
from napari_sam._napari.workers import run_steps
from napari_sam.core.errors import InputError, NapariSamError
from napari_sam.core.plane import Plane
from napari_sam.core.prompts import MaskPrompt, PlacedPrompts
from napari_sam.core.region import Region

if TYPE_CHECKING:
    from napari.layers import Labels, Layer

    from napari_sam.pipeline.commit import OverwriteRule
    from napari_sam.pipeline.label_target import LabelTarget
    from napari_sam.pipeline.objects import ObjectRecord

__all__ = ["LABELS_NAME", "ObjectActions"]

LABELS_NAME = "SAM labels"

P = ParamSpec("P")
_Waiting = tuple[Plane | None, PlacedPrompts]


def _tells_errors(action: Callable[P, None]) -> Callable[P, None]:
    """Show what an action refuses as a notification."""

    @wraps(action)
    def act(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            action(*args, **kwargs)
        except NapariSamError as error:
            show_error(error)

    return act


class ObjectActions(QObject):  # type: ignore[misc]  # qtpy has no types
    """What keys and buttons do with objects.

    Parameters
    ----------
    interaction : Interaction
    parent : QObject
        The widget.
    """

    target_changed = Signal(object)
    """The labels layer that objects go into, or None."""

    def __init__(self, interaction: Interaction, parent: QObject) -> None:
        super().__init__(parent)
        self._interaction = interaction
        self._session = interaction.session
        self._viewer = interaction.viewer
        self._layers = FollowedLayers(self._session)
        self._waiting: _Waiting | None = None  # to be committed when the mask is there
        self._is_abandoned = False
        self.rule: OverwriteRule = "keep"
        self.layer: Labels | None = None
        self.mask_source: Labels | None = None
        """Where masks to refine are taken from; the labels layer of the objects unless set."""
        self._unsubscribe = self._session.subscribe(self._show_changes)
        self._viewer.layers.events.removed.connect(self._on_removed)
        interaction.engine.dropped_request.connect(self._forget_waiting)

    def abandon(self) -> None:
        """Let go of layers and session; twice does nothing."""
        if self._is_abandoned:
            return
        self._is_abandoned = True
        self._unsubscribe()
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for layer in self._layers:
            self._unfollow(layer)
        self._layers.clear()
        self.layer = self.mask_source = None

    @_tells_errors
    def set_layer(self, layer: Labels | None) -> None:
        """Choose the labels layer that objects go into; None for a new one with the next commit."""
        self.layer = layer
        self._session.set_target(None if layer is None else self._target_of(layer))
        self.target_changed.emit(layer)

    def fits(self, layer: Layer) -> bool:
        """Tell whether a layer has the pixels of the image."""
        image, plane = self._interaction.image, self._interaction.plane
        if image is None or plane is None:
            return layer is self.layer  # nothing tells against it yet
        return shares_grid(layer, image, plane, self._viewer.dims)

    # actions

    @_tells_errors
    def commit(self) -> None:
        """Write the masks into the labels layer."""
        image = self._interaction.image
        if self._interaction.plane is None or image is None:
            raise _no_image()
        if self._session.prompts.is_empty:
            raise InputError(
                "There is no mask to commit",
                rule="A mask is made from clicks, boxes or other prompts",
                cure="Click an object first",
            )
        if not self._session.is_current:
            self._waiting = self._interaction.plane, self._session.prompts
            self._interaction.ask()
            return
        if self.layer is not None and not self.fits(self.layer):
            self.set_layer(None)  # it was moved, or given other pixels
        is_new = self.layer is None
        if self.layer is None:
            active = self._viewer.layers.selection.active
            layer = add_label_layer(
                self._viewer, image, LABELS_NAME, channel_axis=self._interaction.channel_axis
            )
            self._viewer.layers.selection.active = active
            self.set_layer(layer)
        assert self.layer is not None
        self._session.commit(self._target_of(self.layer), self.rule)
        if is_new:
            self.target_changed.emit(self.layer)

    @_tells_errors
    def undo(self) -> None:
        """Take the last step back."""
        self._tell(self._session.undo(), "Undone: {}", "There is nothing to undo.")

    @_tells_errors
    def redo(self) -> None:
        """Do the step again that was taken back."""
        self._tell(self._session.redo(), "Done again: {}", "There is nothing to redo.")

    @_tells_errors
    def edit_under_mouse(self) -> None:
        """Take up the prompts of the object under the mouse again, or its own mask."""
        layer = self._require_layer()
        label = self._label_under_mouse(layer)
        record = self._session.objects.get(label)
        if record is None or record.prompts.is_empty:
            self._session.refine(label, self._mask_of(layer, label))
        else:
            self._session.edit(label)

    @_tells_errors
    def refine_under_mouse(self) -> None:
        """Take the label under the mouse as a mask prompt; of another layer as a new object."""
        layer = self.mask_source or self._require_layer()
        label = self._label_under_mouse(layer)
        self._session.refine(label if layer is self.layer else None, self._mask_of(layer, label))

    @_tells_errors
    def delete_under_mouse(self) -> None:
        """Erase the object under the mouse."""
        layer = self._require_layer()
        self._session.delete(self._label_under_mouse(layer), self._target_of(layer))

    @_tells_errors
    def edit_current(self) -> None:
        """Take up the prompts of the object that is selected in the labels layer."""
        self._session.edit(int(self._require_layer().selected_label))

    @_tells_errors
    def delete_current(self) -> None:
        """Erase the object that is selected in the labels layer."""
        layer = self._require_layer()
        self._session.delete(int(layer.selected_label), self._target_of(layer))

    @_tells_errors
    def save(self) -> None:
        """Ask for a place, and save the labels there in a worker."""
        path = ask_for_target(self.parent(), self._require_layer(), self._interaction.image)
        if path is not None:
            self.save_to(path[0], overwrite=path[1])

    @_tells_errors
    def save_to(self, path: Path, *, overwrite: bool = False) -> None:
        """Save the labels; progress and the end are told.

        Parameters
        ----------
        path : Path
            A new OME-Zarr, or the one of the image, which then holds the labels too.
        overwrite : bool
            Whether labels that are there may be replaced.
        """
        from napari_sam._napari.writer import save_steps  # it loads zarr

        data, meta, _ = self._require_layer().as_layer_data_tuple()
        told = self._interaction.told
        run_steps(
            lambda: save_steps(data, meta, path, overwrite),
            on_step=lambda step: told.emit(f"Saving: {step.stage} {step.done} of {step.total}."),
            on_result=lambda place: told.emit(f"Saved in {place}."),
            parent=self,
        )

    @_tells_errors
    def next_object(self) -> None:
        """Show the next object."""
        self._go_to(self._session.next_object())

    @_tells_errors
    def previous_object(self) -> None:
        """Show the object before."""
        self._go_to(self._session.previous_object())

    # helpers

    def _go_to(self, record: ObjectRecord | None) -> None:
        if record is None:
            self._interaction.told.emit("There is no further object.")
            return
        x0, y0, x1, y1 = record.box_xyxy
        self._interaction.look_at(((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2), record.plane)
        if self.layer is not None:
            self.layer.selected_label = record.label
        self._interaction.told.emit(
            f"Object {record.label}: predicted IoU {record.predicted_iou:.2f}, "
            f"stability {record.stability_score:.2f}, {record.area} pixels."
        )

    def _tell(self, what: str | None, done: str, nothing: str) -> None:
        self._interaction.told.emit(nothing if what is None else done.format(what.lower()))

    def _target_of(self, layer: Labels) -> LabelTarget:
        """Return what is written to for a layer, and follow the layer from now on."""
        target = label_target_of(layer)
        if self._layers.follow(layer, target):
            layer.events.data.connect(self._on_data)
            layer.events.paint.connect(self._on_paint)
        return target

    def _unfollow(self, layer: Labels) -> None:
        layer.events.data.disconnect(self._on_data)
        layer.events.paint.disconnect(self._on_paint)

    def _on_data(self, event: Any) -> None:
        if event.source is self.layer:
            self.set_layer(self.layer)

    def _on_paint(self, event: Any) -> None:
        """Take note of labels that were painted, so that no new object gets them."""
        target = self._layers.target_of(event.source)
        if target is not None:
            # one stroke of many parts; before napari 0.9 a part is (indices, old, new)
            new = [part[-1] if isinstance(part, tuple) else part.new_value for part in event.value]
            target.raise_maximum(max((int(np.max(each)) for each in new), default=0))

    def _require_fit(self, layer: Labels) -> None:
        if not self.fits(layer):
            raise InputError(
                f"The layer '{layer.name}' does not have the pixels of the image",
                rule="Labels belong to an image of the same shape, scale and place",
                cure="Choose another labels layer, or move this one back",
            )

    def _require_layer(self) -> Labels:
        if self.layer is None:
            raise InputError(
                "There is no labels layer with objects",
                rule="Objects live in the labels layer chosen under 'Objects'",
                cure="Commit an object first, or choose a labels layer",
            )
        return self.layer

    def _label_under_mouse(self, layer: Labels) -> int:
        """Look up the label at the mouse on the plane in view."""
        self._require_fit(layer)
        at, plane = self._interaction.mouse_xy(), self._interaction.plane
        label = 0
        if at is not None and plane is not None:
            col, row = (int(np.floor(value + 0.5)) for value in at)
            region = Region((row, col), (row + 1, col + 1))
            target = self._target_of(layer)
            label = int(target.read(target.plane_of(plane), region)[0, 0])
        if label == 0:
            raise InputError(
                f"There is no object of '{layer.name}' under the mouse",
                rule="This key acts on the object that the mouse points at",
                cure="Point at an object, then press the key again",
            )
        return label

    def _mask_of(self, layer: Labels, label: int) -> MaskPrompt:
        """Cut the pixels of a label out of the plane in view, around the mouse."""
        at, plane = self._interaction.mouse_xy(), self._interaction.plane
        assert at is not None
        assert plane is not None
        target = self._target_of(layer)
        col, row = (int(np.floor(value + 0.5)) for value in at)
        own = target.plane_of(plane)
        region = target.find(label, own, Region((row, col), (row + 1, col + 1)))
        row, col = region.start
        return MaskPrompt.from_array(target.read(own, region) == label, (row, col))

    def _show_changes(self) -> None:
        """Bring the layers up to date with what the session wrote."""
        self._commit_waiting()
        self._layers.show_changes()

    def _commit_waiting(self) -> None:
        """Commit what was to be committed, once its mask is there."""
        if self._waiting is None:
            return
        if self._waiting != (self._session.plane, self._session.prompts):
            self._waiting = None
            self._interaction.told.emit("Not committed: the prompts changed before the mask came.")
        elif self._session.is_current:
            waiting, self._waiting = self._waiting, None
            QTimer.singleShot(0, lambda: self._commit_if(waiting))

    def _commit_if(self, waiting: _Waiting) -> None:
        if not self._is_abandoned and waiting == (self._session.plane, self._session.prompts):
            self.commit()

    def _forget_waiting(self) -> None:
        self._waiting = None

    def _on_removed(self, event: Any) -> None:
        target = self._layers.drop(event.value)
        if target is not None:
            self._unfollow(event.value)
        if event.value is self.mask_source:
            self.mask_source = None
        if event.value is self.layer:
            self.set_layer(None)
        if target is not None:
            self._session.discard_target(target)


def _no_image() -> InputError:
    return InputError(
        "There is no image with a plane on the screen",
        rule="Objects are segmented on an image layer",
        cure="Open an image, or choose one at the top of this panel",
    )
