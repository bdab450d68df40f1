"""The TinyViT of `timm` as an image encoder of Segment Anything, as in MobileSAM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

from comparison.scales import VitShape

_NAMES = (
    (r"^layers\.", "stages."),
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"\.c\.", ".conv."),
    (r"^norm_head\.", "head.norm."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)
"""Names of weights in MobileSAM's checkpoint, and in timm."""


class TimmEncoder(nn.Module):
    """timm's TinyViT, and the neck of Segment Anything."""

    def __init__(self, config: dict[str, Any], shape: VitShape) -> None:
        super().__init__()
        out, last = shape.out_channels, config["embed_dims"][-1]
        self.img_size = shape.image_size
        backbone: Any = TinyVit(drop_path_rate=0.0, **config)
        backbone.stages[3].downsample.conv2.conv.stride = (1, 1)  # MobileSAM stays at 1/16
        self.backbone = backbone
        self.neck = nn.Sequential(
            nn.Conv2d(last, out, kernel_size=1, bias=False),
            LayerNorm2d(out),
            nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out),
        )

    def copy_weights(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a TinyViT that are named as in MobileSAM's checkpoint."""
        own = {key: value for key, value in state.items() if not key.startswith("neck.")}
        self.backbone.load_state_dict({_timm_name(key): value for key, value in own.items()})
        neck = {key: value for key, value in state.items() if key.startswith("neck.")}
        self.neck.load_state_dict({key.removeprefix("neck."): v for key, v in neck.items()})

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised pixels (B, 3, H, W) to the embedding (B, C, H / 16, W / 16)."""
        embedding: Tensor = self.neck(self.backbone.forward_features(pixels))
        return embedding


def _timm_name(key: str) -> str:
    # timm downsamples at the start of a stage, MobileSAM at the end of the one before
    key = re.sub(r"^layers\.(\d)\.downsample", lambda m: f"stages.{int(m[1]) + 1}.downsample", key)
    for pattern, replacement in _NAMES:
        key = re.sub(pattern, replacement, key)
    return key
