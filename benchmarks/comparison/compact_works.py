"""The bundled compact model, which has no reference: its embedding beside vit_b's, and a click.

The image is one of synthetic nuclei, and the click is on one of them, because these weights are
trained.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from comparison.contest import OURS, REFERENCE, Contest, Setting, Target, Work
from comparison.flops import count_flops
from comparison.random_models import random_image
from comparison.shares import all_switched_off
from napari_sam.predict import ImageEmbedding, MaskPrediction, SamPredictor
from napari_sam.training.synthetic import synthetic_stack


def _embedding(setting: Setting) -> Contest:
    scale, device = setting.scale, setting.device
    torch.manual_seed(setting.seed)
    small, _ = _nuclei(setting)
    large = random_image(scale.image_side, setting.seed)
    compact = SamPredictor(scale.load_compact(device))
    vit_b = SamPredictor(scale.load(scale.build("vit_b"), device))

    def plain_flops() -> float:
        # folded layers may run as operations that torch cannot count
        with all_switched_off(device):
            plain = SamPredictor(scale.load_compact(device))
            return count_flops(lambda: plain.encode(small))

    def ours() -> ImageEmbedding:
        return compact.encode(small)

    sides = {REFERENCE: lambda: vit_b.encode(large), OURS: ours}
    return Contest(sides, None, plain_flops)


def _click(setting: Setting) -> Contest:
    predictor = SamPredictor(setting.scale.load_compact(setting.device))
    image, point = _nuclei(setting)
    embedding = predictor.encode(image)

    def ours() -> MaskPrediction:
        return predictor.predict(embedding, points_xy=point, point_labels=[1])

    return Contest({OURS: ours}, None, lambda: count_flops(ours))


def _nuclei(setting: Setting) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Return an image (side, side), and a point (1, 2) on a nucleus near its middle."""
    side = setting.scale.compact_side
    images, labels = synthetic_stack((1, side, side), setting.seed)
    inside_yx = np.argwhere(labels[0] > 0)
    nearest = np.abs(inside_yx - side / 2).sum(axis=1).argmin()
    return images[0], inside_yx[nearest][None, ::-1].astype(np.float64)


EMBEDDING = Work(
    name="compact-embedding",
    title="embedding by the compact model",
    target=Target(ratio=50),
    against="our vit_b, 1024 x 1024",
    repeats=5,
    prepare=_embedding,
    ceiling="convolution",
)
CLICK = Work(
    name="compact-click",
    title="one click, compact model",
    target=Target(milliseconds=25),
    against="",
    repeats=15,
    prepare=_click,
    ceiling="convolution",
)
