"""Masks drawn a strip of image tokens at a time, so that what lies between stays in the cache.

Transposed convolutions whose kernel is as long as their stride do not overlap: each image token
becomes 4 x 4 low-res cells by itself, and each step is a matrix product over channels. For a whole
window, a map between two steps has some eight megabytes, which the system hands over page by page;
that took as long as the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_sam.model.layers import LayerNorm2d

__all__ = ["DrawnMaps", "UpscalingLayers", "draw_in_strips"]

_STRIP_TOKENS = 512
"""Image tokens of a strip; its widest map has a megabyte, which is half a processor's cache."""


class DrawnMaps(NamedTuple):
    """Maps that are added while masks are drawn, (1 or N, channels, rows, columns).

    Attributes
    ----------
    coarse : sequence of Tensor
        At two cells a token along each axis.
    fine : sequence of Tensor
        At four cells.
    """

    coarse: Sequence[Tensor] = ()
    fine: Sequence[Tensor] = ()


def draw_in_strips(
    layers: UpscalingLayers,
    tokens: Tensor,
    grid_hw: tuple[int, int],
    added: DrawnMaps,
    w: Tensor,
) -> Tensor:
    """Upscale image tokens and weigh them by mask weights; equal to convolutions up to rounding.

    Parameters
    ----------
    layers : UpscalingLayers
        The layers of the mask decoder's ``output_upscaling``.
    tokens : Tensor
        Image tokens, (N, h * w, C).
    grid_hw : tuple of int
        Rows and columns of the tokens.
    added : DrawnMaps
        What is added after the first and after the second transposed convolution.
    w : Tensor
        Weights of the upscaled channels for each mask, (N, M, c).

    Returns
    -------
    Tensor
        Low-res logits (N, M, 4h, 4w).
    """
    height, width = grid_hw
    if torch.is_grad_enabled():
        return _draw_to_learn(layers, tokens, grid_hw, added, w)
    logits = tokens.new_empty(len(tokens), w.shape[1], height, 2, 2, width, 2, 2)
    rows = max(_STRIP_TOKENS // width, 1)
    for index in range(len(tokens)):
        for start in range(0, height, rows):
            strip = slice(start, min(start + rows, height))
            fine = layers.upscale(
                torch.unflatten(tokens[index], 0, grid_hw)[strip],
                [_strip_of(part, index, strip, 2) for part in added.coarse],
                [_strip_of(part, index, strip, 4) for part in added.fine],
            )
            drawn = fine @ w[index].T  # (rows, w, 2, 2, 2, 2, M)
            logits[index, :, strip] = drawn.permute(6, 0, 2, 4, 1, 3, 5)
    return logits.reshape(*logits.shape[:2], 4 * height, 4 * width)


def _draw_to_learn(
    layers: UpscalingLayers,
    tokens: Tensor,
    grid_hw: tuple[int, int],
    added: DrawnMaps,
    w: Tensor,
) -> Tensor:
    """Draw whole windows one by one: gradients go through the cache too, and nothing in place."""
    drawn = []
    for index in range(len(tokens)):
        everything = slice(0, grid_hw[0])
        fine = layers.upscale(
            torch.unflatten(tokens[index], 0, grid_hw),
            [_strip_of(part, index, everything, 2) for part in added.coarse],
            [_strip_of(part, index, everything, 4) for part in added.fine],
        )
        drawn.append((fine @ w[index].T).permute(6, 0, 2, 4, 1, 3, 5))  # (M, h, 2, 2, w, 2, 2)
    logits = torch.stack(drawn)
    return logits.reshape(*logits.shape[:2], 4 * grid_hw[0], 4 * grid_hw[1])


def _strip_of(part: Tensor, index: int, strip: slice, cells: int) -> Tensor:
    """Rows of a map that belong to some rows of tokens, channels last, (rows, columns, c)."""
    own = part[index if len(part) > 1 else 0]
    return own[:, cells * strip.start : cells * strip.stop].permute(1, 2, 0)


class UpscalingLayers(NamedTuple):
    """The layers as matrix products over channels; what a token becomes stays together."""

    first: Tensor
    first_bias: Tensor
    norm: LayerNorm2d
    second: Tensor
    second_bias: Tensor

    @classmethod
    def of(cls, upscaling: nn.Sequential) -> UpscalingLayers:
        """Read them: transposed convolution, norm, activation, and both once more.

        Gradients reach the layers' weights, where they are wanted.
        """
        layers: Any = upscaling  # torch does not say what a Sequential holds
        first, norm, _, second, _ = layers
        return cls(*_as_product(first), norm, *_as_product(second))

    def upscale(self, tokens: Tensor, coarse: list[Tensor], fine: list[Tensor]) -> Tensor:
        """Take tokens (r, w, C) to their cells (r, w, dy, dx, ey, ex, c)."""
        width, channels = tokens.shape[1:]
        cells = torch.addmm(self.first_bias, tokens.reshape(-1, channels), self.first)
        cells = cells.view(-1, width, 2, 2, len(self.second))
        for part in coarse:
            cells += part.reshape(len(cells), 2, width, 2, -1).transpose(1, 2)
        norm = self.norm
        cells = nn.functional.layer_norm(cells, norm.weight.shape, norm.weight, norm.bias, norm.eps)
        cells = nn.functional.gelu(cells).view(-1, len(self.second))
        cells = torch.addmm(self.second_bias, cells, self.second)
        cells = cells.view(-1, width, 2, 2, 2, 2, len(self.second_bias) // 4)
        for part in fine:
            by_token = part.reshape(len(cells), 2, 2, width, 2, 2, -1)
            cells += by_token.permute(0, 3, 1, 4, 2, 5, 6)
        return nn.functional.gelu(cells)


def _as_product(layer: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Weight (c_in, 4 * c_out) and bias of a 2 x 2 transposed convolution with stride 2."""
    weight = layer.weight.permute(0, 2, 3, 1).flatten(1)
    bias = layer.bias if layer.bias is not None else weight.new_zeros(layer.out_channels)
    return weight, bias.repeat(4)
