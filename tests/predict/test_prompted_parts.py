"""What prompts mean of a mask, and when a window cuts it off."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_sam.predict import AutomaticMaskGenerator, SamPredictor, prompted_masks
from napari_sam.predict.prompted_parts import (
    cells_of_points,
    is_cut_off,
    keep_prompted_parts,
    prompted_parts,
)
from napari_sam.predict.windows import Window
from tiny_models import tiny_sam

INNER = Window(64, 32, 80, 96)
"""40 x 48 cells, and image on all sides."""
IMAGE = (300, 300)


def mask_with(*boxes: tuple[slice, slice]) -> np.ndarray:
    inside = np.zeros((1, 40, 48), bool)
    for rows, cols in boxes:
        inside[0, rows, cols] = True
    return inside


OBJECT = (slice(10, 20), slice(12, 30))
SCRAP = (slice(30, 40), slice(0, 40))


def test_cells_lie_under_points() -> None:
    points = np.array([[32.0, 64.0], [33.4, 65.6], [127.4, 143.4], [0.0, 299.0]])
    assert cells_of_points(points, INNER, 2) == [(0, 0), (1, 0), (39, 47), (39, 0)]
    assert cells_of_points(np.zeros((0, 2)), INNER, 2) == []


def test_parts_are_those_under_points_or_the_largest() -> None:
    inside = mask_with(OBJECT, SCRAP)[0]
    assert prompted_parts(inside, [(15, 15), (16, 20), (0, 0)]) == [OBJECT]
    assert prompted_parts(inside, [(15, 15), (35, 5)]) == [OBJECT, SCRAP]
    assert prompted_parts(inside, [(0, 0)]) == [SCRAP]
    assert prompted_parts(inside, []) == [SCRAP]
    assert prompted_parts(np.zeros((4, 4), bool), [(1, 1)]) == []


def logits_of(inside: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.where(inside, 2.0, -3.0).astype(np.float32))


def test_scraps_are_taken_away_and_nothing_else_changes() -> None:
    both, one = mask_with(OBJECT, SCRAP), mask_with(OBJECT)
    given = logits_of(np.concatenate([both, one]))
    before = given.clone()
    kept = keep_prompted_parts(given, 0.0, [(15, 15)])
    assert torch.equal(given, before)
    assert torch.equal(kept[1], given[1])
    assert ((kept[0] > 0).numpy() == one[0]).all()
    assert torch.equal(kept[0][one[0]], given[0][one[0]])
    assert (kept[0][30:40, 0:40] == -10).all()
    alone = logits_of(one)
    assert keep_prompted_parts(alone, 0.0, [(15, 15)]) is alone


@pytest.mark.parametrize(
    ("cells", "mask_prompt", "expected"),
    [
        ([(15, 15), (35, 5)], None, (OBJECT, SCRAP)),
        ([(0, 0)], None, (SCRAP,)),  # nothing under the point: the largest
        ([], None, (SCRAP,)),
        ([], (OBJECT,), (OBJECT,)),
        ([], (OBJECT, SCRAP), (OBJECT, SCRAP)),
        ([(35, 5)], (OBJECT,), (SCRAP,)),  # points count for more than the mask before
    ],
)
def test_what_stays_is_what_is_prompted_for(
    cells: list[tuple[int, int]],
    mask_prompt: tuple[tuple[slice, slice], ...] | None,
    expected: tuple[tuple[slice, slice], ...],
) -> None:
    prompt = None if mask_prompt is None else mask_with(*mask_prompt)[0]
    kept = keep_prompted_parts(logits_of(mask_with(OBJECT, SCRAP)), 0.0, cells, prompt)
    assert ((kept > 0).numpy() == mask_with(*expected)).all()


@pytest.mark.parametrize(
    ("part", "at_border"),
    [
        ((slice(0, 15), slice(12, 30)), Window(0, 32, 80, 96)),
        ((slice(10, 40), slice(12, 30)), Window(224, 32, 80, 96)),
        ((slice(10, 20), slice(0, 30)), Window(64, 0, 80, 96)),
        ((slice(10, 20), slice(12, 48)), Window(64, 208, 80, 96)),
    ],
)
def test_each_edge_cuts_unless_it_is_the_image_border(
    part: tuple[slice, slice], at_border: Window
) -> None:
    """The image ends at 300, inside the padding of windows that end at 304."""
    clicked = [(14, 15)]
    assert is_cut_off(mask_with(part), clicked, INNER, IMAGE)
    assert not is_cut_off(mask_with(part), clicked, at_border, IMAGE)


def test_scraps_away_from_the_prompts_cut_nothing() -> None:
    both = mask_with(OBJECT, SCRAP)
    assert not is_cut_off(both, [(15, 15)], INNER, IMAGE)
    assert is_cut_off(both, [(35, 5)], INNER, IMAGE)
    assert is_cut_off(both, [], INNER, IMAGE)
    assert not is_cut_off(mask_with(), [(15, 15)], INNER, IMAGE)


def test_any_of_the_masks_counts() -> None:
    masks = np.concatenate([mask_with(OBJECT), mask_with(SCRAP)])
    assert is_cut_off(masks, [(35, 5)], INNER, IMAGE)
    assert not is_cut_off(masks[:1], [(35, 5)], INNER, IMAGE)


def n_parts(logits: np.ndarray) -> list[int]:
    return [ndimage.label(mask > 0)[1] for mask in logits]


@pytest.mark.parametrize(
    "prompts",
    [
        {"points_xy": [(40.0, 50.0)], "point_labels": [1]},
        {"points_xy": [(40.0, 50.0), (90.0, 20.0)], "point_labels": [1, 0]},
        {"box_xyxy": (20.0, 20.0, 80.0, 70.0)},
    ],
)
def test_masks_of_native_models_hold_together(
    prompts: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 120), dtype=np.uint8)
    predictor = SamPredictor(tiny_sam("compact"))
    embedding = predictor.encode(image)
    monkeypatch.setattr(prompted_masks, "follow_clicks", lambda logits, *_: logits)
    whole = predictor.predict(embedding, **prompts)  # type: ignore[arg-type]
    assert max(n_parts(whole.low_res_logits)) <= 1
    monkeypatch.setattr(prompted_masks, "keep_prompted_parts", lambda logits, *_: logits)
    raw = predictor.predict(embedding, **prompts)  # type: ignore[arg-type]
    assert max(n_parts(raw.low_res_logits)) > 1  # random weights draw scraps
    assert (whole.masks <= raw.masks).all()


@pytest.mark.parametrize(("kind", "has_fewer"), [("compact", True), ("vit", False)])
def test_so_do_those_of_a_grid_unless_the_model_is_official(
    kind: str, has_fewer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 120), dtype=np.uint8)
    options = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    sam = tiny_sam(kind)

    def parts() -> int:
        generator = AutomaticMaskGenerator(sam, mode="grid", points_per_side=3, **options)  # type: ignore[arg-type]
        masks = [record.mask.to_array((100, 120)) for record in generator.generate(image)]
        return sum(ndimage.label(mask)[1] for mask in masks)

    whole = parts()
    monkeypatch.setattr(
        "napari_sam.predict.automatic.keep_prompted_parts", lambda logits, *_: logits
    )
    assert (whole < parts() / 2) == has_fewer
