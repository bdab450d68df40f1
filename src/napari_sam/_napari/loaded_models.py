"""Models in memory, shared by all widgets of the process."""

from __future__ import annotations

import threading
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.core.errors import DeviceError, NapariSamWarning
from napari_sam.model import registry
from napari_sam.model.store import model_path

if TYPE_CHECKING:
    import torch

    from napari_sam.model import Sam

__all__ = ["LoadedModels", "load_shared_model"]

# file, its time of change in nanoseconds, its size in bytes, device
_Key = tuple[str, int, int, str]


class LoadedModels:
    """The models that somebody uses, each loaded once per device.

    Two who ask for the same model on the same device get the same object. It is freed when
    nobody holds it any more. A file that has changed since is another model.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: weakref.WeakValueDictionary[_Key, Sam] = weakref.WeakValueDictionary()

    def load(self, name_or_path: str | Path, device: str = "auto") -> Sam:
        """Return a model, loaded unless it is in memory already.

        Loads run one after the other, and whoever comes second finds what the first has loaded.
        It takes seconds and imports torch: call it in a worker.

        Parameters
        ----------
        name_or_path : str or pathlib.Path
            A name in the registry, or the path of a weights file.
        device : str, default "auto"
            See `napari_sam.model.resolve_device`. Only ``"auto"`` goes over to the CPU when the
            GPU cannot take the model or computes wrongly.

        Returns
        -------
        Sam
            The model in eval mode. It is shared: use it as it is.

        Raises
        ------
        ConfigError
            The name is unknown, or the device's name is.
        CheckpointError
            The weights are missing, damaged, unsafe, or of another architecture.
        DeviceError
            The device is not there, has too little memory, or computes wrongly.

        Warns
        -----
        NapariSamWarning
            The GPU failed, and the model is on the CPU.
        """
        with self._lock:
            from napari_sam.model.devices import resolve_device

            target = resolve_device(device)
            try:
                return self._load(name_or_path, target)
            except DeviceError as error:
                if device != "auto" or target.type == "cpu":
                    raise
                warnings.warn(
                    f"The model runs on the CPU, which is slower: {target.type.upper()} failed.\n"
                    f"{error}",
                    NapariSamWarning,
                    stacklevel=2,
                )
            return self._load(name_or_path, resolve_device("cpu"))

    def _load(self, name_or_path: str | Path, device: torch.device) -> Sam:
        from napari_sam.model.checkpoints import load_model

        key = _key(name_or_path, device)
        sam = self._models.get(key) if key else None
        if sam is None:
            _require_right_results(device)
            sam = load_model(name_or_path, device)
            if key:
                self._models[key] = sam
        return sam


_SHARED = LoadedModels()


def load_shared_model(name_or_path: str | Path, device: str = "auto") -> Sam:
    """Return a model that all widgets of the process share; see `LoadedModels.load`.

    Parameters
    ----------
    name_or_path : str or pathlib.Path
        A name in the registry, or the path of a weights file.
    device : str, default "auto"
        See `napari_sam.model.resolve_device`.

    Returns
    -------
    Sam
        The model in eval mode.

    Raises
    ------
    ConfigError
        The name is unknown, or the device's name is.
    CheckpointError
        The weights are missing, damaged, unsafe, or of another architecture.
    DeviceError
        The device is not there, has too little memory, or computes wrongly.

    Warns
    -----
    NapariSamWarning
        The GPU failed, and the model is on the CPU.
    """
    return _SHARED.load(name_or_path, device)


def _key(name_or_path: str | Path, device: torch.device) -> _Key | None:
    """Tell a model from all others; None where there is no file, which loading says in words."""
    entry = registry.MODELS.get(str(name_or_path))
    path = model_path(entry) if entry else Path(name_or_path).expanduser()
    try:
        status = path.stat()
        return str(path.resolve()), status.st_mtime_ns, status.st_size, _device_name(device)
    except OSError:
        return None


def _device_name(device: torch.device) -> str:
    import torch

    if device.type == "cuda" and device.index is None:
        return f"cuda:{torch.cuda.current_device()}"
    return str(device)


def _require_right_results(device: torch.device) -> None:
    """Compute something small on a GPU and compare it with the CPU.

    Moving weights to a GPU runs none of its kernels, so a torch that was not built for it fails
    only later, in the middle of the work; and some kernels on MPS have given wrong numbers.
    """
    if device.type == "cpu":
        return
    import torch
    from torch.nn.functional import conv2d, softmax

    from napari_sam.model.devices import translate_torch_errors

    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 8, 32, 32, generator=generator)  # (B, C, H, W)
    kernel = torch.rand(8, 8, 3, 3, generator=generator) - 0.5  # (C, C, 3, 3)

    def compute(where: torch.device) -> torch.Tensor:
        features = conv2d(image.to(where), kernel.to(where)).flatten(2)  # (B, C, 900)
        return softmax(features @ features.transpose(1, 2) / 900, dim=-1).cpu()

    with torch.inference_mode(), translate_torch_errors():
        difference = (compute(device) - compute(torch.device("cpu"))).abs().max().item()
    if not difference < 1e-2:  # also where it is not a number
        raise DeviceError(
            f"A test on device {str(device)!r} differs from the CPU by {difference:.2g}",
            rule="Both have to give the same numbers",
            cure="Use device 'cpu', and update torch and the GPU's driver",
        )
