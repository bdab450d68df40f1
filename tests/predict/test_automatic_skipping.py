"""Segment everything with points that are skipped: fewer prompts, honest progress, clear errors.

The decoder is replaced by one that knows the objects, so that what a point finds is certain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from napari_sam.core.errors import ConfigError
from napari_sam.core.steps import result_of
from napari_sam.masks import PackedMask
from napari_sam.model.instance_head import InstanceMaps
from napari_sam.model.sam import DecodedMasks, Sam
from napari_sam.predict import (
    AutomaticMaskGenerator,
    MaskRecord,
    SamPredictor,
    everything_generator,
    segment_everything,
)
from napari_sam.predict.proposals import foreground_at
from napari_sam.predict.proposed_objects import ProposedObjects
from tiny_models import tiny_sam

SHAPE = (120, 112)  # one decode window of the tiny models
BOXES = ((10, 8, 58, 60), (70, 20, 106, 50), (20, 76, 90, 112))
GRID: dict[str, Any] = {"points_per_side": 16, "points_per_batch": 8}


class KnowingDecoder:
    """Draws the box around each point, with a predicted IoU of 0.9; nothing elsewhere.

    Each box is drawn again with 0.55, a little larger: a mask that is collected but not good.
    """

    def __init__(self, boxes: tuple[tuple[int, int, int, int], ...], pixels_per_cell: int) -> None:
        self.boxes, self.step = boxes, pixels_per_cell
        self.prompted: list[tuple[float, float]] = []

    def __call__(
        self, features: Any, *, points: Any, min_predicted_iou: float, **_: Any
    ) -> DecodedMasks:
        cells = 4 * np.array(features.embedding.shape[-2:])
        logits, scores, owners = [], [], []
        for owner, (x, y) in enumerate(points[0][:, 0].tolist()):
            self.prompted.append((x, y))
            for x0, y0, x1, y1 in self.boxes:
                for score, margin in ((0.9, 0), (0.55, 6)):
                    if x0 <= x < x1 and y0 <= y < y1 and score > min_predicted_iou:
                        drawn = torch.full(tuple(cells), -20.0)
                        low = [(edge - margin) // self.step for edge in (y0, x0)]
                        high = [(edge + margin) // self.step for edge in (y1, x1)]
                        drawn[max(low[0], 0) : high[0], max(low[1], 0) : high[1]] = 20.0
                        logits.append(drawn)
                        scores.append(score)
                        owners.append(owner)
        maps = torch.stack(logits) if logits else torch.zeros((0, *cells))
        index = torch.tensor(owners, dtype=torch.int64)
        return DecodedMasks(maps, torch.tensor(scores), index, torch.zeros_like(index))


@pytest.fixture
def compact() -> Sam:
    return tiny_sam("compact", seed=5)


@pytest.fixture
def decoder(compact: Sam, monkeypatch: pytest.MonkeyPatch) -> KnowingDecoder:
    return replace_decoder(compact, monkeypatch, BOXES)


def replace_decoder(
    sam: Sam, monkeypatch: pytest.MonkeyPatch, boxes: tuple[tuple[int, int, int, int], ...]
) -> KnowingDecoder:
    decoder = KnowingDecoder(boxes, sam.input_spec.low_res_stride)
    monkeypatch.setattr(sam, "decode_above", decoder)
    return decoder


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


def prompts(decoder: KnowingDecoder, sam: Sam, **options: Any) -> list[tuple[float, float]]:
    decoder.prompted.clear()
    AutomaticMaskGenerator(sam, **(GRID | options)).generate(picture())
    return list(decoder.prompted)


def as_set(records: list[MaskRecord]) -> set[tuple[Any, ...]]:
    return {
        (r.mask.bits.tobytes(), r.bbox_xywh, r.predicted_iou, r.stability_score) for r in records
    }


def see_foreground(
    sam: Sam, monkeypatch: pytest.MonkeyPatch, box_xyxy: tuple[int, int, int, int]
) -> list[int]:
    """Let the instance head see foreground in a box; return a list that grows with its calls."""
    calls: list[int] = []

    def look(features: Any) -> InstanceMaps:
        calls.append(1)
        rows, cols = (2 * n for n in features.embedding.shape[-2:])  # stride 4
        maps = torch.full((1, rows, cols), -9.0)
        x0, y0, x1, y1 = (edge // 4 for edge in box_xyxy)
        maps[0, y0:y1, x0:x1] = 9.0
        return InstanceMaps(foreground=maps, centre=torch.full_like(maps, -9.0), boundary=maps)

    monkeypatch.setattr(sam.instance_head, "forward", look)
    return calls


def test_all_points_are_prompted_unless_asked(compact: Sam, decoder: KnowingDecoder) -> None:
    grid = prompts(decoder, compact)
    assert len(set(grid)) == len(grid) == 14 * 15
    assert prompts(decoder, compact, skip_covered=False, foreground_only=False) == grid


def test_covered_points_are_skipped_and_the_objects_found(
    compact: Sam, decoder: KnowingDecoder
) -> None:
    strict = GRID | {"pred_iou_thresh": 0.6, "stability_score_thresh": 0.8}
    plain = AutomaticMaskGenerator(compact, **strict).generate(picture())
    grid = list(decoder.prompted)
    decoder.prompted.clear()
    found = AutomaticMaskGenerator(compact, **strict, skip_covered=True).generate(picture())
    inside = sum(x0 <= x < x1 and y0 <= y < y1 for x, y in grid for x0, y0, x1, y1 in BOXES)
    assert set(decoder.prompted) < set(grid)
    assert len(decoder.prompted) == len(set(decoder.prompted)) < len(grid) - 0.7 * inside
    assert as_set(found) == as_set(plain)
    assert len(found) == 3
    options = {**strict, "diameter": "native"}
    labels = segment_everything(picture(), compact, **options, skip_covered=True)
    assert labels.max() == 3


@pytest.mark.parametrize("encoder", ["vit", "compact"])
def test_with_nothing_covered_it_is_the_plain_grid_in_another_order(encoder: str) -> None:
    sam = tiny_sam(encoder, seed=5)
    options: dict[str, Any] = {"points_per_side": 6, "stability_score_offset": 0.05}
    options["points_per_batch"] = 1  # which points a batch has together changes the rounding
    options |= {"pred_iou_thresh": 1.0, "stability_score_thresh": 1.0}  # no mask is good
    floors = {"floor_iou": 0.0, "floor_stability": 0.0}
    found = []
    for skip in (False, True):
        generator = AutomaticMaskGenerator(sam, **options, skip_covered=skip)
        candidates = result_of(generator.candidate_steps(picture(), **floors))
        found.append(
            [
                (
                    *c.point_xy,
                    c.mask.bits.tobytes(),
                    c.predicted_iou,
                    np.float32(c.stability_score).tobytes(),
                )
                for crop in candidates.crops
                for c in crop.candidates
            ]
        )
    assert found[0] != found[1]
    assert sorted(found[0]) == sorted(found[1])
    assert len(found[0]) > 10


@pytest.mark.parametrize("layers", [0, 1])
def test_the_batch_changes_neither_points_nor_masks(
    compact: Sam, decoder: KnowingDecoder, layers: int
) -> None:
    options = {"skip_covered": True, "crop_n_layers": layers}
    runs = []
    for batch in (1, 7, 64, 1000):
        options["points_per_batch"] = batch
        decoder.prompted.clear()
        records = AutomaticMaskGenerator(compact, **(GRID | options)).generate(picture())
        runs.append((list(decoder.prompted), as_set(records)))
    assert all(run == runs[0] for run in runs)
    assert len(runs[0][1]) >= 3


def test_official_models_skip_in_crops_that_are_encoded_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sam = tiny_sam("vit")
    decoder = replace_decoder(sam, monkeypatch, ((44, 44, 84, 84),))
    plain = prompts(decoder, sam, crop_n_layers=1)
    assert len(plain) == 5 * 256
    skipped = prompts(decoder, sam, crop_n_layers=1, skip_covered=True)
    assert len(skipped) < len(plain) - 5 * 15  # in each crop the box has 25 points


def test_progress_shrinks_and_ends_whole(compact: Sam, decoder: KnowingDecoder) -> None:
    for options in ({}, {"crop_n_layers": 1}, {"points_per_batch": 1}):
        generator = AutomaticMaskGenerator(compact, **(GRID | options), skip_covered=True)
        steps = list(generator.generate_steps(picture()))
        assert [step.done for step in steps] == list(range(len(steps)))
        totals = [step.total for step in steps]
        assert totals == sorted(totals, reverse=True)
        assert totals[0] > totals[-1] == steps[-1].done
        assert all(step.done <= step.total for step in steps)


def test_candidates_skip_by_the_generators_thresholds_not_by_the_floors(
    compact: Sam, decoder: KnowingDecoder
) -> None:
    thresholds = {"pred_iou_thresh": 0.6, "stability_score_thresh": 0.8}
    generator = AutomaticMaskGenerator(compact, **GRID, **thresholds, skip_covered=True)
    records = generator.generate(picture())
    generated = list(decoder.prompted)
    decoder.prompted.clear()
    candidates = result_of(generator.candidate_steps(picture(), floor_iou=0.3))
    assert decoder.prompted == generated
    assert as_set(candidates.filter()) == as_set(records)
    assert len(candidates) > len(candidates.filter(box_nms_thresh=1.0))  # some were not good
    decoder.prompted.clear()
    thresholds["pred_iou_thresh"] = 0.95  # nothing is good
    generator = AutomaticMaskGenerator(compact, **GRID, **thresholds, skip_covered=True)
    result_of(generator.candidate_steps(picture()))
    assert len(decoder.prompted) == 14 * 15


def test_points_in_the_background_are_skipped(
    compact: Sam, decoder: KnowingDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_foreground(compact, monkeypatch, (8, 8, 60, 60))
    grid = prompts(decoder, compact)
    seen = prompts(decoder, compact, foreground_only=True)
    assert seen == [(x, y) for x, y in grid if 4 <= x + 0.5 < 64 and 4 <= y + 0.5 < 64]
    both = prompts(decoder, compact, foreground_only=True, skip_covered=True)
    assert set(both) < set(seen)
    labels = segment_everything(picture(), compact, **GRID, foreground_only=True)
    assert labels.max() == 1


def test_an_image_of_background_has_no_batch(
    compact: Sam, decoder: KnowingDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_foreground(compact, monkeypatch, (0, 0, 0, 0))
    for skip in (False, True):
        options = GRID | {"foreground_only": True, "skip_covered": skip, "crop_n_layers": 1}
        steps = list(AutomaticMaskGenerator(compact, **options).generate_steps(picture()))
        assert steps == [(0, 0, 0)]
    assert decoder.prompted == []


def test_foreground_is_that_of_the_cell_and_its_neighbours(
    compact: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = see_foreground(compact, monkeypatch, (8, 4, 16, 8))
    embedding = SamPredictor(compact).encode(picture())
    points = np.array([[10.0, 5.0], [3.6, 5.0], [3.4, 5.0], [19.4, 5.0], [19.6, 5.0], [111.9, 119]])
    likely = foreground_at(compact, embedding, points)
    assert (likely > 0.5).tolist() == [True, True, False, True, False, False]
    assert len(calls) == 1


@pytest.fixture
def proposing(compact: Sam, monkeypatch: pytest.MonkeyPatch) -> Iterator[np.ndarray]:
    """Proposals in one object, and a head that takes all for background."""
    points = np.array([[20.0, 20.0], [40.0, 40.0], [50.0, 20.0], [30.0, 50.0]])
    masks = tuple(
        PackedMask.from_array(np.ones((9, 9), np.bool_), (int(y) - 4, int(x) - 4))
        for x, y in points.tolist()
    )
    monkeypatch.setattr(
        "napari_sam.predict.prompted_crops.propose_objects",
        lambda sam, embedding: ProposedObjects(points, masks),
    )
    see_foreground(compact, monkeypatch, (0, 0, 0, 0))
    return points


def test_proposals_are_never_skipped(
    compact: Sam, decoder: KnowingDecoder, proposing: np.ndarray
) -> None:
    options = {"mode": "proposals", "points_per_batch": 1, "points_per_side": 8}
    skipping = options | {"skip_covered": True, "foreground_only": True}
    assert prompts(decoder, compact, **skipping) == [tuple(point) for point in proposing.tolist()]
    further = prompts(decoder, compact, **options, crop_n_layers=1)
    assert len(further) > 4 + 40  # the grids of the smaller crops
    assert prompts(decoder, compact, **skipping, crop_n_layers=1) == further[:4]


def test_who_skips_points_of_a_grid_gets_a_grid(compact: Sam) -> None:
    for name in ("skip_covered", "foreground_only"):
        assert everything_generator(compact, **{name: True}).options.mode == "grid"
        off = everything_generator(compact, **{name: False})
        assert off.options.mode == "proposals"


def test_models_without_a_head_see_no_foreground() -> None:
    with pytest.raises(ConfigError, match="foreground_only was given for the model tiny_vit") as e:
        AutomaticMaskGenerator(tiny_sam("vit"), foreground_only=True)
    assert "--foreground-only" in e.value.cure
    assert AutomaticMaskGenerator(tiny_sam("vit"), skip_covered=True).options.skip_covered


@pytest.mark.parametrize("name", ["skip_covered", "foreground_only"])
@pytest.mark.parametrize("value", [1, "yes", None])
def test_switches_are_on_or_off(compact: Sam, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        AutomaticMaskGenerator(compact, **{name: value})
