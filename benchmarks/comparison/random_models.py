"""Our models and the references with the same random weights.

Ours go through a file and `load_model`, as for users, so whatever loading prepares is measured too.
The references get the weights as they were before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from comparison.contest import Setting
from napari_sam.model import ImageFeatures, Sam

STEEPNESS = 3.0
"""Standard deviation of a mask's logits; rounding grows with it."""
IOU_SPREAD = 0.1
"""Predicted IoUs stay around 0.5, so that thresholds from 0 to 1 can part them."""
COVERED = 0.2
"""Part of the image that a mask covers."""
BLUR_CELLS = 1.5
"""Neighbouring cells of an embedding are alike."""


class Pair(NamedTuple):
    """Our model, and the reference's with the same weights."""

    ours: Sam
    reference: Any


class FixedEncoder(nn.Module):
    """An image encoder that always gives the same embedding, to measure what comes after it."""

    embedding: Tensor

    def __init__(self, embedding: Tensor) -> None:
        super().__init__()
        self.register_buffer("embedding", embedding)

    def forward(self, _pixels: Tensor) -> ImageFeatures:
        """Return a copy, so that nothing can be kept with the embedding of an earlier image."""
        return ImageFeatures(self.embedding.clone())


def decoder_pair(setting: Setting) -> Pair:
    """Build the official prompt encoder and mask decoder behind a fixed random embedding."""
    torch.manual_seed(setting.seed)
    plain = setting.scale.build("vit_t")  # vit_b's decoder is the same
    embedding = _random_embedding(plain, setting)
    resemble_trained(plain, embedding, smooth=setting.masks == "regions")
    ours = setting.scale.load(plain, setting.device)
    plain.image_encoder = FixedEncoder(embedding)
    ours.image_encoder = FixedEncoder(embedding).to(setting.device)
    return Pair(ours, _reference_of(plain, setting.device))


def vit_pair(setting: Setting) -> Pair:
    """Build vit_b, and the reference's."""
    import functools

    from segment_anything.modeling import ImageEncoderViT

    shape = setting.scale.vit
    torch.manual_seed(setting.seed)
    plain = setting.scale.build("vit_b")
    reference = _reference_of(plain, setting.device)
    reference.image_encoder = ImageEncoderViT(
        img_size=shape.image_size,
        embed_dim=shape.embed_dim,
        depth=shape.depth,
        num_heads=shape.num_heads,
        out_chans=shape.out_channels,
        use_rel_pos=True,
        window_size=shape.window_size,
        global_attn_indexes=shape.global_blocks,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
    )
    reference.image_encoder.load_state_dict(plain.image_encoder.state_dict())
    return Pair(setting.scale.load(plain, setting.device), reference.to(setting.device).eval())


def tiny_vit_pair(setting: Setting) -> Pair:
    """Build vit_t, and timm's TinyViT with the reference's neck."""
    from comparison.timm_encoder import TimmEncoder

    torch.manual_seed(setting.seed)
    plain = setting.scale.build("vit_t")
    reference = _reference_of(plain, setting.device)
    encoder = TimmEncoder(setting.scale.tiny_vit(), setting.scale.vit)
    encoder.copy_weights(plain.image_encoder.state_dict())
    reference.image_encoder = encoder
    return Pair(setting.scale.load(plain, setting.device), reference.to(setting.device).eval())


def random_image(side: int, seed: int) -> NDArray[np.uint8]:
    """Return an image (side, side, 3) of noise."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def reference_predictor(reference: Any, image: NDArray[np.uint8]) -> Any:
    """Return the reference's predictor with an image set."""
    from segment_anything import SamPredictor as ReferencePredictor

    predictor = ReferencePredictor(reference)
    predictor.set_image(image)
    return predictor


def resemble_trained(sam: Sam, embedding: Tensor, *, smooth: bool) -> None:
    """Change random weights of the mask decoder, so that masks resemble those of trained ones.

    Logits become steeper, masks cover part of the image, and predicted IoUs lie between 0 and 1.
    If `smooth`, upscaling also gives neighbouring pixels similar values: masks are then regions
    with an outline. Otherwise they are noise, which is slow to draw and to code for all.
    """
    decoder: Any = sam.mask_decoder
    with torch.no_grad():
        iou = decoder.iou_prediction_head.layers[-1]
        iou.weight.mul_(IOU_SPREAD)
        iou.bias.fill_(0.5)
        for layer in decoder.output_upscaling:
            if smooth and isinstance(layer, nn.ConvTranspose2d):
                even = layer.weight.mean((2, 3), keepdim=True)
                even = even * (layer.weight.std() / even.std())
                layer.weight.copy_(even + 0.1 * layer.weight)
        _shape_masks(sam, embedding)


def _shape_masks(sam: Sam, embedding: Tensor) -> None:
    """Let the logits of each of the four masks spread by `STEEPNESS`, and a part be positive.

    The last layer of the upscaling makes its first channel 1 everywhere, so what a mask's network
    gives this channel is an offset. It is set for a point in the middle; others vary.
    """
    decoder: Any = sam.mask_decoder
    last = decoder.output_upscaling[3]
    last.weight[:, 0] = 0
    last.bias[0] = 1
    for network in decoder.output_hypernetworks_mlps:
        network.layers[-1].weight[0] = 0
        network.layers[-1].bias[0] = 0
    middle = torch.full((1, 1, 2), sam.input_spec.size / 2)
    points = (middle, torch.ones(1, 1, dtype=torch.int64))
    one = float(nn.functional.gelu(torch.ones(())))  # the activation that follows
    for multimask, first in ((False, 0), (True, 1)):
        logits, _ = sam.decode(ImageFeatures(embedding), points=points, multimask=multimask)
        for index, mask in enumerate(logits[0], start=first):
            network = decoder.output_hypernetworks_mlps[index].layers[-1]
            network.bias[0] = -mask.flatten().quantile(1 - COVERED) / one
            network.weight.mul_(STEEPNESS / mask.std())
            network.bias.mul_(STEEPNESS / mask.std())


def _random_embedding(sam: Sam, setting: Setting) -> Tensor:
    """Return an embedding (1, C, h, w) of standard deviation 1."""
    grid = setting.scale.vit.grid
    shape = (sam.prompt_encoder.embed_dim, grid, grid)
    values = np.random.default_rng(setting.seed).normal(size=shape)
    if setting.masks == "regions":
        values = ndimage.gaussian_filter(values, (0, BLUR_CELLS, BLUR_CELLS))
    return torch.from_numpy((values / values.std())[None]).to(torch.float32)


def _reference_of(sam: Sam, device: torch.device) -> Any:
    from reference_sam import reference_of

    return reference_of(sam).to(device)
