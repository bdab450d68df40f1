"""The image encoder of the bundled microscopy model, and the model built on it.

A convolutional pyramid with two blocks of global attention at its top. It takes native pixels at
any size, and gives an image embedding at 1/8 with finer maps at 1/4 and 1/2, so that cells of a
few pixels are not lost. Batch normalisation can be folded into the convolutions and, unlike
normalisation over space, gives a pixel the same features whatever else the tile shows.
"""

from __future__ import annotations

from torch import Tensor, nn

from napari_sam.model.execution import execution_for
from napari_sam.model.fused import gelu_in_place
from napari_sam.model.instance_head import InstanceHead
from napari_sam.model.layers import FoldedConv, ImageFeatures, MLPBlock, conv_norm
from napari_sam.model.mask_decoder import MaskDecoder
from napari_sam.model.prompt_encoder import MapPromptEncoder
from napari_sam.model.prompt_mixing import PromptMixing
from napari_sam.model.recent import Recent
from napari_sam.model.sam import InputSpec, Sam
from napari_sam.model.transformer import TwoWayTransformer

__all__ = ["CompactEncoder", "build_compact_sam"]


class CompactEncoder(nn.Module):
    """Convolutions down to 1/32, global attention there, and a feature pyramid back to 1/8.

    Parameters
    ----------
    widths : tuple of int
        Channels at 1/2, 1/4, 1/8, 1/16 and 1/32.
    depths : tuple of int
        Residual blocks at 1/4, 1/8 and 1/16, and attention blocks at 1/32.
    embed_dim : int
        Channels of the image embedding.
    skip_dims : tuple of int
        Channels of the finer maps at 1/2 and 1/4, which the mask decoder adds.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int, int] = (24, 48, 96, 160, 192),
        depths: tuple[int, int, int, int] = (1, 3, 2, 2),
        embed_dim: int = 128,
        skip_dims: tuple[int, int] = (32, 64),
    ) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth, top = widths
        self.stem = ConvNorm(3, half, stride=2)
        self.stage_quarter = _conv_stage(half, quarter, depths[0])
        self.stage_eighth = _conv_stage(quarter, eighth, depths[1])
        self.stage_sixteenth = _conv_stage(eighth, sixteenth, depths[2])
        self.stage_top = nn.Sequential(
            ConvNorm(sixteenth, top, stride=2),
            *(GlobalAttentionBlock(top) for _ in range(depths[3])),
        )
        self.lateral_eighth = nn.Conv2d(eighth, embed_dim, 1)
        self.lateral_sixteenth = nn.Conv2d(sixteenth, embed_dim, 1)
        self.lateral_top = nn.Conv2d(top, embed_dim, 1)
        self.smooth_sixteenth = ConvNorm(embed_dim, embed_dim)
        self.smooth_eighth = ConvNorm(embed_dim, embed_dim)
        self.embed = nn.Conv2d(embed_dim, embed_dim, 1)
        self.skip_half = ConvNorm(half, skip_dims[0])
        self.skip_quarter = ConvNorm(quarter, skip_dims[1])
        self.skip_context = nn.Conv2d(embed_dim, skip_dims[1], 1)

    def forward(self, x: Tensor) -> ImageFeatures:
        """Encode normalised pixels (B, 3, H, W); H and W are multiples of 32."""
        x = x.contiguous(memory_format=execution_for(x.device).map_format)
        half = self.stem(x)  # (B, 24, H/2, W/2)
        quarter = self.stage_quarter(half)  # (B, 48, H/4, W/4)
        eighth = self.stage_eighth(quarter)  # (B, 96, H/8, W/8)
        sixteenth = self.stage_sixteenth(eighth)  # (B, 160, H/16, W/16)
        top = self.lateral_top(self.stage_top(sixteenth))  # (B, 128, H/32, W/32)
        merged = self.smooth_sixteenth(self.lateral_sixteenth(sixteenth) + _double(top))
        merged = self.smooth_eighth(self.lateral_eighth(eighth) + _double(merged))
        fine_quarter = self.skip_quarter(quarter) + _double(self.skip_context(merged))
        return ImageFeatures(self.embed(merged), (self.skip_half(half), fine_quarter))


class ConvNorm(nn.Module):
    """3 x 3 convolution, batch normalisation and, unless told otherwise, GELU."""

    def __init__(self, in_dim: int, out_dim: int, stride: int = 1, activate: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_dim)
        self.activate = activate
        self._folded: Recent[FoldedConv] = Recent(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, in_dim, H, W) to (B, out_dim, H / stride, W / stride)."""
        normed = conv_norm(x, self.conv, self.norm, self._folded)
        return gelu_in_place(normed) if self.activate else normed


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity (He et al. 2016)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, dim)
        self.conv2 = ConvNorm(dim, dim, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, dim, H, W) to the same shape."""
        return gelu_in_place(self.conv2(self.conv1(x)), added=x)


class GlobalAttentionBlock(nn.Module):
    """Attention over the whole map.

    A depthwise convolution stands for the positional encoding (Chu et al. 2021), so that any size
    of map works.
    """

    def __init__(self, dim: int, head_dim: int = 32, mlp_ratio: int = 3) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.position = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLPBlock(dim, mlp_ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, dim, h, w) to the same shape."""
        x = x + self.position(x)
        tokens = x.flatten(2).transpose(1, 2)  # (B, h*w, dim)
        tokens = tokens + self._attend(self.norm1(tokens))
        tokens = tokens + self.mlp(self.norm2(tokens))
        attended: Tensor = tokens.transpose(1, 2).reshape(x.shape)
        return attended

    def _attend(self, tokens: Tensor) -> Tensor:
        qkv = self.qkv(tokens).unflatten(2, (3, -1, self.head_dim))  # (B, L, 3, heads, head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return projected


def build_compact_sam(
    widths: tuple[int, int, int, int, int] = (24, 48, 96, 160, 192),
    depths: tuple[int, int, int, int] = (1, 3, 2, 2),
    embed_dim: int = 128,
    window: int = 512,
    decode_window: int = 256,
) -> Sam:
    """Build the compact model with random weights.

    Parameters
    ----------
    widths, depths : tuple of int
        See :class:`CompactEncoder`.
    embed_dim : int
        Channels of image and prompt embeddings; a multiple of 8.
    window : int
        Side of an encoder window, in pixels.
    decode_window : int
        Side of the window that prompts are decoded in first, in pixels; at most `window`.

    Returns
    -------
    Sam
        The model in training mode.
    """
    skip_dims = (embed_dim // 4, embed_dim // 2)
    transformer = TwoWayTransformer(
        depth=2, embedding_dim=embed_dim, num_heads=4, mlp_dim=4 * embed_dim
    )
    return Sam(
        image_encoder=CompactEncoder(widths, depths, embed_dim, skip_dims),
        prompt_encoder=MapPromptEncoder(embed_dim, fine_dim=skip_dims[1], frame_size=window),
        mask_decoder=MaskDecoder(
            embed_dim,
            transformer,
            upscale_dims=(skip_dims[1], skip_dims[0]),
            mixing=PromptMixing(embed_dim, embed_dim // 2),
        ),
        instance_head=InstanceHead(embed_dim, skip_dims[1]),
        input_spec=InputSpec(
            size=window,
            native_resolution=True,
            stride=8,
            low_res_stride=2,
            pad_multiple=32,
            decode_size=min(decode_window, window),
            contrast="percentile",
            pixel_mean=(64.0, 64.0, 64.0),
            pixel_std=(64.0, 64.0, 64.0),
        ),
    )


def _conv_stage(in_dim: int, out_dim: int, depth: int) -> nn.Sequential:
    blocks = (ResidualBlock(out_dim) for _ in range(depth))
    return nn.Sequential(ConvNorm(in_dim, out_dim, stride=2), *blocks)


def _double(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
