"""The predictor: any image size, batches, mask prompts, threads, and what it refuses."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_sam.core.errors import DeviceError, InputError, OutOfMemoryError
from napari_sam.model.sam import Sam
from napari_sam.predict import ImageEmbedding, MaskPrediction, SamPredictor
from napari_sam.predict.transforms import CERTAIN_LOGIT
from tiny_models import tiny_sam


@pytest.fixture(scope="module")
def compact() -> SamPredictor:
    return SamPredictor(tiny_sam("compact"))


@pytest.fixture(scope="module")
def official() -> SamPredictor:
    return SamPredictor(tiny_sam("vit"))


def image_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    return (255 * (noise - noise.min()) / max(np.ptp(noise), 1e-9)).astype(np.uint8)


def assert_same(one: MaskPrediction, other: MaskPrediction, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(one.predicted_iou, other.predicted_iou, atol=atol)
    np.testing.assert_allclose(one.low_res_logits, other.low_res_logits, atol=atol)
    np.testing.assert_allclose(one.stability_score, other.stability_score, atol=1e-3)
    assert (one.masks != other.masks).mean() < 1e-4


@pytest.mark.parametrize("shape", [(64, 96), (1, 1), (2, 300), (130, 70), (300, 400, 3), (9, 9, 2)])
@pytest.mark.parametrize("kind", ["compact", "official"])
def test_images_of_any_size_give_masks_of_their_size(
    kind: str, shape: tuple[int, ...], request: pytest.FixtureRequest
) -> None:
    predictor = request.getfixturevalue(kind)
    embedding = predictor.encode(image_of(shape))
    assert embedding.original_size_yx == shape[:2]
    stride = predictor.sam.input_spec.stride
    padded = embedding.transform.padded_size_yx
    assert embedding.features.shape[2:] == (padded[0] // stride, padded[1] // stride)
    result = predictor.predict(embedding, [[0, 0]], [1])
    assert result.masks.shape == (3, *shape[:2])
    assert result.masks.dtype == np.bool_
    assert result.predicted_iou.shape == result.stability_score.shape == (3,)
    assert result.low_res_logits.shape == (3, *embedding.transform.low_res_size_yx)
    assert predictor.predict(embedding, [[0, 0]], [1], multimask=False).masks.shape[0] == 1
    assert np.isfinite(result.stability_score).all()


def test_embeddings_cannot_be_changed(compact: SamPredictor) -> None:
    embedding = compact.encode(image_of((40, 40)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        embedding.model_digest = "other"
    assert embedding.model_digest == compact.sam.digest
    assert len(embedding.skips) == 2


def test_the_mosaic_of_windows_is_near_one_pass_over_all(compact: SamPredictor) -> None:
    """Away from the image's border, windows see what one pass sees; attention alone differs."""
    image = image_of((300, 400))
    tiled = compact.encode(image)
    whole_sam = tiny_sam("compact")
    whole_sam.input_spec = dataclasses.replace(whole_sam.input_spec, size=1024)
    whole = SamPredictor(whole_sam).encode(image)
    for ours, expected in zip(
        (tiled.features, *tiled.skips), (whole.features, *whole.skips), strict=True
    ):
        assert ours.shape == expected.shape
        assert torch.isfinite(ours).all()
        correlation = np.corrcoef(ours.numpy().ravel(), expected.numpy().ravel())[0, 1]
        assert correlation > 0.95
    # the finest map is convolutions only: each cell must come from its own window's inside
    torch.testing.assert_close(tiled.skips[0], whole.skips[0], atol=1e-4, rtol=1e-4)


def test_a_prompt_at_a_seam_gets_a_mask_around_it(compact: SamPredictor) -> None:
    embedding = compact.encode(image_of((300, 400)))
    for x, y in [(128, 128), (191, 64), (200, 150), (399, 299)]:
        result = compact.predict(embedding, [[x, y]], [1])
        drawn = result.low_res_logits[0] != -CERTAIN_LOGIT
        ys, xs = np.nonzero(drawn)
        assert xs.min() * 2 <= x < (xs.max() + 1) * 2
        assert ys.min() * 2 <= y < (ys.max() + 1) * 2
        assert (len(np.unique(ys)), len(np.unique(xs))) == (64, 64)  # a window of 128 pixels


def test_large_prompts_get_large_windows(compact: SamPredictor) -> None:
    embedding = compact.encode(image_of((300, 400)))
    result = compact.predict(embedding, box_xyxy=[10, 45, 300, 85])
    ys, xs = np.nonzero(result.low_res_logits[0] != -CERTAIN_LOGIT)
    assert len(np.unique(xs)) * 2 >= 290 + 2 * 10  # the image ends 10 pixels left of the box
    assert len(np.unique(ys)) * 2 == 128


BOXES = np.array(
    [[5, 5, 40, 30], [200, 180, 240, 220], [350, 20, 390, 60], [20, 20, 350, 250], [6, 5, 41, 31]]
)


@pytest.mark.parametrize("kind", ["compact", "official"])
def test_a_batch_of_boxes_is_one_by_one(kind: str, request: pytest.FixtureRequest) -> None:
    predictor = request.getfixturevalue(kind)
    embedding = predictor.encode(image_of((300, 400)))
    batch = predictor.predict(embedding, box_xyxy=BOXES)
    assert batch.masks.shape == (5, 3, 300, 400)
    assert batch.predicted_iou.shape == batch.stability_score.shape == (5, 3)
    for index, box in enumerate(BOXES):
        single = predictor.predict(embedding, box_xyxy=box)
        assert_same(
            MaskPrediction(*(getattr(batch, f.name)[index] for f in dataclasses.fields(batch))),
            single,
        )


@pytest.mark.parametrize("kind", ["compact", "official"])
def test_batches_mix_points_boxes_and_masks(kind: str, request: pytest.FixtureRequest) -> None:
    predictor = request.getfixturevalue(kind)
    embedding = predictor.encode(image_of((300, 400)))
    points = np.array([[[20, 20], [30, 12]], [[220, 200], [0, 0]]])
    labels = np.array([[1, 0], [1, -1]])
    masks = np.zeros((2, 300, 400), bool)
    masks[0, 10:25, 10:35] = masks[1, 190:230, 210:250] = True
    batch = predictor.predict(embedding, points, labels, BOXES[:2], masks)
    for index in range(2):
        single = predictor.predict(
            embedding, points[index], labels[index], BOXES[index], masks[index]
        )
        np.testing.assert_allclose(batch.low_res_logits[index], single.low_res_logits, atol=1e-5)


def test_boxes_of_one_window_take_one_decoder_call(
    official: SamPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = official.encode(image_of((300, 400)))
    calls = []
    decode = Sam.decode

    def counting(self: Sam, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(kwargs["boxes"]))
        return decode(self, *args, **kwargs)

    monkeypatch.setattr(Sam, "decode", counting)
    official.predict(embedding, box_xyxy=BOXES)
    assert calls == [5]


@pytest.mark.parametrize("kind", ["compact", "official"])
def test_low_res_logits_go_back_in_as_a_mask(kind: str, request: pytest.FixtureRequest) -> None:
    predictor = request.getfixturevalue(kind)
    embedding = predictor.encode(image_of((300, 400)))
    first = predictor.predict(embedding, [[220, 200]], [1])
    second = predictor.predict(embedding, [[220, 200]], [1], mask=first.low_res_logits[0])
    assert not np.allclose(second.low_res_logits, first.low_res_logits)
    for same in (first.low_res_logits[:1], torch.from_numpy(first.low_res_logits[0])):
        assert_same(predictor.predict(embedding, [[220, 200]], [1], mask=same), second)


def test_a_drawn_mask_is_a_prompt_of_its_own(compact: SamPredictor) -> None:
    embedding = compact.encode(image_of((300, 400)))
    mask = np.zeros((300, 400), bool)
    mask[250:280, 350:390] = True
    result = compact.predict(embedding, mask=mask)
    ys, xs = np.nonzero(result.low_res_logits[0] != -CERTAIN_LOGIT)
    assert ys.max() == 159  # rows up to 320, the padded frame
    assert xs.max() == 207
    assert (ys.min(), xs.min()) == (160 - 64, 208 - 64)


@pytest.mark.parametrize("kind", ["compact", "official"])
def test_threads_share_a_predictor(kind: str, request: pytest.FixtureRequest) -> None:
    predictor = request.getfixturevalue(kind)
    images = [image_of((150 + 10 * i, 200), seed=i) for i in range(4)]

    def work(image: np.ndarray) -> MaskPrediction:
        return predictor.predict(predictor.encode(image), [[50, 60]], [1], [40, 40, 80, 90])

    expected = [work(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(work, images * 3), expected * 3, strict=True):
            assert_same(got, wanted)


BAD_PROMPTS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "No prompt"),
    "no objects": ({"box_xyxy": np.zeros((0, 4))}, "No prompt"),
    "points without labels": ({"points_xy": [[1, 1]]}, "without labels"),
    "labels without points": ({"point_labels": [1]}, "without points"),
    "one number short": ({"points_xy": [1, 1], "point_labels": [1]}, "shape"),
    "three coordinates": ({"points_xy": [[1, 1, 1]], "point_labels": [1]}, "shape"),
    "ragged points": ({"points_xy": [[1, 1], [1]], "point_labels": [1, 1]}, "regular array"),
    "text": ({"points_xy": [["a", "b"]], "point_labels": [1]}, "real numbers"),
    "label 2": ({"points_xy": [[1, 1]], "point_labels": [2]}, r"labels \[2\]"),
    "only padding": ({"points_xy": [[1, 1]], "point_labels": [-1]}, "neither a point"),
    "point right of the image": ({"points_xy": [[101, 1]], "point_labels": [1]}, "inside"),
    "row and column swapped": ({"points_xy": [[1, 90]], "point_labels": [1]}, "inside"),
    "NaN point": ({"points_xy": [[np.nan, 1]], "point_labels": [1]}, "inside"),
    "empty box": ({"box_xyxy": [5, 5, 5, 9]}, "x0 < x1"),
    "box upside down": ({"box_xyxy": [5, 9, 8, 5]}, "y0 < y1"),
    "NaN box": ({"box_xyxy": [5, np.nan, 8, 5]}, "finite"),
    "box outside": ({"box_xyxy": [200, 5, 210, 9]}, "overlaps the image"),
    "box of three": ({"box_xyxy": [1, 2, 3]}, "shape"),
    "two boxes, three objects": (
        {
            "box_xyxy": [[1, 1, 5, 5], [2, 2, 6, 6]],
            "points_xy": np.ones((3, 1, 2)),
            "point_labels": np.ones((3, 1)),
        },
        "points_xy for 3, box_xyxy for 2",
    ),
    "mask of another shape": ({"mask": np.ones((9, 9), bool)}, "mask prompt of shape"),
    "integer mask": ({"mask": np.ones((50, 100), int)}, "astype"),
    "empty mask": ({"mask": np.zeros((50, 100), bool)}, "mask with any pixel"),
    "NaN logits": ({"mask": np.full((32, 32), np.nan)}, "finite"),
    "three masks of an object": ({"mask": np.ones((1, 3, 32, 32))}, "one mask prompt per object"),
}


@pytest.mark.parametrize("name", BAD_PROMPTS)
def test_bad_prompts_are_refused(name: str, official: SamPredictor) -> None:
    given, message = BAD_PROMPTS[name]
    embedding = official.encode(image_of((50, 100)))
    with pytest.raises(InputError, match=message):
        official.predict(embedding, **given)


def test_an_embedding_of_another_model_is_refused(
    official: SamPredictor, compact: SamPredictor
) -> None:
    embedding = SamPredictor(tiny_sam("vit", seed=1)).encode(image_of((50, 100)))
    with pytest.raises(InputError, match="model that made it"):
        official.predict(embedding, [[1, 1]], [1])


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemoryError),
        (RuntimeError("kernel failed"), DeviceError),
    ],
)
def test_torch_errors_are_translated(
    raised: RuntimeError, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = SamPredictor(tiny_sam("vit"))
    embedding = predictor.encode(image_of((50, 100)))

    def fail(*args: Any, **kwargs: Any) -> None:
        raise raised

    monkeypatch.setattr(predictor.sam, "decode", fail)
    monkeypatch.setattr(predictor.sam, "encode", fail)
    with pytest.raises(expected) as caught:
        predictor.predict(embedding, [[1, 1]], [1])
    assert not isinstance(caught.value, RuntimeError)
    with pytest.raises(expected):
        predictor.encode(image_of((50, 100)))


def test_embeddings_hold_plain_features(compact: SamPredictor) -> None:
    embedding = compact.encode(image_of((64, 64)))
    assert isinstance(embedding, ImageEmbedding)
    assert embedding.as_features().embedding is embedding.features
    assert not embedding.features.requires_grad
