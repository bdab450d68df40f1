"""Per-pixel maps of instances, from the image embedding alone."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from napari_sam.model.layers import ImageFeatures, LayerNorm2d

__all__ = ["InstanceHead", "InstanceMaps"]


class InstanceMaps(NamedTuple):
    """Maps of instances at twice the embedding's resolution, each (B, 2h, 2w).

    Attributes
    ----------
    foreground : Tensor
        Logits: does any object cover the pixel?
    centre : Tensor
        Logits of the distance to the object's edge, as a fraction of the object's largest: 1 at
        its centre, 0 at its edge and outside.
    boundary : Tensor
        Logits: is the pixel on the edge of an object?
    """

    foreground: Tensor
    centre: Tensor
    boundary: Tensor


class InstanceHead(nn.Module):
    """Predicts foreground, centre and boundary maps; its centres seed point prompts.

    Parameters
    ----------
    embed_dim : int
        Channels of the image embedding.
    skip_dim : int
        Channels of the finer map at twice the embedding's resolution; 0 where the encoder has
        none, as those of Segment Anything.
    hidden_dim : int
        Channels inside.
    depth : int
        Residual blocks.
    """

    def __init__(
        self, embed_dim: int = 128, skip_dim: int = 64, hidden_dim: int = 64, depth: int = 2
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(embed_dim, hidden_dim, 1)
        self.skip = nn.Conv2d(skip_dim, hidden_dim, 1) if skip_dim else None
        self.blocks = nn.Sequential(*(_ConvBlock(hidden_dim) for _ in range(depth)))
        self.maps = nn.Conv2d(hidden_dim, 3, 1)

    def forward(self, features: ImageFeatures) -> InstanceMaps:
        """Predict the maps of an encoded image."""
        mixed = nn.functional.interpolate(
            self.reduce(features.embedding), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        if self.skip is not None:
            mixed = mixed + self.skip(features.skips[1])
        maps = self.maps(nn.functional.gelu(self.blocks(nn.functional.gelu(mixed))))
        return InstanceMaps(*maps.unbind(1))


class _ConvBlock(nn.Module):
    """A 3 x 3 convolution beside the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(dim)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, dim, H, W) to the same shape."""
        mixed: Tensor = x + nn.functional.gelu(self.conv(self.norm(x)))
        return mixed
