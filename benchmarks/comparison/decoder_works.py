"""From prompts to masks, after the embedding: one click, and many boxes at once.

The embedding is random and the same on both sides. The reference computes all anew for each call,
as it always does; ours may keep with the embedding what depends on the image alone, so the first
click on an image is timed as a variant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from comparison import peers
from comparison.contest import OURS, REFERENCE, Call, Contest, Setting, Target, Work
from comparison.equality import Check, Masks, check_masks
from comparison.flops import count_flops
from comparison.random_models import decoder_pair, random_image, reference_predictor
from napari_sam.predict import ImageEmbedding, MaskPrediction, SamPredictor


def _click(setting: Setting) -> Contest:
    side = setting.scale.image_side
    point = np.array([[0.3 * side, 0.4 * side]])
    label = np.array([1])
    pair = decoder_pair(setting)
    image = random_image(side, setting.seed)
    predictor, theirs = SamPredictor(pair.ours), reference_predictor(pair.reference, image)
    embedding = predictor.encode(image)

    def ours(embedded: ImageEmbedding = embedding) -> MaskPrediction:
        return predictor.predict(embedded, points_xy=point, point_labels=label)

    def reference() -> Masks:
        return Masks(*theirs.predict(point, label, multimask_output=True))

    sides: dict[str, Call] = {REFERENCE: reference, OURS: ours}
    if setting.peers and peers.is_available():
        sides[peers.NAME] = peers.click(setting, pair.reference, point)
    first = {"first click on an image": lambda: ours(_copied(embedding))}
    return Contest(sides, _check_against(theirs), lambda: count_flops(ours), first)


def _boxes(setting: Setting) -> Contest:
    pair = decoder_pair(setting)
    image = random_image(setting.scale.image_side, setting.seed)
    boxes = _random_boxes(setting)
    predictor, theirs = SamPredictor(pair.ours), reference_predictor(pair.reference, image)
    embedding = predictor.encode(image)

    def ours() -> MaskPrediction:
        return predictor.predict(embedding, box_xyxy=boxes, multimask=False)

    def reference() -> Masks:
        given = torch.from_numpy(boxes).to(theirs.device)
        given = theirs.transform.apply_boxes_torch(given, theirs.original_size)
        outputs = theirs.predict_torch(None, None, boxes=given, multimask_output=False)
        return Masks(*(output.cpu().numpy() for output in outputs))

    sides = {REFERENCE: reference, OURS: ours}
    return Contest(sides, _check_against(theirs), lambda: count_flops(ours))


def _copied(embedding: ImageEmbedding) -> ImageEmbedding:
    """Return the embedding as if it were new."""
    return dataclasses.replace(embedding, features=embedding.features.clone())


def _random_boxes(setting: Setting) -> NDArray[np.float32]:
    """Return boxes (N, 4) of the size of cells, anywhere in the image."""
    side, rng = setting.scale.image_side, np.random.default_rng(setting.seed)
    sizes = rng.uniform(side / 32, side / 8, (setting.scale.boxes, 2))
    corners = rng.uniform(0, side - 1 - sizes)
    return np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)


def _check_against(theirs: Any) -> Callable[[MaskPrediction, Masks], Check]:
    """Compare with masks whose logits the reference's predictor can compute again."""

    def check(ours: MaskPrediction, other: Masks) -> Check:
        low_res = torch.from_numpy(other.low_res_logits)
        batch = low_res.reshape(-1, 1, *low_res.shape[-2:])
        logits = theirs.model.postprocess_masks(batch, theirs.input_size, theirs.original_size)
        return check_masks(ours, other, logits.reshape(other.masks.shape).numpy())

    return check


CLICK = Work(
    name="click",
    title="one click, three masks",
    target=Target(ratio=3),
    against="segment_anything",
    repeats=15,
    prepare=_click,
)
BOXES = Work(
    name="boxes",
    title="64 boxes at once",
    target=Target(ratio=4),
    against="segment_anything",
    repeats=3,
    prepare=_boxes,
)
