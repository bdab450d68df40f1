"""The Segment Anything of `transformers`, a second implementation to compare with.

Its weights are those of the reference. Where a version of transformers names them differently, it
is timed with weights of its own and not compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own name for it)

from comparison.contest import Call, Setting
from comparison.equality import Masks
from comparison.requirements import is_installed

NAME = "transformers"

_NAMES = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"^(vision_encoder)\.blocks\.", r"\1.layers."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.neck\.([02])\.", lambda m: f".neck.conv{int(m[1]) // 2 + 1}."),
    (r"\.neck\.([13])\.", lambda m: f".neck.layer_norm{(int(m[1]) + 1) // 2}."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.([036])\.", lambda m: f".mask_embed.conv{int(m[1]) // 3 + 1}."),
    (r"\.mask_downscaling\.([14])\.", lambda m: f".mask_embed.layer_norm{int(m[1]) // 3 + 1}."),
    (r"\.output_upscaling\.([03])\.", lambda m: f".upscale_conv{int(m[1]) // 3 + 1}."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"(iou_prediction_head|hypernetworks_mlps\.\d)\.layers\.0\.", r"\1.proj_in."),
    (r"(iou_prediction_head|hypernetworks_mlps\.\d)\.layers\.2\.", r"\1.proj_out."),
    (r"(iou_prediction_head|hypernetworks_mlps\.\d)\.layers\.1\.", r"\1.layers.0."),
)
"""Names of weights in the official checkpoints, and in transformers."""


def is_available() -> bool:
    return is_installed("transformers")


def click(setting: Setting, reference: Any, point_xy: NDArray[np.float64]) -> Call:
    """Build a call that predicts the three masks of a point (1, 2) in pixels of the input frame."""
    model, is_comparable = _model(setting, reference, with_encoder=False)
    embedding = reference.image_encoder(torch.empty(0)).to(setting.device)
    points = torch.from_numpy(point_xy[None, None]).to(torch.float32).to(setting.device)
    labels = torch.ones(1, 1, 1, dtype=torch.int64, device=setting.device)
    side = setting.scale.image_side

    def call() -> Masks | None:
        with torch.inference_mode():
            outputs = model(image_embeddings=embedding, input_points=points, input_labels=labels)
            low_res = outputs.pred_masks[0]  # (1, 3, hl, wl)
            masks = F.interpolate(low_res, (side, side), mode="bilinear")[0] > 0
        given = (masks, outputs.iou_scores[0, 0], low_res[0])
        predicted = Masks(*(tensor.cpu().numpy() for tensor in given))
        return predicted if is_comparable else None

    return call


def encode(setting: Setting, reference: Any, image: NDArray[np.uint8]) -> Call:
    """Build a call that encodes an image (H, W, 3) of the model's size."""
    model, is_comparable = _model(setting, reference, with_encoder=True)
    channels_first = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    pixels = channels_first.to(setting.device)

    def call() -> Tensor | None:
        with torch.inference_mode():
            embedding: Tensor = model.get_image_embeddings(reference.preprocess(pixels))
        return embedding if is_comparable else None

    return call


def _model(setting: Setting, reference: Any, *, with_encoder: bool) -> tuple[Any, bool]:
    """Build the model, and tell whether it has the weights of the reference."""
    from transformers import SamConfig, SamModel

    torch.manual_seed(setting.seed)
    build: Any = SamModel  # transformers has hardly any types
    model = build(SamConfig(**_config(setting, n_layers=None if with_encoder else 1))).eval()
    state = renamed(reference.state_dict())
    if not with_encoder:
        model.vision_encoder = nn.Identity()
        state = {key: value for key, value in state.items() if "vision_encoder" not in key}
    try:
        model.load_state_dict(state)
    except RuntimeError:  # other names in this version
        return model.to(setting.device), False
    return model.to(setting.device), True


def _config(setting: Setting, n_layers: int | None) -> dict[str, Any]:
    """Return the configuration of the same shape, or with another number of encoder blocks."""
    shape, dim = setting.scale.vit, setting.scale.vit.out_channels
    vision = {
        "image_size": shape.image_size,
        "hidden_size": shape.embed_dim,
        "num_hidden_layers": n_layers or shape.depth,
        "num_attention_heads": shape.num_heads,
        "global_attn_indexes": list(shape.global_blocks),
        "window_size": shape.window_size,
        "output_channels": dim,
        "mlp_dim": 4 * shape.embed_dim,
        "num_pos_feats": dim // 2,
    }
    prompts = {
        "hidden_size": dim,
        "image_size": shape.image_size,
        "patch_size": shape.patch_size,
    }
    decoder = {
        "hidden_size": dim,
        "mlp_dim": setting.scale.decoder_mlp_dim,
        "layer_norm_eps": 1e-5,  # as the official decoder has it
    }
    return {
        "vision_config": vision,
        "prompt_encoder_config": prompts,
        "mask_decoder_config": decoder,
    }


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of an official checkpoint by their names in transformers."""
    result = {}
    for key, value in state.items():
        for pattern, replacement in _NAMES:
            key = re.sub(pattern, replacement, key)
        result[key] = value
    shared = "shared_embedding.positional_embedding"
    result["shared_image_embedding.positional_embedding"] = result[f"prompt_encoder.{shared}"]
    return result
