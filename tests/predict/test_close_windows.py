"""Prompts are decoded in close windows, and objects that these would cut off in wide ones.

The mask decoder is replaced by one that draws the true mask, so that it is known what is cut.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam
from napari_sam.predict import ImageEmbedding, MaskPrediction, SamPredictor
from napari_sam.predict.transforms import CERTAIN_LOGIT, ImageTransform
from tiny_models import tiny_sam

WIDE, CLOSE = 256, 128


class Drawing:
    """A predictor whose masks are the parts of a true mask that its windows show."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, decode_size: int | None = CLOSE) -> None:
        self.sam = tiny_sam("compact")
        self.sam.input_spec = dataclasses.replace(
            self.sam.input_spec, size=WIDE, decode_size=decode_size
        )
        self.predictor = SamPredictor(self.sam)
        self.sizes: list[tuple[int, int]] = []
        """Rows and columns, in pixels, of the window of each object that was decoded."""
        monkeypatch.setattr(self.sam, "decode", self._decode)

    def _decode(
        self, features: ImageFeatures, *, multimask: bool, **given: Any
    ) -> tuple[Tensor, Tensor]:
        prompts = [value for value in given.values() if value is not None]
        count = len(prompts[0][0] if isinstance(prompts[0], tuple) else prompts[0])
        n_masks = 3 if multimask else 1
        logits = features.skips[0].expand(count, 3, -1, -1)[:, :n_masks]
        self.sizes += [(2 * logits.shape[-2], 2 * logits.shape[-1])] * count
        return logits, torch.linspace(0.5, 0.8, 3)[:n_masks].repeat(count, 1)

    def embed(self, *truths: np.ndarray) -> ImageEmbedding:
        """Embed three masks, or one three times, of a shape that is even."""
        transform = ImageTransform.for_image(truths[0].shape, self.sam.input_spec)
        maps = transform.masks_to_low_res(np.stack([truths[i % len(truths)] for i in range(3)]))
        rows, cols = transform.padded_size_yx
        return ImageEmbedding(
            torch.zeros(1, 1, rows // 8, cols // 8),
            (maps[None],),
            truths[0].shape,
            transform,
            self.sam.digest,
        )


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Drawing:
    return Drawing(monkeypatch)


def rectangle(
    x0: int, y0: int, x1: int, y1: int, shape: tuple[int, int] = (600, 700)
) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def assert_equal(one: MaskPrediction, other: MaskPrediction) -> None:
    for own in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, own.name), getattr(other, own.name))


def test_a_small_object_is_decoded_in_a_close_window(drawing: Drawing) -> None:
    truth = rectangle(300, 300, 340, 360)
    result = drawing.predictor.predict(drawing.embed(truth), [[320, 330]], [1])
    assert drawing.sizes == [(CLOSE, CLOSE)]
    np.testing.assert_array_equal(result.masks, [truth] * 3)


@pytest.mark.parametrize(
    "box", [(200, 300, 400, 340), (310, 200, 330, 345), (300, 310, 400, 340), (310, 310, 330, 460)]
)
def test_an_object_that_leaves_it_gets_what_a_wide_window_gives(
    drawing: Drawing, monkeypatch: pytest.MonkeyPatch, box: tuple[int, int, int, int]
) -> None:
    truth = rectangle(*box)
    result = drawing.predictor.predict(drawing.embed(truth), [[320, 320]], [1])
    assert drawing.sizes == [(CLOSE, CLOSE), (WIDE, WIDE)]
    always_wide = Drawing(monkeypatch, decode_size=None)
    expected = always_wide.predictor.predict(always_wide.embed(truth), [[320, 320]], [1])
    assert always_wide.sizes == [(WIDE, WIDE)]
    assert_equal(result, expected)


def test_one_mask_of_three_that_is_cut_is_enough(drawing: Drawing) -> None:
    small, large = rectangle(310, 310, 330, 330), rectangle(300, 200, 340, 400)
    result = drawing.predictor.predict(drawing.embed(small, small, large), [[320, 320]], [1])
    assert drawing.sizes == [(CLOSE, CLOSE), (WIDE, WIDE)]
    np.testing.assert_array_equal(result.masks, [small, small, large])
    drawing.sizes.clear()
    embedding = drawing.embed(small, large)
    drawing.predictor.predict(embedding, [[320, 320]], [1], multimask=False)
    assert drawing.sizes == [(CLOSE, CLOSE)]  # the one that is returned is whole


def test_scraps_elsewhere_do_not_count(drawing: Drawing) -> None:
    truth = rectangle(310, 310, 330, 330) | rectangle(350, 300, 500, 340)
    drawing.predictor.predict(drawing.embed(truth), [[320, 320]], [1])
    assert drawing.sizes == [(CLOSE, CLOSE)]
    drawing.predictor.predict(drawing.embed(truth), [[360, 320]], [1])
    assert drawing.sizes[1:] == [(CLOSE, CLOSE), (WIDE, WIDE)]


@pytest.mark.parametrize(
    ("box", "point"),
    [
        ((0, 0, 30, 40), (5, 5)),
        ((660, 550, 700, 600), (690, 590)),
        ((0, 280, 20, 320), (2, 300)),
        ((300, 570, 340, 600), (320, 599)),
    ],
)
def test_the_image_border_cuts_nothing(
    drawing: Drawing, box: tuple[int, int, int, int], point: tuple[int, int]
) -> None:
    truth = rectangle(*box)
    result = drawing.predictor.predict(drawing.embed(truth), [point], [1])
    assert drawing.sizes == [(CLOSE, CLOSE)]
    np.testing.assert_array_equal(result.masks[0], truth)


@pytest.mark.parametrize("shape", [(20, 30), (96, 128), (90, 500), (128, 128)])
def test_images_no_larger_than_a_window(drawing: Drawing, shape: tuple[int, int]) -> None:
    truth = rectangle(2, 0, shape[1] - 2, shape[0], shape)
    embedding = drawing.embed(truth)
    result = drawing.predictor.predict(embedding, [[10, 10]], [1])
    rows, cols = embedding.transform.padded_size_yx
    close = (min(CLOSE, rows), min(CLOSE, cols))
    assert drawing.sizes == ([close] if cols <= CLOSE else [close, (rows, WIDE)])
    shown = slice(0, drawing.sizes[-1][1])
    np.testing.assert_array_equal(result.masks[0, :, shown], truth[:, shown])


def test_a_box_says_where_its_object_ends(drawing: Drawing) -> None:
    truth = rectangle(200, 200, 500, 500)
    embedding = drawing.embed(truth)
    drawing.predictor.predict(embedding, box_xyxy=[300, 300, 340, 340])
    drawing.predictor.predict(embedding, box_xyxy=[300, 300, 420, 340])
    drawing.predictor.predict(embedding, box_xyxy=[200, 200, 500, 500])
    assert drawing.sizes == [(CLOSE, CLOSE), (CLOSE, 224), (384, 384)]


def test_the_window_of_a_further_click_holds_the_mask_before(drawing: Drawing) -> None:
    truth = rectangle(300, 310, 400, 330)
    embedding = drawing.embed(truth)
    first = drawing.predictor.predict(embedding, [[320, 320]], [1])
    drawing.sizes.clear()
    points, labels = [[320, 320], [316, 300]], [1, 0]
    result = drawing.predictor.predict(
        embedding, points, labels, mask=first.low_res_logits[0], multimask=False
    )
    assert drawing.sizes == [(CLOSE, 192)]  # 100 pixels, and the margin on both sides
    np.testing.assert_array_equal(result.masks[0], truth)
    drawn = result.low_res_logits[0] > -CERTAIN_LOGIT
    assert drawn[155:165, 150:200].all()


def test_a_batch_is_one_by_one_and_in_order(drawing: Drawing) -> None:
    truth = (
        rectangle(20, 20, 50, 50) | rectangle(200, 300, 400, 340) | rectangle(500, 100, 540, 140)
    )
    embedding = drawing.embed(truth)
    points = [[30, 30], [320, 320], [520, 120], [300, 310], [600, 500]]
    batch = drawing.predictor.predict(
        embedding, np.array(points)[:, None], np.ones((len(points), 1), int)
    )
    for index in reversed(range(len(points))):
        single = drawing.predictor.predict(embedding, [points[index]], [1])
        own = {f.name: getattr(batch, f.name)[index] for f in dataclasses.fields(batch)}
        assert_equal(MaskPrediction(**own), single)


def test_the_real_decoder_gives_what_it_gives_in_that_window() -> None:
    """Random weights: some of their masks are cut and others are not."""
    sam, always_wide = tiny_sam("compact"), tiny_sam("compact")
    sam.input_spec = dataclasses.replace(sam.input_spec, decode_size=64)
    image = np.random.default_rng(0).integers(0, 255, (300, 400), dtype=np.uint8)
    embedding = SamPredictor(sam).encode(image)
    points = np.random.default_rng(1).uniform(20, 280, (12, 1, 2))
    labels = np.ones((12, 1), int)
    ours = SamPredictor(sam).predict(embedding, points, labels, multimask=False)
    expected = SamPredictor(always_wide).predict(embedding, points, labels, multimask=False)
    is_close = (ours.low_res_logits != -CERTAIN_LOGIT).sum(axis=(1, 2, 3)) <= 32 * 32
    assert not is_close.all()
    np.testing.assert_allclose(
        ours.low_res_logits[~is_close], expected.low_res_logits[~is_close], atol=1e-5
    )
    for index in range(12):
        single = SamPredictor(sam).predict(embedding, points[index], [1], multimask=False)
        np.testing.assert_allclose(ours.low_res_logits[index], single.low_res_logits, atol=1e-5)


def test_models_that_resize_have_no_close_window(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = SamPredictor(tiny_sam("vit"))
    calls: list[tuple[int, ...]] = []
    decode = Sam.decode

    def counting(self: Sam, features: ImageFeatures, **given: Any) -> tuple[Tensor, Tensor]:
        calls.append(tuple(features.embedding.shape[-2:]))
        return decode(self, features, **given)

    monkeypatch.setattr(Sam, "decode", counting)
    predictor.predict(predictor.encode(rectangle(5, 5, 90, 90) * np.uint8(200)), [[50, 50]], [1])
    assert calls == [(8, 8)]
