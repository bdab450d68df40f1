"""Candidates that are kept: filtered again, they are what a new run would give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_sam.core.errors import ConfigError
from napari_sam.core.steps import result_of
from napari_sam.masks import PackedMask
from napari_sam.model.sam import InputSpec, Sam
from napari_sam.predict import (
    AutomaticMaskGenerator,
    AutomaticOptions,
    CandidateSet,
    MaskRecord,
    SamPredictor,
)
from napari_sam.predict.candidates import Candidate, CropCandidates
from napari_sam.predict.crops import Crop
from tiny_models import tiny_sam

PREDICTED_IOUS = [0.0, 0.44, 0.48, 0.5, 0.52, 0.56]

GRID: dict[str, Any] = {
    "points_per_side": 5,
    "points_per_batch": 6,
    "stability_score_offset": 0.05,
    "crop_n_layers": 1,
}
SHAPE = (150, 170)


def model_of(encoder: str) -> Sam:
    """Random weights whose predicted IoU and masks are spread over the range of thresholds."""
    sam = tiny_sam(encoder, seed=5 if encoder == "compact" else 0)
    sam.mask_threshold = 0.5 if encoder == "compact" else 0.3
    last = sam.mask_decoder.iou_prediction_head.layers[-1]
    with torch.no_grad():
        last.weight *= 0.1
        last.bias.fill_(0.5)
    return sam


def image_of(shape: tuple[int, ...]) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 3)
    return (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


def collected(
    generator: AutomaticMaskGenerator, image: np.ndarray, **floors: float
) -> CandidateSet:
    return result_of(generator.candidate_steps(image, **floors))


def as_values(records: list[MaskRecord]) -> list[tuple[Any, ...]]:
    return [
        (
            record.mask.bits.tobytes(),
            record.mask.origin_yx,
            record.mask.shape_yx,
            record.area,
            record.bbox_xywh,
            record.crop_box_xywh,
            record.predicted_iou,
            np.float32(record.stability_score).tobytes(),  # NaN equals itself as bytes
            record.point_xy,
            record.image_size_yx,
            record.output_mode,
        )
        for record in records
    ]


@pytest.fixture(scope="module", params=["vit", "compact"])
def kept(request: pytest.FixtureRequest) -> tuple[Sam, CandidateSet]:
    sam = model_of(request.param)
    generator = AutomaticMaskGenerator(sam, **GRID)
    return sam, collected(generator, image_of(SHAPE), floor_iou=0.0, floor_stability=0.0)


thresholds = st.fixed_dictionaries(
    {
        "pred_iou_thresh": st.sampled_from(PREDICTED_IOUS),
        "stability_score_thresh": st.sampled_from([0.0, 0.01, 0.2, 0.5, 0.7]),
        "box_nms_thresh": st.floats(0.2, 1.0),
        "crop_nms_thresh": st.floats(0.2, 1.0),
        "min_mask_region_area": st.sampled_from([0, 9, 40]),
    }
)


@settings(max_examples=10)
@given(changes=thresholds)
def test_filtered_candidates_equal_a_new_run_in_every_bit(
    kept: tuple[Sam, CandidateSet], changes: dict[str, Any]
) -> None:
    sam, candidates = kept
    generated = AutomaticMaskGenerator(sam, **GRID, **changes).generate(image_of(SHAPE))
    assert as_values(candidates.filter(**changes)) == as_values(generated)


def test_the_thresholds_of_the_property_choose_among_many_masks(
    kept: tuple[Sam, CandidateSet],
) -> None:
    _, candidates = kept
    loose = {"stability_score_thresh": 0.0, "box_nms_thresh": 1.0, "crop_nms_thresh": 1.0}
    counts = [len(candidates.filter(low, **loose)) for low in PREDICTED_IOUS]
    assert counts == sorted(counts, reverse=True)
    assert len(candidates) >= counts[0] > counts[-1]
    assert len(set(counts)) >= 4
    assert len({record.crop_box_xywh for record in candidates.filter(0.4, 0.0)}) > 1


def test_thresholds_that_are_not_given_are_the_generators_own() -> None:
    sam, image = model_of("compact"), image_of((100, 120))
    own = {"pred_iou_thresh": 0.45, "stability_score_thresh": 0.1, "min_mask_region_area": 12}
    generator = AutomaticMaskGenerator(sam, **GRID, **own)
    candidates = collected(generator, image)
    assert candidates.thresholds == (0.45, 0.1)
    assert candidates.floor_stability == 0.1  # lower than the floor: the generator's own counts
    assert as_values(candidates.filter()) == as_values(generator.generate(image)) != []


def test_masks_below_the_floor_are_neither_kept_nor_promised() -> None:
    generator = AutomaticMaskGenerator(model_of("compact"), **GRID)
    candidates = collected(generator, image_of((100, 120)), floor_iou=0.48, floor_stability=0.1)
    everything = collected(generator, image_of((100, 120)), floor_iou=0.0, floor_stability=0.0)
    assert 0 < len(candidates) < len(everything)
    strict = {"pred_iou_thresh": 0.48, "stability_score_thresh": 0.1}
    assert as_values(candidates.filter(**strict)) == as_values(everything.filter(**strict)) != []
    with pytest.raises(ConfigError, match=r"pred_iou_thresh=0\.47"):
        candidates.filter(pred_iou_thresh=0.47, stability_score_thresh=0.5)
    with pytest.raises(ConfigError, match=r"stability_score_thresh=0\.05"):
        candidates.filter(pred_iou_thresh=0.5, stability_score_thresh=0.05)


@pytest.mark.parametrize(
    "changes",
    [{"pred_iou_thresh": 1.5}, {"box_nms_thresh": -0.1}, {"min_mask_region_area": -1}],
    ids=lambda changes: next(iter(changes)),
)
def test_thresholds_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    candidates = CandidateSet((), (10, 10), AutomaticOptions(), InputSpec(), 0.0, 0.0)
    with pytest.raises(ConfigError, match=next(iter(changes))):
        candidates.filter(**changes)
    assert candidates.filter() == []


@pytest.mark.parametrize("floors", [{"floor_iou": -0.1}, {"floor_stability": 2.0}])
def test_floors_out_of_range_are_refused(floors: dict[str, float]) -> None:
    generator = AutomaticMaskGenerator(tiny_sam("compact"))
    with pytest.raises(ConfigError, match=next(iter(floors))):
        next(generator.candidate_steps(image_of((40, 40)), **floors))


def test_collecting_can_be_stopped_between_batches() -> None:
    sam = model_of("compact")
    steps = AutomaticMaskGenerator(sam, **GRID).candidate_steps(image_of((100, 120)))
    first, second = next(steps), next(steps)
    assert (first.done, second.done) == (0, 1)
    assert first.total == second.total > 2
    steps.close()
    assert list(steps) == []


def test_regions_are_cleaned_anew_for_another_size() -> None:
    mask = np.zeros((40, 40), dtype=np.bool_)
    mask[5:30, 5:30] = True
    mask[8:11, 8:11] = False  # a hole of 9 pixels
    mask[14:18, 14:18] = False  # and one of 16
    crop = Crop((0, 0, 40, 40), 0)
    candidate = Candidate(PackedMask.from_array(mask), 0.9, 1.0, (9.0, 20.0), crop)
    candidates = CandidateSet(
        (CropCandidates((candidate,)),), (40, 40), AutomaticOptions(), InputSpec(), 0.0, 0.0
    )
    areas = [candidates.filter(min_mask_region_area=size)[0].area for size in (0, 10, 17, 10, 0)]
    assert areas == [600, 609, 625, 609, 600]


@pytest.mark.parametrize("encoder", ["vit", "compact"])
def test_a_mask_does_not_depend_on_which_others_pass(encoder: str) -> None:
    """Not even by the last bit, though the rounding of a batch depends on its size."""
    sam = model_of(encoder)
    features = SamPredictor(sam).encode(image_of((128, 128))).as_features()
    points = torch.from_numpy(np.random.default_rng(0).uniform(0, 128, (8, 1, 2))).float()
    prompts = points, torch.ones(8, 1, dtype=torch.int64)
    with torch.inference_mode():
        every = sam.decode_above(features, points=prompts, min_predicted_iou=0.0)
        best = [every.predicted_iou[every.prompt_index == i].max().item() for i in range(8)]
        threshold = sorted(best)[-3]  # two of the prompts have better masks
        some = sam.decode_above(features, points=prompts, min_predicted_iou=threshold)
    assert len(some.prompt_index.unique()) == 2
    passed = every.predicted_iou > threshold
    assert torch.equal(every.low_res_logits[passed], some.low_res_logits)
