"""Masks and scores for every kind of prompt, against the reference predictor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor as ReferencePredictor

from napari_sam.predict import SamPredictor
from reference_sam import reference_of
from tiny_models import tiny_sam

SHAPES = [(96, 160), (200, 140), (128, 128)]


def prompts(shape: tuple[int, int]) -> dict[str, dict[str, np.ndarray]]:
    rows, cols = shape
    rng = np.random.default_rng(1)
    points = rng.uniform((0, 0), (cols - 1, rows - 1), (5, 2))
    box = np.array([cols * 0.2, rows * 0.3, cols * 0.7, rows * 0.8])
    labels = np.array([1, 0, 1, 1, 0])
    return {
        "one point": {"points_xy": points[:1], "point_labels": labels[:1]},
        "five points": {"points_xy": points, "point_labels": labels},
        "box": {"box_xyxy": box},
        "box and points": {"box_xyxy": box, "points_xy": points, "point_labels": labels},
        "mask": {
            "mask": rng.normal(0, 4, (1, 32, 32)),
            "points_xy": points[:1],
            "point_labels": labels[:1],
        },
        "mask alone": {"mask": rng.normal(0, 4, (1, 32, 32))},
    }


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("encoder", ["vit", "tiny_vit"])
def test_predictions_equal_the_reference(
    encoder: str, shape: tuple[int, int], multimask: bool
) -> None:
    sam = tiny_sam(encoder)
    reference = ReferencePredictor(reference_of(sam))
    predictor = SamPredictor(sam)
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    embedding = predictor.encode(image)
    reference.set_image(image)
    torch.testing.assert_close(
        embedding.features, reference.get_image_embedding(), rtol=0, atol=1e-4
    )
    for name, given in prompts(shape).items():
        ours = predictor.predict(embedding, multimask=multimask, **given)
        logits, iou, low_res = reference.predict(
            point_coords=given.get("points_xy"),
            point_labels=given.get("point_labels"),
            box=given.get("box_xyxy"),
            mask_input=given.get("mask"),
            multimask_output=multimask,
            return_logits=True,
        )
        np.testing.assert_allclose(ours.predicted_iou, iou, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(ours.low_res_logits, low_res, atol=1e-4, err_msg=name)
        certain = np.abs(logits) > 1e-4
        np.testing.assert_array_equal(ours.masks[certain], logits[certain] > 0, err_msg=name)
        high, low = (logits > 1).sum((1, 2)), (logits > -1).sum((1, 2))
        np.testing.assert_allclose(ours.stability_score, high / low, atol=1e-3, err_msg=name)
