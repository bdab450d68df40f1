"""What was found becomes objects: new ids, one step, nothing of others lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import zarr

from napari_sam._napari.everything_keep import KeepPlan, keep_steps, write_plan
from napari_sam.core.errors import ConfigError, InputError
from napari_sam.core.plane import Plane
from napari_sam.core.steps import result_of
from napari_sam.pipeline.label_target import LabelTarget
from napari_sam.pipeline.session import Session

PLANE = Plane((1, 2), (1,))
"""The second slice of a stack."""


def found_in(labels: np.ndarray):
    from napari_sam.predict import SegmentedImage
    from napari_sam.predict.everything import SegmentedObject

    objects = tuple(
        SegmentedObject(label, int((labels == label).sum()), (0, 0, 1, 1), 0.9, 0.8, (2.0, 3.0))
        for label in range(1, labels.max() + 1)
    )
    return SegmentedImage(labels, objects)


def squares(*corners: Sequence[int]) -> np.ndarray:
    """Draw squares of 4 x 4 pixels."""
    labels = np.zeros((16, 20), np.int32)
    for label, (row, col) in enumerate(corners, start=1):
        labels[row : row + 4, col : col + 4] = label
    return labels


def stack(second: np.ndarray | None = None, dtype: str = "uint32") -> np.ndarray:
    data = np.zeros((3, 16, 20), dtype)
    if second is not None:
        data[1] = second
    return data


def plan_of(labels: np.ndarray, target: LabelTarget, rule: str = "keep") -> KeepPlan:
    return result_of(keep_steps(found_in(labels), PLANE, target, rule))


def test_objects_are_written_as_one_step_and_taken_back() -> None:
    data = stack()
    data[0, 0, 0] = 7
    before = data.copy()
    target, session = LabelTarget([data]), Session()
    plan = plan_of(squares((0, 0), (8, 10)), target)
    assert write_plan(plan)
    session.record_change("Segment everything", plan.changes, plan.records)
    assert (data[1, :4, :4] == 8).all()
    assert (data[1, 8:12, 10:14] == 9).all()
    assert [record.label for record in session.objects_of(target)] == [8, 9]
    after = data.copy()
    assert session.undo() == "Segment everything"
    np.testing.assert_array_equal(data, before)
    assert not session.can_undo
    session.redo()
    np.testing.assert_array_equal(data, after)
    session.close()


def test_a_record_tells_where_its_object_is_and_how_it_was_found() -> None:
    plan = plan_of(squares((8, 10)), LabelTarget([stack()]))
    (record,) = plan.records
    assert record.plane == PLANE
    assert record.box_xyxy == (10, 8, 14, 12)
    assert record.area == 16
    assert (record.predicted_iou, record.stability_score) == (0.9, 0.8)
    assert [(p.x, p.y, p.is_positive) for p in record.prompts.points] == [(2.0, 3.0, True)]


@pytest.mark.parametrize(
    ("rule", "kept", "old_pixels", "left_out"),
    [
        ("keep", {6: 12, 7: 16}, 16, 0),
        ("overwrite", {6: 16, 7: 16}, 12, 0),
        ("only_empty", {6: 16}, 16, 1),
    ],
)
def test_rules_where_objects_meet(rule, kept, old_pixels, left_out) -> None:
    data = stack(np.where(squares((2, 2)) > 0, 5, 0))
    plan = plan_of(squares((0, 0), (8, 10)), LabelTarget([data]), rule)
    assert write_plan(plan)
    labels, counts = np.unique(data[1][data[1] > 5], return_counts=True)
    assert dict(zip(labels.tolist(), counts.tolist(), strict=True)) == kept
    assert {record.label: record.area for record in plan.records} == kept
    assert (data[1] == 5).sum() == old_pixels
    assert plan.n_left_out == left_out


def test_an_object_that_is_wholly_covered_takes_no_id() -> None:
    data = stack(np.where(squares((0, 0)) > 0, 5, 0))
    plan = plan_of(squares((0, 0), (8, 10)), LabelTarget([data]))
    assert [record.label for record in plan.records] == [6]
    assert plan.n_left_out == 1


@pytest.mark.parametrize("labels", [squares(), squares((0, 0))])
def test_nothing_to_keep_is_said(labels) -> None:
    data = stack(np.where(squares((0, 0)) > 0, 5, 0))
    with pytest.raises(InputError, match="object"):
        plan_of(labels, LabelTarget([data]))


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="rule"):
        plan_of(squares((0, 0)), LabelTarget([stack()]), "sometimes")


def test_labels_beyond_their_type_are_refused_before_anything_is_written() -> None:
    data = stack(dtype="uint8")
    data[0, 0, 0] = 254
    before = data.copy()
    with pytest.raises(InputError, match="uint8"):
        plan_of(squares((0, 0), (8, 10)), LabelTarget([data]))
    np.testing.assert_array_equal(data, before)


@pytest.mark.parametrize("is_same_place", [True, False])
def test_a_plan_is_made_anew_when_the_labels_have_changed(is_same_place: bool) -> None:
    data = stack()
    target = LabelTarget([data])
    plan = plan_of(squares((0, 0)), target)
    if is_same_place:
        data[1, 1, 1] = 1  # a brush, which the target knows nothing of
    else:
        target.raise_maximum(3)
    changed = data.copy()
    assert not write_plan(plan)
    np.testing.assert_array_equal(data, changed)


def test_a_write_that_fails_half_way_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    data = stack()
    target = LabelTarget([data])
    monkeypatch.setattr("napari_sam._napari.everything_keep.BAND_PIXELS", 40)
    plan = plan_of(squares((0, 0), (8, 10)), target)
    assert len(plan.bands) > 1
    write, calls = target.write, []

    def failing(*args):
        calls.append(args)
        if len(calls) == 2:
            raise OSError("disk full")
        write(*args)

    monkeypatch.setattr(target, "write", failing)
    with pytest.raises(OSError, match="disk full"):
        write_plan(plan)
    assert not data.any()


def test_bands_together_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for pixels in (2**20, 40, 1):
        monkeypatch.setattr("napari_sam._napari.everything_keep.BAND_PIXELS", pixels)
        data = stack()
        assert write_plan(plan_of(squares((0, 0), (8, 10)), LabelTarget([data])))
        results.append(data)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_coarser_levels_on_disk_follow(tmp_path) -> None:
    group = zarr.open_group(tmp_path / "labels.zarr", mode="w")
    full = group.create_array("0", shape=(3, 16, 20), chunks=(1, 8, 8), dtype="uint32")
    half = group.create_array("1", shape=(3, 8, 10), chunks=(1, 8, 8), dtype="uint32")
    target = LabelTarget([full, half], [(1, 1, 1), (1, 2, 2)])
    assert write_plan(plan_of(squares((0, 0), (8, 10)), target))
    np.testing.assert_array_equal(half[:], full[:, ::2, ::2])
    assert full[1].max() == 2


def test_what_no_point_makes_again_is_kept_without_prompts() -> None:
    found = found_in(squares((8, 10)))
    found = replace(found, objects=(replace(found.objects[0], is_prompted=False),))
    (record,) = result_of(keep_steps(found, PLANE, LabelTarget([stack()]), "keep")).records
    assert record.prompts.is_empty
