"""Choose the compute device, and turn torch's errors into this package's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from napari_sam.core.errors import ConfigError, DeviceError, OutOfMemoryError

__all__ = ["is_out_of_memory", "resolve_device", "translate_torch_errors"]

# what the allocators of CPU and MPS say; only CUDA has an exception of its own
_OUT_OF_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory")


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Turn the user's word for a device into a device that is there.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes CUDA, else MPS, else the CPU. ``"cpu"``, ``"cuda"``, ``"cuda:1"`` and
        ``"mps"`` ask for one device and get no other.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    ConfigError
        The word names no device.
    DeviceError
        The device is not there.
    """
    if device == "auto":
        return _best_device()
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise _unknown_device(device) from error
    match resolved.type:
        case "cpu":
            return resolved
        case "cuda":
            _require_cuda(resolved)
        case "mps":
            _require_mps()
        case _:
            raise _unknown_device(device)
    return resolved


@contextmanager
def translate_torch_errors() -> Iterator[None]:
    """Raise torch's errors inside the block as errors of this package.

    A Qt thread worker takes a ``RuntimeError`` for "the Qt object is gone" and drops it, and
    torch's out-of-memory error is a ``RuntimeError``. So every call into torch that a worker may
    make stands in this context.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    OutOfMemoryError
        The device has too little memory.
    DeviceError
        Any other ``RuntimeError`` inside the block.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise OutOfMemoryError(
                f"The device ran out of memory: {_first_line(error)}",
                rule="Model, image embedding and a batch of masks have to fit into its memory",
                cure="Close other programs, use smaller tiles or fewer points per batch, or "
                "choose device 'cpu'",
            ) from error
        raise DeviceError(
            f"torch failed: {_first_line(error)}",
            rule="The model has to run on the chosen device",
            cure="Try device 'cpu'; if it fails there too, please report it with this message",
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error of torch, numpy or Python says that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    message = str(error).lower()
    return any(words in message for words in _OUT_OF_MEMORY_WORDS)


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _require_cuda(device: torch.device) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise DeviceError(
            f"Device {str(device)!r} was asked for, and torch {torch.__version__} sees no CUDA",
            rule="CUDA needs an NVIDIA GPU, its driver, and a torch built for CUDA",
            cure="Use device 'cpu' or 'auto', or install a CUDA build of torch",
        )
    if device.index is not None and device.index >= count:
        raise DeviceError(
            f"Device {str(device)!r} was asked for",
            rule=f"torch sees {count} CUDA device(s), numbered from 0",
            cure=f"Choose one of cuda:0 to cuda:{count - 1}",
        )


def _require_mps() -> None:
    if not torch.backends.mps.is_available():
        raise DeviceError(
            f"Device 'mps' was asked for, and torch {torch.__version__} cannot use it here",
            rule="MPS needs a Mac with Apple silicon and macOS 14 or newer",
            cure="Use device 'cpu' or 'auto'",
        )


def _unknown_device(device: str | torch.device) -> ConfigError:
    return ConfigError(
        f"Device {str(device)!r} is unknown",
        rule="A device is 'auto', 'cpu', 'cuda', 'cuda:1' (any number) or 'mps'",
        cure="Choose one of these",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
