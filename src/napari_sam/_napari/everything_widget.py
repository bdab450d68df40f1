"""The widget for segmenting everything: one slice as a preview, or stacks to disk."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_sam._napari.everything_form import EverythingForm
from napari_sam._napari.everything_objects import ObjectKeeper, open_segment_widget
from napari_sam._napari.everything_options import ModelTraits, traits_of
from napari_sam._napari.everything_output import (
    ask_for_output,
    ask_for_unfinished,
    suggested_path,
)
from napari_sam._napari.everything_panels import ResultPanel, RunPanel
from napari_sam._napari.everything_plane import learn_steps, loading_text
from napari_sam._napari.everything_request import Choices
from napari_sam._napari.everything_runner import VolumeRunner
from napari_sam._napari.everything_scope import ScopePanel
from napari_sam._napari.everything_search import PlaneSearch, Work
from napari_sam._napari.everything_words import cost_text, counted, diameter_text
from napari_sam._napari.image_panel import ImagePanel
from napari_sam._napari.model_choice import ModelChoice
from napari_sam._napari.notices import show_error
from napari_sam._napari.panel_parts import Column, column_of, section
from napari_sam._napari.plugin_viewer import unwrapped
from napari_sam._napari.settings import load_settings, update_settings
from napari_sam._napari.viewer_layers import guard_layer_removal
from napari_sam._napari.widget_end import call_when_destroyed
from napari_sam.core.errors import NapariSamError

if TYPE_CHECKING:
    from pathlib import Path

    import napari.viewer
    from napari.layers import Image, Labels

    from napari_sam._napari.everything_keep import KeepPlan
    from napari_sam.model import Sam
    from napari_sam.pipeline.estimate import CostEstimate

__all__ = ["EverythingWidget"]


class EverythingWidget(QWidget):  # type: ignore[misc]  # qtpy has no types
    """Segment everything, without clicks.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer that the widget is docked in.
    """

    # napari looks at the annotation, spelled in full, to hand over the viewer
    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        guard_layer_removal(self._viewer)
        self._is_closed = False
        self._message = ""  # what is said while nothing is done
        self._estimate: CostEstimate | None = None
        self._searched: Hashable = None  # what the preview was found with
        self._is_large = False  # the slice is too large to be encoded whole
        self._learned: Sam | None = None
        self._waits = False  # for the model to be known, to begin then
        self.work = Work(self)
        self.learning = Work(self)
        self.search = PlaneSearch(self._viewer, self.work, self)
        self.runner = VolumeRunner(self._viewer, self.work, self)
        self.keeper = ObjectKeeper(self._viewer, self.work, self)
        self._make_panels()
        self._arrange()
        self._connect()
        self._on_model()
        self._on_image()
        call_when_destroyed(self, EverythingWidget._let_go)

    # what others call

    def start(self, image: Image | None, *, all_slices: bool) -> None:
        """Begin at once, as the keys S and Shift+S do.

        Parameters
        ----------
        image : napari.layers.Image or None
            The image to segment; None for the one that is chosen here.
        all_slices : bool
            Estimate the cost of all slices, instead of segmenting the one in view.
        """
        if self.runner.is_running:
            return
        self.work.close()
        widget = open_segment_widget(self._viewer)
        if widget is not None:
            self.image_panel.take_over(widget.image_panel)
            self.model_choice.set_model(widget.model_choice.model)
            self.model_choice.set_device(widget.model_choice.device)
        if image is not None:
            self.image_panel.image.choose(image)
        self.scope_panel.choose("all" if all_slices else "slice")
        self.run()

    def run(self) -> None:
        """Do what the first button says: segment the slice, estimate the cost, or run."""
        self._waits = self.learning.is_running
        if self.work.is_running or self._waits:
            return
        self._message = "Stopped."  # until there is a result
        if not self._is_volume:
            self._tell_errors(self._segment_slice)
        elif self._estimate is None:
            self._tell_errors(self._estimate_cost)
        else:
            self._message = cost_text(self._estimate)
            self._tell_errors(self._run_volume)

    def shut_down(self) -> None:
        """End all work and let go of the viewer."""
        if self._is_closed:
            return
        self.work.close()
        self.learning.close()
        self.search.close()
        self._let_go()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802  (Qt's name)
        """Let go of the viewer when the widget is taken out of its dock."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
        super().changeEvent(event)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802  (Qt's name)
        """Let go of the viewer, where the widget is a window of its own."""
        self.shut_down()
        super().closeEvent(event)

    def _let_go(self) -> None:
        """Do without the viewer; also after Qt has destroyed everything, jobs included."""
        if self._is_closed:
            return
        self._is_closed = True
        for event in self._dims_events:
            event.disconnect(self._on_dims)
        self.search.let_go()
        self.runner.close()
        self.keeper.close()
        self.image_panel.close_events()
        self.result_panel.target.close_events()
        self._learned = None

    # building

    def _make_panels(self) -> None:
        settings = load_settings()
        self.image_panel = ImagePanel(self._viewer)
        self.image_panel.view.hide()  # Segment by clicks shows what the model sees
        self.model_choice = ModelChoice()
        self.scope_panel = ScopePanel()
        self.form = EverythingForm(settings.everything_preset)
        self.choices = Choices(
            self._viewer, self.image_panel, self.model_choice, self.scope_panel, self.form
        )
        self.result_panel = ResultPanel(self._viewer, self.choices.fits)
        self.result_panel.rule.choose(settings.overwrite_rule)
        self.run_panel = RunPanel()
        dims = self._viewer.dims.events
        self._dims_events = (dims.current_step, dims.order, dims.ndisplay, dims.ndim)

    def _arrange(self) -> None:
        inside = column_of(
            ("Image", self.image_panel),
            ("Model", self.model_choice),
            ("Slices", self.scope_panel),
            ("Options", self.form),
        )
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4, 4, 4, 4)
        outer.addWidget(Column(inside), 1)
        outer.addWidget(section("Objects", self.result_panel))  # in sight, however small the window
        outer.addWidget(self.run_panel)

    def _connect(self) -> None:
        self.image_panel.image_changed.connect(self._on_image)
        self.image_panel.contrast_changed.connect(self._on_options)
        self.model_choice.model_changed.connect(self._on_model)
        self.model_choice.device_changed.connect(self._on_model)
        self.scope_panel.changed.connect(self._on_options)
        self.form.preset_chosen.connect(lambda name: update_settings(everything_preset=name))
        self.form.search_changed.connect(self._on_options)
        self.form.estimate.clicked.connect(lambda: self._tell_errors(self._estimate_diameter))
        self.form.filters_changed.connect(self._on_filters)
        result, run = self.result_panel, self.run_panel
        result.rule_chosen.connect(lambda rule: update_settings(overwrite_rule=rule))
        result.keep.clicked.connect(lambda: self._tell_errors(self._keep))
        result.discard.clicked.connect(self.search.discard)
        result.undo.clicked.connect(self._undo)
        result.redo.clicked.connect(self._redo)
        run.run.clicked.connect(self.run)
        run.pause.clicked.connect(self.work.toggle_pause)
        run.cancel.clicked.connect(self.work.cancel)
        run.resume.clicked.connect(lambda: self._tell_errors(self._resume))
        self.work.changed.connect(self._update)
        self.learning.changed.connect(self._on_learning)
        self.search.found_changed.connect(lambda: self._say(""))
        self.search.was_too_large.connect(self._on_too_large)
        self.runner.estimated.connect(self._on_estimate)
        self.runner.ended.connect(self._say)
        self.keeper.kept.connect(self._on_kept)
        for event in self._dims_events:
            event.connect(self._on_dims)

    # what is chosen

    @property
    def _is_volume(self) -> bool:
        """Whether the result is written to disk, tile by tile."""
        return self._is_large or self.scope_panel.scope != "slice"

    # what the buttons do

    def _segment_slice(self) -> None:
        widget = open_segment_widget(self._viewer)
        known = None if widget is None else widget.interaction.engine.predictor
        request = self.choices.plane_request(() if known is None else (known,))
        self._searched = self.choices.search_key
        self.search.start(request, self.form.filters)

    def _estimate_diameter(self) -> None:
        if not self.work.is_running:
            self._message = "Stopped."  # until there is a result
            self.search.estimate(self.choices.plane_request(()), self._on_diameter)

    def _estimate_cost(self) -> None:
        request = self.choices.volume_request()
        self.search.discard()
        self.runner.estimate(request.volume, request.config)

    def _run_volume(self) -> None:
        request = self.choices.volume_request()
        output = ask_for_output(self, suggested_path(self.choices.require_image()))
        if output is None:
            return
        if output.resume:
            self._complete(output.path)
            return
        config = replace(request.config, overwrite=output.overwrite)
        self.runner.start(request.volume, config, output.path, request.placement)

    def _resume(self) -> None:
        """Complete the last run, or a store that the user chooses."""
        layer = self.choices.require_image()
        target = self.runner.target if self.runner.can_resume else None
        target = target or ask_for_unfinished(self, suggested_path(layer).parent)
        if target is not None:
            self._complete(target)

    def _complete(self, target: Path) -> None:
        """Complete a store with the options that it was begun with."""
        from napari_sam.pipeline.unfinished import unfinished_config  # it loads zarr

        request = self.choices.volume_request()
        config = replace(unfinished_config(target), device=self.model_choice.device)
        self.runner.start(request.volume, config, target, request.placement)

    def _keep(self) -> None:
        shown, request = self.search.to_keep, self.search.request
        if shown is None or request is None:
            return
        self._message = ""
        layer, rule = self.result_panel.target.layer, self.result_panel.overwrite_rule
        axis = request.channels.axis
        self.keeper.keep(shown, request.layer, request.plane, layer, rule, axis)

    def _undo(self) -> None:
        done = self.keeper.undo()
        self._say("There is nothing to undo." if done is None else f"Undone: {done}")

    def _redo(self) -> None:
        done = self.keeper.redo()
        self._say("There is nothing to redo." if done is None else f"Done again: {done}")

    # what happens

    def _on_image(self, *_: object) -> None:
        try:
            self.scope_panel.set_axes(self.choices.slice_axes())
        except NapariSamError as error:
            self.scope_panel.set_axes({}, f"{error.given}. {error.cure}.")
        self.result_panel.target.refresh()
        self._is_large = False
        self._on_options()

    def _on_dims(self, event: Any) -> None:
        """Another slice, or other axes, are in view."""
        if event.type != "current_step":
            self.result_panel.target.refresh()  # other layers may fit now
        if self._is_large and self.scope_panel.scope == "slice":
            self._on_options()

    def _on_model(self, _: object = None) -> None:
        model, device = self.model_choice.model, self.model_choice.device
        traits = traits_of(model)
        self.form.set_model(traits)
        self.form.set_tiled(self._is_volume)
        self._is_large = False
        self._on_options()
        self.learning.close()
        if traits is None:  # a file of weights is loaded to know what it can do
            self.learning.run(
                lambda: learn_steps(model, device),
                text=loading_text(model),
                on_result=self._on_learned,
            )

    def _on_learned(self, sam: Sam) -> None:
        self._learned = sam
        has_head, is_native = sam.instance_head is not None, sam.input_spec.native_resolution
        self.form.set_model(ModelTraits(has_head, is_native))

    def _on_learning(self) -> None:
        self._update()
        if self._waits and not self.learning.is_running:
            self.run()

    def _on_options(self, _: object = None) -> None:
        """Forget the estimate, which is about something else now."""
        if self._estimate is not None:
            self._estimate, self._message = None, ""
        self.form.set_tiled(self._is_volume)
        self._update()

    def _on_filters(self) -> None:
        self.search.filter(self.form.filters)
        self._update()

    def _on_too_large(self) -> None:
        """Go on as with a stack: with its cost."""
        self._is_large = True
        self._on_options()
        QTimer.singleShot(0, self.run)  # when this job has ended

    def _on_diameter(self, diameter: float | None) -> None:
        if diameter is not None:
            self.form.set_diameter(diameter)
        self._say(diameter_text(diameter))

    def _on_estimate(self, estimate: CostEstimate) -> None:
        self._estimate = estimate
        large = "The slice is too large to be encoded whole: it is done in tiles, to disk.\n"
        self._message = (large if self._is_large else "") + cost_text(estimate)

    def _on_kept(self, layer: Labels, plan: KeepPlan) -> None:
        self.search.discard()
        self.result_panel.target.choose(layer)
        self._message = f"{counted(len(plan.records), 'object')} kept in '{layer.name}'."
        if plan.n_left_out:
            self._message += f" {plan.n_left_out} had no room beside older ones."
        self._update()

    # into the panels

    def _say(self, message: str) -> None:
        self._message = message
        self._update()

    def _tell_errors(self, action: Callable[[], None]) -> None:
        """Show what an action refuses as a notification."""
        try:
            action()
        except NapariSamError as error:
            show_error(error)
            self._say("")

    def _update(self) -> None:
        if self._is_closed:
            return
        is_learning = self.learning.is_running
        work = self.learning if is_learning and not self.work.is_running else self.work
        can_run = self.image_panel.layer is not None
        self.run_panel.show_work(
            work, self._message, can_pause=self.runner.is_running, can_run=can_run
        )
        self.run_panel.show_next(is_volume=self._is_volume, is_estimated=self._estimate is not None)
        self.result_panel.show_found(
            self.search,
            is_current=self._searched == self.choices.search_key,
            is_busy=self.work.is_running,
        )
