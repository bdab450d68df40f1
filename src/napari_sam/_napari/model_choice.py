"""The widget to choose a model and the device it runs on."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QWidget

from napari_sam._napari.choice_box import Choice, ChoiceBox
from napari_sam._napari.device_choice import DeviceChoice
from napari_sam._napari.models_dialog import (
    ModelsDialog,
    ask_for_weights,
    size_text,
    state_text,
)
from napari_sam._napari.notices import show_warning
from napari_sam._napari.panel_parts import push_button
from napari_sam._napari.settings import load_settings, update_settings
from napari_sam.model.store import ModelStatus, model_status

__all__ = ["ModelChoice"]

_DEFAULT = "compact"


class ModelChoice(QWidget):  # type: ignore[misc]  # qtpy has no types
    """Choose a model and a device; what the user chooses is remembered.

    Parameters
    ----------
    parent : QWidget, optional
        The parent.
    """

    model_changed = Signal(str)
    """Another model is chosen now: its name in the registry, or the path of a file."""
    device_changed = Signal(str)
    """Another device is chosen now: see `napari_sam.model.resolve_device`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        settings = load_settings()
        self._files: list[str] = []
        self._dialog: ModelsDialog | None = None
        self.models = ChoiceBox("Model", "The model that finds the objects.", self)
        self.devices = DeviceChoice(settings.device, self)
        self.file_button = push_button("F&ile…", "Choose a file with weights of your own", self)
        self.get_button = push_button("&Get models…", "Download, import or remove models", self)
        self._arrange()
        self.refresh()
        if not self.set_model(settings.model):
            show_warning(f"The model {settings.model} is not on this computer any more")
        self._connect()

    @property
    def model(self) -> str:
        """The chosen model: its name in the registry, or the path of a file."""
        return self.models.key

    @property
    def device(self) -> str:
        """The chosen device: see `napari_sam.model.resolve_device`."""
        return self.devices.key

    def set_model(self, name_or_path: str) -> bool:
        """Choose a model; it is not remembered, as it is when the user does.

        Parameters
        ----------
        name_or_path : str
            A name in the registry, or the path of a file.

        Returns
        -------
        bool
            False where it is not on this computer; the choice is then as before.
        """
        if name_or_path not in self._names_here():
            if not Path(name_or_path).expanduser().is_file():
                return False
            if name_or_path not in self._files:
                self._files.append(name_or_path)
                self.refresh()
        return self.models.choose(name_or_path)

    def set_device(self, device: str) -> bool:
        """Choose a device; it is not remembered, as it is when the user does.

        Parameters
        ----------
        device : str
            See `napari_sam.model.resolve_device`.

        Returns
        -------
        bool
            False where it is not among the choices; the choice is then as before.
        """
        return self.devices.choose(device)

    def refresh(self) -> None:
        """Look again which models are on this computer."""
        statuses = model_status()
        own = [Choice(path, Path(path).name, path) for path in self._files]
        here = {status.entry.name for status in statuses if _is_here(status)}.union(self._files)
        chosen = self.model if self.model in here else _DEFAULT
        self.models.fill([*map(_choice, statuses), *own], chosen)

    def open_models_dialog(self) -> ModelsDialog:
        """Open the dialog to get models, or bring it to the front.

        Returns
        -------
        ModelsDialog
            The dialog; it does not block the window.
        """
        if self._dialog is None:
            self._dialog = ModelsDialog(self)
            self._dialog.models_changed.connect(self.refresh)
            self._dialog.finished.connect(self._forget_dialog)
        self._dialog.show()
        self._dialog.raise_()
        self._dialog.activateWindow()
        return self._dialog

    def choose_file(self) -> None:
        """Ask the user for a file with weights, and choose it."""
        path = ask_for_weights(self, "Weights of your own model")
        if path and self.set_model(path):
            update_settings(model=path)

    def _names_here(self) -> set[str]:
        return {status.entry.name for status in model_status() if _is_here(status)}

    def _forget_dialog(self) -> None:
        self._dialog = None

    def _arrange(self) -> None:
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setColumnStretch(1, 1)
        layout.addWidget(_label("&Model", self.models), 0, 0)
        layout.addWidget(self.models, 0, 1)
        layout.addWidget(self.file_button, 0, 2)
        layout.addWidget(_label("D&evice", self.devices), 1, 0)
        layout.addWidget(self.devices, 1, 1)
        layout.addWidget(self.get_button, 1, 2)
        QWidget.setTabOrder(self.models, self.file_button)
        QWidget.setTabOrder(self.file_button, self.devices)
        QWidget.setTabOrder(self.devices, self.get_button)

    def _connect(self) -> None:
        self.models.key_changed.connect(self.model_changed)
        self.devices.key_changed.connect(self.device_changed)
        self.models.key_chosen.connect(lambda model: update_settings(model=model))
        self.devices.key_chosen.connect(lambda device: update_settings(device=device))
        self.file_button.clicked.connect(self.choose_file)
        self.get_button.clicked.connect(self.open_models_dialog)


def _is_here(status: ModelStatus) -> bool:
    # the package's own model stands for the plugin: without its file, loading it says what to do
    return status.entry.is_bundled or status.state == "installed"


def _choice(status: ModelStatus) -> Choice:
    entry = status.entry
    if _is_here(status):
        return Choice(entry.name, entry.name, entry.description)
    missing = state_text(status)
    if status.state == "absent" and entry.size_bytes:
        missing += f": {size_text(entry.size_bytes)}"
    return Choice(
        entry.name,
        f"{entry.name} – {missing}",
        f"{entry.description}\n{missing[0].upper()}{missing[1:]}. Press “Get models…”.",
        is_available=False,
    )


def _label(text: str, buddy: QWidget) -> QLabel:
    label = QLabel(text)
    label.setBuddy(buddy)
    return label
