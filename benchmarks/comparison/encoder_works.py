"""The image encoders of Segment Anything and MobileSAM, from an image to its embedding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from comparison import peers
from comparison.contest import OURS, REFERENCE, Call, Contest, Setting, Target, Work
from comparison.equality import check_embeddings
from comparison.flops import count_flops, vit_flops
from comparison.random_models import Pair, random_image, tiny_vit_pair, vit_pair
from napari_sam.predict import SamPredictor


def _vit_b(setting: Setting) -> Contest:
    pair = vit_pair(setting)
    sides = _sides(pair, setting)
    if setting.peers and peers.is_available():
        image = random_image(setting.scale.image_side, setting.seed)
        sides[peers.NAME] = peers.encode(setting, pair.reference, image)
    return Contest(sides, check_embeddings, lambda: vit_flops(setting.scale.vit))


def _vit_t(setting: Setting) -> Contest:
    sides = _sides(tiny_vit_pair(setting), setting)
    return Contest(sides, check_embeddings, lambda: count_flops(sides[OURS]))


def _sides(pair: Pair, setting: Setting) -> dict[str, Call]:
    """Both predictors encode an image that already has the model's size."""
    from segment_anything import SamPredictor as ReferencePredictor

    image = random_image(setting.scale.image_side, setting.seed)
    predictor, theirs = SamPredictor(pair.ours), ReferencePredictor(pair.reference)

    def ours() -> Tensor:
        return predictor.encode(image).features

    def reference() -> Any:
        with torch.inference_mode():
            theirs.set_image(image)
        return theirs.get_image_embedding()

    return {REFERENCE: reference, OURS: ours}


VIT_B = Work(
    name="vit_b",
    title="embedding by vit_b",
    target=Target(ratio=1.15, share=0.9, memory=0.6),
    against="segment_anything",
    repeats=5,
    prepare=_vit_b,
)
VIT_T = Work(
    name="vit_t",
    title="embedding by vit_t",
    target=Target(ratio=1.5),
    against="timm",
    repeats=7,
    prepare=_vit_t,
)
