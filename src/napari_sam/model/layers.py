"""Building blocks shared by the image encoders and the mask decoder."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from napari_sam.model.execution import execution_for
from napari_sam.model.fused import conv2d, linear
from napari_sam.model.recent import Recent, weights_version

__all__ = [
    "MLP",
    "FoldedConv",
    "ImageFeatures",
    "ImageIdentity",
    "LayerNorm2d",
    "MLPBlock",
    "conv_norm",
]


class ImageIdentity:
    """Stands for an encoded image, for what is computed from it once and kept for a while."""


class ImageFeatures(NamedTuple):
    """What every image encoder returns.

    Attributes
    ----------
    embedding : Tensor
        The image embedding, (B, C, h, w).
    skips : tuple of Tensor
        Finer maps that the mask decoder adds while it upscales, from fine to coarse. Empty for
        the encoders of Segment Anything; for the compact encoder (B, c2, H / 2, W / 2) and
        (B, c4, H / 4, W / 4).
    identity : ImageIdentity or None
        The image that the features belong to, all of it, where someone keeps them for more than
        one call of the mask decoder. Features that were changed or cut have another one, or none.
    """

    embedding: Tensor
    skips: tuple[Tensor, ...] = ()
    identity: ImageIdentity | None = None

    def of_prompt(self, index: int) -> ImageFeatures:
        """Features of one prompt, where each prompt has its own."""
        if len(self.embedding) == 1:
            return self
        return ImageFeatures(
            self.embedding[index : index + 1],
            tuple(skip if len(skip) == 1 else skip[index : index + 1] for skip in self.skips),
        )


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of a (B, C, H, W) map, at each pixel by itself."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (B, C, H, W)."""
        # channels last for the kernel, which normalises trailing dimensions only
        normalised = nn.functional.layer_norm(
            x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps
        )
        return normalised.permute(0, 3, 1, 2)


class MLPBlock(nn.Module):
    """Two linear layers with an activation between them, as in a transformer block."""

    def __init__(
        self, embedding_dim: int, mlp_dim: int, activation: type[nn.Module] = nn.GELU
    ) -> None:
        super().__init__()
        self.lin1 = nn.Linear(embedding_dim, mlp_dim)
        self.lin2 = nn.Linear(mlp_dim, embedding_dim)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (..., C) to (..., C)."""
        if isinstance(self.act, nn.GELU):
            return linear(linear(x, self.lin1, gelu=True), self.lin2)
        projected: Tensor = self.lin2(self.act(self.lin1(x)))
        return projected


class MLP(nn.Module):
    """Linear layers with ReLU between them: the hypernetworks and the predicted-IoU head."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        widths = [input_dim] + [hidden_dim] * (num_layers - 1) + [output_dim]
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (..., input_dim) to (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = nn.functional.relu(layer(x))
        last: Tensor = self.layers[-1](x)
        return last


class FoldedConv(NamedTuple):
    """A convolution that does the work of the normalisation after it, too."""

    weight: Tensor
    bias: Tensor
    sources: tuple[Tensor, ...]
    """What it was made of, held so that no other weights come to lie there."""


def conv_norm(
    x: Tensor,
    conv: nn.Conv2d,
    norm: nn.BatchNorm2d,
    folded: Recent[FoldedConv],
    padding: tuple[int, int] | None = None,
    *,
    gelu: bool = False,
) -> Tensor:
    """Convolve and batch-normalise: as one convolution where nothing is learned.

    In evaluation, batch normalisation is a factor and a summand for each channel, which the
    convolution's weight and bias take over.

    Parameters
    ----------
    x : Tensor
        Maps, (B, C, H, W).
    conv : torch.nn.Conv2d
        A convolution without bias, padded with zeros.
    norm : torch.nn.BatchNorm2d
        The normalisation after it, with running statistics.
    folded : Recent
        Keeps the one convolution for the next call.
    padding : tuple of int, optional
        Zeros above and below, left and right, where they are not the convolution's own.
    gelu : bool
        Apply GELU to the result.

    Returns
    -------
    Tensor
        Maps, (B, C', H', W').
    """
    around = cast("tuple[int, int]", conv.padding) if padding is None else padding
    if norm.training or torch.is_grad_enabled() or not execution_for(x.device).folds_norms:
        normalised: Tensor = norm(conv2d(x, conv.weight, None, conv, around))
        return nn.functional.gelu(normalised) if gelu else normalised
    sources = (
        conv.weight,
        norm.weight,
        norm.bias,
        norm.get_buffer("running_mean"),
        norm.get_buffer("running_var"),
    )
    one = folded.get(weights_version(sources), lambda: _fold(norm.eps, *sources))
    return conv2d(x, one.weight, one.bias, conv, around, gelu=gelu)


def _fold(
    eps: float, weight: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> FoldedConv:
    factor = scale * torch.rsqrt(variance + eps)
    sources = tuple(part.detach() for part in (weight, scale, shift, mean, variance))
    return FoldedConv(weight * factor[:, None, None, None], shift - mean * factor, sources)
