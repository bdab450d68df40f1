"""Models of the real classes, small enough for a test to run them many times."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from napari_sam.model import builders
from napari_sam.model.builders import assemble_sam
from napari_sam.model.compact_encoder import build_compact_sam
from napari_sam.model.image_encoder import ImageEncoderViT
from napari_sam.model.sam import Sam
from napari_sam.model.tiny_vit import TinyViT

if TYPE_CHECKING:
    import pytest

IMAGE_SIZE = 128
EMBED_DIM = 32

VIT_CONFIG = {"embed_dim": 24, "depth": 3, "num_heads": 2, "window_size": 3}
TINY_VIT_CONFIG = {
    "embed_dims": (8, 16, 24, 32),
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 2, 3, 4),
    "window_sizes": (7, 7, 5, 3),
    "num_classes": 10,
}


def tiny_sam(encoder: Literal["vit", "tiny_vit", "compact"] = "vit", seed: int = 0) -> Sam:
    """Build a small model with fixed random weights, in eval mode.

    `vit` and `tiny_vit` are official-like: 128 x 128 input, embedding (B, 32, 8, 8), low-res logits
    32 x 32. `compact` takes native pixels in windows of 128, embedding at 1/8, logits at 1/2.
    """
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        sam = _build(encoder)
        randomise(sam)
    finally:
        torch.random.set_rng_state(generator_state)
    sam.mask_decoder.transformer.few_tokens = 16  # as at full size: prompts take the same way
    sam.name = f"tiny_{encoder}"
    sam.digest = f"{seed:064x}"
    return sam.eval()


def build_small(monkeypatch: pytest.MonkeyPatch, embed_dim: int = EMBED_DIM) -> None:
    """Let the package build MobileSAM's architecture as small as `tiny_sam` does."""
    parts = partial(
        builders.assemble_sam, image_size=IMAGE_SIZE, embed_dim=embed_dim, transformer_mlp_dim=64
    )
    encoder = partial(TinyViT, **TINY_VIT_CONFIG, out_channels=embed_dim)
    monkeypatch.setattr(builders, "assemble_sam", parts)
    monkeypatch.setattr(builders, "_build_image_encoder", lambda architecture: encoder())


def randomise(module: nn.Module, scale: float = 1.0) -> None:
    """Draw every parameter and batch statistic at random, so that no weight is zero or one."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            nn.init.normal_(parameter, std=scale * fan_in**-0.5)
        else:
            centre = 1.0 if name.endswith("weight") else 0.0
            nn.init.normal_(parameter, mean=centre, std=0.2)
    for name, buffer in module.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            buffer.normal_(std=0.2)


def _build(encoder: str) -> Sam:
    if encoder == "compact":
        return build_compact_sam(
            widths=(8, 8, 16, 16, 32), depths=(1, 1, 1, 1), embed_dim=EMBED_DIM, window=IMAGE_SIZE
        )
    if encoder == "tiny_vit":
        image_encoder: nn.Module = TinyViT(**TINY_VIT_CONFIG, out_channels=EMBED_DIM)
    else:
        image_encoder = ImageEncoderViT(
            image_size=IMAGE_SIZE,
            **VIT_CONFIG,
            global_attention_indexes=(2,),
            out_channels=EMBED_DIM,
        )
    return assemble_sam(
        image_encoder, image_size=IMAGE_SIZE, embed_dim=EMBED_DIM, transformer_mlp_dim=64
    )
