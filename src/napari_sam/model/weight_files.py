"""Read weights from a file without running code, mapped where the file allows it."""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from napari_sam.core.errors import CheckpointError
from napari_sam.model.devices import is_out_of_memory

__all__ = ["read_state_dict"]

# Training frameworks keep the weights in one of these entries, beside an optimiser's state, a
# decoder of their own and the like.
_WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model")
_PREFIXES = ("sam.", "module.")
_ARCHIVE_START = b"PK\x03\x04"  # of a zip file, which torch has written since 1.6
_PIECE = 1 << 14  # half the numbers from which torch uses more than one thread
_LARGE_WEIGHT = 1 << 20


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the weights from a file without running code of it.

    Parameters
    ----------
    path : str or pathlib.Path
        A ``.safetensors`` file, or a torch checkpoint.

    Returns
    -------
    dict of str to Tensor
        The weights on the CPU, floating point in float32, without a trainer's prefix.

    Raises
    ------
    CheckpointError
        The file is damaged, holds code, or no state dict.
    """
    path = Path(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state = _without_prefix(_unwrap(content, path))
    return {
        key: _in_float32(value) if value.is_floating_point() else value
        for key, value in state.items()
    }


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_torch(path: Path) -> object:
    try:
        mmap = _can_be_mapped(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if unsafe := _unsafe_name(error):
            raise CheckpointError(
                f"{str(path)!r} holds more than weights: {unsafe}",
                rule="Loading a model never runs code from its file, so only tensors are read",
                cure=(
                    "If you trust the file, save model.state_dict() alone with "
                    "safetensors.torch.save_file in the program that made it"
                ),
            ) from error
        raise _damaged(path, error) from error
    # a damaged archive fails in many places of torch's reader, none of them with its own exception
    except (
        RuntimeError,
        EOFError,
        OSError,
        KeyError,
        AttributeError,
        TypeError,
        ValueError,
        IndexError,
        AssertionError,
        zipfile.BadZipFile,
    ) as error:
        if is_out_of_memory(error):
            raise
        raise _damaged(path, error) from error


def _can_be_mapped(path: Path) -> bool:
    """Tell whether torch can map the tensors; else it reads the same ones into memory.

    Not on Windows, where a file that is mapped can be neither removed nor replaced.
    """
    if sys.platform == "win32":
        return False
    with path.open("rb") as file:
        return file.read(len(_ARCHIVE_START)) == _ARCHIVE_START


def _in_float32(value: Tensor) -> Tensor:
    """Return a weight as it is, or converted.

    Small ones are converted in pieces that torch does not share out among its threads. These would
    have to meet after each of hundreds of weights, which takes longer than the work itself where
    the processors are busy, as they are while a viewer opens.
    """
    if value.dtype == torch.float32 or value.numel() > _LARGE_WEIGHT:
        return value.float()
    converted = torch.empty(value.shape, dtype=torch.float32)
    target, source = converted.view(-1), value.reshape(-1)
    for start in range(0, len(source), _PIECE):
        target[start : start + _PIECE] = source[start : start + _PIECE]
    return converted


def _unwrap(content: object, path: Path) -> Mapping[str, Tensor]:
    """Return the state dict itself, from the one entry that a training framework keeps it in."""
    if isinstance(content, Mapping):
        for wrapper in _WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                content = content[wrapper]
                break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(key, str) for key in content)
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise CheckpointError(
            f"{str(path)!r} holds no state dict",
            rule=(
                f"A checkpoint maps names to tensors, itself or under one of {', '.join(_WRAPPERS)}"
            ),
            cure="Save model.state_dict() alone",
        )
    return content


def _without_prefix(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            return {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _damaged(path: Path, error: Exception) -> CheckpointError:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return CheckpointError(
        f"{str(path)!r} cannot be read as weights ({first_line})",
        rule="It has to be a complete safetensors file or torch checkpoint",
        cure="The file is truncated, damaged or of another kind: get it again",
    )


def _unsafe_name(error: Exception) -> str | None:
    """Return the line of torch's long message that names a class or function, if one does."""
    for line in str(error).splitlines():
        if "GLOBAL" in line or "class" in line:
            return line.strip()
    return None
