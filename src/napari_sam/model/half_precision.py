"""Half precision for the image encoder, once it has shown that the masks stay as they are."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from napari_sam.core.errors import ConfigError, NapariSamWarning
from napari_sam.model.devices import is_out_of_memory, translate_torch_errors
from napari_sam.model.execution import execution_for
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam

__all__ = ["MIN_MEAN_IOU", "HalfPrecisionReport", "use_half_precision"]

MIN_MEAN_IOU = 0.995
"""Mean IoU of masks after both precisions, from which on half precision is used."""

_DISCS = 4
"""Discs along each side of a test image; each is clicked at."""


@dataclass(frozen=True)
class HalfPrecisionReport:
    """What the test of half precision gave.

    Attributes
    ----------
    dtype : torch.dtype
        What was tested: the first that passed, or the last that did not. ``torch.float32`` where
        the device has nothing to test.
    mean_iou, lowest_iou : float
        IoU of masks after this dtype with those after float32: their mean, and the lowest one.
    problem : str
        What torch said where the encoder cannot compute so; empty otherwise.
    """

    dtype: torch.dtype
    mean_iou: float
    lowest_iou: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the encoder may compute in this dtype."""
        return not self.problem and self.mean_iou >= MIN_MEAN_IOU


def use_half_precision(sam: Sam) -> HalfPrecisionReport:
    """Let the image encoder compute in half precision, if the masks stay as they are.

    Two drawn images of discs are encoded in float32 and in half precision, and a point in each
    disc is decoded from both. Half precision is used when the mean IoU of all masks is at least
    :data:`MIN_MEAN_IOU`; otherwise the encoder stays in float32, and a warning says so. The test
    runs once for the same weights on the same device in a process.

    Only the encoder's products are in half precision: its weights, the embedding and the mask
    decoder stay in float32. The model's `digest` changes, so call this before anything is encoded,
    and when the model is on its device.

    Parameters
    ----------
    sam : Sam
        The model, in evaluation mode, as ``load_model`` returns it.

    Returns
    -------
    HalfPrecisionReport
        What was found; ``passed`` tells whether half precision is used.

    Raises
    ------
    ConfigError
        The model is in training mode.
    DeviceError
        The device fails, or has too little memory.

    Warns
    -----
    NapariSamWarning
        The encoder stays in float32.
    """
    if sam.training:
        raise ConfigError(
            "Half precision was asked for a model in training mode",
            rule="It is tested on masks, which a model gives in evaluation mode",
            cure="Call `eval()` of the model first",
        )
    if sam.encoder_dtype != torch.float32:
        return _report(sam, sam.encoder_dtype, sam.digest.partition(":")[2])
    report = HalfPrecisionReport(torch.float32, 1.0, 1.0, "the device computes in float32 only")
    for dtype in _half_dtypes(sam.device):
        report = _report(sam, dtype, sam.digest)
        if report.passed:
            sam.encoder_dtype = dtype
            sam.digest = f"{_name(dtype)}:{sam.digest}" if sam.digest else ""
            return report
    warnings.warn(_refusal(report), NapariSamWarning, stacklevel=2)
    return report


def _half_dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """Return what the device computes in by itself; older GPUs only emulate bfloat16."""
    dtypes = execution_for(device).half_dtypes
    if device.type != "cuda":
        return dtypes
    with torch.cuda.device(device):
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return tuple(dtype for dtype in dtypes if has_bfloat16 or dtype != torch.bfloat16)


_reports: dict[tuple[str, str, torch.dtype], HalfPrecisionReport] = {}
"""By digest of the weights, device and dtype."""

_lock = threading.Lock()


def _report(sam: Sam, dtype: torch.dtype, digest: str) -> HalfPrecisionReport:
    """Return the test's result, from memory where the weights have a digest."""
    key = (digest, str(sam.device), dtype)
    with _lock:
        report = _reports.get(key)
        if report is None:
            with translate_torch_errors(), torch.inference_mode():
                report = _compare(sam, dtype)
            if digest:
                _reports[key] = report
        return report


def _compare(sam: Sam, dtype: torch.dtype) -> HalfPrecisionReport:
    ious = []
    for drawn in _draw_images(sam.input_spec.size):
        image = drawn.pixels.to(sam.device)
        exact = sam.encode(image, torch.float32)
        try:
            rounded = sam.encode(image, dtype)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return HalfPrecisionReport(dtype, 0.0, 0.0, problem)
        for point_xy in drawn.points_xy.to(sam.device):
            ious.append(_iou(_masks(sam, exact, point_xy), _masks(sam, rounded, point_xy)))
    all_ious = torch.cat(ious)
    return HalfPrecisionReport(dtype, float(all_ious.mean()), float(all_ious.min()))


def _masks(sam: Sam, features: ImageFeatures, point_xy: Tensor) -> Tensor:
    """Masks of a click, (3, H, W) in input pixels."""
    label = torch.ones((1, 1), dtype=torch.int64, device=sam.device)
    logits, _ = sam.decode(features, points=(point_xy.view(1, 1, 2), label), multimask=True)
    scale = float(sam.input_spec.low_res_stride)
    return interpolate(logits, scale_factor=scale, mode="bilinear")[0] > sam.mask_threshold


def _iou(ours: Tensor, others: Tensor) -> Tensor:
    """IoU of each mask (M, H, W) with the other's; 1 where both are empty."""
    union = (ours | others).sum(dim=(1, 2))
    shared = (ours & others).sum(dim=(1, 2))
    return torch.where(union > 0, shared / union.clamp(min=1), 1.0)


class _DrawnImage(NamedTuple):
    """An image (1, 3, size, size) of 0 to 255, and the centres (D, 2) of its discs as (x, y)."""

    pixels: Tensor
    points_xy: Tensor


def _draw_images(size: int) -> list[_DrawnImage]:
    """Draw bright discs on dark ground, and the negative: always the same, on the CPU.

    Discs differ in place, size and brightness; edges are soft, and there is noise.
    """
    chance = torch.Generator().manual_seed(0)
    count, spacing = _DISCS**2, size / _DISCS
    cells = torch.cartesian_prod(torch.arange(_DISCS), torch.arange(_DISCS))
    shift = 0.4 * torch.rand(count, 2, generator=chance) - 0.2
    points_xy = ((cells + 0.5 + shift) * spacing).round()
    radius = spacing * (0.12 + 0.2 * torch.rand(count, 1, 1, generator=chance))
    brightness = 0.4 + 0.5 * torch.rand(count, 1, 1, generator=chance)
    along = torch.arange(size, dtype=torch.float32)
    x, y = points_xy[:, 0, None, None], points_xy[:, 1, None, None]
    inside = radius - torch.hypot(along[None, None, :] - x, along[None, :, None] - y)
    discs = (torch.sigmoid(inside / 1.5) * brightness).amax(dim=0)  # (size, size)
    light = 0.08 + discs + 0.03 * torch.randn(size, size, generator=chance)
    return [
        _DrawnImage((255 * shown.clamp(0, 1)).round().expand(1, 3, -1, -1), points_xy)
        for shown in (light, 1 - light)
    ]


def _refusal(report: HalfPrecisionReport) -> str:
    found = report.problem or (
        f"in a test, masks after {_name(report.dtype)} have a mean IoU of {report.mean_iou:.4f} "
        f"with those after float32, and {MIN_MEAN_IOU} is needed"
    )
    return f"The image encoder stays in single precision: {found}."


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
