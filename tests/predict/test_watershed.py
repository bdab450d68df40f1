"""Objects from the instance head's maps: exact on maps that are drawn, and whole with any model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from map_model import PIXELS_PER_LOGIT, as_sets, draw_discs, map_sam, true_labels
from napari_sam.core.errors import ConfigError, InputError, OutOfMemoryError
from napari_sam.core.steps import result_of
from napari_sam.predict import (
    SamPredictor,
    SegmentedImage,
    WatershedOptions,
    WatershedSegmenter,
    segment_everything,
    segment_everything_objects,
    segment_everything_steps,
)
from tiny_models import tiny_sam

SHAPE = (120, 180)
TOUCHING = [(60.0, 60.0, 30.0), (118.0, 62.0, 30.0)]
LOW = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


@pytest.fixture(scope="module")
def touching() -> SegmentedImage:
    return segment_everything_objects(draw_discs(SHAPE, TOUCHING), map_sam(), mode="watershed")


def test_two_touching_discs_come_apart(touching: SegmentedImage) -> None:
    truth = true_labels(SHAPE, TOUCHING)
    assert len(touching.objects) == 2
    for label in (1, 2):
        disc = truth == label
        found = touching.labels == np.bincount(touching.labels[disc]).argmax()
        assert (disc & found).sum() / (disc | found).sum() > 0.95


def test_objects_say_what_they_are(touching: SegmentedImage) -> None:
    seeds = sorted(item.point_xy for item in touching.objects)
    np.testing.assert_allclose(seeds, [disc[:2] for disc in TOUCHING], atol=4)
    scores = [item.predicted_iou * item.stability_score for item in touching.objects]
    assert scores == sorted(scores, reverse=True)
    assert touching.labels.dtype == np.int32
    for item in touching.objects:
        rows, cols = np.nonzero(touching.labels == item.label)
        assert item.area == len(rows)
        assert item.box_xyxy == (cols.min(), rows.min(), cols.max(), rows.max())


@pytest.mark.parametrize("thresh", [0.1, 0.3, 0.5, 0.9])
def test_the_threshold_moves_the_edge(thresh: float) -> None:
    image = draw_discs(SHAPE, [(80, 60, 30)])
    (item,) = segment_everything_objects(
        image, map_sam(), mode="watershed", foreground_thresh=thresh, **LOW
    ).objects
    radius = 30 - PIXELS_PER_LOGIT * np.log(thresh / (1 - thresh))
    assert np.sqrt(item.area / np.pi) == pytest.approx(radius, abs=0.3)


def test_edges_are_no_staircases() -> None:
    labels = segment_everything(draw_discs(SHAPE, [(80, 60, 30)]), map_sam(), mode="watershed")
    widths = np.count_nonzero(labels, axis=1)
    rows = np.arange(60 - 20, 60 + 20)
    np.testing.assert_allclose(widths[rows], 2 * np.sqrt(900 - (rows - 60) ** 2), atol=1.6)


def test_scores_are_mean_foreground_and_the_ratio_of_areas() -> None:
    image = draw_discs(SHAPE, [(80, 60, 30)])
    (item,) = segment_everything_objects(image, map_sam(), mode="watershed").objects
    low, high = 30 + PIXELS_PER_LOGIT, 30 - PIXELS_PER_LOGIT
    assert item.stability_score == pytest.approx((high / low) ** 2, abs=0.01)
    rows, cols = np.indices(SHAPE)
    depth = 30 - np.hypot(rows - 60, cols - 80)
    probability = 1 / (1 + np.exp(-depth.clip(max=11.8) / PIXELS_PER_LOGIT))
    assert item.predicted_iou == pytest.approx(probability[depth > 0].mean(), abs=0.01)


def test_objects_are_dropped_by_size_and_scores() -> None:
    image = draw_discs(SHAPE, [(50, 60, 30), (130, 60, 8)])
    sam = map_sam()
    basins = WatershedSegmenter(sam).find_basins(image)
    large, small = sorted(basins.segment(**LOW).objects, key=lambda item: -item.area)
    assert len(basins.segment(min_size=small.area).objects) == 2
    assert len(basins.segment(min_size=small.area + 1).objects) == 1
    assert len(basins.segment(max_area_fraction=large.area / image[..., 0].size).objects) == 2
    (left,) = basins.segment(max_area_fraction=(large.area - 1) / image[..., 0].size).objects
    assert left.area == small.area
    for option, value in (
        ("pred_iou_thresh", small.predicted_iou),
        ("stability_score_thresh", small.stability_score),
    ):
        assert len(basins.segment(**LOW | {option: value + 1e-6}).objects) == 1
        assert len(basins.segment(**LOW | {option: value - 1e-6}).objects) == 2


def test_basins_are_cut_as_a_new_run_would_cut_them() -> None:
    image = draw_discs(SHAPE, [*TOUCHING, (20, 100, 9)])
    basins = WatershedSegmenter(map_sam()).find_basins(image)
    for options in (
        {},
        {"foreground_thresh": 0.2},
        {"foreground_thresh": 0.9, "stability_score_thresh": 0.6},
        {"pred_iou_thresh": 0.9},
    ):
        anew = segment_everything_objects(image, map_sam(), mode="watershed", **options)
        again = basins.segment(**options)
        np.testing.assert_array_equal(again.labels, anew.labels)
        assert again.objects == anew.objects


def test_what_a_threshold_cuts_off_from_its_seed_goes() -> None:
    image = draw_discs(SHAPE, [(60, 60, 30)])
    image[40:80, 110:140] = 255, 0, 0  # no seed stands here
    image[55:65, 80:140] = np.maximum(image[55:65, 80:140], (200, 0, 0))  # a bridge, p = .73
    image[55:65, 80:140, 2] = 0
    basins = WatershedSegmenter(map_sam()).find_basins(image)
    assert basins.segment(foreground_thresh=0.5, **LOW).labels[60, 125] == 1
    assert basins.segment(foreground_thresh=0.9, **LOW).labels[60, 125] == 0


def test_nothing_floods_an_object_without_a_seed() -> None:
    image = draw_discs(SHAPE, TOUCHING)
    image[:, 86:, 1] = 0  # the centre of the right one is not seen
    basins = WatershedSegmenter(map_sam()).find_basins(image)
    alone = (true_labels(SHAPE, TOUCHING) == 1).sum()
    for thresh in (0.2, 0.5):
        (item,) = basins.segment(foreground_thresh=thresh, **LOW).objects
        assert item.area == pytest.approx(alone, rel=0.2 if thresh < 0.5 else 0.04)


def test_an_image_larger_than_the_window_is_segmented_as_in_one() -> None:
    discs = [(x, y, 17.0) for x in range(25, 280, 36) for y in range(25, 180, 35)]
    image = draw_discs((200, 300), discs)
    in_windows = segment_everything(image, map_sam(window=128), mode="watershed")
    assert in_windows.max() == len(discs)
    at_once = segment_everything(image, map_sam(window=512), mode="watershed")
    np.testing.assert_array_equal(in_windows, at_once)


def test_an_empty_image_has_no_object() -> None:
    found = segment_everything_objects(np.zeros((50, 70), np.uint8), map_sam(), mode="watershed")
    assert found.objects == ()
    assert found.labels.shape == (50, 70)
    assert not found.labels.any()


def test_a_model_of_any_weights_can_be_flooded_in_steps() -> None:
    sam = tiny_sam("compact")
    image = np.random.default_rng(0).integers(0, 256, (150, 140), dtype=np.uint8)
    options: dict[str, Any] = {"mode": "watershed", "diameter": "native", **LOW}
    steps = list(segment_everything_steps(image, sam, **options))
    assert [(step.done, step.total) for step in steps[-2:]] == [(0, 1), (1, 1)]
    embedding = SamPredictor(sam).encode(image)
    found = segment_everything_objects(embedding, sam, mode="watershed", **LOW)
    assert 0 < len(found.objects) <= steps[-1].n_masks
    np.testing.assert_array_equal(found.labels, segment_everything(image, sam, **options))


def test_no_mask_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    sam = tiny_sam("compact")
    monkeypatch.setattr(sam, "decode_above", None)
    assert segment_everything(np.eye(64, dtype=np.uint8), sam, mode="watershed").shape == (64, 64)


def test_a_model_without_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="instance head") as caught:
        WatershedSegmenter(tiny_sam("vit"))
    assert "--mode grid" in caught.value.cure


@pytest.mark.parametrize(
    "options",
    [
        {"foreground_thresh": 0.04},
        {"foreground_thresh": 1.1},
        {"pred_iou_thresh": -0.1},
        {"stability_score_thresh": float("nan")},
        {"stability_score_offset": -1.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        WatershedOptions(**options)


def test_an_embedding_of_another_model_is_refused() -> None:
    embedding = SamPredictor(tiny_sam("compact", seed=1)).encode(np.zeros((40, 40), np.uint8))
    with pytest.raises(InputError, match="model"):
        WatershedSegmenter(tiny_sam("compact")).find_basins(embedding)


def test_errors_of_torch_are_no_runtime_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    sam = tiny_sam("compact")

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sam.instance_head, "forward", fail)
    with pytest.raises(OutOfMemoryError):
        result_of(WatershedSegmenter(sam).basin_steps(np.zeros((40, 40), np.uint8)))


def test_a_mirrored_image_has_mirrored_objects() -> None:
    image, sam = draw_discs(SHAPE, [(40.0, 40.0, 20.0), (110.0, 70.0, 25.0)]), map_sam()
    labels = segment_everything(image, sam, mode="watershed")
    mirrored = segment_everything(image[:, ::-1].copy(), sam, mode="watershed")
    assert len(as_sets(labels)) == 2
    assert as_sets(labels) == as_sets(mirrored[:, ::-1])
