"""Prompts to candidate masks: exact, remembered, the same for the same prompts, in any thread."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_sam.core.errors import InputError, OutOfMemoryError
from napari_sam.core.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet
from napari_sam.io.embedding_cache import EmbeddingCache
from napari_sam.model.sam import Sam
from napari_sam.model.streamed_transformer import SharedImage, StreamedTransformer
from napari_sam.pipeline import embedding_store, prompt_decoding
from napari_sam.pipeline.candidates import ObjectCandidates
from napari_sam.pipeline.interactive import EmbedProgress, InteractivePredictor
from napari_sam.pipeline.plane_image import ArrayPlaneImage
from napari_sam.pipeline.view_choice import PlaneViews
from napari_sam.predict import ImageEmbedding, SamPredictor
from napari_sam.predict.decoding import AllMasks, ViewPrompts, decode_all_masks
from napari_sam.tiling.normalize import Contrast
from tiny_models import tiny_sam

CONTRAST = Contrast((0.0,), (255.0,))
KINDS = ("compact", "vit")


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    return (255 * (values - values.min()) / np.ptp(values)).astype(np.uint8)


def clicks(*places: tuple[float, float], choice: int | None = None) -> PromptSet:
    points = (PointPrompt(abs(x), abs(y), x >= 0) for x, y in places)
    return PromptSet(tuple(points), choice=choice)


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights draw random masks: look nowhere but where the prompts are."""
    monkeypatch.setattr(PlaneViews, "is_cut", lambda *_: False)
    monkeypatch.setattr(prompt_decoding, "_LOST_BELOW", -np.inf)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ViewPrompts, AllMasks]]:
    """What the mask decoder was given, and what it gave."""
    seen: list[tuple[ViewPrompts, AllMasks]] = []

    def recording(sam: Sam, embedding: object, view: object, prompts: ViewPrompts) -> AllMasks:
        seen.append((prompts, decode_all_masks(sam, embedding, view, prompts)))
        return seen[-1][1]

    monkeypatch.setattr(prompt_decoding, "decode_all_masks", recording)
    return seen


def finish(steps: Iterator) -> tuple[list, object]:
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as finished:
            return seen, finished.value


def assert_same(one: ObjectCandidates, other: ObjectCandidates) -> None:
    assert (one.prompts, one.is_ambiguous, one.factor) == (
        other.prompts,
        other.is_ambiguous,
        other.factor,
    )
    for a, b in zip(one.masks, other.masks, strict=True):
        assert np.array_equal(a.logits, b.logits)
        assert (a.origin_yx, a.size_yx, a.cells_per_pixel_yx) == (
            b.origin_yx,
            b.size_yx,
            b.cells_per_pixel_yx,
        )
        assert (a.predicted_iou, a.stability_score) == (b.predicted_iou, b.stability_score)


# what comes out


@pytest.mark.parametrize(
    ("kind", "shape", "different"),
    [
        ("compact", (120, 100), 1e-3),
        ("compact", (300, 260), 1e-3),
        ("vit", (128, 100), 1e-3),
        # official SAM resamples twice, through the input frame; random masks are all outline
        ("vit", (180, 150), 2e-2),
    ],
)
@pytest.mark.parametrize("prompts", [clicks((60, 50)), PromptSet(box=BoxPrompt(50, 40, 80, 62))])
def test_masks_are_those_of_the_predictor(
    kind: str, shape: tuple[int, int], different: float, prompts: PromptSet, calm: None
) -> None:
    predictor = InteractivePredictor(tiny_sam(kind))
    image = ArrayPlaneImage([noise(shape)])
    _, embedding = finish(predictor.embedding(image, CONTRAST))
    assert isinstance(embedding, ImageEmbedding)
    assert embedding.features.dtype == torch.float32
    (ours,) = predictor.predict(image, CONTRAST, [prompts])
    assert ours.prompts == prompts
    assert ours.factor == 1
    assert ours.is_ambiguous == bool(prompts.points)
    reference = SamPredictor(predictor.sam)
    given = {"box_xyxy": prompts.box.xyxy} if prompts.box else {}
    if prompts.points:
        given |= {"points_xy": [[60, 50]], "point_labels": [1]}
    expected = [reference.predict(embedding, **given, multimask=True)]
    if prompts.box:
        expected.insert(0, reference.predict(embedding, **given, multimask=False))
    masks = np.concatenate([prediction.masks for prediction in expected])
    iou = np.concatenate([prediction.predicted_iou for prediction in expected])
    stability = np.concatenate([prediction.stability_score for prediction in expected])
    np.testing.assert_allclose([mask.predicted_iou for mask in ours.masks], iou, atol=1e-5)
    np.testing.assert_allclose([m.stability_score for m in ours.masks], stability, atol=1e-3)
    drawn = np.stack([mask.at().to_plane(shape) for mask in ours.masks])
    assert (drawn != masks).mean() < different


def test_each_object_gets_its_own_masks(calm: None) -> None:
    predictor = InteractivePredictor(tiny_sam("compact"))
    image = ArrayPlaneImage([noise((200, 200))])
    objects = [clicks((50, 60)), PromptSet(box=BoxPrompt(100, 100, 130, 120)), clicks((9, 9))]
    counted, together = finish(predictor.predict_steps(image, CONTRAST, objects))
    assert counted == [1, 2, 3]
    alone = [predictor.predict(image, CONTRAST, [prompts])[0] for prompts in objects]
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)
    assert predictor.predict(image, CONTRAST, []) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_prompts_give_the_same_bits_after_a_round_trip(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From memory, from disk, and whatever was asked before."""
    monkeypatch.setattr(embedding_store, "_LOAD_BYTES_PER_S", 1e15)
    image = ArrayPlaneImage([noise((250, 230))])
    objects = [clicks((60, 50), (90, 55), (-70, 80)), PromptSet(box=BoxPrompt(9, 9, 50, 40))]
    first = InteractivePredictor(tiny_sam(kind), EmbeddingCache(tmp_path))
    before = first.predict(image, CONTRAST, objects)
    first.flush()
    second = InteractivePredictor(tiny_sam(kind), EmbeddingCache(tmp_path))
    second.predict(image, CONTRAST, [clicks((100, 100)), clicks((60, 50)), clicks((61, 50))])
    if kind == "vit":
        again = ArrayPlaneImage([noise((190, 190))])
        assert list(second.prepare(again, CONTRAST))[-1].origin == "computed"
    for one, other in zip(before, second.predict(image, CONTRAST, objects), strict=True):
        assert_same(one, other)
    second.release()
    for one, other in zip(before, second.predict(image, CONTRAST, objects), strict=True):
        assert_same(one, other)


# what is remembered


def test_one_more_click_costs_one_decode_and_undo_none(calm: None, decodes: list) -> None:
    predictor = InteractivePredictor(tiny_sam("compact"))
    image = ArrayPlaneImage([noise((200, 200))])
    places = [(100, 100), (110, 105), (-90, 120), (95, 99)]
    results = []
    for count in range(1, 5):
        results += predictor.predict(image, CONTRAST, [clicks(*places[:count])])
        assert len(decodes) == count
    for count in (3, 2, 1, 4):
        (again,) = predictor.predict(image, CONTRAST, [clicks(*places[:count])])
        assert_same(again, results[count - 1])
    assert len(decodes) == 4
    predictor.release()
    predictor.predict(image, CONTRAST, [clicks(*places)])
    assert len(decodes) == 8


def test_each_click_builds_on_the_mask_before(calm: None, decodes: list) -> None:
    predictor = InteractivePredictor(tiny_sam("compact"))
    image = ArrayPlaneImage([noise((120, 120))])
    predictor.predict(image, CONTRAST, [clicks((60, 60), (70, 65), (-50, 40), choice=2)])
    (first, gave), (second, gave_second), (third, _) = decodes
    assert first.mask_logits is None
    np.testing.assert_array_equal(second.mask_logits, gave.low_res_logits[1 + 2])
    np.testing.assert_array_equal(third.mask_logits, gave_second.low_res_logits[0])
    np.testing.assert_array_equal(third.points_xy, [[60, 60], [70, 65], [50, 40]])
    np.testing.assert_array_equal(third.labels, [1, 1, 0])


def test_choice_and_preference_say_which_mask_goes_on(calm: None, decodes: list) -> None:
    predictor = InteractivePredictor(tiny_sam("compact"))
    image = ArrayPlaneImage([noise((120, 120))])
    (first,) = predictor.predict(image, CONTRAST, [clicks((60, 60))])
    for choice, preference in [(0, "best"), (1, "part"), (2, "best"), (None, "whole")]:
        before = len(decodes)
        predictor.predict(image, CONTRAST, [clicks((60, 60), choice=choice)], preference)
        assert len(decodes) == before  # another choice alone is no work
        prompts = clicks((60, 60), (-20, 20), choice=choice)
        predictor.predict(image, CONTRAST, [prompts], preference)
        chosen = first.preferred(preference) if choice is None else choice
        np.testing.assert_array_equal(decodes[-1][0].mask_logits, first.masks[chosen].logits)
    count = len(decodes)
    boxed = PromptSet((PointPrompt(60, 60),), BoxPrompt(50, 50, 70, 70), choice=2)
    predictor.predict(image, CONTRAST, [boxed])
    predictor.predict(image, CONTRAST, [PromptSet(boxed.points, boxed.box)], "whole")
    assert len(decodes) == count + 2  # nothing ambiguous, so nothing to choose


def test_drawn_masks_go_in_as_logits_and_box(calm: None, decodes: list) -> None:
    predictor = InteractivePredictor(tiny_sam("compact"))
    image = ArrayPlaneImage([noise((120, 120))])
    mask = MaskPrompt.from_array(np.ones((20, 30), bool), (40, 50))
    predictor.predict(image, CONTRAST, [PromptSet(mask=mask)])
    given, _ = decodes[-1]
    assert given.box_xyxy == (50, 40, 80, 60)
    expected = np.full((64, 64), -10.0)
    expected[20:30, 25:40] = 10
    np.testing.assert_allclose(given.mask_logits, expected, atol=1e-5)
    boxed = PromptSet((PointPrompt(60, 50),), BoxPrompt(45, 35, 90, 70), mask)
    predictor.predict(image, CONTRAST, [boxed])
    assert decodes[-1][0].box_xyxy == (45, 35, 90, 70)
    np.testing.assert_array_equal(decodes[-1][0].mask_logits, decodes[-2][1].low_res_logits[0])


def test_boxes_are_cut_to_the_plane(calm: None, decodes: list) -> None:
    predictor = InteractivePredictor(tiny_sam("compact"))
    image = ArrayPlaneImage([noise((100, 120))])
    predictor.predict(image, CONTRAST, [PromptSet(box=BoxPrompt(-500, 80, 30, 900))])
    assert decodes[-1][0].box_xyxy == (0, 80, 30, 100)


def test_logits_follow_when_the_view_moves(calm: None, decodes: list) -> None:
    predictor = InteractivePredictor(tiny_sam("compact"))
    image = ArrayPlaneImage([noise((120, 900))])
    predictor.predict(image, CONTRAST, [clicks((300, 60), (-362, 60))])
    (_, gave), (second, _) = decodes
    best = 1 + int(np.argmax(gave.predicted_iou[1:]))
    before, now = gave.low_res_logits[best], second.mask_logits
    assert now is not None
    moved = next(d for d in range(1, 64) if np.allclose(now[:, :-d], before[:, d:], atol=1e-4))
    assert moved % 4 == 0  # cells of the embedding
    np.testing.assert_allclose(now[:, -moved:], -10, atol=1e-4)


# readiness


def test_a_prepared_decoder_has_met_the_image_before_the_first_click(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared: list[int] = []
    share = StreamedTransformer.share

    def counted(transformer: StreamedTransformer, keys: torch.Tensor) -> SharedImage:
        shared.append(len(keys))
        return share(transformer, keys)

    monkeypatch.setattr(StreamedTransformer, "share", counted)
    for with_decoder in (False, True):
        predictor = InteractivePredictor(tiny_sam("vit"))
        image = ArrayPlaneImage([noise((190, 150))])
        list(predictor.prepare(image, CONTRAST, with_decoder=with_decoder))
        assert len(shared) == with_decoder
        for _ in range(2):
            predictor.predict(image, CONTRAST, [clicks((40, 50))])
        assert len(shared) == 1
        shared.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_preparing_a_decoder_changes_no_mask(kind: str) -> None:
    image = ArrayPlaneImage([noise((190, 150))])
    scores = []
    for with_decoder in (False, True):
        predictor = InteractivePredictor(tiny_sam(kind))
        list(predictor.prepare(image, CONTRAST, with_decoder=with_decoder))
        (found,) = predictor.predict(image, CONTRAST, [clicks((40, 50))])
        scores.append([mask.predicted_iou for mask in found.masks])
    assert scores[0] == scores[1]


@pytest.mark.parametrize("kind", KINDS)
def test_preparing_a_plane_and_looking_whether_it_is(kind: str) -> None:
    predictor = InteractivePredictor(tiny_sam(kind))
    image = ArrayPlaneImage([noise((190, 150))])
    assert not predictor.is_ready(image, CONTRAST)
    steps = predictor.prepare(image, CONTRAST)
    next(steps)
    steps.close()
    assert not predictor.is_ready(image, CONTRAST)
    seen = list(predictor.prepare(image, CONTRAST))
    total = 4 if kind == "compact" else 1
    assert seen == [EmbedProgress(done, total, "computed") for done in range(total + 1)]
    assert predictor.is_ready(image, CONTRAST)
    assert not predictor.is_ready(image, Contrast((0.0,), (9.0,)))
    assert not predictor.is_ready(ArrayPlaneImage([noise((190, 150))]), CONTRAST)
    assert list(predictor.prepare(image, CONTRAST)) == [EmbedProgress(1, 1, "memory")]
    predictor.release()
    assert not predictor.is_ready(image, CONTRAST)


@pytest.mark.parametrize(("kind", "shape"), [("compact", (2049, 2048)), ("vit", (193, 90))])
def test_large_planes_need_no_preparation(
    kind: str, shape: tuple[int, int], calm: None, decodes: list
) -> None:
    predictor = InteractivePredictor(tiny_sam(kind))
    image = ArrayPlaneImage([np.zeros(shape, np.uint8)])
    assert list(predictor.prepare(image, CONTRAST)) == []
    assert predictor.is_ready(image, CONTRAST)
    with pytest.raises(InputError, match="encoded in windows"):
        next(predictor.embedding(image, CONTRAST))
    (found,) = predictor.predict(image, CONTRAST, [clicks((45, 100))])
    assert found.masks[0].size_yx == (128, min(128, shape[1]))


# bounds


def test_a_click_allocates_nothing_as_large_as_the_plane(calm: None) -> None:
    predictor = InteractivePredictor(tiny_sam("compact"))
    image = ArrayPlaneImage([noise((1600, 1600))])
    list(predictor.prepare(image, CONTRAST))
    predictor.predict(image, CONTRAST, [clicks((800, 800))])
    tracemalloc.start()
    try:
        predictor.predict(image, CONTRAST, [clicks((800, 800), (810, 790))])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1600 * 1600 / 4


def test_threads_share_a_predictor_and_no_window_is_encoded_twice(
    calm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    encode = Sam.encode

    def counting(self: Sam, pixels: torch.Tensor) -> object:
        counted.append(1)
        return encode(self, pixels)

    monkeypatch.setattr(Sam, "encode", counting)
    predictor = InteractivePredictor(tiny_sam("compact"))
    image = ArrayPlaneImage([noise((190, 150))])
    objects = [clicks((40 + 5 * i, 60), (50, 70 + 3 * i)) for i in range(4)]
    together = threading.Barrier(4)

    def work(number: int) -> list[ObjectCandidates]:
        together.wait()
        if number == 0:
            list(predictor.prepare(image, CONTRAST))
        mixed = objects[number:] + objects[:number]
        found = predictor.predict(image, CONTRAST, mixed)
        return [found[(i - number) % 4] for i in range(4)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    assert len(counted) == 4
    expected = InteractivePredictor(tiny_sam("compact")).predict(image, CONTRAST, objects)
    for result, i in itertools.product(results, range(4)):
        assert_same(result[i], expected[i])


def test_errors_speak_of_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = InteractivePredictor(tiny_sam("compact"))
    image = ArrayPlaneImage([noise((120, 120))])
    for prompts in (PromptSet(), clicks((50, 130)), PromptSet(box=BoxPrompt(121, 0, 130, 9))):
        with pytest.raises(InputError):
            predictor.predict(image, CONTRAST, [clicks((5, 5)), prompts])

    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Sam, "encode", run_out)
        with pytest.raises(OutOfMemoryError):
            list(predictor.prepare(image, CONTRAST))
        with pytest.raises(OutOfMemoryError):
            predictor.predict(image, CONTRAST, [clicks((5, 5))])
    with monkeypatch.context() as patch:
        patch.setattr(predictor.sam.mask_decoder, "forward", run_out)
        with pytest.raises(OutOfMemoryError):
            predictor.predict(image, CONTRAST, [clicks((5, 5))])
    assert len(predictor.predict(image, CONTRAST, [clicks((5, 5))])) == 1
