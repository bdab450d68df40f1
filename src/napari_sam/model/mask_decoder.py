"""The mask decoder of Segment Anything (Kirillov et al. 2023, appendix A, fig. 14)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_sam.model.decoder_plan import DecoderPlan
from napari_sam.model.execution import execution_for
from napari_sam.model.iou_calibration import IouCalibration
from napari_sam.model.layers import MLP, ImageFeatures, ImageIdentity, LayerNorm2d
from napari_sam.model.mask_drawing import DrawnMaps, UpscalingLayers, draw_in_strips
from napari_sam.model.prompt_encoder import PromptEmbeddings
from napari_sam.model.prompt_mixing import PromptMixing
from napari_sam.model.recent import Recent, weights_version
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

    def of_prompt(self, index: int) -> DecodedTokens:
        """Return what belongs to one prompt."""
        return DecodedTokens(*(part[index : index + 1] for part in self))


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

    Attributes
    ----------
    iou_calibration : IouCalibration or None
        Corrects every predicted IoU, where the model's file has a map for it; SAM has none.
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
        self.iou_calibration: IouCalibration | None = None
        self._plans: Recent[DecoderPlan] = Recent(1)
        self._drawing: Recent[tuple[list[Tensor], UpscalingLayers]] = Recent(1)

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
        if not self._streams(features, prompts):
            decoded = self.decode_tokens(features, image_pe, prompts, masks)
            return self.draw_masks(features, prompts, decoded, masks), decoded.predicted_iou
        logits, scores = [], []
        for index, decoded in enumerate(self.decode_each(features, image_pe, prompts, masks)):
            own = features.of_prompt(index), prompts.of_prompt(index)
            logits.append(self.draw_masks(*own, decoded, masks))
            scores.append(decoded.predicted_iou)
        return torch.cat(logits), torch.cat(scores)

    def decode_tokens(
        self, features: ImageFeatures, image_pe: Tensor, prompts: PromptEmbeddings, masks: slice
    ) -> DecodedTokens:
        """Run the transformer and the predicted-IoU head; parameters as in :meth:`forward`."""
        image = self._image(features, prompts)
        tokens, image_tokens = self.transformer(image, image_pe, self._tokens(prompts))
        return self._decoded(tokens, image_tokens, masks)

    def decode_each(
        self, features: ImageFeatures, image_pe: Tensor, prompts: PromptEmbeddings, masks: slice
    ) -> Iterator[DecodedTokens]:
        """Decode as :meth:`decode_tokens` does, prompt by prompt.

        On a CPU, a prompt's image tokens are made when it is asked for, and go with it.

        Yields
        ------
        DecodedTokens
            Of one prompt: N is 1.
        """
        if not self._streams(features, prompts):
            decoded = self.decode_tokens(features, image_pe, prompts, masks)
            for index in range(len(prompts.sparse)):
                yield decoded.of_prompt(index)
            return
        execution = execution_for(features.embedding.device)
        plan = self._plan(execution.strip_tokens or image_pe[0, 0].numel())
        is_shared = len(features.embedding) == 1 and prompts.is_dense_fixed and self.mixing is None
        identity = features.identity
        if identity is None and len(prompts.sparse) > 1:
            identity = ImageIdentity()
        for index, tokens in enumerate(self._tokens(prompts)):
            if is_shared and identity is not None and execution.shares_image:
                decoded_tokens, image_tokens = plan.decode_shared(
                    tokens, lambda: self._keys(features, prompts), image_pe, identity
                )
            else:
                own = features.of_prompt(index), prompts.of_prompt(index)
                decoded_tokens, image_tokens = plan.decode_alone(tokens, self._keys(*own), image_pe)
            yield self._decoded(decoded_tokens[None], image_tokens[None], masks)

    def _streams(self, features: ImageFeatures, prompts: PromptEmbeddings) -> bool:
        """Tell whether prompts go one by one through a CPU's cache: for few tokens only."""
        execution = execution_for(features.embedding.device)
        n_tokens = 1 + self.num_mask_tokens + prompts.sparse.shape[1]
        return (
            execution.strip_tokens is not None
            and execution.folds_projections
            and n_tokens <= self.transformer.few_tokens
            and not torch.is_grad_enabled()
        )

    def _plan(self, strip_tokens: int) -> DecoderPlan:
        version = weights_version(self.transformer.parameters())
        return self._plans.get(
            (version, strip_tokens), lambda: DecoderPlan(self.transformer, strip_tokens)
        )

    def _tokens(self, prompts: PromptEmbeddings) -> Tensor:
        """Output tokens and prompt tokens, (N, T, C)."""
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        count = len(prompts.sparse)
        return torch.cat([output_tokens.expand(count, -1, -1), prompts.sparse], dim=1)

    def _image(self, features: ImageFeatures, prompts: PromptEmbeddings) -> Tensor:
        """Add the dense prompts to the image embedding, (1 or N, C, h, w)."""
        image = features.embedding + prompts.dense
        return image if self.mixing is None else self.mixing(image)

    def _keys(self, features: ImageFeatures, prompts: PromptEmbeddings) -> Tensor:
        """Image tokens of one prompt, or of all, (L, C)."""
        return self._image(features, prompts)[0].flatten(1).T.contiguous()

    def _decoded(self, tokens: Tensor, image_tokens: Tensor, masks: slice) -> DecodedTokens:
        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens][:, masks]
        predicted_iou = self.iou_prediction_head(tokens[:, 0])[:, masks]
        if self.iou_calibration is not None:
            predicted_iou = self.iou_calibration(predicted_iou, masks)
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
        if execution_for(tokens.device).strip_tokens:
            added = DrawnMaps(coarse, fine)
            return draw_in_strips(self._upscaling_layers(), tokens, (h, w), added, weights)
        image = torch.unflatten(tokens.transpose(1, 2), 2, (h, w))
        logits = weights @ self._upscale(image, coarse, fine).flatten(2)
        return torch.unflatten(logits, 2, (4 * h, 4 * w))

    def _upscaling_layers(self) -> UpscalingLayers:
        if torch.is_grad_enabled():
            return UpscalingLayers.of(self.output_upscaling)
        weights = [weight.detach() for weight in self.output_upscaling.parameters()]
        _, layers = self._drawing.get(
            weights_version(weights), lambda: (weights, UpscalingLayers.of(self.output_upscaling))
        )
        return layers

    def _upscale(self, image: Tensor, coarse: list[Tensor], fine: list[Tensor]) -> Tensor:
        first, norm, activation, second, last = self.output_upscaling
        upscaled: Tensor = activation(norm(sum(coarse, start=first(image))))
        upscaled = last(sum(fine, start=second(upscaled)))
        return upscaled
