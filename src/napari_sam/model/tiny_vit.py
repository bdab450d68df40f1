"""The image encoder of MobileSAM: TinyViT-5M with the neck of Segment Anything.

Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", ECCV 2022;
Zhang et al., "Faster Segment Anything: Towards Lightweight SAM for Mobile Applications", 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from napari_sam.core.errors import InputError
from napari_sam.model.execution import execution_for
from napari_sam.model.fused import linear
from napari_sam.model.image_encoder import build_neck
from napari_sam.model.layers import FoldedConv, ImageFeatures, conv_norm
from napari_sam.model.recent import Recent
from napari_sam.model.windows import partition_windows, unpartition_windows

__all__ = ["TinyViT"]


class TinyViT(nn.Module):
    """A convolutional stage and three attention stages, from an image to its embedding.

    Modules and parameters are named as in MobileSAM's checkpoint, including the classifier
    (``norm_head``, ``head``) that the checkpoint still carries from pretraining and that no
    embedding uses: without it the checkpoint would not load strictly.

    Parameters
    ----------
    embed_dims : sequence of int
        Channels of the four stages.
    depths : sequence of int
        Blocks of the four stages.
    num_heads : sequence of int
        Attention heads of the four stages; the first stage is convolutional and has none.
    window_sizes : sequence of int
        Sides of the attention windows of the four stages, in tokens; the first is not used.
    strides : sequence of int
        Downsampling after each stage but the last. MobileSAM keeps the last stage at 1/16 of the
        image, where TinyViT goes on to 1/32.
    num_classes : int
        Size of the unused classifier.
    out_channels : int
        Channels of the image embedding.
    """

    def __init__(
        self,
        *,
        embed_dims: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (2, 4, 5, 10),
        window_sizes: Sequence[int] = (7, 7, 14, 7),
        strides: Sequence[int] = (2, 2, 1),
        num_classes: int = 1000,
        out_channels: int = 256,
    ) -> None:
        super().__init__()
        self.stride = 4 * math.prod(strides)
        self.patch_embed = PatchEmbed(embed_dims[0])
        merges = [
            PatchMerging(embed_dims[stage], embed_dims[stage + 1], strides[stage])
            for stage in range(3)
        ]
        self.layers = nn.ModuleList([ConvStage(embed_dims[0], depths[0], merges[0])])
        for stage in (1, 2, 3):
            self.layers.append(
                AttentionStage(
                    embed_dims[stage],
                    depths[stage],
                    num_heads[stage],
                    window_sizes[stage],
                    merges[stage] if stage < 3 else None,
                )
            )
        self.norm_head = nn.LayerNorm(embed_dims[-1])
        self.head = nn.Linear(embed_dims[-1], num_classes)
        self.neck = build_neck(embed_dims[-1], out_channels)

    def forward(self, x: Tensor) -> ImageFeatures:
        """Embed images.

        Parameters
        ----------
        x : Tensor
            Normalised images, (B, 3, H, W), H and W multiples of 16.

        Returns
        -------
        ImageFeatures
            The embedding, (B, out_channels, H / 16, W / 16).

        Raises
        ------
        InputError
            The size is not a multiple of 16.
        """
        if x.shape[-2] % self.stride or x.shape[-1] % self.stride:
            raise InputError(
                f"The image encoder was given {x.shape[-2]} x {x.shape[-1]} pixels",
                rule=f"Both sizes have to be multiples of {self.stride}",
                cure="Encode through Sam.encode or SamPredictor.encode, which resize and pad",
            )
        x = x.contiguous(memory_format=execution_for(x.device).map_format)
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        return ImageFeatures(self.neck(x))


class ConvBatchNorm(nn.Module):
    """A convolution without bias and its batch normalisation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self._folded: Recent[FoldedConv] = Recent(1)

    def forward(
        self, x: Tensor, padding: tuple[int, int] | None = None, *, gelu: bool = False
    ) -> Tensor:
        """Map ``x`` (B, C, H, W) to (B, C', H / stride, W / stride), through GELU if wanted."""
        return conv_norm(x, self.c, self.bn, self._folded, padding, gelu=gelu)


class PatchEmbed(nn.Module):
    """Two strided convolutions from pixels to tokens at a quarter of the resolution."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvBatchNorm(3, embed_dim // 2, 3, stride=2),
            nn.GELU(),
            ConvBatchNorm(embed_dim // 2, embed_dim, 3, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, 3, H, W) to (B, C, H / 4, W / 4)."""
        first, _, second = self.seq
        embedded: Tensor = second(first(x, gelu=True))
        return embedded


class MBConv(nn.Module):
    """An inverted residual: widen, depthwise convolution, narrow."""

    def __init__(self, channels: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = channels * expansion
        self.conv1 = ConvBatchNorm(channels, hidden, 1)
        self.conv2 = ConvBatchNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvBatchNorm(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, C, H, W) to the same shape."""
        rows = execution_for(x.device).conv_rows
        if rows is None or torch.is_grad_enabled():
            residual = self.conv3(self.conv2(self.conv1(x, gelu=True), gelu=True))
            return nn.functional.gelu(x + residual)
        mapped = torch.empty_like(x)
        for start in range(0, x.shape[2], rows):
            stop = min(start + rows, x.shape[2])
            mapped[:, :, start:stop] = self._map_rows(x, start, stop)
        return mapped

    def _map_rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Map some rows: the widened maps are the largest of the encoder, and stay in the cache."""
        above, below = min(start, 1), min(x.shape[2] - stop, 1)  # rows that the image has there
        widened = self.conv1(x[:, :, start - above : stop + below], gelu=True)
        widened = nn.functional.pad(widened, (0, 0, 1 - above, 1 - below))
        residual = self.conv3(self.conv2(widened, padding=(0, 1), gelu=True))
        return nn.functional.gelu(x[:, :, start:stop] + residual)


class PatchMerging(nn.Module):
    """Go to the next stage's channels and resolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBatchNorm(in_channels, out_channels, 1)
        self.conv2 = ConvBatchNorm(out_channels, out_channels, 3, stride, groups=out_channels)
        self.conv3 = ConvBatchNorm(out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, C, H, W) to (B, C', H / stride, W / stride)."""
        merged: Tensor = self.conv3(self.conv2(self.conv1(x, gelu=True), gelu=True))
        return merged


class ConvStage(nn.Module):
    """The first stage: inverted residuals."""

    def __init__(self, channels: int, depth: int, downsample: PatchMerging) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MBConv(channels) for _ in range(depth))
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, C, H, W) to (B, C', H / stride, W / stride)."""
        for block in self.blocks:
            x = block(x)
        merged: Tensor = self.downsample(x)
        return merged


class AttentionStage(nn.Module):
    """A stage of window attention blocks."""

    def __init__(
        self,
        channels: int,
        depth: int,
        num_heads: int,
        window_size: int,
        downsample: PatchMerging | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TinyViTBlock(channels, num_heads, window_size) for _ in range(depth)
        )
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, C, H, W) to (B, C', H / stride, W / stride)."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else cast(Tensor, self.downsample(x))


class TinyViTBlock(nn.Module):
    """Window attention, a depthwise convolution across windows, and an MLP."""

    def __init__(self, channels: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.attn = WindowAttention(channels, num_heads, window_size)
        self.mlp = Mlp(channels, 4 * channels)
        self.local_conv = ConvBatchNorm(channels, channels, 3, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, C, H, W) to the same shape."""
        tokens = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        tokens = tokens + self.attn(tokens)
        x = self.local_conv(tokens.permute(0, 3, 1, 2))
        tokens = x.permute(0, 2, 3, 1)
        mixed: Tensor = tokens + self.mlp(tokens)
        return mixed.permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """A pre-norm MLP."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``x`` (..., C) to the same shape."""
        return linear(linear(self.norm(x), self.fc1, gelu=True), self.fc2)


class WindowAttention(nn.Module):
    """Pre-norm attention within windows, with a learned bias for each absolute offset.

    The bias depends on ``(|dy|, |dx|)`` alone, as in LeViT (Graham et al., ICCV 2021).
    """

    def __init__(self, channels: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        # entry |dy| * window_size + |dx|
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``tokens`` (B, H, W, C) to the same shape."""
        shape_hw = (tokens.shape[1], tokens.shape[2])
        qkv = linear(self.norm(tokens), self.qkv)  # (B, H, W, 3 C)
        # a padded token is zero before the norm, hence the norm's bias after it
        windows = partition_windows(qkv, self.window_size, fill=self.qkv(self.norm.bias))
        return linear(unpartition_windows(self._attend(windows), shape_hw), self.proj)

    def _attend(self, qkv: Tensor) -> Tensor:
        """Attend within each of the windows ``qkv`` (N, s, s, 3 C); returns (N, s, s, C)."""
        n, size, _, channels = qkv.shape
        # (N, heads, s * s, 3 * head_dim): TinyViT keeps each head's q, k and v together
        per_head = qkv.reshape(n, size * size, self.num_heads, -1).transpose(1, 2)
        q, k, v = per_head.chunk(3, dim=-1)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self._bias())
        return attended.transpose(1, 2).reshape(n, size, size, channels // 3)

    def _bias(self) -> Tensor:
        """Return the bias of each pair of tokens in a window, (1, heads, s * s, s * s)."""
        size = self.window_size
        device = self.attention_biases.device
        rows = torch.arange(size, device=device).repeat_interleave(size)
        columns = torch.arange(size, device=device).repeat(size)
        offset_y = (rows[:, None] - rows[None, :]).abs()
        offset_x = (columns[:, None] - columns[None, :]).abs()
        bias: Tensor = self.attention_biases[:, offset_y * size + offset_x]
        return bias[None]  # torch's fused kernels take a mask of four dimensions only
