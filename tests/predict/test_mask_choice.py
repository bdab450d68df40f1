"""Which of three masks is the best."""

from __future__ import annotations

import numpy as np

from napari_sam.core.prompt_shapes import PointPrompt
from napari_sam.core.prompts import PromptSet
from napari_sam.model.sam import InputSpec
from napari_sam.pipeline.candidates import CandidateMask, ObjectCandidates
from napari_sam.predict import SamPredictor
from napari_sam.predict.mask_choice import mask_ranks
from tiny_models import tiny_sam

NATIVE = InputSpec(native_resolution=True)
IOU = np.array([0.70, 0.72, 0.10], np.float32)
STABILITY = np.array([0.90, 0.60, 1.00], np.float32)


def test_stability_decides_between_like_masks_of_native_models() -> None:
    assert mask_ranks(IOU, STABILITY, NATIVE).argmax() == 0
    np.testing.assert_array_equal(mask_ranks(IOU, STABILITY, InputSpec()), IOU)


def test_the_best_of_a_batch_is_that_of_each_object() -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    for kind in ("compact", "vit"):
        predictor = SamPredictor(tiny_sam(kind))
        embedding = predictor.encode(image)
        points = np.array([[[20.0, 30.0]], [[60.0, 70.0]], [[40.0, 10.0]]])
        batch = predictor.predict(embedding, points, np.ones((3, 1), int))
        ranks = mask_ranks(batch.predicted_iou, batch.stability_score, predictor.sam.input_spec)
        assert batch.best.tolist() == ranks.argmax(axis=1).tolist()
        single = predictor.predict(embedding, points[1], [1])
        assert single.masks[single.best].shape == (96, 96)
        assert single.best == batch.best[1]


def test_candidates_are_preferred_by_rank() -> None:
    logits = np.ones((4, 4), np.float32)
    scores = zip(IOU, STABILITY, mask_ranks(IOU, STABILITY, NATIVE), strict=True)
    masks = tuple(
        CandidateMask(logits, (0, 0), float(iou), float(stable), rank=float(rank))
        for iou, stable, rank in scores
    )
    click = PromptSet(points=(PointPrompt(1.0, 1.0),))
    assert ObjectCandidates(click, masks, is_ambiguous=True).preferred() == 0
