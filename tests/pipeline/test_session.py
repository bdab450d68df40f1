import subprocess
import sys

import numpy as np
import pytest
import zarr

from fake_candidates import (
    BOX,
    FAR_BOX,
    IOUS,
    OTHER,
    PLANE,
    POINT,
    RADII,
    SECOND,
    areas,
    put,
    respond,
    squares,
)
from napari_sam.core.errors import ConfigError, InputError, OutputError
from napari_sam.core.prompts import BoxPrompt, MaskPrompt, PlacedPrompts, PointPrompt, PromptSet
from napari_sam.core.region import Region
from napari_sam.pipeline.label_change import change_labels
from napari_sam.pipeline.label_target import LabelTarget
from napari_sam.pipeline.objects import ObjectRecord, ObjectTable
from napari_sam.pipeline.session import Session

# --- commit --------------------------------------------------------------------------------------


def test_a_commit_writes_the_object_and_starts_clean(session, labels, target):
    labels[1, 0, 0] = 4
    put(session, POINT)
    (record,) = session.commit(target)
    assert record.label == 5
    assert record.plane == PLANE
    assert record.prompts == PromptSet((POINT,), choice=1)
    assert (record.predicted_iou, record.stability_score) == (IOUS[1], 0.95)
    assert record.area == (labels[0] == 5).sum() == squares(RADII[1])[0]
    assert record.box_xyxy == (16, 26, 25, 35)
    assert (labels[0, 26:35, 16:25] == 5).all()
    assert list(session.objects) == [record]
    assert session.target is target
    assert session.prompts.is_empty
    assert session.candidates == ()
    assert session.request() is None
    put(session, SECOND)
    assert session.candidates[0].prompts == PromptSet((SECOND,))
    assert session.chosen == (1,)


def test_undo_of_a_commit_brings_labels_records_and_prompts_back(session, labels, target):
    put(session, POINT)
    session.choose(0)
    session.commit(target)
    after = labels.copy()
    assert session.undo() == "Commit object 1"
    assert not labels.any()
    assert len(session.objects) == 0
    assert session.objects_prompts == (PromptSet((POINT,), choice=0),)
    respond(session)
    assert areas(session) == squares(RADII[0])
    assert session.redo() == "Commit object 1"
    np.testing.assert_array_equal(labels, after)
    assert session.objects.get(1).prompts.choice == 0
    assert session.prompts.is_empty
    session.undo()
    respond(session)
    assert session.commit(target)[0].label == 1  # the label is free again


def test_the_record_tells_how_the_mask_was_made(session, target):
    session.preference = "whole"
    session.threshold = -1.0
    put(session, POINT, SECOND)
    session.choose(3)
    (record,) = session.commit(target)
    assert record.prompts == PromptSet((POINT, SECOND), choice=2)  # the fake's largest mask
    assert (record.mask_index, record.threshold, record.preference) == (3, -1.0, "whole")


def test_several_drafts_are_committed_together_and_do_not_overlap(session, labels, target):
    overlapping = BoxPrompt(15, 15, 30, 30)  # lies further right, so the fake's score is lower
    put(session, PointPrompt(80, 70), boxes=(overlapping, BOX))
    records = session.commit(target)
    assert [own.label for own in records] == [1, 2, 3]
    assert [own.area for own in records] == [15 * 15 - 25, 100, squares(RADII[1])[0]]
    for own in records:
        assert (labels[0] == own.label).sum() == own.area
    assert (labels[0, 10:20, 10:20] == 2).all()
    assert session.undo() == "Commit 3 objects"
    assert not labels.any()
    assert session.prompts.boxes == (overlapping, BOX)


def prepare_neighbour(labels, session, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    put(session, boxes=(BoxPrompt(15, 10, 25, 20),))


def test_keep_leaves_old_objects_alone(session, labels, target):
    prepare_neighbour(labels, session, target)
    (record,) = session.commit(target, "keep")
    assert (labels[0, 10:20, 10:20] == 1).all()
    assert (labels[0, 10:20, 20:25] == 2).all()
    assert (record.area, record.box_xyxy) == (50, (20, 10, 25, 20))
    assert session.objects.get(1).area == 100


def test_overwrite_takes_pixels_from_old_objects(session, labels, target):
    prepare_neighbour(labels, session, target)
    (record,) = session.commit(target, "overwrite")
    assert (labels[0, 10:20, 15:25] == 2).all()
    assert record.area == 100
    assert session.objects.get(1).area == 50
    session.undo()
    assert (labels[0, 10:20, 10:20] == 1).all()
    assert session.objects.get(1).area == 100


def test_an_object_that_lost_all_pixels_has_no_record(session, labels, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    put(session, boxes=(BoxPrompt(5, 5, 25, 25),))
    session.commit(target, "overwrite")
    assert [own.label for own in session.objects] == [2]
    session.undo()
    assert [own.label for own in session.objects] == [1]


def test_only_empty_refuses_a_mask_that_meets_an_object(session, labels, target):
    prepare_neighbour(labels, session, target)
    before = labels.copy()
    with pytest.raises(InputError, match="meets object 1"):
        session.commit(target, "only_empty")
    np.testing.assert_array_equal(labels, before)
    assert session.prompts.boxes
    put(session, boxes=(BoxPrompt(20, 10, 25, 20),))
    session.commit(target, "only_empty")
    assert (labels[0] == 2).sum() == 50


def test_drafts_that_touch_each_other_are_not_refused_under_only_empty(session, labels, target):
    put(session, boxes=(BOX, BoxPrompt(15, 10, 25, 20)))
    assert [own.area for own in session.commit(target, "only_empty")] == [100, 50]


def test_one_refused_draft_refuses_all(session, labels, target):
    labels[0, 50:58, 50:60] = 9
    put(session, boxes=(BOX, FAR_BOX))
    before = labels.copy()
    with pytest.raises(InputError, match="other objects"):
        session.commit(target)
    np.testing.assert_array_equal(labels, before)
    assert len(session.objects_of(target)) == 0
    assert session.undo() == "Add box"
    assert target.next_label() == 10


def test_empty_masks_are_refused(session, labels, target):
    put(session, boxes=(BOX,))
    session.threshold = 5
    with pytest.raises(InputError, match="Lower the threshold"):
        session.commit(target)


def test_masks_are_clipped_to_the_plane(session, labels, target):
    put(session, PointPrompt(1, 79))
    (record,) = session.commit(target)
    assert record.box_xyxy == (0, 75, 6, 80)
    assert (labels[0, 75:, :6] == 1).all()
    put(session, boxes=(BoxPrompt(200, 200, 210, 210),))
    with pytest.raises(InputError, match="outside"):
        session.commit(target)


def test_there_must_be_something_to_commit(session, target):
    with pytest.raises(InputError, match="nothing to commit"):
        session.commit(target)
    session.set_prompts(PlacedPrompts((POINT,)))
    with pytest.raises(InputError, match="still being computed"):
        session.commit(target)
    respond(session)
    with pytest.raises(ConfigError, match="overwrite rule"):
        session.commit(target, "replace")
    session.set_plane(None)
    with pytest.raises(InputError, match="No plane"):
        session.commit(target)


def test_labels_of_another_shape_are_refused(session):
    put(session, POINT)
    with pytest.raises(InputError, match="3 axes"):
        session.commit(LabelTarget([np.zeros((80, 100), np.uint8)]))


def test_full_labels_are_refused_before_anything_is_written(session):
    labels = np.zeros((2, 80, 100), np.uint8)
    labels[1, 0, 0] = 254
    put(session, boxes=(BOX, FAR_BOX))
    with pytest.raises(InputError, match="larger integer type"):
        session.commit(LabelTarget([labels]))
    assert not labels[0].any()


def test_a_commit_that_cannot_be_written_leaves_everything_as_it_was(
    session, labels, target, monkeypatch
):
    put(session, boxes=(BOX, FAR_BOX))
    write, calls = target.write, []

    def fail_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OutputError("The disk is full", rule="It has space", cure="Free some")
        write(*arguments)

    monkeypatch.setattr(target, "write", fail_second)
    with pytest.raises(OutputError, match="disk is full"):
        session.commit(target)
    assert len(calls) > 2
    assert not labels.any()
    assert len(session.objects_of(target)) == 0
    assert len(session.candidates) == 2


def test_what_was_painted_meanwhile_survives_undo_and_redo(session, labels, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    labels[0, 10:12, 10:20] = 7
    session.undo()
    assert (labels[0, 10:12, 10:20] == 7).all()
    assert not labels[0, 12:].any()
    session.redo()
    assert (labels[0, 10:12, 10:20] == 7).all()
    assert (labels[0, 12:20, 10:20] == 1).all()


def test_zarr_levels_are_written_and_undone_together(session):
    levels = [
        zarr.create_array(store={}, shape=shape, chunks=(1, 16, 16), dtype="uint32")
        for shape in ((2, 80, 100), (2, 40, 50))
    ]
    target = LabelTarget(levels, ((1, 1), (2, 2)))
    put(session, boxes=(BoxPrompt(11, 13, 40, 41),))
    session.commit(target)
    np.testing.assert_array_equal(levels[1][:], levels[0][:, ::2, ::2])
    assert (np.asarray(levels[0][:]) == 1).sum() == 29 * 28
    session.undo()
    assert not np.asarray(levels[0][:]).any()
    assert not np.asarray(levels[1][:]).any()


def test_labels_may_lack_the_channel_axis_of_the_image(session):
    labels = np.zeros((80, 100), np.uint16)
    put(session, boxes=(BOX,))
    (record,) = session.commit(LabelTarget([labels], image_axes=(1, 2)))
    assert record.plane == PLANE
    assert (labels == 1).sum() == 100
    session.delete(1)
    assert not labels.any()


# --- edit, refine, delete ------------------------------------------------------------------------


def test_an_edited_object_keeps_its_label_and_loses_its_old_pixels(session, labels, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    put(session, boxes=(FAR_BOX,))
    session.commit(target)
    session.set_plane(OTHER)
    assert session.edit(1).label == 1
    assert session.plane == PLANE
    assert session.edited_label == 1
    assert session.prompts.boxes == (BOX,)
    put(session, boxes=(BoxPrompt(12, 12, 16, 16),))
    (record,) = session.commit(target)
    assert record.label == 1
    assert (labels[0] == 1).sum() == 16
    assert session.edited_label is None
    assert [own.area for own in session.objects] == [16, 80]
    session.undo()
    assert (labels[0, 10:20, 10:20] == 1).all()
    assert session.objects.get(1).area == 100
    assert session.edited_label == 1
    session.undo()
    session.undo()
    assert session.edited_label is None


def test_editing_only_empty_pixels_may_use_the_old_ones(session, labels, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    session.edit(1)
    respond(session)
    session.commit(target, "only_empty")
    assert (labels[0] == 1).sum() == 100


def test_pixels_painted_onto_an_edited_object_are_replaced_too(session, labels, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    labels[0, 18:40, 10:90] = 1
    session.edit(1)
    respond(session)
    session.commit(target)
    assert (labels[0] == 1).sum() == 100


def test_editing_asks_for_the_masks_even_if_the_prompts_are_the_same(session, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    put(session, boxes=(BOX,))
    session.edit(1)
    assert session.candidates == ()
    respond(session)
    assert session.is_current


def test_another_object_drawn_while_editing_gets_a_new_label(session, labels, target):
    put(session, boxes=(FAR_BOX,))
    session.commit(target)
    session.edit(1)
    put(session, boxes=(BOX, FAR_BOX))
    assert [own.label for own in session.commit(target)] == [2, 1]
    assert (labels[0, 10:20, 10:20] == 2).all()
    assert (labels[0] == 1).sum() == 80


def test_edited_prompts_committed_elsewhere_are_a_new_object(session, labels, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    session.edit(1)
    respond(session)
    other = LabelTarget([np.full((2, 80, 100), 3, np.uint16)])
    assert session.commit(other, "overwrite")[0].label == 4
    assert (labels[0] == 1).sum() == 100
    assert len(session.objects_of(target)) == 1
    assert session.target is other


def test_clearing_the_prompts_ends_the_edit(session, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    session.edit(1)
    session.clear_prompts()
    assert session.edited_label is None
    put(session, boxes=(FAR_BOX,))
    assert session.commit(target)[0].label == 2
    assert len(session.objects) == 2


def test_only_objects_with_prompts_can_be_edited(session, target):
    with pytest.raises(InputError, match="no stored prompts"):
        session.edit(1)
    session.set_target(target)
    with pytest.raises(InputError, match="Refine the object"):
        session.edit(1)


def test_refining_a_foreign_label_replaces_it(session, labels, target):
    labels[0, 5:15, 5:15] = 6
    session.set_target(target)
    mask = MaskPrompt.from_array(labels[0] == 6)
    session.refine(6, mask)
    assert session.edited_label == 6
    put(session, masks=(mask,), boxes=(BoxPrompt(4, 4, 12, 12),))
    (record,) = session.commit(target)
    assert record.label == 6
    assert (labels[0] == 6).sum() == 64
    assert session.objects.get(6).prompts.mask == mask
    session.undo()
    assert (labels[0] == 6).sum() == 100
    assert session.objects.get(6) is None


def test_a_mask_from_elsewhere_becomes_a_new_object(session, labels, target):
    session.refine(None, MaskPrompt.from_array(np.ones((4, 5), bool), (7, 8)))
    respond(session)
    assert session.commit(target)[0].box_xyxy == (8, 7, 13, 11)
    assert session.undo() == "Commit object 1"
    assert session.undo() == "Refine a mask"


def test_refining_a_label_needs_a_label_image(session):
    with pytest.raises(InputError, match="No label image"):
        session.refine(3, MaskPrompt.from_array(np.ones((1, 1), bool)))


def test_deleting_is_undone_with_the_record(session, labels, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    record = session.objects.get(1)
    session.set_plane(OTHER)
    labels[1, 3, 3] = 1  # on another plane
    session.delete(1, target)
    assert not labels[0].any()
    assert labels[1, 3, 3] == 1
    assert len(session.objects) == 0
    assert session.undo() == "Delete object 1"
    assert (labels[0] == 1).sum() == 100
    assert session.objects.get(1) == record
    assert session.plane == OTHER


def test_deleting_the_edited_object_leaves_its_prompts_for_a_new_one(session, labels, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    session.edit(1)
    session.delete(1)
    assert session.edited_label is None
    assert session.prompts.boxes == (BOX,)
    respond(session)
    assert session.commit(target)[0].label == 2
    session.undo()
    session.undo()
    assert session.edited_label == 1


def test_a_foreign_label_is_deleted_from_the_plane_that_is_shown(session, labels, target):
    labels[:, 5:15, 5:15] = 6
    session.delete(6, target)
    assert not labels[0].any()
    assert (labels[1] == 6).sum() == 100
    with pytest.raises(InputError, match="Label 6 was to be deleted"):
        session.delete(6, target)


def test_deleting_needs_a_label_image(session):
    with pytest.raises(InputError, match="No label image"):
        session.delete(1)


def test_stepping_through_the_objects(session, target):
    for x in (0, 20, 40):
        put(session, boxes=(BoxPrompt(x, 0, x + 9, 9),))
        session.commit(target)
    assert [session.next_object().label for _ in range(3)] == [1, 2, 3]
    assert session.next_object() is None
    assert session.previous_object().label == 2
    session.delete(1)
    session.delete(2)
    assert session.next_object().label == 3
    assert session.previous_object() is None
    session.set_target(None)
    assert session.next_object() is None
    session.set_target(target)
    assert session.previous_object().label == 3


# --- automatic runs and label images -------------------------------------------------------------


def run_automatically(target, labels_by_region, plane=PLANE):
    changes = []
    for region, label in labels_by_region.items():
        changes += change_labels(target, plane, region, np.full(region.shape, label))
    return changes


def found(label, region):
    (top, left), (bottom, right) = region.start, region.stop
    area = (bottom - top) * (right - left)
    return ObjectRecord(label, PLANE, PromptSet(), 0.9, 0.9, area, (left, top, right, bottom))


def test_an_automatic_run_is_one_step(session, labels, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    regions = {Region((0, 0), (15, 15)): 2, Region((30, 30), (40, 40)): 3}
    changes = run_automatically(target, regions)
    session.record_change("Segment everything", changes, [found(n, r) for r, n in regions.items()])
    assert session.objects.as_columns()["area"] == [75, 225, 100]
    assert target.next_label() == 4
    assert session.undo() == "Segment everything"
    assert (labels[0] == 1).sum() == 100
    assert labels.max() == 1
    assert [own.label for own in session.objects] == [1]
    assert target.next_label() == 2
    session.redo()
    assert (labels[0] == 2).sum() == 225
    assert len(session.objects) == 3


def test_a_run_that_changed_nothing_is_no_step(session):
    session.record_change("Segment everything", [])
    assert not session.can_undo


def test_a_run_changes_one_label_image(session):
    region = {Region((0, 0), (2, 2)): 1}
    targets = [LabelTarget([np.zeros((2, 8, 8), np.uint8)]) for _ in range(2)]
    changes = [change for own in targets for change in run_automatically(own, region)]
    with pytest.raises(InputError, match="2 label images"):
        session.record_change("Segment everything", changes)


def test_a_removed_label_image_is_forgotten(session, labels, target):
    other_labels = np.zeros_like(labels)
    other = LabelTarget([other_labels])
    put(session, boxes=(BOX,))
    session.commit(target)
    put(session, boxes=(FAR_BOX,))
    session.commit(other)
    session.set_target(target)
    session.edit(1)
    session.discard_target(target)
    assert session.target is None
    assert session.edited_label is None
    assert len(session.objects_of(target)) == 0
    assert session.prompts.boxes == (BOX,)  # they can be committed to other labels
    descriptions = []
    while session.can_undo:
        descriptions.append(session.undo())
    assert (labels[0] == 1).sum() == 100
    assert not other_labels.any()
    assert "Commit object 1" in descriptions


def test_objects_are_loaded_with_their_labels(session, labels, target):
    labels[0, 10:20, 10:20] = 8
    table = ObjectTable()
    table.put(found(8, Region((10, 10), (20, 20))))
    session.load_objects(target, ObjectTable.from_json(table.to_json()))
    session.set_target(target)
    assert session.next_object().label == 8
    session.delete(8)
    assert not labels.any()


def test_the_history_spills_and_still_undoes_everything(labels, target):
    session = Session(history_bytes=0)
    session.set_image("image")
    session.set_plane(PLANE)
    for x in range(0, 90, 10):
        put(session, boxes=(BoxPrompt(x, 0, x + 9, 9),))
        session.commit(target)
    while session.can_undo:
        session.undo()
    assert not labels.any()
    while session.can_redo:
        session.redo()
    assert labels.max() == 9
    session.close()
    assert not session.can_undo


def test_other_images_do_not_undo_prompts_but_labels(session, labels, target):
    put(session, boxes=(BOX,))
    session.commit(target)
    session.set_image("another")
    assert session.undo() == "Commit object 1"
    assert not labels.any()
    assert session.plane is None
    assert session.redo() == "Commit object 1"
    assert (labels[0] == 1).sum() == 100


def test_a_session_starts_without_torch():
    code = "import napari_sam.pipeline.session, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
