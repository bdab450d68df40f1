"""Products followed by GELU, in one pass over memory where torch offers that.

On a CPU, torch's own backend oneDNN adds the bias and applies the activation to results that are
still in the cache; by themselves they read and write all of it again, which takes as long as many a
product. It is also the faster one for matrix products with many rows. Torch's compiler calls these
functions; without them, and with gradients, the plain layers do the same up to rounding.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own name for it)

from napari_sam.model.execution import execution_for

__all__ = ["conv2d", "gelu_in_place", "linear"]

_MIN_ROWS = 256
"""Fewer rows gain nothing from another library."""


def linear(x: Tensor, layer: nn.Linear, *, gelu: bool = False) -> Tensor:
    """Apply a linear layer to many tokens.

    Parameters
    ----------
    x : Tensor
        Tokens, (..., C).
    layer : torch.nn.Linear
        The layer.
    gelu : bool
        Apply GELU to the result.

    Returns
    -------
    Tensor
        Tokens, (..., C').
    """
    if x.numel() // x.shape[-1] >= _MIN_ROWS and _is_fused(x):
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, layer.weight, layer.bias, "gelu" if gelu else "none", [], "none"
        )
        return fused
    projected = layer(x)
    return F.gelu(projected) if gelu else projected


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    layer: nn.Conv2d,
    padding: tuple[int, int],
    *,
    gelu: bool = False,
) -> Tensor:
    """Convolve maps as a layer does, with another weight, bias and padding.

    Parameters
    ----------
    x : Tensor
        Maps, (B, C, H, W).
    weight : Tensor
        Shaped as the layer's.
    bias : Tensor or None
        One value a channel.
    layer : torch.nn.Conv2d
        Stride, dilation and groups are its own.
    padding : tuple of int
        Zeros above and below, left and right.
    gelu : bool
        Apply GELU to the result.

    Returns
    -------
    Tensor
        Maps, (B, C', H', W').
    """
    if gelu and _is_fused(x):
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x,
            weight,
            bias,
            list(padding),
            list(layer.stride),
            list(layer.dilation),
            layer.groups,
            "gelu",
            [None],
            "none",
        )
        return fused
    convolved = F.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)
    return F.gelu(convolved) if gelu else convolved


def gelu_in_place(x: Tensor, added: Tensor | None = None) -> Tensor:
    """Apply GELU to a tensor that nobody else needs, in its own memory unless gradients flow.

    Parameters
    ----------
    x : Tensor
        Any shape.
    added : Tensor, optional
        What is added to it first.

    Returns
    -------
    Tensor
        Shaped as `x`.
    """
    if torch.is_grad_enabled():
        return F.gelu(x if added is None else x + added)
    if added is not None:
        x += added
    activated: Tensor = torch.ops.aten.gelu_(x)
    return activated


def _is_fused(x: Tensor) -> bool:
    return (
        x.dtype == torch.float32
        and execution_for(x.device).fuses_activations
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled(x.device.type)
        and _has_onednn()
    )


@cache
def _has_onednn() -> bool:
    """Tell whether torch was built with these functions; not every platform's is."""
    return torch.backends.mkldnn.is_available() and all(  # type: ignore[no-untyped-call]
        hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_convolution_pointwise")
    )
