"""Segment Anything: image encoder, prompt encoder and mask decoder together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from napari_sam.model.decoder_graph import decode_masks
from napari_sam.model.execution import execution_for
from napari_sam.model.instance_head import InstanceHead
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.mask_decoder import MULTIMASK, SINGLE_MASK, MaskDecoder
from napari_sam.model.prompt_encoder import MapPromptEncoder, Points, PromptEncoder

__all__ = ["DecodedMasks", "InputSpec", "Sam"]


@dataclass(frozen=True)
class InputSpec:
    """How pixels reach the image encoder.

    Attributes
    ----------
    size : int
        Side in pixels: of the square that an image is resized to, or of an encoder window where
        pixels stay native.
    native_resolution : bool
        Pixels stay as they are; otherwise the longest side becomes ``size``.
    stride : int
        Input pixels per cell of the image embedding.
    low_res_stride : int
        Input pixels per cell of the low-res logits.
    pad_multiple : int
        Native input is padded at bottom and right to a multiple of this.
    decode_size : int, optional
        Side in pixels of the window that prompts are decoded in first where pixels stay native;
        ``size`` unless given. An object that leaves it is decoded in a window of ``size``.
    contrast : {"as_is", "percentile"}
        What 8-bit images get when no contrast is given.
    pixel_mean, pixel_std : tuple of float
        Normalisation of each channel on the scale 0 to 255.
    """

    size: int = 1024
    native_resolution: bool = False
    stride: int = 16
    low_res_stride: int = 4
    pad_multiple: int = 1
    decode_size: int | None = None
    contrast: Literal["as_is", "percentile"] = "as_is"
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)


class DecodedMasks(NamedTuple):
    """Masks whose predicted IoU passed a threshold.

    Attributes
    ----------
    low_res_logits : Tensor
        Their logits, (K, hl, wl).
    predicted_iou : Tensor
        Their predicted IoU, (K,).
    prompt_index : Tensor
        The prompt that each belongs to, (K,).
    mask_index : Tensor
        Which of the prompt's masks it is, (K,).
    """

    low_res_logits: Tensor
    predicted_iou: Tensor
    prompt_index: Tensor
    mask_index: Tensor


class Sam(nn.Module):
    """A promptable segmentation model (Kirillov et al. 2023, Segment Anything, fig. 4).

    Parameters
    ----------
    image_encoder : torch.nn.Module
        Maps normalised pixels (B, 3, H, W) to :class:`~napari_sam.model.layers.ImageFeatures`.
    prompt_encoder : PromptEncoder or MapPromptEncoder
        Embeds points, boxes and mask prompts.
    mask_decoder : MaskDecoder
        Predicts masks and their IoU.
    instance_head : InstanceHead, optional
        Predicts maps of instances for segmenting everything.
    input_spec : InputSpec
        How pixels reach the encoder.

    Attributes
    ----------
    mask_threshold : float
        Logits above it are inside the mask.
    name : str
        Name in the registry, or the file's name.
    digest : str
        SHA-256 of the weights, hexadecimal; empty for random weights. Of a model whose image
        encoder computes in half precision, the dtype stands before it, as in ``bfloat16:0123...``:
        neither takes the other's embeddings.
    encoder_dtype : torch.dtype
        What the image encoder computes in; weights and embedding are float32 all the same. See
        :func:`~napari_sam.model.half_precision.use_half_precision`.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder | MapPromptEncoder,
        mask_decoder: MaskDecoder,
        instance_head: InstanceHead | None = None,
        input_spec: InputSpec | None = None,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.instance_head = instance_head
        self.input_spec = input_spec or InputSpec()
        self.mask_threshold = 0.0
        self.name = ""
        self.digest = ""
        self.encoder_dtype = torch.float32
        mean = torch.tensor(self.input_spec.pixel_mean).reshape(3, 1, 1)
        std = torch.tensor(self.input_spec.pixel_std).reshape(3, 1, 1)
        # not persistent: official checkpoints do not hold them
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_std", std, persistent=False)

    @property
    def device(self) -> torch.device:
        """The device that holds the model."""
        return self.pixel_mean.device

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Normalise ``pixels`` (B, 3, H, W), 0 to 255, and pad with zeros at bottom and right."""
        normalised = (pixels - self.pixel_mean) / self.pixel_std
        h, w = pixels.shape[-2:]
        if self.input_spec.native_resolution:
            multiple = self.input_spec.pad_multiple
            pad_h, pad_w = -h % multiple, -w % multiple
        else:
            pad_h, pad_w = self.input_spec.size - h, self.input_spec.size - w
        return nn.functional.pad(normalised, (0, pad_w, 0, pad_h))

    def encode(self, pixels: Tensor, dtype: torch.dtype | None = None) -> ImageFeatures:
        """Compute the image embedding of ``pixels`` (B, 3, H, W), 0 to 255.

        Parameters
        ----------
        pixels : Tensor
            Images, (B, 3, H, W).
        dtype : torch.dtype, optional
            What the encoder computes in; `encoder_dtype` unless given.

        Returns
        -------
        ImageFeatures
            In float32, whatever the encoder computes in.
        """
        dtype = dtype or self.encoder_dtype
        normalised = self.preprocess(pixels)
        if dtype == torch.float32:
            features: ImageFeatures = self.image_encoder(normalised)
            return features
        with torch.autocast(normalised.device.type, dtype):
            features = self.image_encoder(normalised)
        return ImageFeatures(features.embedding.float(), tuple(s.float() for s in features.skips))

    def decode(
        self,
        features: ImageFeatures,
        *,
        points: Points | None = None,
        boxes: Tensor | None = None,
        mask_logits: Tensor | None = None,
        multimask: bool,
        origin_xy: tuple[float, float] = (0, 0),
    ) -> tuple[Tensor, Tensor]:
        """Predict the masks of N prompts.

        Parameters
        ----------
        features : ImageFeatures
            Of one image or window, shared by all prompts, or of N windows, one a prompt.
        points : tuple of Tensor, optional
            Coordinates (N, K, 2) as (x, y) in input pixels and labels (N, K): 1, 0 or -1.
        boxes : Tensor, optional
            Boxes (N, 4) as (x0, y0, x1, y1) in input pixels.
        mask_logits : Tensor, optional
            Low-res logits (N, 1, hl, wl) of an earlier mask.
        multimask : bool
            Three masks for an ambiguous prompt instead of one.
        origin_xy : tuple of float
            Shift of the positional encoding in pixels; training varies it.

        Returns
        -------
        tuple of Tensor
            Low-res logits (N, M, hl, wl) and predicted IoU (N, M).
        """
        h, w = features.embedding.shape[-2:]
        prompts = self.prompt_encoder(points, boxes, mask_logits, (h, w), origin_xy)
        image_pe = self.prompt_encoder.dense_pe((h, w), origin_xy)
        masks = MULTIMASK if multimask else SINGLE_MASK
        return decode_masks(self.mask_decoder, features, image_pe, prompts, masks)

    def decode_above(
        self,
        features: ImageFeatures,
        *,
        points: Points,
        min_predicted_iou: float,
        mask_logits: Tensor | None = None,
        multimask: bool = True,
    ) -> DecodedMasks:
        """Predict masks, and draw only those whose predicted IoU is above a threshold.

        The predicted IoU comes from a token, so a mask that fails never needs to be drawn.

        Parameters
        ----------
        features : ImageFeatures
            Of one image or window, or of N windows.
        points : tuple of Tensor
            Coordinates (N, K, 2) as (x, y) in input pixels and labels (N, K).
        min_predicted_iou : float
            Masks with a predicted IoU above this are kept.
        mask_logits : Tensor, optional
            Low-res logits (N, 1, hl, wl) of an earlier mask.
        multimask : bool
            Three masks a prompt instead of one.

        Returns
        -------
        DecodedMasks
            The K masks that passed, in order of prompt, then mask.
        """
        h, w = features.embedding.shape[-2:]
        prompts = self.prompt_encoder(points, None, mask_logits, (h, w))
        image_pe = self.prompt_encoder.dense_pe((h, w))
        decoder = self.mask_decoder
        masks = MULTIMASK if multimask else SINGLE_MASK
        n_masks = len(range(decoder.num_mask_tokens)[masks])
        logits = [features.embedding.new_empty((0, 4 * h, 4 * w))]
        scores = [features.embedding.new_empty((0, n_masks))]
        # Drawn one by one: the rounding of a batch depends on its size, and so a mask would depend
        # on which others passed. The work lies in convolutions, which a batch hardly speeds up.
        scores_first = execution_for(features.embedding.device).scores_first
        for index, decoded in enumerate(decoder.decode_each(features, image_pe, prompts, masks)):
            passed = decoded.predicted_iou[0] > min_predicted_iou
            scores.append(decoded.predicted_iou)
            if passed.any() or not scores_first:
                own = features.of_prompt(index), prompts.of_prompt(index)
                logits.append(decoder.draw_masks(*own, decoded, masks)[0, passed])
        predicted_iou = torch.cat(scores)
        is_above = predicted_iou > min_predicted_iou  # (N, M)
        prompt_index, mask_index = is_above.nonzero(as_tuple=True)
        return DecodedMasks(torch.cat(logits), predicted_iou[is_above], prompt_index, mask_index)
