"""Pure PyTorch: the encoders, the prompt encoder and the mask decoder of Segment Anything.

Names load on first use, so that the registry and the model store come without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.model.builders import build_sam
    from napari_sam.model.checkpoints import detect_architecture, load_model
    from napari_sam.model.compact_encoder import CompactEncoder, build_compact_sam
    from napari_sam.model.devices import resolve_device, translate_torch_errors
    from napari_sam.model.download import DownloadProgress, download_model
    from napari_sam.model.half_precision import HalfPrecisionReport, use_half_precision
    from napari_sam.model.image_encoder import ImageEncoderViT
    from napari_sam.model.layers import ImageFeatures
    from napari_sam.model.mask_decoder import MaskDecoder
    from napari_sam.model.prompt_encoder import PromptEncoder
    from napari_sam.model.registry import MODELS, ModelEntry, find_model
    from napari_sam.model.sam import InputSpec, Sam
    from napari_sam.model.store import ModelStatus, import_model, model_status, remove_model
    from napari_sam.model.tiny_vit import TinyViT
    from napari_sam.model.transformer import TwoWayTransformer

__all__ = [
    "MODELS",
    "CompactEncoder",
    "DownloadProgress",
    "HalfPrecisionReport",
    "ImageEncoderViT",
    "ImageFeatures",
    "InputSpec",
    "MaskDecoder",
    "ModelEntry",
    "ModelStatus",
    "PromptEncoder",
    "Sam",
    "TinyViT",
    "TwoWayTransformer",
    "build_compact_sam",
    "build_sam",
    "detect_architecture",
    "download_model",
    "find_model",
    "import_model",
    "load_model",
    "model_status",
    "remove_model",
    "resolve_device",
    "translate_torch_errors",
    "use_half_precision",
]

_MODULES = {
    "MODELS": "registry",
    "CompactEncoder": "compact_encoder",
    "DownloadProgress": "download",
    "HalfPrecisionReport": "half_precision",
    "ImageEncoderViT": "image_encoder",
    "ImageFeatures": "layers",
    "InputSpec": "sam",
    "MaskDecoder": "mask_decoder",
    "ModelEntry": "registry",
    "ModelStatus": "store",
    "PromptEncoder": "prompt_encoder",
    "Sam": "sam",
    "TinyViT": "tiny_vit",
    "TwoWayTransformer": "transformer",
    "build_compact_sam": "compact_encoder",
    "build_sam": "builders",
    "detect_architecture": "checkpoints",
    "download_model": "download",
    "find_model": "registry",
    "import_model": "store",
    "load_model": "checkpoints",
    "model_status": "store",
    "remove_model": "store",
    "resolve_device": "devices",
    "translate_torch_errors": "devices",
    "use_half_precision": "half_precision",
}


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return __all__
