"""How models compute on each kind of device: all choices that change time and memory, not results.

Each choice gives the result of the plain computation up to rounding. They stand here together, so
that what a device gets can be read in one place, and so that a benchmark can switch off one choice
and see its share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Execution", "execution_for", "execution_override"]


@dataclass(frozen=True)
class Execution:
    """The choices for one kind of device.

    Attributes
    ----------
    map_format : torch.memory_format
        Order in memory of maps (N, C, H, W) and of the weights that meet them.
    points_per_batch : int
        Points in one call of the mask decoder when everything is segmented.
    windows_per_batch : int
        Windows of a large image in one call of the image encoder. On MPS, the product of images in
        a call, heads, queries at a time and image tokens has to stay below 2**31: it stores the
        scores of an attention, and gives wrong numbers without a word from there on.
    pins_tiles : bool
        Pixels go to the device from pinned memory, while the processor goes on.
    half_dtypes : tuple of torch.dtype
        What the image encoder may compute in where half precision is asked for, best first.
    uses_graphs : bool
        The mask decoder's work for a few prompts is recorded and replayed, on CUDA only.
    attention_queries : int or None
        Queries whose relative positions are stored at a time in global attention, so that they
        stay in the processor's cache; None to write the positions into longer keys instead.
    mlp_tokens : int or None
        Tokens that go through an encoder's MLP at a time; None for all.
    conv_rows : int or None
        Rows of a map that go through an inverted residual at a time; None for all.
    strip_tokens : int or None
        Image tokens of one prompt that the mask decoder takes at a time; None for all tokens of
        all prompts in one batch.
    shares_image : bool
        What the mask decoder computes from the image alone is kept with the image.
    folds_projections : bool
        Projections of many image tokens are folded into a few prompt tokens.
    folds_norms : bool
        Batch normalisation is folded into the convolution before it.
    fuses_activations : bool
        GELU is applied while the result before it is still in the cache.
    scores_first : bool
        Masks whose predicted IoU fails are never drawn.
    upsamples_in_regions : bool
        Masks are upsampled only where they can be.
    """

    map_format: torch.memory_format = torch.contiguous_format
    points_per_batch: int = 64
    windows_per_batch: int = 4
    pins_tiles: bool = False
    half_dtypes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float16)
    uses_graphs: bool = False
    attention_queries: int | None = 512
    mlp_tokens: int | None = None
    conv_rows: int | None = None
    strip_tokens: int | None = None
    shares_image: bool = True
    folds_projections: bool = True
    folds_norms: bool = True
    fuses_activations: bool = False
    scores_first: bool = True
    upsamples_in_regions: bool = True


_CHOICES = {
    # A core's cache holds a megabyte: what lies between two steps stays there, and the system
    # need not hand out pages for it. Convolutions take the channels of a pixel together.
    "cpu": Execution(
        map_format=torch.channels_last,
        points_per_batch=8,
        windows_per_batch=1,
        half_dtypes=(torch.bfloat16,),  # float16 is emulated, and a hundred times slower
        attention_queries=128,
        mlp_tokens=512,
        conv_rows=16,
        strip_tokens=2048,
        fuses_activations=True,
    ),
    "cuda": Execution(pins_tiles=True, uses_graphs=True),
    "mps": Execution(points_per_batch=16, windows_per_batch=1, half_dtypes=(torch.float16,)),
}
"""The choices by type of device."""

_overrides: ContextVar[dict[str, Any] | None] = ContextVar("execution_overrides", default=None)


def execution_for(device: torch.device) -> Execution:
    """Return the choices for a device.

    Parameters
    ----------
    device : torch.device
        Where the model is.

    Returns
    -------
    Execution
        Those of CUDA for any other accelerator.
    """
    choices = _CHOICES.get(device.type, _CHOICES["cuda"])
    overrides = _overrides.get()
    return dataclasses.replace(choices, **overrides) if overrides else choices


@contextmanager
def execution_override(**choices: Any) -> Iterator[None]:
    """Change choices for all devices inside the block, in this thread: for benchmarks and tests.

    Parameters
    ----------
    **choices
        Attributes of :class:`Execution` and their values.

    Yields
    ------
    None
        Nothing.
    """
    token = _overrides.set((_overrides.get() or {}) | choices)
    try:
        yield
    finally:
        _overrides.reset(token)
