"""The compact model takes any size, and the pieces of a Sam agree with each other."""

from __future__ import annotations

import pytest
import torch

from napari_sam.model import build_sam
from napari_sam.model.layers import ImageFeatures
from tiny_models import tiny_sam


@pytest.mark.parametrize("size", [(32, 32), (64, 160), (40, 70)])
def test_any_size_is_encoded_at_an_eighth(size: tuple[int, int]) -> None:
    sam = tiny_sam("compact")
    with torch.inference_mode():
        features = sam.encode(torch.rand(2, 3, *size) * 255)
        padded = tuple(-(-side // 32) * 32 for side in size)
        assert features.embedding.shape == (2, 32, padded[0] // 8, padded[1] // 8)
        half, quarter = features.skips
        assert half.shape[-2:] == (padded[0] // 2, padded[1] // 2)
        assert quarter.shape[-2:] == (padded[0] // 4, padded[1] // 4)
        maps = sam.instance_head(features)
        assert maps.foreground.shape == (2, padded[0] // 4, padded[1] // 4)


def test_the_shipped_size_is_small() -> None:
    parameters = sum(parameter.numel() for parameter in build_sam("compact").parameters())
    assert 2 * parameters < 15e6  # bytes in half precision


@pytest.mark.parametrize("encoder", ["vit", "compact"])
@pytest.mark.parametrize("own_features", [False, True])
def test_drawing_only_what_passes_changes_no_mask(encoder: str, own_features: bool) -> None:
    sam = tiny_sam(encoder)
    torch.manual_seed(0)
    count = 6 if own_features else 1
    with torch.inference_mode():
        features = sam.encode(torch.rand(count, 3, 128, 128) * 255)
        points = (torch.rand(6, 1, 2) * 127, torch.ones(6, 1))
        logits, predicted = sam.decode(features, points=points, multimask=True)
        threshold = float(predicted.median())
        passed = sam.decode_above(features, points=points, min_predicted_iou=threshold)
        nothing = sam.decode_above(features, points=points, min_predicted_iou=1e9)
    expected = (predicted > threshold).nonzero()
    assert 0 < len(expected) < predicted.numel()
    assert torch.equal(torch.stack([passed.prompt_index, passed.mask_index], 1), expected)
    assert torch.allclose(passed.low_res_logits, logits[predicted > threshold], atol=1e-5)
    assert torch.equal(passed.predicted_iou, predicted[predicted > threshold])
    assert len(nothing.low_res_logits) == 0


def test_prompts_may_bring_features_of_their_own() -> None:
    sam = tiny_sam("compact")
    torch.manual_seed(0)
    with torch.inference_mode():
        features = sam.encode(torch.rand(2, 3, 64, 64) * 255)
        points = (torch.rand(2, 1, 2) * 63, torch.ones(2, 1))
        together, _ = sam.decode(features, points=points, multimask=True)
        for index in range(2):
            own = ImageFeatures(
                features.embedding[index, None], tuple(skip[index, None] for skip in features.skips)
            )
            alone, _ = sam.decode(
                own, points=(points[0][index, None], points[1][index, None]), multimask=True
            )
            assert torch.allclose(alone[0], together[index], atol=1e-4)
