"""What only a GPU can show; everything here is skipped where torch sees no CUDA."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam.model import decoder_graph, load_model
from napari_sam.model.execution import execution_override
from napari_sam.model.half_precision import use_half_precision
from napari_sam.predict import ImageEmbedding, MaskPrediction, SamPredictor
from tiny_models import tiny_sam

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA")

POINTS = [[x, y] for x in (40, 100, 170) for y in (50, 120)]


def image_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (300, 200, 3), dtype=np.uint8)


def click(predictor: SamPredictor, embedding: ImageEmbedding, point: list[int]) -> MaskPrediction:
    return predictor.predict(embedding, [point], [1])


@pytest.mark.parametrize("kind", ["vit", "compact"])
def test_recorded_clicks_give_what_plain_ones_give(kind: str) -> None:
    predictor = SamPredictor(tiny_sam(kind).to("cuda"))
    for seed in range(2):
        embedding = predictor.encode(image_of(seed))
        for point in POINTS:
            ours = click(predictor, embedding, point)
            with execution_override(uses_graphs=False):
                plain = click(predictor, embedding, point)
            assert np.allclose(ours.low_res_logits, plain.low_res_logits, atol=1e-3, rtol=1e-3)
    calls = decoder_graph._calls[predictor.sam.mask_decoder]
    assert not calls.is_off
    assert any(graph is not None for graph in calls._graphs.values())


def test_pinned_pixels_and_batches_of_windows_give_the_same_features() -> None:
    predictor = SamPredictor(tiny_sam("compact").to("cuda"))
    for seed in range(8):  # pinned memory is used again for the next image
        ours = predictor.encode(image_of(seed)).features
        with execution_override(windows_per_batch=1, pins_tiles=False):
            plain = predictor.encode(image_of(seed)).features
        assert (ours - plain).abs().max() < 1e-2 * plain.abs().max()  # products may be in TF32


def test_half_precision_passes_with_the_bundled_model() -> None:
    sam = load_model("compact", "cuda")
    assert use_half_precision(sam).passed
    assert SamPredictor(sam).encode(image_of(0)).features.dtype == torch.float32
