"""Floating-point operations of a work; a multiplication and an addition count as two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from comparison.scales import VitShape


def vit_flops(shape: VitShape) -> float:
    """Count the operations that a ViT image encoder of Segment Anything cannot do without.

    With n tokens of width C: the linear layers of a block take 12 C**2 multiplications a token (qkv
    3, projection 1, MLP 8). A query and a key take C in ``q k`` and C in ``a v``; keys are all n
    tokens in global blocks, and a whole window elsewhere, because padding takes part as keys.
    Queries and linear layers count real tokens alone. Patch embedding is a linear layer on the
    pixels of a patch, the neck a 1 x 1 and a 3 x 3 convolution. Norms, activations, softmax and
    relative positions (half a percent in vit_b) are not counted.
    """
    tokens, dim, out = shape.grid**2, shape.embed_dim, shape.out_channels
    in_window = min(shape.window_size, shape.grid) ** 2
    n_global = len(shape.global_blocks)
    linears = shape.depth * tokens * 12 * dim**2
    keys = n_global * tokens + (shape.depth - n_global) * in_window
    attention = tokens * keys * 2 * dim
    patches = tokens * 3 * shape.patch_size**2 * dim
    neck = tokens * (dim * out + 9 * out**2)
    return 2.0 * (linears + attention + patches + neck)


def count_flops(call: Callable[[], Any]) -> float:
    """Count the operations of matrix products, convolutions and attention in a call, as they run.

    Operations that torch gives no formula for, such as interpolation, are left out.
    """
    with _Counter() as counter:
        call()
    return float(counter.total)


class _Counter(TorchDispatchMode):
    """Counts by torch's formulas; its own counter also follows modules, which inference forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is None:
            with self:
                result = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        result = func(*args, **kwargs)
        self.total += formula(*args, **kwargs, out_val=result)
        return result


def _attention_flops(query: Tensor, key: Tensor, value: Tensor, *_args: Any, **_kwargs: Any) -> int:
    """Count ``q k`` and ``a v`` of maps (B, heads, tokens, width)."""
    batch, heads, queries, width = query.shape
    return 2 * batch * heads * queries * key.shape[2] * (width + value.shape[3])


_FORMULAS = flop_registry | {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops  # torch has none
}
