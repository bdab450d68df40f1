"""Load weights without running code, and build the model that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from napari_sam.core.errors import CheckpointError, ConfigError
from napari_sam.model.builders import build_sam
from napari_sam.model.devices import resolve_device, translate_torch_errors
from napari_sam.model.execution import execution_for
from napari_sam.model.iou_calibration import IouCalibration
from napari_sam.model.registry import MODELS, ModelEntry, find_model
from napari_sam.model.sam import Sam
from napari_sam.model.store import model_path, verify_file
from napari_sam.model.weight_files import read_state_dict

__all__ = [
    "CALIBRATION_KEY",
    "build_from_state",
    "check_weights",
    "detect_architecture",
    "load_model",
    "read_state_dict",
]

StateDict = dict[str, Tensor]

CALIBRATION_KEY = "mask_decoder.iou_calibration.values"
"""The map of predicted IoU in a file of the compact model, if it has one."""

_SHOWN_NAMES = 4
_EMBED_DIMS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


def load_model(
    name_or_path: str | Path,
    device: str | torch.device = "auto",
    precision: Literal["float32", "half"] = "float32",
) -> Sam:
    """Load a model, ready for inference.

    Nothing is downloaded and no code of the file is run. The file of a registered model is checked
    against its published hash first; for a path, the architecture is told from the weights.

    Weights are mapped from the file where it allows that, not copied: loading takes little memory,
    and processes that use the same file share it. So put another file in its place, as all of
    napari_sam does; do not write into a file whose model is in use.

    Each call returns a model of its own.

    Parameters
    ----------
    name_or_path : str or pathlib.Path
        A name in the registry, or the path of a ``.safetensors`` file or of a torch checkpoint.
        A torch checkpoint holds the state dict itself or, as micro-sam's training does, under
        ``model_state``; its other entries, such as ``decoder_state``, are left alone.
    device : str or torch.device
        See `resolve_device`.
    precision : {"float32", "half"}
        Of the image encoder. Half precision is used where a test shows that masks stay as they
        are, see :func:`~napari_sam.model.half_precision.use_half_precision`.

    Returns
    -------
    Sam
        The model in float32 and eval mode, on the device, with `name` and `digest` set.

    Raises
    ------
    ConfigError
        The name is unknown, or the device's name or the precision is.
    CheckpointError
        The weights are missing, damaged, unsafe, or of another architecture.
    DeviceError
        The device is not there, or has too little memory.
    """
    if precision not in ("float32", "half"):
        raise ConfigError(
            f"The precision {precision!r} was asked for",
            rule="The image encoder computes in 'float32' or in 'half' precision",
            cure="Choose one of these",
        )
    target = resolve_device(device)
    entry, path = locate_weights(name_or_path)
    digest = verify_file(path, entry)
    # What is mapped below is read from the file when it is first used, after the check. That is
    # safe against replacing and removing the file: a mapping keeps the file that it was made from.
    # `install_file` and `import_model` replace. Only writing into the file would change the model.
    with translate_torch_errors():
        state = read_state_dict(path)
        architecture = entry.architecture if entry else detect_architecture(state)
        sam = build_from_state(architecture, state, source=str(path)).to(target).eval()
        for part in (sam.prompt_encoder, sam.mask_decoder):
            part.to(memory_format=execution_for(target).map_format)  # type: ignore[call-overload]
    sam.name = entry.name if entry else path.stem
    sam.digest = digest
    if precision == "half":
        from napari_sam.model.half_precision import use_half_precision

        use_half_precision(sam)
    return sam


def detect_architecture(state: Mapping[str, Tensor]) -> str:
    """Tell the architecture from the names and shapes of weights.

    Parameters
    ----------
    state : mapping of str to Tensor
        The state dict.

    Returns
    -------
    str
        One of `napari_sam.model.registry.ARCHITECTURES`.

    Raises
    ------
    CheckpointError
        The weights are of none of them.
    """
    patches = state.get("image_encoder.patch_embed.proj.weight")  # (C, 3, 16, 16)
    if patches is not None and patches.shape[0] in _EMBED_DIMS:
        return _EMBED_DIMS[patches.shape[0]]
    if "image_encoder.patch_embed.seq.0.c.weight" in state:
        return "vit_t"
    if "image_encoder.stem.conv.weight" in state:
        return "compact"
    raise CheckpointError(
        f"The file holds {len(state)} tensors: {_some(sorted(state))}",
        rule="They have to be those of a vit_b, vit_l, vit_h, vit_t or compact model",
        cure="Give a Segment Anything checkpoint; SAM 2, HQ-SAM and LoRA weights are others",
    )


def build_from_state(architecture: str, state: StateDict, *, source: str) -> Sam:
    """Build a model around given weights.

    The tensors become the parameters as they are: no random weights are drawn and none copied.

    Parameters
    ----------
    architecture : str
        One of `napari_sam.model.registry.ARCHITECTURES`.
    state : dict of str to Tensor
        Its weights.
    source : str
        Where they come from, for messages.

    Returns
    -------
    Sam
        The model on the CPU.

    Raises
    ------
    CheckpointError
        Weights are missing, or too many, or of another shape.
    """
    with torch.device("meta"), _NoRandomNumbers():
        has_head = any(name.startswith("instance_head.") for name in state)
        skeleton = build_sam(architecture, instance_head=has_head)
        if architecture == "compact" and CALIBRATION_KEY in state:
            tokens = skeleton.mask_decoder.num_mask_tokens
            knots = max(state[CALIBRATION_KEY].numel() // tokens, 2)
            skeleton.mask_decoder.iou_calibration = IouCalibration(torch.empty(tokens, knots))
    check_weights(architecture, skeleton.state_dict(), state, source)
    _check_calibration(state, source)
    skeleton.load_state_dict(state, assign=True)
    # a new shell, because the pixel statistics are no weights and still on the meta device
    return Sam(
        skeleton.image_encoder,
        skeleton.prompt_encoder,
        skeleton.mask_decoder,
        skeleton.instance_head,
        skeleton.input_spec,
    )


class _NoRandomNumbers(TorchFunctionMode):
    """Leave out the random weights of a skeleton, whose tensors hold no numbers anyway.

    For such functions on the meta device, torch imports its compiler. That takes a second, and it
    ends the process where another copy of LLVM is loaded, as Mesa's OpenGL does in a viewer.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.nn.init.normal_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn:  # another way to the same imports, of symbolic algebra
            return torch.empty(*args, **kwargs)
        return func(*args, **kwargs)


def locate_weights(name_or_path: str | Path) -> tuple[ModelEntry | None, Path]:
    """Find the file of a model; nothing is read or downloaded.

    Parameters
    ----------
    name_or_path : str or pathlib.Path
        A name in the registry, or the path of a weights file.

    Returns
    -------
    tuple
        The registry's entry, or None for a path; and the file.

    Raises
    ------
    ConfigError
        The name is unknown.
    CheckpointError
        There is no such file.
    """
    if isinstance(name_or_path, str) and name_or_path in MODELS:
        return _locate_registered(MODELS[name_or_path])
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return None, path
    if isinstance(name_or_path, Path) or path.suffix or path.parent != Path():
        raise CheckpointError(
            f"There is no weights file {str(path)!r}",
            rule="A model is given by its name or by the path of a file",
            cure=f"Check the path, or choose one of {', '.join(MODELS)}",
        )
    return _locate_registered(find_model(name_or_path))


def _locate_registered(entry: ModelEntry) -> tuple[ModelEntry, Path]:
    path = model_path(entry)
    if path.is_file():
        return entry, path
    if entry.is_bundled:
        raise CheckpointError(
            f"The package lacks its file {str(path)!r}",
            rule=f"The weights of {entry.name} are part of the package",
            cure="Install the package again",
        )
    raise CheckpointError(
        f"The weights of {entry.name} are not on this computer",
        rule="Weights are downloaded only when you ask for it",
        cure=(
            f"Run: napari-sam models download {entry.name}. Without a connection, get the file "
            f"from {entry.url} elsewhere and run: napari-sam models import {entry.name} FILE"
        ),
    )


def check_weights(
    architecture: str, expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str
) -> None:
    """Refuse weights that are not exactly those of an architecture.

    Parameters
    ----------
    architecture : str
        Its name, for messages.
    expected : mapping of str to Tensor
        Weights of a model of this architecture.
    state : mapping of str to Tensor
        The weights at hand.
    source : str
        Where they come from, for messages.

    Raises
    ------
    CheckpointError
        Weights are missing, or too many, or of another shape.
    """
    _check_keys(architecture, expected, state, source)
    _check_shapes(architecture, expected, state, source)


def _check_keys(
    architecture: str, expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str
) -> None:
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    if not missing and not unexpected:
        return
    parts = [
        f"{len(names)} {word} weights ({_some(names)})"
        for word, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    raise CheckpointError(
        f"{source!r} has {' and '.join(parts)}",
        rule=f"It has to hold exactly the weights of a {architecture} model",
        cure="Use a complete checkpoint of this architecture, without adapters or other heads",
    )


def _check_shapes(
    architecture: str, expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str
) -> None:
    wrong = [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if state[key].shape != tensor.shape
    ]
    if wrong:
        raise CheckpointError(
            f"{source!r} has {len(wrong)} weights of another shape ({_some(wrong)})",
            rule=f"It has to hold exactly the weights of a {architecture} model",
            cure="Use a checkpoint trained at the architecture's own input size and widths",
        )


def _check_calibration(state: Mapping[str, Tensor], source: str) -> None:
    """Refuse a map of predicted IoU that would put better masks below worse ones."""
    values = state.get(CALIBRATION_KEY)
    if values is not None and not (values.isfinite().all() and (values.diff() > 0).all()):
        raise CheckpointError(
            f"{source!r} has a map of predicted IoU, {CALIBRATION_KEY}, that does not rise",
            rule="Calibrated values are finite, and rise from each knot to the next",
            cure="Write the map anew with: napari-sam calibrate",
        )


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {rest} more" if rest > 0 else "")
