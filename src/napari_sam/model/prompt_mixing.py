"""Convolutions that carry a prompt over its object, before the two-way transformer."""

from __future__ import annotations

from torch import Tensor, nn

from napari_sam.model.layers import LayerNorm2d

__all__ = ["PromptMixing"]


class PromptMixing(nn.Module):
    """Mixes image and prompt over neighbouring cells, at half the embedding's resolution.

    In the transformer an image token meets the others through a few prompt tokens only, so whether
    a pixel belongs to the click 50 pixels away is hard to say. Convolutions with a wide reach say
    it: each block sees three cells, 48 input pixels, to all sides. The result is added, and starts
    as zero.

    Parameters
    ----------
    embed_dim : int
        Channels of the image embedding.
    hidden_dim : int
        Channels inside.
    depth : int
        Number of blocks.
    """

    def __init__(self, embed_dim: int = 128, hidden_dim: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.down = nn.Conv2d(embed_dim, hidden_dim, 2, stride=2)
        self.blocks = nn.Sequential(*(WideBlock(hidden_dim) for _ in range(depth)))
        self.up = nn.ConvTranspose2d(hidden_dim, embed_dim, 2, stride=2)
        nn.init.zeros_(self.up.weight)
        if self.up.bias is not None:
            nn.init.zeros_(self.up.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Mix an embedding with its prompts added, (N, C, h, w), h and w even."""
        mixed: Tensor = image + self.up(self.blocks(self.down(image)))
        return mixed


class WideBlock(nn.Module):
    """A 7 x 7 depthwise convolution and an MLP on each cell (Liu et al. 2022, ConvNeXt)."""

    def __init__(self, dim: int, expansion: int = 2) -> None:
        super().__init__()
        self.reach = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.widen = nn.Conv2d(dim, expansion * dim, 1)
        self.act = nn.GELU()
        self.narrow = nn.Conv2d(expansion * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, dim, h, w) to the same shape."""
        mixed: Tensor = x + self.narrow(self.act(self.widen(self.norm(self.reach(x)))))
        return mixed
