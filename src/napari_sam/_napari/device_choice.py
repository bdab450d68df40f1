"""The combo box of compute devices, with the reasons why some cannot be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QWidget

from napari_sam._napari.choice_box import Choice, ChoiceBox
from napari_sam._napari.notices import error_text, show_error, show_warning
from napari_sam._napari.workers import run_function
from napari_sam.core.errors import DeviceError

__all__ = ["DeviceChoice", "FoundDevices", "find_devices"]

_TITLES = {"auto": "Automatic", "cpu": "CPU", "cuda": "CUDA", "mps": "MPS"}
_AUTO = Choice("auto", "Automatic", "Takes the GPU if there is one.")
_CPU = Choice("cpu", "CPU", "Works everywhere.")


@dataclass(frozen=True)
class FoundDevices:
    """What torch can compute on.

    Attributes
    ----------
    automatic : str
        Kind of the device that "auto" takes.
    gpus : tuple of Choice
        Each GPU, or the reason why there is none.
    """

    automatic: str
    gpus: tuple[Choice, ...]


def find_devices() -> FoundDevices:
    """Ask torch for the devices; it imports torch, so call it in a worker.

    Returns
    -------
    FoundDevices
        Each CUDA device, or why there is none; MPS, or why it is not there.
    """
    from napari_sam.model.devices import resolve_device

    automatic = resolve_device("auto").type
    return FoundDevices(automatic, (*_find("cuda"), *_find("mps")))


def _find(kind: str) -> list[Choice]:
    import torch

    from napari_sam.model.devices import resolve_device

    try:
        resolve_device(kind)
    except DeviceError as error:
        return [_absent(kind, "not on this computer", error_text(error))]
    if kind == "mps":
        return [Choice("mps", "MPS (Apple GPU)")]
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if len(names) == 1:
        return [Choice("cuda", f"CUDA ({names[0]})")]
    return [Choice(f"cuda:{i}", f"CUDA {i} ({name})") for i, name in enumerate(names)]


def _absent(device: str, reason: str, tip: str) -> Choice:
    return Choice(device, f"{_TITLES.get(device, device)} – {reason}", tip, is_available=False)


class DeviceChoice(ChoiceBox):
    """A combo box of devices.

    Automatic and CPU can be chosen at once. The GPUs are looked for in a worker when the box is
    first shown, because torch takes a moment to be imported.

    Parameters
    ----------
    device : str, default "auto"
        The device chosen at first. Where it turns out to be absent, "auto" takes its place.
    parent : QWidget, optional
        The parent.
    """

    def __init__(self, device: str = "auto", parent: QWidget | None = None) -> None:
        super().__init__("Device", "Where the model computes.", parent)
        self._was_shown = False
        kinds = dict.fromkeys(["cuda", "mps", device])
        gpus = [kind for kind in kinds if kind not in ("auto", "cpu")]
        self._fill_with([_absent(gpu, "looking for it …", "") for gpu in gpus], device=device)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Look for GPUs when shown for the first time."""
        super().showEvent(event)
        if not self._was_shown:
            self._was_shown = True
            run_function(
                find_devices, on_result=self._show_found, on_error=self._on_error, parent=self
            )

    def _show_found(self, found: FoundDevices) -> None:
        self._settle(found.gpus, f"Automatic ({_TITLES[found.automatic]})")

    def _on_error(self, error: BaseException) -> None:
        """Leave the two that need no search."""
        text = error_text(error)
        self._settle([_absent(kind, "cannot be asked for", text) for kind in ("cuda", "mps")])
        show_error(error)

    def _settle(self, gpus: Sequence[Choice], automatic: str = _AUTO.text) -> None:
        """Show what was found; leave a device that is not there."""
        here = {_AUTO.key, _CPU.key, *(gpu.key for gpu in gpus if gpu.is_available)}
        device = self.key
        self._fill_with(gpus, device=device if device in here else "auto", automatic=automatic)
        if device not in here:
            reasons = [gpu.tip for gpu in gpus if gpu.key == device]
            show_warning(
                "\n".join([f"Device {device} is not here: chosen automatically", *reasons])
            )

    def _fill_with(
        self, gpus: Sequence[Choice], *, device: str, automatic: str = _AUTO.text
    ) -> None:
        self.fill([Choice(_AUTO.key, automatic, _AUTO.tip), *gpus, _CPU], device)
