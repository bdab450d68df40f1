"""Which image is segmented, which channels of it, and at which contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QWidget,
)

from napari_sam._napari.layer_combo import LayerCombo
from napari_sam._napari.layers import ChannelChoice, compatible_images, is_usable_image
from napari_sam._napari.model_view import ContrastChoice
from napari_sam._napari.model_view_layer import is_model_view
from napari_sam.tiling import DEFAULT_PERCENTILES

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

__all__ = ["ImagePanel"]

_CHANNEL_NAMES = ("c", "ch", "channel", "channels")
_MAX_CHANNELS = 3


class ImagePanel(QWidget):  # type: ignore[misc]  # qtpy has no types
    """Choose image, channels and contrast.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QWidget, optional
    """

    image_changed = Signal(object, object)
    """The image layer or None, and its ChannelChoice."""
    contrast_changed = Signal(object)
    """A ContrastChoice."""
    view_chosen = Signal(bool)
    """Whether to show what the model sees."""

    def __init__(self, viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._offered: dict[str, Image] = {}  # layers that may be further channels
        self._events = (viewer.layers.events.inserted, viewer.layers.events.removed)
        self.image = LayerCombo(
            viewer, lambda layer: is_usable_image(layer) and not is_model_view(layer)
        )
        self.image.setToolTip("The image layer to segment.")
        self.image.setAccessibleName("Image")
        self.axis = _combo("Channel axis", "The axis of the image that counts its channels.")
        self.channels = [
            _combo(f"Channel {i + 1}", "A channel that the model sees, one to three of them.")
            for i in range(_MAX_CHANNELS)
        ]
        self.contrast = _combo(
            "Contrast", "How intensities become what the model sees, fixed for the whole volume."
        )
        self.contrast.addItem("Percentiles of the volume", "percentiles")
        self.contrast.addItem("Contrast limits of the layer", "layer limits")
        self.low = _percentile(DEFAULT_PERCENTILES[0], "Percentile that becomes black.")
        self.high = _percentile(DEFAULT_PERCENTILES[1], "Percentile that becomes white.")
        self.view = QCheckBox("Show what the model sees")
        self.view.setToolTip("Add a layer with the pixels as the model gets them.")
        self._channel_row = QWidget()
        row = QHBoxLayout(self._channel_row)
        row.setContentsMargins(0, 0, 0, 0)
        for combo in self.channels:
            row.addWidget(combo)
        self._percentile_row = QWidget()
        row = QHBoxLayout(self._percentile_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.low)
        row.addWidget(self.high)
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow("Im&age", self.image)
        self._form.addRow("Channel a&xis", self.axis)
        self._form.addRow("Channels", self._channel_row)
        self._form.addRow("Con&trast", self.contrast)
        self._form.addRow("Percentiles", self._percentile_row)
        self._form.addRow(self.view)
        self.image.layer_changed.connect(self._on_image)
        self.axis.activated.connect(self._on_axis)
        for combo in self.channels:
            combo.activated.connect(self._tell_image)
        self.contrast.activated.connect(self._on_contrast)
        for box in (self.low, self.high):
            box.editingFinished.connect(self._on_contrast)
        self.view.clicked.connect(self.view_chosen)
        self._offer_axes()
        self._offer_channels()
        for event in self._events:
            event.connect(self._on_layers)

    @property
    def layer(self) -> Image | None:
        """The chosen image."""
        return self.image.layer

    @property
    def channel_choice(self) -> ChannelChoice:
        """The chosen channels."""
        axis = self.axis.currentData()
        chosen = [combo.currentData() for combo in self.channels]
        chosen = list(dict.fromkeys(item for item in chosen if item is not None))
        if axis is not None:
            return ChannelChoice(axis=axis, indices=tuple(chosen))
        return ChannelChoice(other_layers=tuple(self._offered[name] for name in chosen))

    @property
    def contrast_choice(self) -> ContrastChoice:
        """The chosen contrast."""
        percentiles = self.low.value(), self.high.value()
        is_default = percentiles == DEFAULT_PERCENTILES
        return ContrastChoice(self.contrast.currentData(), None if is_default else percentiles)

    def take_over(self, other: ImagePanel) -> None:
        """Choose what another panel of the same viewer has chosen.

        Parameters
        ----------
        other : ImagePanel
        """
        self.image.choose(other.layer)
        self.axis.setCurrentIndex(max(self.axis.findData(other.axis.currentData()), 0))
        self._offer_channels()
        for own, its in zip(self.channels, other.channels, strict=True):
            own.setCurrentIndex(max(own.findData(its.currentData()), 0))
        self.contrast.setCurrentIndex(other.contrast.currentIndex())
        for box, its_box in ((self.low, other.low), (self.high, other.high)):
            box.setValue(its_box.value())
        self._tell_image()
        self._on_contrast()

    def close_events(self) -> None:
        """Let go of the viewer."""
        self.image.close_events()
        for event in self._events:
            event.disconnect(self._on_layers)
        self._offer_layers([])

    def _others(self) -> list[Image]:
        if self.layer is None:
            return []
        others = compatible_images(self._viewer, self.layer)
        return [layer for layer in others if not is_model_view(layer)]

    def _on_image(self, layer: Image | None) -> None:
        self._offer_axes()
        self._offer_channels()
        self._tell_image()

    def _on_axis(self) -> None:
        self._offer_channels()
        self._tell_image()

    def _on_contrast(self, *_: Any) -> None:
        self._form.setRowVisible(self._percentile_row, self.contrast.currentData() == "percentiles")
        if self.low.value() < self.high.value():
            self.contrast_changed.emit(self.contrast_choice)

    def _tell_image(self, *_: Any) -> None:
        self.image_changed.emit(self.layer, self.channel_choice)

    def _offer_axes(self) -> None:
        """Offer the axes that may be channels, and take the one that is called so."""
        layer = self.layer
        with QSignalBlocker(self.axis):
            self.axis.clear()
            self.axis.addItem("None", None)
            if layer is None or layer.rgb:
                return
            shape = layer.level_shapes[0]
            for axis in range(layer.ndim - 2 if layer.ndim > 2 else 0):
                self.axis.addItem(f"Axis {axis} ({int(shape[axis])})", axis)
                if str(layer.axis_labels[axis]).lower() in _CHANNEL_NAMES:
                    self.axis.setCurrentIndex(self.axis.count() - 1)

    def _offer_channels(self) -> None:
        """Offer indices along the axis, or other layers as further channels."""
        axis, layer = self.axis.currentData(), self.layer
        by_axis = axis is not None and layer is not None
        length = 0 if axis is None or layer is None else int(layer.level_shapes[0][axis])
        offered: list[tuple[str, Any]] = [(f"{i}", i) for i in range(length)]
        if not by_axis:
            self._offer_layers(self._others())
            offered = [(name, name) for name in self._offered]
        for number, combo in enumerate(self.channels):
            with QSignalBlocker(combo):
                combo.clear()
                if number == 0 and not by_axis:
                    combo.addItem("this layer", None)
                    continue
                if number > 0:
                    combo.addItem("–", None)
                for text, data in offered:
                    combo.addItem(text, data)
        self._form.setRowVisible(self.axis, self.axis.count() > 1)
        self._form.setRowVisible(self._channel_row, bool(offered))

    def _offer_layers(self, layers: list[Image]) -> None:
        for layer in self._offered.values():
            layer.events.name.disconnect(self._on_layers)
        for layer in layers:
            layer.events.name.connect(self._on_layers)
        self._offered = {layer.name: layer for layer in layers}

    def _on_layers(self, event: Any = None) -> None:
        """Offer the layers that are there now; those that are chosen stay so."""
        if self.layer is None or self.axis.currentData() is not None:
            return
        before = self.channel_choice
        chosen = [self._offered.get(combo.currentData()) for combo in self.channels]
        self._offer_channels()
        for combo, layer in zip(self.channels, chosen, strict=True):
            with QSignalBlocker(combo):
                combo.setCurrentIndex(max(combo.findData(layer.name), 0) if layer else 0)
        if self.channel_choice != before:
            self._tell_image()


def _combo(name: str, tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setAccessibleName(name)
    combo.setToolTip(tip)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(6)
    return combo


def _percentile(value: float, tip: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(0, 100)
    box.setDecimals(2)
    box.setSingleStep(0.1)
    box.setValue(value)
    box.setToolTip(tip)
    box.setAccessibleName(tip)
    box.setKeyboardTracking(False)
    return box
