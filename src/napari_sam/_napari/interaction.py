"""One interactive session in a viewer: layers and keys on one side, the model on the other.

The session (:mod:`napari_sam.pipeline.session`) holds the truth; layers are views of it. What the
user does in a layer goes into the session; what the session does by itself, such as undo, goes
back into the layers.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam._napari.engine import Engine
from napari_sam._napari.hover_preview import HoverPreview
from napari_sam._napari.image_watch import ImageWatch
from napari_sam._napari.layers import ChannelChoice
from napari_sam._napari.model_view import ContrastChoice
from napari_sam._napari.model_view_layer import ModelViewLayer
from napari_sam._napari.notices import show_error
from napari_sam._napari.preview_layer import PreviewLayer
from napari_sam._napari.prompt_layers import PromptLayers
from napari_sam._napari.shown_plane import (
    center_on,
    mouse_on_plane,
    plane_on_screen,
    show_plane,
    without_channel,
)
from napari_sam._napari.viewer_layers import raise_layers
from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane
from napari_sam.core.prompts import PlacedPrompts
from napari_sam.pipeline.candidates import MaskPatch, ObjectCandidates, PredictionRequest
from napari_sam.pipeline.session import Session

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

__all__ = ["Interaction"]


class Interaction(QObject):  # type: ignore[misc]  # qtpy has no types
    """Prompts in layers become masks in a preview.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QObject
        The widget.
    """

    changed = Signal()
    """Something that the widget shows has changed."""
    told = Signal(str)
    """A sentence for the user about what just happened, or what hinders."""
    grid_changed = Signal()
    """The image has another shape, or other axes of it are displayed: what fits it has changed."""

    def __init__(self, viewer: napari.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.session = Session()
        self.engine = Engine(self)
        self.prompts = PromptLayers(viewer, self)
        self.preview = PreviewLayer(viewer)
        self.model_view = ModelViewLayer(viewer, self)
        self._is_abandoned = False
        self.image: Image | None = None
        self._channels: ChannelChoice | None = None
        self._contrast_choice = ContrastChoice()
        self._image_key: Hashable = None
        self._shown: Plane | None = None  # on the screen, with the channel that its slider is on
        self._cross: MaskPatch | None = None
        self._is_moving = False
        self._asked: int | None = None
        self.hover = HoverPreview(self)
        self._watch = ImageWatch(self)
        self._watch.pixels_changed.connect(self._on_pixels)
        self._watch.moved.connect(self._on_moved)
        self._watch.limits_changed.connect(self._on_limits)
        self._unsubscribe = self.session.subscribe(self._on_session)
        self.prompts.changed.connect(self._on_prompts)
        self.engine.failed.connect(show_error)
        self.engine.dropped_request.connect(self._forget_asked)
        self.engine.became_ready.connect(self.ask)
        self.engine.contrast_measured.connect(self._update_model_view)
        dims = viewer.dims.events
        self._dims_events = (dims.current_step, dims.order, dims.ndisplay, dims.ndim)
        for event in self._dims_events:
            event.connect(self._on_dims)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)

    # the image

    def set_image(self, image: Image | None, channels: ChannelChoice | None) -> None:
        """Choose the image to segment, and which of its channels the model sees."""
        key = None if image is None else (id(image), tuple(image.level_shapes[0]))
        is_new = key != self._image_key
        self._watch.follow([])
        if is_new:
            self._leave_image()
        self.image, self._channels, self._image_key, self._asked = image, channels, key, None
        self.preview.clear()  # masks of other pixels
        self.engine.set_image(image, channels)
        if is_new:
            self.session.set_image(key)
        if image is None:
            self._take_layers_away()
        else:
            others = () if channels is None else channels.other_layers
            self._watch.follow([image, *others])
            self.prompts.open(image, self.channel_axis, is_new=is_new)
            self._on_dims()
            if not is_new:
                self.session.reset()
            self.engine.start()
        self.changed.emit()

    @property
    def plane(self) -> Plane | None:
        """The plane of the image that is on the screen."""
        return self.session.plane

    @property
    def channel_axis(self) -> int | None:
        """The axis of the image that counts its channels."""
        return None if self._channels is None else self._channels.axis

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Rows and columns of the plane."""
        assert self.image is not None
        assert self.plane is not None
        return self.plane.shape_yx(self.image.level_shapes[0][: self.image.ndim])

    # prompts

    def set_sign(self, is_positive: bool) -> None:
        """Choose whether the next points are positive."""
        if self.session.next_is_positive != is_positive:
            self.session.flip_sign()

    def use_tool(self, tool: str) -> None:
        """Take a tool for prompts; see `prompt_layers.TOOLS`."""
        if self.image is None:
            raise InputError(
                "There is no image to put prompts on",
                rule="Prompts belong to an image layer",
                cure="Open an image, or choose one at the top of this panel",
            )
        self.prompts.open(self.image, self.channel_axis)
        self.prompts.use(tool)

    def add_point(self, x: float, y: float) -> None:
        """Add a point of the current sign, as a click would."""
        import numpy as np

        if self.plane is not None:
            self.prompts.add_points(np.array([(x, y)]), self.plane)

    def set_threshold(self, threshold: float) -> None:
        """Move the threshold of the mask logits."""
        self.session.threshold = threshold

    def set_model(self, model: str, device: str) -> None:
        """Choose the model and the device; masks of the model before are dropped."""
        self.engine.set_model(model, device)
        self.session.reset()

    def set_contrast(self, choice: ContrastChoice) -> None:
        """Choose how intensities become what the model sees."""
        self._contrast_choice = choice
        self.engine.set_contrast(choice)
        self.session.reset()

    def show_model_view(self, is_on: bool) -> None:
        """Show the pixels as the model gets them, or no longer."""
        self.model_view.switch(is_on)
        self._update_model_view()

    def _update_model_view(self) -> None:
        if self.image is not None and self._shown is not None:
            pixels = self.engine.plane_image()
            self.model_view.update(self.image, self._shown, pixels, self.engine.contrast)

    def show_cross(self, cross: MaskPatch) -> None:
        """Show the keyboard pointer, as long as there is no prompt."""
        if self.plane is not None and self.session.prompts.is_empty:
            self._cross = cross
            self.show_masks([], [(3, cross)])

    def set_hover(self, is_on: bool) -> None:
        """Show the mask under the mouse before a click, or not."""
        self.hover.switch(is_on)
        self.changed.emit()

    def close(self) -> None:
        """Let go of the viewer: no layer, callback or thread of ours stays."""
        self.set_hover(False)
        self.engine.close()
        self._watch.follow([])
        self._leave_image()
        self._take_layers_away()
        self.abandon()

    def abandon(self) -> None:
        """Let go of what would keep memory, with the window and its layers gone already."""
        if self._is_abandoned:
            return
        self._is_abandoned = True
        self.hover.let_go()
        self._unsubscribe()
        self.viewer.layers.events.inserted.disconnect(self._on_inserted)
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        for event in self._dims_events:
            event.disconnect(self._on_dims)
        self.engine.release()
        self.session.close()

    # what happens in the viewer

    def look_at(self, point_xy: tuple[float, float], plane: Plane) -> None:
        """Show a point of a plane in the middle of the canvas."""
        if self.image is None:
            return
        self._go_to(plane)
        center_on(self.viewer, self.image, plane, point_xy)

    def _go_to(self, plane: Plane) -> None:
        """Bring a plane to the screen."""
        if self.image is None:
            return
        self._is_moving = True  # only where it ends counts
        try:
            show_plane(self.viewer, self.image, plane, self.channel_axis)
        except InputError as error:
            show_error(error)
        finally:
            self._is_moving = False
        self._on_dims()

    def _on_dims(self, event: Any = None) -> None:
        if self._is_moving or self.image is None or self.image not in self.viewer.layers:
            return
        shown, hindrance = None, ""
        try:
            shown = plane_on_screen(self.image, self.viewer, self.channel_axis)
        except InputError as error:
            hindrance = f"{error.given}. {error.cure}."
        before, self._shown = self._shown, shown
        is_moved = shown != before
        if is_moved:
            self._cross = None
            self.hover.end()
            self.preview.clear()
        plane = None if shown is None else without_channel(shown, self.channel_axis)
        self.engine.set_plane(plane)
        if plane != self.session.plane:
            self.session.set_plane(plane)
            self._on_prompts()
        elif is_moved and shown is not None:  # another channel, or this plane is seen again
            self.prompts.follow_channel(shown)
            self._on_session()
        if is_moved:
            self._update_model_view()
        if (shown and shown.axes_yx) != (before and before.axes_yx):
            self.grid_changed.emit()
        if hindrance:
            self.told.emit(hindrance)

    def _on_prompts(self) -> None:
        """Take what stands in the layers into the session."""
        plane = self.plane
        if plane is None or self.image is None:
            return
        self.hover.end()
        placed = self.prompts.read(plane, self.shape_yx)
        taken = tuple(m for m in self.session.prompts.masks if not self.prompts.is_drawn(m))
        self.session.set_prompts(
            PlacedPrompts(placed.points, placed.boxes, (*taken, *placed.masks))
        )

    def _on_session(self) -> None:
        plane = self.plane
        if plane is None or self.image is None:
            self.changed.emit()
            return
        if self._shown is None or plane != without_channel(self._shown, self.channel_axis):
            self._go_to(plane)  # undoing went to another plane
        if self._shown is None or self.plane is None:
            return
        self.prompts.set_sign(self.session.next_is_positive)
        self.prompts.write(self.session.prompts, self._shown, self.shape_yx)
        self.ask()
        self._draw()
        self.changed.emit()

    def ask(self) -> None:
        """Ask for the masks of the prompts, unless that was done."""
        request = self.session.request()
        if request is not None and request.revision != self._asked:
            self._asked = request.revision
            self.engine.predict(request, self._on_candidates)

    def _forget_asked(self) -> None:
        self._asked = None

    def _on_candidates(
        self, request: PredictionRequest, candidates: tuple[ObjectCandidates, ...]
    ) -> None:
        self.session.apply(request, candidates)

    def _draw(self) -> None:
        """Show the chosen masks, and the candidates of the active object as outlines."""
        candidates, number = self.session.candidates, self.session.active
        if not self.session.prompts.is_empty:
            self._cross = None
        if candidates and number is not None:
            masks = [mask.at(self.session.threshold) for mask in candidates[number].masks]
            outlines = list(enumerate(masks))
            outlines.append(outlines.pop(self.session.chosen[number]))  # the chosen one on top
            self.show_masks(self.session.chosen_masks(), outlines)
        elif self._cross is not None:
            self.show_cross(self._cross)
        elif not self.hover.is_shown:
            self.preview.clear()

    def show_masks(
        self, masks: Sequence[MaskPatch], outlines: Sequence[tuple[int, MaskPatch]]
    ) -> None:
        """Show masks on the plane on the screen; see `PreviewLayer.show`."""
        if self.image is not None and self._shown is not None:
            self.preview.show(self.image, self._shown, self.shape_yx, masks, outlines)

    # the mouse

    def mouse_xy(self) -> tuple[float, float] | None:
        """Return where the mouse is on the plane, if it is there."""
        if self.image is None or self.plane is None:
            return None
        return mouse_on_plane(self.viewer, self.image, self.plane)

    # what happens to layers

    def _on_pixels(self) -> None:
        self.set_image(self.image, self._channels)
        self.grid_changed.emit()

    def _on_moved(self, transform: str) -> None:
        for layer in self.prompts.layers:
            setattr(layer, transform, getattr(self.image, transform))
        self._on_dims()
        self._draw()

    def _on_limits(self) -> None:
        if self._contrast_choice.source == "layer limits":
            self.engine.measure_contrast_again()
            self.session.reset()

    def _on_inserted(self, event: Any) -> None:
        QTimer.singleShot(0, self._raise_layers)  # when all have heard of the new layer

    def _raise_layers(self) -> None:
        """Keep masks and, over them, prompts above labels and images that came later."""
        if self._is_abandoned:
            return
        own = [self.preview.layer, self.prompts.shapes, self.prompts.points]
        raise_layers(self.viewer, [layer for layer in own if layer is not None])

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        if layer is self.image:
            self.set_image(None, None)
        elif layer in self.prompts.layers:
            self.prompts.forget(layer)
            self._on_prompts()
            QTimer.singleShot(0, self._reopen_prompts)
        elif layer is self.preview.layer:
            self.preview.forget()
        elif layer is self.model_view.layer:
            self.model_view.switch(False)
            self.changed.emit()

    def _reopen_prompts(self) -> None:
        if self.image is not None and self.image in self.viewer.layers:
            self.prompts.open(self.image, self.channel_axis)

    def _leave_image(self) -> None:
        self._cross = self._shown = None
        self.hover.end()
        self.model_view.remove()

    def _take_layers_away(self) -> None:
        self.prompts.close()
        self.preview.remove()
