"""The image encoder of Segment Anything: a ViT with window attention.

Kirillov et al., "Segment Anything", ICCV 2023, appendix A; the backbone is ViTDet's plain ViT
(Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022) with the
decomposed relative positions of MViTv2 (Li et al., CVPR 2022, section 3.1).
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from napari_sam.core.errors import InputError
from napari_sam.model.execution import execution_for
from napari_sam.model.fused import linear
from napari_sam.model.layers import ImageFeatures, LayerNorm2d, MLPBlock
from napari_sam.model.windows import partition_windows, unpartition_windows

__all__ = ["ImageEncoderViT", "build_neck"]

_HEADS_AT_ONCE = 2


class ImageEncoderViT(nn.Module):
    """A ViT from a normalised image to the image embedding.

    Modules and parameters are named as in the official checkpoints.

    Parameters
    ----------
    image_size : int
        Side of the square input, in pixels.
    patch_size : int
        Side of a patch: pixels per cell of the embedding.
    embed_dim : int
        Width of the transformer.
    depth : int
        Number of transformer blocks.
    num_heads : int
        Attention heads per block.
    global_attention_indexes : collection of int
        The blocks that attend to the whole image; all others attend within windows.
    window_size : int
        Side of an attention window, in patches.
    mlp_ratio : float
        Width of a block's MLP, in units of `embed_dim`.
    out_channels : int
        Channels of the image embedding.
    """

    def __init__(
        self,
        *,
        image_size: int = 1024,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        global_attention_indexes: Collection[int] = (2, 5, 8, 11),
        window_size: int = 14,
        mlp_ratio: float = 4.0,
        out_channels: int = 256,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        grid_size = image_size // patch_size
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid_size, grid_size, embed_dim))
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_dim=int(embed_dim * mlp_ratio),
                grid_size=grid_size,
                window_size=None if index in global_attention_indexes else window_size,
            )
            for index in range(depth)
        )
        self.neck = build_neck(embed_dim, out_channels)

    def forward(self, x: Tensor) -> ImageFeatures:
        """Embed images.

        Parameters
        ----------
        x : Tensor
            Normalised images, (B, 3, image_size, image_size).

        Returns
        -------
        ImageFeatures
            The embedding, (B, out_channels, image_size / patch_size, image_size / patch_size).

        Raises
        ------
        InputError
            The images have another size: the position embedding is learned for one size.
        """
        if x.shape[-2:] != (self.image_size, self.image_size):
            raise InputError(
                f"The image encoder was given {x.shape[-2]} x {x.shape[-1]} pixels",
                rule=f"It takes {self.image_size} x {self.image_size} pixels",
                cure="Encode through Sam.encode or SamPredictor.encode, which resize and pad",
            )
        x = (self.patch_embed(x) + self.pos_embed).contiguous()  # (B, h, w, C)
        for block in self.blocks:
            x = block(x)
        return ImageFeatures(self.neck(x.permute(0, 3, 1, 2)))


class PatchEmbed(nn.Module):
    """Project each patch of pixels to a token."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, 3, H, W) to tokens (B, h, w, C)."""
        tokens: Tensor = self.proj(x)
        return tokens.permute(0, 2, 3, 1)


class Block(nn.Module):
    """A pre-norm transformer block on a token map."""

    def __init__(
        self, dim: int, num_heads: int, *, mlp_dim: int, grid_size: int, window_size: int | None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads, grid_size=grid_size, window_size=window_size)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLPBlock(dim, mlp_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``x`` (B, h, w, C) to tokens of the same shape."""
        x = x + self.attn(self.norm1(x))
        step = execution_for(x.device).mlp_tokens
        if step is None or torch.is_grad_enabled():
            attended: Tensor = x + self.mlp(self.norm2(x))
            return attended
        flat = x.flatten(0, 2)
        for tokens in torch.split(flat, step):  # views: the sum is written to its place
            tokens += self.mlp(self.norm2(tokens))
        return flat.view(x.shape)


class Attention(nn.Module):
    """Multi-head attention with decomposed relative positions, global or within windows."""

    def __init__(
        self, dim: int, num_heads: int, *, grid_size: int, window_size: int | None
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        head_dim = dim // num_heads
        self.scale = head_dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        relative_positions = 2 * (window_size or grid_size) - 1
        self.rel_pos_h = nn.Parameter(torch.zeros(relative_positions, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(relative_positions, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``x`` (B, h, w, C) to tokens of the same shape."""
        shape_hw = (x.shape[1], x.shape[2])
        qkv = linear(x, self.qkv)  # (B, h, w, 3 C)
        if self.window_size is None:
            attended = self._attend(qkv)
        else:
            # a padded token is zero before the projection, hence the bias after it
            windows = partition_windows(qkv, self.window_size, fill=self.qkv.bias)
            attended = unpartition_windows(self._attend(windows), shape_hw)
        return linear(attended, self.proj)

    def _attend(self, qkv: Tensor) -> Tensor:
        """Attend within each map of ``qkv`` (N, h, w, 3 C); returns (N, h, w, C)."""
        n, height, width, channels = qkv.shape
        # (3, N, heads, h * w, head_dim)
        heads = qkv.reshape(n, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = heads.unbind(0)
        position = self._relative_positions(q, (height, width))
        queries = execution_for(q.device).attention_queries
        if queries is not None and self.window_size is None and not torch.is_grad_enabled():
            attended = self._attend_in_parts(q, k, v, position, queries)
        else:
            attended = self._attend_to_longer_keys(q, k, v, position)
        return attended.transpose(1, 2).reshape(n, height, width, channels // 3)

    def _relative_positions(self, q: Tensor, shape_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Bias of each query for each row (N, heads, h * w, h) and for each column of keys.

        The bias of query i and key j is ``rel_h(q_i)[row of j] + rel_w(q_i)[column of j]``. It
        takes the *unscaled* query.
        """
        height, width = shape_hw
        q_map = torch.unflatten(q, 2, (height, width))
        rel_h = torch.einsum("nhyxc,ykc->nhyxk", q_map, relative_table(self.rel_pos_h, height))
        rel_w = torch.einsum("nhyxc,xkc->nhyxk", q_map, relative_table(self.rel_pos_w, width))
        return rel_h.flatten(2, 3), rel_w.flatten(2, 3)

    def _attend_in_parts(
        self, q: Tensor, k: Tensor, v: Tensor, position: tuple[Tensor, Tensor], queries: int
    ) -> Tensor:
        """Attend from some queries of two heads at a time, whose biases then stay in the cache.

        The (h w) x (h w) biases are never stored: for 64 x 64 tokens and 12 heads they would take
        800 MB.
        """
        attended = torch.empty_like(q, memory_format=torch.contiguous_format)
        for first in range(0, self.num_heads, _HEADS_AT_ONCE):
            some = slice(first, first + _HEADS_AT_ONCE)
            keys, values = k[:, some].contiguous(), v[:, some].contiguous()
            rel_h, rel_w = (torch.split(part[:, some], queries, dim=2) for part in position)
            for start, rows, columns in zip(
                range(0, q.shape[2], queries), rel_h, rel_w, strict=True
            ):
                part = slice(start, start + queries)
                bias = (rows[..., :, None] + columns[..., None, :]).flatten(3)
                attended[:, some, part] = nn.functional.scaled_dot_product_attention(
                    q[:, some, part], keys, values, attn_mask=bias, scale=self.scale
                )
        return attended

    def _attend_to_longer_keys(
        self, q: Tensor, k: Tensor, v: Tensor, position: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Fold the relative positions into longer queries and keys.

        The bias is the inner product of ``[rel_h(q_i), rel_w(q_i)]`` with the one-hot row and
        column of key j. Written so, no bias is stored, and gradients flow.
        """
        rel_h, rel_w = position
        height, width = rel_h.shape[-1], rel_w.shape[-1]
        rows = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, dim=0)
        columns = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
        place = torch.cat([rows, columns], dim=-1).expand(*k.shape[:2], -1, -1)
        q = torch.cat([q * self.scale, rel_h, rel_w], dim=-1)
        k = torch.cat([k, place], dim=-1)
        head_dim = v.shape[-1]
        # one width for q, k and v keeps torch on its fused kernels
        v = nn.functional.pad(v, (0, q.shape[-1] - head_dim))
        return nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :head_dim]


def relative_table(rel_pos: Tensor, size: int) -> Tensor:
    """Look up the relative position embedding of each pair of coordinates along one axis.

    Parameters
    ----------
    rel_pos : Tensor
        Embeddings of the distances ``-(size - 1) ... size - 1``, (2 * size - 1, C).
    size : int
        Number of coordinates.

    Returns
    -------
    Tensor
        Embeddings, (query coordinate, key coordinate, C).
    """
    coordinates = torch.arange(size, device=rel_pos.device)
    return rel_pos[coordinates[:, None] - coordinates[None, :] + size - 1]


def build_neck(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build the convolutions from the last tokens (B, C, h, w) to the image embedding."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    )
