import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.errors import InputError, NapariSamError
from napari_sam.core.plane import Plane
from napari_sam.core.prompts import BoxPrompt, PointPrompt, PromptSet
from napari_sam.pipeline.objects import ObjectRecord, ObjectTable


def record(label, **changes):
    prompts = PromptSet((PointPrompt(1, 2), PointPrompt(3, 4, False)), BoxPrompt(0, 0, 9, 9))
    values = {
        "label": label,
        "plane": Plane((1, 2), (7,)),
        "prompts": prompts,
        "predicted_iou": 0.9,
        "stability_score": 0.8,
        "area": 10 * label,
        "box_xyxy": (1, 2, 3, 4),
    }
    return ObjectRecord(**values | changes)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20), st.integers(0, 9))))
def test_the_table_is_its_records_in_order(actions):
    table, expected = ObjectTable(), {}
    for is_put, label, area in actions:
        before = table.revision
        if is_put:
            expected[label] = record(label, area=area)
            table.put(expected[label])
        else:
            expected.pop(label, None)
            table.remove(label)
        assert table.revision > before
    ordered = [expected[label] for label in sorted(expected)]
    assert list(table) == ordered
    assert len(table) == len(ordered)
    columns = table.as_columns()
    assert columns["index"] == sorted(expected)
    assert columns["area"] == [own.area for own in ordered]
    assert {len(column) for column in columns.values()} == {len(ordered)}
    for label in range(22):
        assert (label in table) == (label in expected)
        assert table.get(label) == expected.get(label)
        after = [own for own in ordered if own.label > label]
        before = [own for own in ordered if own.label < label]
        assert table.after(label) == (after[0] if after else None)
        assert table.before(label) == (before[-1] if before else None)
    assert table.after(None) == (ordered[0] if ordered else None)
    assert table.before(None) == (ordered[-1] if ordered else None)


def test_columns_give_the_objects_back():
    table = ObjectTable()
    for label in (3, 7):
        table.put(record(label, plane=Plane((1, 3), (4, 5))))
    columns = table.as_columns()
    columns["a column of the user"] = ["x", "y"]
    assert list(ObjectTable.from_columns(columns)) == list(table)


def test_rows_that_are_no_objects_of_prompts_are_left_out():
    table = ObjectTable()
    for label in (3, 7):
        table.put(record(label))
    columns = table.as_columns()
    columns["prompts"][0] = float("nan")  # what pandas has where a row has no value
    assert [own.label for own in ObjectTable.from_columns(columns)] == [7]
    del columns["prompts"]
    assert len(ObjectTable.from_columns(columns)) == 0


def test_columns_are_what_a_labels_layer_wants():
    table = ObjectTable()
    table.put(record(3, plane=Plane((1, 3), (4, 5))))
    columns = table.as_columns()
    prompts = columns.pop("prompts")[0]
    assert PromptSet.from_json(json.loads(prompts)) == record(3).prompts
    assert columns == {
        "index": [3],
        "predicted_iou": [0.9],
        "stability_score": [0.8],
        "area": [30],
        "n_positive_points": [1],
        "n_negative_points": [1],
        "plane": ["4, 5"],
        "plane_axes": ["1, 3"],
        "mask_index": [0],
        "threshold": [0.0],
        "preference": ["best"],
        "x0": [1],
        "y0": [2],
        "x1": [3],
        "y1": [4],
    }


def test_columns_are_copies():
    table = ObjectTable()
    table.put(record(1))
    table.as_columns()["index"].clear()
    assert table.as_columns()["index"] == [1]


def test_json_gives_the_table_back():
    table = ObjectTable()
    table.put(record(2, mask_index=2, threshold=-1.5, preference="whole"))
    table.put(record(1, plane=Plane((0, 1)), prompts=PromptSet()))
    values = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert list(ObjectTable.from_json(values)) == list(table)


def test_scores_that_are_no_numbers_survive_json():
    values = json.loads(json.dumps(record(1, stability_score=math.nan).to_json(), allow_nan=False))
    assert math.isnan(ObjectRecord.from_json(values).stability_score)


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"version": 2, "objects": []},
        {"version": 1},
        {"version": 1, "objects": [{}]},
        {"version": 1, "objects": [record(1).to_json() | {"box_xyxy": [1, 2]}]},
        {"version": 1, "objects": [record(1).to_json() | {"preference": "largest"}]},
    ],
)
def test_foreign_json_is_refused(values):
    with pytest.raises(NapariSamError):
        ObjectTable.from_json(values)


def test_a_newer_version_is_named():
    with pytest.raises(InputError, match="newer napari_sam"):
        ObjectTable.from_json({"version": 2, "objects": []})


def test_the_box_as_rows_and_columns():
    assert record(1).region_yx.start == (2, 1)
    assert record(1).region_yx.stop == (4, 3)
