"""The form of what can be set about segmenting everything."""

from __future__ import annotations

from typing import Any, Literal

from magicgui.widgets import create_widget
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_sam._napari.choice_box import Choice, ChoiceBox
from napari_sam._napari.everything_options import (
    OPTIONS,
    FilterValues,
    ModelTraits,
    OptionField,
    automatic_options,
    default_values,
)
from napari_sam._napari.panel_parts import WheelGuard, section
from napari_sam.core.modes import MODES, Mode
from napari_sam.pipeline.options import PRESETS, AutomaticOptions, Preset

__all__ = ["EverythingForm"]

_WIDGETS = {
    "slider": "FloatSlider",
    "fraction": "FloatSpinBox",
    "number": "FloatSpinBox",
    "count": "SpinBox",
    "flag": "CheckBox",
}
_STEPS = {"slider": 0.01, "fraction": 0.01, "number": 0.1, "count": 1}
_FILTERS = tuple(field.name for field in OPTIONS if field.refilters)
_TILING = ("tile", "halo")
_NO_HEAD = "This model does not propose points; the compact model does."
_NO_MAPS = "This model has no maps of objects; the compact model does."
_MODES = (
    Choice("proposals", "Proposals", "One mask for each object that the model itself proposes."),
    Choice("watershed", "Watershed", "Objects from the model's maps at once, without masks."),
    Choice("grid", "Grid", "Points at even distances, whatever the image shows."),
)
_NEEDS_HEAD = {"proposals": _NO_HEAD, "watershed": _NO_MAPS}
_FORMATS = (
    Choice("0.5", "OME-Zarr 0.5", "On Zarr 3."),
    Choice("0.4", "OME-Zarr 0.4", "On Zarr 2, which older programs read."),
)
_UNKNOWN = ModelTraits(has_instance_head=True, is_native=True)
"""A file of weights is taken for one of this package's own models until it is loaded."""


class EverythingForm(QWidget):  # type: ignore[misc]  # qtpy has no types
    """Preset, thresholds and all other options.

    Parameters
    ----------
    preset : str
        A key of :data:`~napari_sam.pipeline.options.PRESETS`.
    parent : QWidget, optional
    """

    preset_chosen = Signal(str)
    """The user chose a preset."""
    filters_changed = Signal()
    """Other masks are wanted among those that were found."""
    search_changed = Signal()
    """Something else has changed, so that what was found no longer fits."""

    def __init__(self, preset: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._traits: ModelTraits | None = None
        self._is_filling = False
        self._shown: dict[str, float] = {}  # what stands there when nobody changes it
        self.presets = ChoiceBox("Preset", "Options that suit a kind of image.", self)
        self.reset = QPushButton("Reset")
        self.reset.setToolTip("Set all options back to those of the preset.")
        self.reset.setAccessibleName("Reset")
        self.estimate = QPushButton("Estimate")
        self.estimate.setToolTip(
            "Let the model look at the slice in view, and set the diameter of its objects."
        )
        self.estimate.setAccessibleName("Estimate diameter")
        self.modes = ChoiceBox("Mode", "How everything is segmented.", self)
        self.format = ChoiceBox("Format", "Format of labels that are written to disk.", self)
        self.format.fill(_FORMATS, "0.5")
        self.values = {field.name: _make(field) for field in OPTIONS}
        self._wanted_preset = preset if preset in PRESETS else next(iter(PRESETS))
        self._arrange()
        self.set_model(None)
        self._connect()

    # what is set

    @property
    def preset(self) -> Preset:
        """The chosen preset."""
        return PRESETS[self.presets.key]

    @property
    def automatic(self) -> AutomaticOptions:
        """How everything is segmented; options that nobody set are None."""
        return automatic_options(self.preset, self._changed(), self.mode)

    @property
    def mode(self) -> Mode:
        """The chosen mode."""
        key: Any = self.modes.key
        mode: Mode = key
        return mode

    @property
    def search(self) -> AutomaticOptions:
        """The same without what only chooses among masks that were found."""
        given = self.automatic.given()
        return AutomaticOptions(**{name: given[name] for name in given if name not in _FILTERS})

    @property
    def filters(self) -> FilterValues:
        """What chooses among what was found."""
        return FilterValues(**{name: self.values[name].value for name in _FILTERS})

    @property
    def min_size(self) -> int:
        """Smallest area of an object in pixels."""
        return int(self.values["min_size"].value)

    @property
    def tile(self) -> int | None:
        """Side of a tile; None for what suits the model."""
        return int(self.values["tile"].value) or None

    @property
    def halo(self) -> int:
        """Pixels that a tile reads beyond its border."""
        return int(self.values["halo"].value)

    @property
    def ngff_version(self) -> Literal["0.4", "0.5"]:
        """Version of OME-Zarr that is written."""
        return "0.4" if self.format.key == "0.4" else "0.5"

    # setting it

    def set_model(self, traits: ModelTraits | None) -> None:
        """Offer what a model can do, and show its own defaults where nothing was changed.

        Parameters
        ----------
        traits : ModelTraits or None
            None for a model that is known only when it is loaded.
        """
        if self._shown and traits == self._traits:
            return
        changed = self._changed() if self._shown else {}
        before = self.presets.key
        self._traits = traits
        has_head = (traits or _UNKNOWN).has_instance_head
        unfit = {field.name for field in OPTIONS if not field.suits(traits or _UNKNOWN)}
        changed = {name: changed[name] for name in changed if name not in unfit}
        wanted = PRESETS[self._wanted_preset]
        key = self._wanted_preset if has_head or not wanted.needs_instance_head else "grid"
        self.presets.fill([_preset_choice(name, has_head) for name in PRESETS], key)
        mode = self.mode if key == before else self.preset.options.mode
        self._offer_modes(mode if mode and has_head else "grid", has_head)
        self._fill(changed)
        self._tell_search()

    def set_tiled(self, is_tiled: bool) -> None:
        """Grey what has no effect: the largest area in tiles, tiles elsewhere."""
        self.values["max_area_fraction"].enabled = not is_tiled
        for name in _TILING:
            self.values[name].enabled = is_tiled
        self.format.setEnabled(is_tiled)

    def choose_preset(self, name: str) -> None:
        """Choose a preset and set all options as it says.

        Parameters
        ----------
        name : str
            A key of :data:`~napari_sam.pipeline.options.PRESETS`.
        """
        self._wanted_preset = name
        self.presets.choose(name)
        self.set_back()

    def set_diameter(self, diameter: float) -> None:
        """Set the diameter of objects, as the user could, in whole pixels.

        Parameters
        ----------
        diameter : float
        """
        self.values["diameter"].value = max(round(diameter), 1)

    def set_back(self) -> None:
        """Set all options back to those of the preset."""
        has_head = (self._traits or _UNKNOWN).has_instance_head
        self._offer_modes(self.preset.options.mode or "grid", has_head)
        self._fill({})
        self._tell_search()

    # inside

    def _arrange(self) -> None:
        basic, advanced = QFormLayout(), QFormLayout()
        basic.addRow("P&reset", self.presets)
        panel = QWidget()
        panel.setLayout(advanced)
        advanced.addRow("Mode", self.modes)
        for field in OPTIONS:
            form = basic if field.is_basic else advanced
            native = self.values[field.name].native
            is_estimable = field.name == "diameter"
            form.addRow(field.label, _beside(native, self.estimate) if is_estimable else native)
        advanced.addRow("Format", self.format)
        for form in (basic, advanced):
            form.setContentsMargins(0, 0, 0, 0)
            form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        last = QHBoxLayout()
        last.addStretch(1)
        last.addWidget(self.reset)
        basic.addRow(last)
        self.advanced = section("Advanced", panel, is_open=False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(basic)
        layout.addWidget(self.advanced)
        natives = [widget.native for widget in self.values.values()]
        inner = [child for native in natives for child in native.findChildren(QWidget)]
        self._guard = WheelGuard([*natives, *inner], self)

    def _connect(self) -> None:
        self.presets.key_chosen.connect(self._on_preset)
        self.modes.key_chosen.connect(self._on_mode)
        self.reset.clicked.connect(self.set_back)
        for name, widget in self.values.items():
            widget.changed.connect(self._on_filter if name in _FILTERS else self._tell_search)

    def _on_preset(self, name: str) -> None:
        self.choose_preset(name)
        self.preset_chosen.emit(name)

    def _on_mode(self, _: str) -> None:
        self._fill(self._changed())
        self._tell_search()

    def _on_filter(self, _: object = None) -> None:
        if not self._is_filling:
            self.filters_changed.emit()

    def _tell_search(self, _: object = None) -> None:
        if not self._is_filling:
            self.search_changed.emit()

    def _offer_modes(self, mode: Mode, has_head: bool) -> None:
        missing = {} if has_head else _NEEDS_HEAD
        self.modes.fill(
            [
                Choice(
                    each.key, each.text, missing.get(each.key, each.tip), each.key not in missing
                )
                for each in _MODES
            ],
            mode,
        )

    def _grey(self) -> None:
        """Grey what has no meaning in this mode, or with this model."""
        traits = self._traits or _UNKNOWN
        for field in OPTIONS:
            if field.modes != MODES or field.needs_instance_head or field.needs_native:
                self.values[field.name].enabled = field.suits(traits) and self.mode in field.modes
        self.estimate.setEnabled(traits.is_native and traits.has_instance_head)

    def _changed(self) -> dict[str, float]:
        """Return what stands in the form and is neither the preset's nor a default."""
        return {
            name: widget.value
            for name, widget in self.values.items()
            if widget.value != self._shown[name]
        }

    def _fill(self, changed: dict[str, Any]) -> None:
        """Show preset and defaults, and over them what was changed."""
        values = default_values(self._traits or _UNKNOWN, self.mode)
        values |= {
            name: value
            for name, value in self.preset.options.given().items()
            if name in self.values
        }
        self._is_filling = True
        try:
            for name, widget in self.values.items():
                widget.value = values[name]
                self._shown[name] = widget.value  # as it was rounded
                if name in changed:
                    widget.value = changed[name]
        finally:
            self._is_filling = False
        self._grey()
        self.filters_changed.emit()


def _make(field: OptionField) -> Any:
    """Make the widget of an option, with magicgui."""
    bounds = (int(field.low), int(field.high)) if field.kind == "count" else (field.low, field.high)
    options: dict[str, Any] = {"text": ""}  # its label stands before it, as those of the others
    if field.kind != "flag":
        options = {"min": bounds[0], "max": bounds[1], "step": _STEPS[field.kind]}
    widget = create_widget(name=field.name, widget_type=_WIDGETS[field.kind], options=options)
    tip = f"{field.tip} 0: {field.zero_text}." if field.zero_text else field.tip
    native: QWidget = widget.native
    for slider in native.findChildren(QSlider):
        slider.setPageStep(10 * slider.singleStep())
    for part in (native, *native.findChildren(QWidget)):
        part.setToolTip(tip)
        part.setAccessibleName(field.label.replace("&", ""))
    if hasattr(native, "setKeyboardTracking"):
        native.setKeyboardTracking(False)
    if native.focusPolicy() == Qt.FocusPolicy.NoFocus and native.layout() is not None:
        native.setFocusProxy(native.layout().itemAt(0).widget())  # the slider of the two
    return widget


def _beside(field: QWidget, button: QPushButton) -> QWidget:
    """Put a button behind a field; the mnemonic of the row leads to the field."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(field, 1)
    layout.addWidget(button)
    row.setFocusProxy(field)
    return row


def _preset_choice(name: str, has_head: bool) -> Choice:
    preset = PRESETS[name]
    is_available = has_head or not preset.needs_instance_head
    reason = _NEEDS_HEAD.get(preset.options.mode or "", _NO_HEAD)
    return Choice(
        name,
        preset.name,
        preset.description if is_available else f"{preset.description}\n{reason}",
        is_available,
    )
