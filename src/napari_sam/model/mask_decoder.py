"""The mask decoder of Segment Anything (Kirillov et al. 2023, appendix A, fig. 14)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_sam.model.layers import MLP, ImageFeatures, LayerNorm2d
from napari_sam.model.mask_drawing import DrawnMaps, draw_in_strips
from napari_sam.model.prompt_encoder import PromptEmbeddings
from napari_sam.model.prompt_mixing import PromptMixing
from napari_sam.model.transformer import TwoWayTransformer

__all__ = ["ALL_MASKS", "MULTIMASK", "SINGLE_MASK", "DecodedTokens", "MaskDecoder"]

SINGLE_MASK = slice(0, 1)
"""The mask for a prompt that leaves no doubt."""
MULTIMASK = slice(1, None)
"""The masks for an ambiguous prompt."""
ALL_MASKS = slice(None)
"""All of them, for training."""


class DecodedTokens(NamedTuple):
    """What the transformer gives, before any mask is drawn.

    Attributes
    ----------
    mask_tokens : Tensor
        One token a mask, (N, M, C): first the single mask, then the three of multimask output.
    image_tokens : Tensor
        The image as the prompts changed it, (N, h * w, C).
    predicted_iou : Tensor
        Predicted IoU of each mask, (N, M).
    """

    mask_tokens: Tensor
    image_tokens: Tensor
    predicted_iou: Tensor


class MaskDecoder(nn.Module):
    """Turns an image embedding and prompt embeddings into low-res logits and predicted IoU.

    Parameters
    ----------
    transformer_dim : int
        Channels of embedding and tokens.
    transformer : TwoWayTransformer
        The two-way transformer.
    num_multimask_outputs : int
        Masks for an ambiguous prompt, beside the single mask.
    iou_head_depth, iou_head_hidden_dim : int
        Layers and width of the predicted-IoU head.
    upscale_dims : tuple of int, optional
        Channels after the first and the second upscaling; ``transformer_dim`` divided by 4 and 8
        unless given, as in SAM.
    mixing : PromptMixing, optional
        Convolutions before the transformer; SAM has none.
    """

    def __init__(
        self,
        transformer_dim: int,
        transformer: TwoWayTransformer,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
        upscale_dims: tuple[int, int] | None = None,
        mixing: PromptMixing | None = None,
    ) -> None:
        super().__init__()
        coarse, fine = upscale_dims or (transformer_dim // 4, transformer_dim // 8)
        self.transformer = transformer
        self.mixing = mixing
        self.num_mask_tokens = num_multimask_outputs + 1
        self.iou_token = nn.Embedding(1, transformer_dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, transformer_dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(transformer_dim, coarse, kernel_size=2, stride=2),
            LayerNorm2d(coarse),
            nn.GELU(),
            nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(transformer_dim, transformer_dim, fine, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = MLP(
            transformer_dim, iou_head_hidden_dim, self.num_mask_tokens, iou_head_depth
        )

    def forward(
        self, features: ImageFeatures, image_pe: Tensor, prompts: PromptEmbeddings, masks: slice
    ) -> tuple[Tensor, Tensor]:
        """Predict the masks of N prompts.

        Parameters
        ----------
        features : ImageFeatures
            Image embedding (B, C, h, w); B is 1, shared by all prompts, or N.
        image_pe : Tensor
            Positional encoding of the embedding, (1, C, h, w).
        prompts : PromptEmbeddings
            Embeddings of the N prompts.
        masks : slice
            Which masks: :data:`SINGLE_MASK`, :data:`MULTIMASK` or :data:`ALL_MASKS`.

        Returns
        -------
        tuple of Tensor
            Low-res logits (N, M, 4h, 4w) and predicted IoU (N, M).
        """
        decoded = self.decode_tokens(features, image_pe, prompts, masks)
        return self.draw_masks(features, prompts, decoded, masks), decoded.predicted_iou

    def decode_tokens(
        self, features: ImageFeatures, image_pe: Tensor, prompts: PromptEmbeddings, masks: slice
    ) -> DecodedTokens:
        """Run the transformer and the predicted-IoU head; parameters as in :meth:`forward`."""
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        count = len(prompts.sparse)
        tokens = torch.cat([output_tokens.expand(count, -1, -1), prompts.sparse], dim=1)
        image = features.embedding + prompts.dense  # (N, C, h, w)
        if self.mixing is not None:
            image = self.mixing(image)
        tokens, image_tokens = self.transformer(image, image_pe, tokens)
        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens][:, masks]
        predicted_iou = self.iou_prediction_head(tokens[:, 0])[:, masks]
        return DecodedTokens(mask_tokens, image_tokens, predicted_iou)

    def draw_masks(
        self,
        features: ImageFeatures,
        prompts: PromptEmbeddings,
        decoded: DecodedTokens,
        masks: slice,
    ) -> Tensor:
        """Upscale the image tokens and weigh them by each mask token, (N, M, 4h, 4w)."""
        h, w = features.embedding.shape[-2:]
        networks = list(self.output_hypernetworks_mlps)[masks]
        weights = torch.stack(
            [network(decoded.mask_tokens[:, index]) for index, network in enumerate(networks)],
            dim=1,
        )  # (N, M, c)
        fine, coarse = list(features.skips[:1]), list(features.skips[1:])
        if prompts.dense_fine is not None:
            coarse.append(prompts.dense_fine)
        tokens = decoded.image_tokens
        if tokens.device.type == "cpu" and not torch.is_grad_enabled():
            added = DrawnMaps(coarse, fine)
            return draw_in_strips(self.output_upscaling, tokens, (h, w), added, weights)
        image = torch.unflatten(tokens.transpose(1, 2), 2, (h, w))
        logits = weights @ self._upscale(image, coarse, fine).flatten(2)
        return torch.unflatten(logits, 2, (4 * h, 4 * w))

    def _upscale(self, image: Tensor, coarse: list[Tensor], fine: list[Tensor]) -> Tensor:
        first, norm, activation, second, last = self.output_upscaling
        upscaled: Tensor = activation(norm(sum(coarse, start=first(image))))
        upscaled = last(sum(fine, start=second(upscaled)))
        return upscaled
