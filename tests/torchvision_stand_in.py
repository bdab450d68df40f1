"""A stand-in for torchvision, to import the reference implementation without it.

`segment_anything` and `timm` import a handful of torchvision names. Their own code is what the
parity tests compare with; torchvision only lends them PIL's resize and plain box arithmetic, which
stand here in a few lines. So the tests need no second compiled library next to torch.
"""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_pil_image(array: np.ndarray) -> Image.Image:
    """Return `array` (H, W, 3) uint8 as a PIL image."""
    return Image.fromarray(array)


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize a PIL image to `size` (height, width) with PIL's bilinear filter."""
    height, width = size
    return image.resize((width, height), Image.Resampling.BILINEAR)


def box_area(boxes: Tensor) -> Tensor:
    """Return the area of each box (N, 4) xyxy."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression: keep a box unless a better kept one overlaps it too much."""
    order = torch.sort(scores, descending=True, stable=True).indices
    areas = box_area(boxes)
    suppressed = torch.zeros(len(boxes), dtype=torch.bool)
    keep = []
    for index in order.tolist():
        if suppressed[index]:
            continue
        keep.append(index)
        top_left = torch.maximum(boxes[index, :2], boxes[:, :2])
        bottom_right = torch.minimum(boxes[index, 2:], boxes[:, 2:])
        overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        iou = overlap / (areas[index] + areas - overlap)
        suppressed |= iou.double() > iou_threshold  # as torchvision's CPU kernel compares
    return torch.tensor(keep, dtype=torch.int64)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression within each category: categories are moved apart first."""
    if boxes.numel() == 0:
        return torch.empty((0,), dtype=torch.int64)
    offsets = idxs.to(boxes) * (boxes.max() + 1)
    return nms(boxes + offsets[:, None], scores, iou_threshold)


class _FrozenBatchNorm2d(torch.nn.Module):
    """Only ever used in an isinstance check."""


class _Named(type):
    """A class whose every public attribute is its own name: enough for enumerations."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return name


class _LenientModule(ModuleType):
    """A module in which every other public name is an empty class, for names only imported."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Named(name, (), {})


def _install_module(name: str, **names: object) -> None:
    module = _LenientModule(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader=None, is_package=True)
    module.__path__ = []
    module.__version__ = "0"
    for key, value in names.items():
        setattr(module, key, value)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def install() -> None:
    """Put the stand-in in the place of torchvision, for this process."""
    _install_module("torchvision")
    for name in ("datasets", "models", "models.feature_extraction", "ops", "transforms", "utils"):
        _install_module(f"torchvision.{name}")
    _install_module("torchvision.transforms.functional", resize=resize, to_pil_image=to_pil_image)
    _install_module("torchvision.ops.boxes", batched_nms=batched_nms, box_area=box_area)
    _install_module("torchvision.ops.misc", FrozenBatchNorm2d=_FrozenBatchNorm2d)
