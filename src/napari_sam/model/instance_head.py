"""Per-pixel maps of instances, from the image embedding alone."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from napari_sam.model.layers import ImageFeatures

__all__ = ["InstanceHead", "InstanceMaps"]


class InstanceMaps(NamedTuple):
    """Maps of instances at a quarter of the input's resolution, each (B, H / 4, W / 4).

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
        Channels of the finer map at twice the embedding's resolution.
    hidden_dim : int
        Channels of the convolution before the maps.
    """

    def __init__(self, embed_dim: int = 128, skip_dim: int = 64, hidden_dim: int = 32) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(embed_dim, skip_dim, 1)
        self.mix = nn.Conv2d(skip_dim, hidden_dim, 3, padding=1)
        self.act = nn.GELU()
        self.maps = nn.Conv2d(hidden_dim, 3, 1)

    def forward(self, features: ImageFeatures) -> InstanceMaps:
        """Predict the maps of an encoded image."""
        coarse = nn.functional.interpolate(
            self.reduce(features.embedding), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        maps = self.maps(self.act(self.mix(self.act(coarse + features.skips[1]))))
        return InstanceMaps(*maps.unbind(1))
