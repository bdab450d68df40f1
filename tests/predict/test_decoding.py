"""One pass gives the masks that the predictor gives in two, from half precision as well."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_sam.core.errors import OutOfMemoryError
from napari_sam.predict import ImageEmbedding, SamPredictor
from napari_sam.predict.decoding import AllMasks, ViewPrompts, decode_all_masks
from napari_sam.predict.frames import Frame, View, view_around
from tiny_models import tiny_sam

PREDICTORS = {kind: SamPredictor(tiny_sam(kind)) for kind in ("compact", "vit")}


def image_of(shape: tuple[int, int]) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 3)
    return (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


def decoded(
    predictor: SamPredictor, embedding: ImageEmbedding, prompts: ViewPrompts
) -> tuple[AllMasks, View]:
    points = prompts.points_xy if len(prompts.points_xy) else np.reshape(prompts.box_xyxy, (2, 2))
    extent = (*points.min(axis=0), *points.max(axis=0))
    view = view_around(extent, Frame.whole(embedding.original_size_yx), predictor.sam.input_spec)
    return decode_all_masks(predictor.sam, embedding, view, prompts), view


NO_POINTS = (np.zeros((0, 2)), np.zeros(0, np.int64))
PROMPTS = {
    "click": ViewPrompts(np.array([[150.0, 90.0]]), np.array([1])),
    "clicks": ViewPrompts(np.array([[150.0, 90.0], [170.5, 88.0]]), np.array([1, 0])),
    "box": ViewPrompts(*NO_POINTS, box_xyxy=(140.0, 80.0, 181.0, 112.0)),
}


@pytest.mark.parametrize("kind", ["compact", "vit"])
@pytest.mark.parametrize("name", PROMPTS)
def test_masks_are_those_of_the_predictor(kind: str, name: str) -> None:
    predictor, prompts = PREDICTORS[kind], PROMPTS[name]
    embedding = predictor.encode(image_of((180, 240)))
    ours, view = decoded(predictor, embedding, prompts)
    given = {"box_xyxy": prompts.box_xyxy} if prompts.box_xyxy else {}
    if len(prompts.labels):
        given |= {"points_xy": prompts.points_xy, "point_labels": prompts.labels}
    cells = view.window.cells(view.transform.low_res_stride)
    for multimask, indices in ((False, slice(0, 1)), (True, slice(1, 4))):
        expected = predictor.predict(embedding, **given, multimask=multimask)
        np.testing.assert_allclose(
            ours.low_res_logits[indices], expected.low_res_logits[:, *cells], atol=1e-5
        )
        np.testing.assert_allclose(ours.predicted_iou[indices], expected.predicted_iou, atol=1e-6)
        np.testing.assert_allclose(
            ours.stability_score[indices], expected.stability_score, atol=1e-3
        )


@pytest.mark.parametrize("kind", ["compact", "vit"])
def test_half_precision_is_cast_where_it_is_decoded(kind: str) -> None:
    predictor, prompts = PREDICTORS[kind], PROMPTS["clicks"]
    exact = predictor.encode(image_of((180, 240)))
    half = ImageEmbedding(
        exact.features.half(),
        tuple(skip.half() for skip in exact.skips),
        exact.original_size_yx,
        exact.transform,
        exact.model_digest,
    )
    ours, _ = decoded(predictor, half, prompts)
    expected, _ = decoded(predictor, exact, prompts)
    assert ours.low_res_logits.dtype == np.float32
    assert not np.array_equal(ours.low_res_logits, expected.low_res_logits)
    # a cell at the threshold itself may count as a scrap with one and not with the other
    is_close = np.isclose(ours.low_res_logits, expected.low_res_logits, rtol=0, atol=0.1)
    assert is_close.mean() > 0.999


def test_the_mask_prompt_has_a_say() -> None:
    predictor, prompts = PREDICTORS["compact"], PROMPTS["click"]
    embedding = predictor.encode(image_of((180, 240)))
    without, view = decoded(predictor, embedding, prompts)
    logits = np.full(view.low_res_size_yx, -10, np.float32)
    logits[20:30, 20:30] = 10
    prompts = ViewPrompts(prompts.points_xy, prompts.labels, mask_logits=logits)
    ours, _ = decoded(predictor, embedding, prompts)
    assert not np.allclose(ours.low_res_logits, without.low_res_logits, atol=1e-2)


def test_errors_of_the_device_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = SamPredictor(tiny_sam("compact"))
    embedding = predictor.encode(image_of((90, 90)))

    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(predictor.sam.mask_decoder, "forward", run_out)
    with pytest.raises(OutOfMemoryError):
        decoded(predictor, embedding, ViewPrompts(np.array([[5.0, 5.0]]), np.array([1])))
