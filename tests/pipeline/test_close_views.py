"""Clicks are decoded in a part of a view, and in all of it where that part cuts an object off."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_sam.core.prompts import BoxPrompt, PointPrompt, PromptSet
from napari_sam.pipeline import prompt_decoding
from napari_sam.pipeline.interactive import InteractivePredictor
from napari_sam.pipeline.plane_image import ArrayPlaneImage
from napari_sam.predict.decoding import AllMasks, ViewPrompts
from napari_sam.predict.frames import View
from napari_sam.predict.mask_prompts import low_res_of_mask
from napari_sam.tiling.normalize import Contrast
from tiny_models import tiny_sam

CONTRAST = Contrast((0.0,), (255.0,))
SHAPE = (600, 700)
WIDE, CLOSE = 256, 128


class Drawing:
    """Predicts what a view shows of true masks: the single one, and three of an ambiguous click."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *truths: np.ndarray) -> None:
        self.truths = [truths[i % len(truths)] for i in range(4)]
        self.image = ArrayPlaneImage([np.zeros(truths[0].shape, np.uint8)])
        self.iou = np.array([0.7, 0.6, 0.8, 0.5], np.float32)
        self.seen: list[tuple[View, ViewPrompts]] = []
        self._patch = monkeypatch
        self.predictor = self.new()

    def new(self, decode_size: int | None = CLOSE) -> InteractivePredictor:
        sam = tiny_sam("compact")
        sam.input_spec = dataclasses.replace(sam.input_spec, size=WIDE, decode_size=decode_size)
        self._patch.setattr(prompt_decoding, "decode_all_masks", self._decode)
        return InteractivePredictor(sam)

    def _decode(self, sam: object, embedding: object, view: View, prompts: ViewPrompts) -> AllMasks:
        self.seen.append((view, prompts))
        logits = np.stack([low_res_of_mask(truth, (0, 0), view) for truth in self.truths])
        return AllMasks(logits, self.iou, np.ones(4, np.float32), self.iou)

    def click(self, *points: tuple[float, float], choice: int | None = None):
        return self.ask(PromptSet(tuple(PointPrompt(*point) for point in points), choice=choice))

    def ask(self, prompts: PromptSet, predictor: InteractivePredictor | None = None):
        (found,) = (predictor or self.predictor).predict(self.image, CONTRAST, [prompts])
        return found

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [view.window.size_yx for view, _ in self.seen]


def rectangle(x0: int, y0: int, x1: int, y1: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


SMALL = rectangle(300, 300, 340, 340)
LONG = rectangle(220, 300, 420, 340)


def test_a_small_object_takes_one_close_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = Drawing(monkeypatch, SMALL)
    found = drawing.click((320, 320))
    assert drawing.sizes == [(CLOSE, CLOSE)]
    np.testing.assert_array_equal(found.masks[1].at().to_plane(SHAPE), SMALL)


def test_a_cut_object_gets_what_the_view_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = Drawing(monkeypatch, LONG)
    found = drawing.click((320, 320))
    assert drawing.sizes == [(CLOSE, CLOSE), (WIDE, WIDE)]
    expected = drawing.ask(found.prompts, drawing.new(decode_size=None))
    assert drawing.seen[2][0] == drawing.seen[1][0]
    assert len(drawing.seen) == 3
    for one, other in zip(found.masks, expected.masks, strict=True):
        assert one.origin_yx == other.origin_yx
        np.testing.assert_array_equal(one.logits, other.logits)
    np.testing.assert_array_equal(found.masks[1].at().to_plane(SHAPE), LONG)


def test_every_mask_that_is_offered_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is chosen without asking the model again."""
    drawing = Drawing(monkeypatch, SMALL, SMALL, SMALL, LONG)
    found = drawing.click((320, 320))
    assert found.preferred() == 1
    assert drawing.sizes == [(CLOSE, CLOSE), (WIDE, WIDE)]
    np.testing.assert_array_equal(found.masks[2].at().to_plane(SHAPE), LONG)


def test_an_unsure_model_sees_all_of_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = Drawing(monkeypatch, np.zeros(SHAPE, bool))
    drawing.iou[:] = 0.01
    drawing.click((320, 320))
    without = Drawing(monkeypatch, np.zeros(SHAPE, bool))
    without.iou[:] = 0.01
    without.ask(PromptSet((PointPrompt(320, 320),)), without.new(decode_size=None))
    views = [view for view, _ in without.seen]
    assert len(views) > 1  # coarser ones too
    assert [view for view, _ in drawing.seen if view in views] == views


def test_a_further_click_sees_the_whole_mask_before(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = rectangle(296, 300, 376, 340)
    drawing = Drawing(monkeypatch, truth)
    drawing.click((320, 320), (300, 310, False))
    (first, _), (second, given) = drawing.seen
    assert first.window.size_yx == (CLOSE, CLOSE)
    assert second.window.size_yx == (CLOSE, 160)  # 80 pixels, and the margin on both sides
    assert given.mask_logits is not None
    np.testing.assert_array_equal(
        given.mask_logits, low_res_of_mask(truth, (0, 0), second)
    )  # nothing was left outside


def test_a_further_click_on_a_large_object_stays_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = Drawing(monkeypatch, LONG)
    drawing.click((320, 320))
    drawing.seen.clear()
    drawing.click((320, 320), (330, 330))
    assert drawing.sizes == [(CLOSE, WIDE)]  # its height fits
    assert drawing.seen[0][1].mask_logits is not None
    assert (drawing.seen[0][1].mask_logits > 0).sum() == 20 * 100


@pytest.mark.parametrize("point", [(2, 2), (698, 598), (0, 300), (350, 598)])
def test_objects_at_the_border_are_whole(
    monkeypatch: pytest.MonkeyPatch, point: tuple[int, int]
) -> None:
    x, y = point
    truth = rectangle(max(x - 20, 0), max(y - 20, 0), x + 20, y + 20)
    drawing = Drawing(monkeypatch, truth)
    found = drawing.click(point)
    assert drawing.sizes == [(CLOSE, CLOSE)]
    np.testing.assert_array_equal(found.masks[0].at().to_plane(SHAPE), truth)


def test_planes_smaller_than_a_close_view(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = rectangle(0, 0, 90, 60, (60, 90))
    drawing = Drawing(monkeypatch, truth)
    found = drawing.click((20, 20))
    assert drawing.sizes == [(64, 96)]
    np.testing.assert_array_equal(found.masks[0].at().to_plane((60, 90)), truth)


def test_boxes_are_decoded_in_close_views(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = Drawing(monkeypatch, LONG)
    drawing.ask(PromptSet(box=BoxPrompt(300, 300, 340, 340)))
    assert drawing.sizes == [(CLOSE, CLOSE)]


def test_clicks_on_planes_that_are_too_large_to_be_encoded_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shape = (2100, 2100)
    truth = rectangle(1000, 1100, 1030, 1140, shape)
    drawing = Drawing(monkeypatch, truth)
    found = drawing.click((1010, 1120))
    ((view, _),) = drawing.seen
    assert view.frame.extent_yx == (WIDE, WIDE)
    assert view.window.size_yx == (CLOSE, CLOSE)
    np.testing.assert_array_equal(found.masks[0].at().to_plane(shape), truth)


def test_masks_do_not_depend_on_what_was_asked_before() -> None:
    """With a real decoder, whose masks are random and cut as often as not."""

    def predictor() -> InteractivePredictor:
        sam = tiny_sam("compact")
        sam.input_spec = dataclasses.replace(sam.input_spec, decode_size=64)
        return InteractivePredictor(sam)

    image = ArrayPlaneImage([np.random.default_rng(0).integers(0, 255, SHAPE, dtype=np.uint8)])
    places = [(100, 100), (110, 90), (330, 300), (120, 130), (400, 410)]
    objects = [PromptSet((PointPrompt(x, y),)) for x, y in places]
    objects.append(PromptSet((PointPrompt(100, 100), PointPrompt(120, 95), PointPrompt(90, 110))))
    expected = [predictor().predict(image, CONTRAST, [prompts])[0] for prompts in objects]
    again = predictor()
    for prompts, one in reversed(list(zip(objects, expected, strict=True))):
        (other,) = again.predict(image, CONTRAST, [prompts])
        for a, b in zip(one.masks, other.masks, strict=True):
            assert a.origin_yx == b.origin_yx
            np.testing.assert_array_equal(a.logits, b.logits)
