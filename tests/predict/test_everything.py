"""From overlapping masks to a label image: groups, parts, duplicates and background."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.core.errors import ConfigError
from napari_sam.masks import PackedMask
from napari_sam.predict import (
    MaskRecord,
    SamPredictor,
    everything_generator,
    records_to_labels,
    segment_everything,
    segment_everything_objects,
    segment_everything_steps,
)
from tiny_models import tiny_sam

SHAPE = (100, 120)


def record(rows: tuple[int, int], cols: tuple[int, int], score: float) -> MaskRecord:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[slice(*rows), slice(*cols)] = True
    packed = PackedMask.from_array(mask)
    x0, y0, x1, y1 = packed.box_xyxy
    return MaskRecord(
        mask=packed,
        image_size_yx=SHAPE,
        bbox_xywh=(x0, y0, x1 - x0, y1 - y0),
        predicted_iou=score,
        point_xy=(float(x0), float(y0)),
        stability_score=1.0,
        crop_box_xywh=(0, 0, SHAPE[1], SHAPE[0]),
    )


CELL_A, CELL_B = record((10, 30), (10, 30), 0.9), record((10, 30), (32, 52), 0.85)


def areas(records: list[MaskRecord], **options: float) -> list[int]:
    return [item.area for item in records_to_labels(records, SHAPE, **options).objects]


def test_separate_cells_get_their_own_labels() -> None:
    result = records_to_labels([CELL_B, CELL_A], SHAPE)
    assert [item.predicted_iou for item in result.objects] == [0.9, 0.85]
    assert (result.labels[10:30, 10:30] == 1).all()
    assert (result.labels[10:30, 32:52] == 2).all()
    assert np.count_nonzero(result.labels) == 800
    assert result.objects[1].box_xyxy == (32, 10, 51, 29)
    assert result.labels.dtype == np.int32


def test_a_group_gives_way_to_its_cells() -> None:
    group = record((9, 31), (9, 53), 0.88)
    assert areas([group, CELL_A, CELL_B]) == [400, 400]


def test_a_part_gives_way_to_its_cell() -> None:
    nucleolus = record((15, 20), (15, 20), 0.92)
    assert areas([nucleolus, CELL_A]) == [400]


def test_two_poor_parts_do_not_split_a_cell() -> None:
    halves = [record((10, 20), (10, 30), 0.6), record((20, 30), (10, 30), 0.6)]
    assert areas([*halves, CELL_A]) == [400]


def test_one_much_better_cell_inside_a_poor_blob_stays() -> None:
    blob = record((5, 60), (5, 60), 0.5)
    labels = records_to_labels([blob, CELL_A], SHAPE).labels
    assert (labels[10:30, 10:30] == 1).all()


def test_of_near_duplicates_the_better_stays() -> None:
    shifted = record((11, 31), (11, 31), 0.95)
    result = records_to_labels([CELL_A, shifted], SHAPE)
    assert [item.predicted_iou for item in result.objects] == [0.95]


def test_background_and_specks_go() -> None:
    background, speck = record((0, 100), (0, 100), 0.99), record((80, 82), (80, 82), 0.99)
    assert areas([background, speck, CELL_A]) == [400]
    assert sorted(areas([speck, CELL_A], min_size=0)) == [4, 400]
    assert areas([background], max_area_fraction=1.0) == [10000]


def test_no_masks_are_an_empty_image() -> None:
    result = records_to_labels([], SHAPE)
    assert result.objects == ()
    assert result.labels.shape == SHAPE
    assert not result.labels.any()


@pytest.mark.parametrize(
    "options", [{"min_size": -1}, {"max_area_fraction": 0.0}, {"mask_nms_thresh": 2.0}]
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        records_to_labels([CELL_A], SHAPE, **options)


@pytest.mark.parametrize("encoder", ["vit", "compact"])
def test_images_become_label_images(encoder: str) -> None:
    sam = tiny_sam(encoder)
    options = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "max_area_fraction": 1.0}
    options |= {"mode": "grid", "points_per_side": 4}
    image = np.random.default_rng(0).integers(0, 256, (90, 140), dtype=np.uint8)
    labels = segment_everything(image, sam, diameter="native", **options)
    assert labels.shape == (90, 140)
    assert labels.dtype == np.int32
    assert labels.max() > 0
    found = segment_everything_objects(SamPredictor(sam).encode(image), sam, **options)
    np.testing.assert_array_equal(found.labels, labels)
    assert [item.label for item in found.objects] == list(range(1, labels.max() + 1))
    assert [item.area for item in found.objects] == np.bincount(labels.ravel())[1:].tolist()


def test_the_instance_head_prompts_where_a_model_has_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 140), dtype=np.uint8)
    assert segment_everything(image, tiny_sam("compact")).shape == (90, 140)


def test_steps_give_control_back_and_end_in_the_same_labels() -> None:
    sam = tiny_sam("vit")
    options = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "max_area_fraction": 1.0}
    options |= {"points_per_side": 4, "points_per_batch": 4}
    image = np.random.default_rng(0).integers(0, 256, (90, 140), dtype=np.uint8)
    steps = segment_everything_steps(image, sam, **options)
    progress = []
    while True:
        try:
            progress.append(next(steps))
        except StopIteration as finished:
            labels = finished.value.labels
            break
    assert [(step.done, step.total) for step in progress] == [(i, 4) for i in range(5)]
    np.testing.assert_array_equal(labels, segment_everything(image, sam, **options))
    assert labels.max() > 0


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="points_per_sid"):
        segment_everything(np.zeros((9, 9), np.uint8), tiny_sam("vit"), points_per_sid=3)


def test_who_describes_a_grid_gets_a_grid() -> None:
    sam = tiny_sam("compact")
    assert everything_generator(sam).options.mode == "proposals"
    assert everything_generator(sam, points_per_side=4).options.mode == "grid"
    assert everything_generator(sam, mode="grid").options.mode == "grid"
    assert everything_generator(tiny_sam("vit")).options.mode == "grid"
