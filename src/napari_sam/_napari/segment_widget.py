"""The widget for segmenting by clicks: a view of one interaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_sam._napari.candidate_panel import CandidatePanel
from napari_sam._napari.help_panel import HelpDialog
from napari_sam._napari.image_panel import ImagePanel
from napari_sam._napari.interaction import Interaction
from napari_sam._napari.key_bindings import KeyBindings
from napari_sam._napari.keyboard_pointer import KeyboardPointer
from napari_sam._napari.model_choice import ModelChoice
from napari_sam._napari.notices import show_error, show_warning
from napari_sam._napari.object_actions import ObjectActions
from napari_sam._napari.object_panel import ObjectPanel
from napari_sam._napari.panel_parts import Column, WheelGuard, column_of
from napari_sam._napari.plugin_viewer import unwrapped
from napari_sam._napari.press_ahead import PressAhead
from napari_sam._napari.progress import Progress
from napari_sam._napari.prompt_panel import PromptPanel
from napari_sam._napari.settings import load_settings, update_settings
from napari_sam._napari.viewer_layers import guard_layer_removal
from napari_sam._napari.widget_end import call_when_destroyed
from napari_sam.core.errors import InputError

if TYPE_CHECKING:
    import napari.viewer

__all__ = ["SegmentWidget"]

PLUGIN = "napari-sam"
EVERYTHING_TITLE = "Segment everything"
_TURNED_BY_WHEEL = (QComboBox, QAbstractSpinBox, QSlider)


class SegmentWidget(QWidget):  # type: ignore[misc]  # qtpy has no types
    """Segment objects by clicks, boxes and other prompts.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer that the widget is docked in.
    """

    # napari looks at the annotation, spelled in full, to hand over the viewer
    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        viewer = unwrapped(viewer)
        guard_layer_removal(viewer)
        self._viewer = viewer
        self.interaction = Interaction(viewer, self)
        self.actions_on_objects = ObjectActions(self.interaction, self)
        self._press_ahead = PressAhead(self.interaction)
        self._pointer = KeyboardPointer(self.interaction)
        self._help: HelpDialog | None = None
        self._make_panels()
        self._arrange()
        self._keys = KeyBindings(viewer, self.action)
        self._connect()
        self._take_settings()
        self._is_closed = False
        # the window was closed: Qt has destroyed all widgets by then, and layers must stay as is
        call_when_destroyed(self, SegmentWidget.let_go)
        self.image_panel.image.refresh()
        self._on_image(self.image_panel.layer, self.image_panel.channel_choice)

    def action(self, name: str) -> Callable[[], None]:
        """Find what a key or button does.

        Parameters
        ----------
        name : str
            An action of :data:`~napari_sam._napari.keys.KEYS` or of the object panel.

        Returns
        -------
        callable
        """
        session, objects = self.interaction.session, self.actions_on_objects
        own: dict[str, Callable[[], None]] = {
            "flip_sign": session.flip_sign,
            "next_candidate": lambda: session.cycle(1),
            "previous_candidate": lambda: session.cycle(-1),
            "clear": session.clear_prompts,
            "toggle_hover": lambda: self.interaction.set_hover(not self.interaction.hover.is_on),
            "move_left": lambda: self._pointer.move(-1, 0),
            "move_right": lambda: self._pointer.move(1, 0),
            "move_up": lambda: self._pointer.move(0, -1),
            "move_down": lambda: self._pointer.move(0, 1),
            "point_at_pointer": self._pointer.click,
            "segment_slice": lambda: self._segment_everything(all_slices=False),
            "segment_all": lambda: self._segment_everything(all_slices=True),
            "show_help": self.show_help,
        }
        return own[name] if name in own else getattr(objects, name)

    def show_help(self) -> None:
        """Open the list of keys."""
        if self._help is None:
            self._help = HelpDialog(self)
            self._help.destroyed.connect(self._forget_help)
        self._help.show()
        self._help.raise_()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802  (Qt's name)
        """Let go of the viewer when the widget is taken out of its dock."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
        super().changeEvent(event)

    def shut_down(self) -> None:
        """End all work and take the plugin's layers, keys and callbacks away."""
        if self._is_closed:
            return
        self._is_closed = True
        self.interaction.close()
        self.let_go()
        if self._help is not None:
            self._help.close()

    def let_go(self) -> None:
        """Undo what refers to this widget from outside; nothing of Qt's is used."""
        self._keys.close()
        self.actions_on_objects.abandon()
        self.interaction.abandon()
        self.image_panel.close_events()
        self.prompt_panel.mask_source.close_events()
        self.object_panel.target.close_events()

    # building

    def _make_panels(self) -> None:
        self.image_panel = ImagePanel(self._viewer)
        self.model_choice = ModelChoice()
        self.prompt_panel = PromptPanel(self._viewer)
        self.candidate_panel = CandidatePanel()
        self.object_panel = ObjectPanel(self._viewer, self.actions_on_objects.fits)
        self.status = QLabel("")
        self.status.setWordWrap(True)
        self.status.setAccessibleName("Status")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setAccessibleName("Progress")
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("Stop preparing the image; a click or Prepare goes on.")
        self.help = QPushButton("Help")
        self.help.setToolTip("List all keys (F1).")

    def _arrange(self) -> None:
        inside = column_of(
            ("Image", self.image_panel),
            ("Model", self.model_choice),
            ("Prompts", self.prompt_panel),
            ("Masks", self.candidate_panel),
            ("Objects", self.object_panel),
        )
        turned = [w for kind in _TURNED_BY_WHEEL for w in inside.findChildren(kind)]
        self._guard = WheelGuard(turned, self)
        words, bar = QHBoxLayout(), QHBoxLayout()
        words.addWidget(self.status, 1)
        words.addWidget(self.help)
        bar.addWidget(self.progress, 1)
        bar.addWidget(self.cancel)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4, 4, 4, 4)
        outer.addWidget(Column(inside), 1)
        outer.addLayout(words)
        outer.addLayout(bar)
        outer.addWidget(self.object_panel.steps)

    def _connect(self) -> None:
        interaction, engine = self.interaction, self.interaction.engine
        self.image_panel.image_changed.connect(self._on_image)
        self.image_panel.contrast_changed.connect(interaction.set_contrast)
        self.image_panel.view_chosen.connect(interaction.show_model_view)
        self.model_choice.model_changed.connect(self._on_model)
        self.model_choice.device_changed.connect(self._on_model)
        self.prompt_panel.tool_chosen.connect(self._on_tool)
        self.prompt_panel.sign_chosen.connect(interaction.set_sign)
        self.prompt_panel.hover_chosen.connect(interaction.set_hover)
        self.prompt_panel.mask_source.layer_changed.connect(self._on_mask_source)
        self.candidate_panel.chosen.connect(interaction.session.choose)
        self.candidate_panel.preference_changed.connect(self._on_preference)
        self.candidate_panel.threshold_changed.connect(interaction.set_threshold)
        self.object_panel.target.layer_changed.connect(self.actions_on_objects.set_layer)
        self.object_panel.rule_chosen.connect(self._on_rule)
        self.object_panel.pressed.connect(lambda name: self.action(name)())
        self.actions_on_objects.target_changed.connect(self.object_panel.target.choose)
        self.cancel.clicked.connect(self._on_cancel)
        self.help.clicked.connect(self.show_help)
        engine.progressed.connect(self._show_progress)
        engine.device_changed.connect(self._on_device)
        interaction.changed.connect(self._show_session)
        interaction.told.connect(self.status.setText)
        interaction.grid_changed.connect(self.object_panel.target.refresh)
        interaction.prompts.opened.connect(self._bind_keys)

    def _take_settings(self) -> None:
        settings = load_settings()
        self.candidate_panel.show_preference(settings.preference)
        self.object_panel.show_rule(settings.overwrite_rule)
        self.interaction.session.preference = settings.preference  # type: ignore[assignment]
        self.actions_on_objects.rule = settings.overwrite_rule  # type: ignore[assignment]
        self._on_model()

    # from the panels

    def _on_image(self, layer: object, channels: object) -> None:
        self.interaction.set_image(layer, channels)  # type: ignore[arg-type]
        self.object_panel.target.refresh()
        self._bind_keys()

    def _bind_keys(self) -> None:
        image = self.interaction.image
        layers = self.interaction.prompts.layers
        self._keys.follow([*layers, *([] if image is None else [image])])

    def _on_model(self, _: object = None) -> None:
        self.interaction.set_model(self.model_choice.model, self.model_choice.device)

    def _on_device(self, device: str) -> None:
        show_warning(
            f"The device ran out of memory: the model goes on on the {device.upper()}, slower.\n"
            "Close other programs and choose the device again, or choose a smaller model"
        )
        self.model_choice.set_device(device)

    def _on_tool(self, tool: str) -> None:
        try:
            self.interaction.use_tool(tool)
        except InputError as error:
            show_error(error)

    def _on_mask_source(self, layer: object) -> None:
        self.actions_on_objects.mask_source = layer

    def _on_preference(self, preference: str) -> None:
        self.interaction.session.preference = preference  # type: ignore[assignment]
        update_settings(preference=preference)

    def _on_rule(self, rule: str) -> None:
        self.actions_on_objects.rule = rule  # type: ignore[assignment]
        update_settings(overwrite_rule=rule)

    def _on_cancel(self) -> None:
        if self.interaction.engine.is_busy:
            self.interaction.engine.stop()
        else:
            self.interaction.engine.start()

    def _segment_everything(self, *, all_slices: bool) -> None:
        """Segment everything on the same image, in its widget behind a tab of this one."""
        from napari_sam._napari.everything_widget import EverythingWidget

        window = self._viewer.window
        docked = [w for w in window.dock_widgets.values() if isinstance(w, EverythingWidget)]
        if not docked:
            docked.append(window.add_plugin_dock_widget(PLUGIN, EVERYTHING_TITLE, tabify=True)[1])
        dock = docked[0].parent()
        dock.show()
        dock.raise_()
        docked[0].start(self.interaction.image, all_slices=all_slices)

    def _forget_help(self) -> None:
        self._help = None

    # into the panels

    def _show_progress(self, progress: Progress) -> None:
        if progress.text:
            self.status.setText(progress.text)
        is_busy = self.interaction.engine.is_busy
        self.progress.setRange(0, progress.total if progress.total or progress.busy else 1)
        self.progress.setValue(progress.done)
        self.progress.setVisible(is_busy)
        self.cancel.setText("Cancel" if is_busy else "Prepare")
        self.cancel.setVisible(is_busy or not self.interaction.engine.is_ready)

    def _show_session(self) -> None:
        session = self.interaction.session
        number = session.active
        has_masks = number is not None and bool(session.candidates)
        self.candidate_panel.show_candidates(
            session.candidates[number] if has_masks and number is not None else None,
            session.chosen[number] if has_masks and number is not None else 0,
            session.threshold,
        )
        self.candidate_panel.show_threshold(session.threshold)
        self.image_panel.view.setChecked(self.interaction.model_view.is_on)
        self.prompt_panel.show_state(session.next_is_positive, self.interaction.hover.is_on)
        buttons = self.object_panel.buttons
        buttons["undo"].setEnabled(session.can_undo)
        buttons["redo"].setEnabled(session.can_redo)
        buttons["commit"].setEnabled(not session.prompts.is_empty)
        buttons["clear"].setEnabled(not session.prompts.is_empty)
        buttons["commit"].setText(
            "Commit" if session.edited_label is None else f"Commit {session.edited_label}"
        )
