"""A model whose instance head sees maps that a test draws: one in each channel of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam.model.instance_head import InstanceMaps
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam
from tiny_models import tiny_sam

Disc = tuple[float, float, float]
"""Centre (x, y) and radius."""

PIXELS_PER_LOGIT = 1.5
"""How far an edge moves when the logit of the foreground threshold moves by one."""


def map_sam(window: int = 128) -> Sam:
    """Build a model that reads its maps from images of :func:`draw_discs`."""
    sam = tiny_sam("compact")
    sam.input_spec = replace(sam.input_spec, size=window, contrast="as_is")
    sam.image_encoder = _PixelEncoder(sam.pixel_mean, sam.input_spec.pixel_std)
    sam.instance_head = _ChannelHead()  # type: ignore[assignment]
    sam.digest = f"{window:064x}"
    return sam.eval()


def draw_discs(shape_yx: tuple[int, int], discs: Sequence[Disc]) -> NDArray[np.uint8]:
    """Draw foreground, centre and boundary of discs, (H, W, 3); where two meet is an edge."""
    rows, cols = np.indices(shape_yx)
    inside = np.array([r - np.hypot(rows - y, cols - x) for x, y, r in discs])
    order = np.sort(inside, axis=0)
    depth = order[-1]
    seam = depth - order[-2] if len(discs) > 1 else np.full(shape_yx, np.inf)
    radii = np.array([r for _, _, r in discs])[inside.argmax(axis=0)]
    edge = np.minimum(np.abs(depth), np.where(depth > -2, seam, np.inf))
    maps = [
        192 + 8 * depth / PIXELS_PER_LOGIT,
        np.where(depth > 0, 255 * depth / radii, 0),
        255 * np.exp(-edge / 3),
    ]
    return np.clip(np.stack(maps, axis=-1).round(), 0, 255).astype(np.uint8)


def true_labels(shape_yx: tuple[int, int], discs: Sequence[Disc]) -> NDArray[np.int32]:
    """Label the discs from 1; where two overlap, a pixel belongs to the one it lies deeper in."""
    rows, cols = np.indices(shape_yx)
    inside = np.array([r - np.hypot(rows - y, cols - x) for x, y, r in discs])
    labels: NDArray[np.int32] = np.where(inside.max(axis=0) > 0, inside.argmax(axis=0) + 1, 0)
    return labels.astype(np.int32)


def as_sets(labels: NDArray[np.integer]) -> set[bytes]:
    """Describe objects without their numbers, to compare label images by."""
    return {np.flatnonzero(labels == i).tobytes() for i in np.unique(labels) if i}


class _PixelEncoder(nn.Module):
    """Hands over the pixels, averaged to a quarter of the resolution."""

    def __init__(self, mean: Tensor, std: tuple[float, ...]) -> None:
        super().__init__()
        self._mean, self._std = mean, torch.tensor(std).reshape(3, 1, 1)

    def forward(self, pixels: Tensor) -> ImageFeatures:
        quarter = nn.functional.avg_pool2d(pixels * self._std + self._mean, 4)
        return ImageFeatures(nn.functional.avg_pool2d(quarter, 2), (quarter,))


class _ChannelHead(nn.Module):
    def forward(self, features: ImageFeatures) -> InstanceMaps:
        foreground, centre, boundary = features.skips[0].unbind(1)
        return InstanceMaps(
            (foreground - 192) / 8, *((each / 255).logit(1e-3) for each in (centre, boundary))
        )
