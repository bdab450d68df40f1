import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from napari_sam.core.errors import InputError
from napari_sam.core.prompts import BoxPrompt, MaskPrompt, PlacedPrompts, PointPrompt, PromptSet

coordinates = st.floats(0, 100, width=32)
points = st.builds(PointPrompt, coordinates, coordinates, st.booleans())
boxes = st.builds(
    lambda x, y, w, h: BoxPrompt(x, y, x + w, y + h),
    *[st.integers(0, 60)] * 2,
    *[st.integers(1, 30)] * 2,
)


@st.composite
def mask_prompts(draw):
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    mask = np.random.default_rng(draw(st.integers(0, 99))).random(size) < 0.5
    mask[0, 0] = True
    return MaskPrompt.from_array(mask, draw(st.tuples(st.integers(0, 60), st.integers(0, 60))))


prompt_sets = st.builds(
    PromptSet,
    st.lists(points, max_size=4).map(tuple),
    st.none() | boxes,
    st.none() | mask_prompts(),
    st.none() | st.integers(0, 2),
)
placed = st.builds(
    PlacedPrompts,
    st.lists(points, max_size=6).map(tuple),
    st.lists(boxes, max_size=3).map(tuple),
    st.lists(mask_prompts(), max_size=3).map(tuple),
)


@given(prompt_sets)
def test_json_gives_the_prompts_back(prompts):
    again = PromptSet.from_json(json.loads(json.dumps(prompts.to_json())))
    assert again == prompts
    assert hash(again) == hash(prompts)


@given(placed)
def test_every_prompt_belongs_to_one_object(prompts):
    objects = prompts.by_object()
    assert sorted(map(str, (o.box for o in objects if o.box))) == sorted(map(str, prompts.boxes))
    assert sorted(map(str, (o.mask for o in objects if o.mask))) == sorted(map(str, prompts.masks))
    owned = [point for own in objects for point in own.points]
    left_out = list(prompts.points)
    for point in owned:
        left_out.remove(point)
    assert not any(point.is_positive for point in left_out)
    assert not any(own.is_empty for own in objects)


@given(prompt_sets.filter(lambda own: own.has_region or any(p.is_positive for p in own.points)))
def test_the_prompts_of_one_object_stay_together(prompts):
    if prompts.box is not None and prompts.mask is not None:
        assume(prompts.box.holds(*_centre(prompts.mask)))
    (again,) = PlacedPrompts.of(prompts).by_object()
    assert again == PromptSet(prompts.points, prompts.box, prompts.mask)


def _centre(mask):
    (top, left), (rows, cols) = mask.origin_yx, mask.size_yx
    return left + (cols - 1) / 2, top + (rows - 1) / 2


def test_points_belong_to_the_smallest_region_around_them():
    outer, inner, other = (
        BoxPrompt(0, 0, 50, 50),
        BoxPrompt(10, 10, 20, 20),
        BoxPrompt(60, 0, 70, 9),
    )
    in_inner, in_outer, nowhere = (
        PointPrompt(15, 15),
        PointPrompt(30, 30, False),
        PointPrompt(90, 90),
    )
    objects = PlacedPrompts((in_inner, in_outer, nowhere), (outer, inner, other)).by_object()
    assert objects == (
        PromptSet((in_outer,), outer),
        PromptSet((in_inner,), inner),
        PromptSet((), other),
        PromptSet((nowhere,)),
    )


def test_all_points_belong_to_the_only_region():
    box, far = BoxPrompt(0, 0, 5, 5), PointPrompt(90, 90)
    assert PlacedPrompts((far,), (box,)).by_object() == (PromptSet((far,), box),)
    mask = MaskPrompt.from_array(np.ones((2, 2), bool))
    assert PlacedPrompts((far,), (), (mask,)).by_object() == (PromptSet((far,), None, mask),)


def test_points_without_a_region_are_one_object():
    first, second = PointPrompt(1, 1), PointPrompt(90, 90, False)
    assert PlacedPrompts((first, second)).by_object() == (PromptSet((first, second)),)


def test_negative_points_alone_are_no_object():
    negative = PointPrompt(90, 90, False)
    assert PlacedPrompts((negative,)).by_object() == ()
    two = (BoxPrompt(0, 0, 5, 5), BoxPrompt(10, 0, 15, 5))
    assert PlacedPrompts((negative,), two).by_object() == (
        PromptSet(box=two[0]),
        PromptSet(box=two[1]),
    )


def test_a_mask_joins_the_smallest_box_around_its_centre():
    outer, inner = BoxPrompt(0, 0, 50, 50), BoxPrompt(10, 10, 20, 20)
    mask = MaskPrompt.from_array(np.ones((5, 5), bool), (12, 12))
    outside = MaskPrompt.from_array(np.ones((5, 5), bool), (80, 80))
    objects = PlacedPrompts((), (outer, inner), (mask, outside)).by_object()
    assert objects == (
        PromptSet(box=outer),
        PromptSet(box=inner, mask=mask),
        PromptSet(mask=outside),
    )


def test_a_second_mask_in_a_box_goes_to_the_next_box_or_stands_alone():
    box = BoxPrompt(0, 0, 50, 50)
    masks = [MaskPrompt.from_array(np.ones((3, 3), bool), (y, y)) for y in (5, 20)]
    assert PlacedPrompts((), (box,), tuple(masks)).by_object() == (
        PromptSet(box=box, mask=masks[0]),
        PromptSet(mask=masks[1]),
    )


def test_a_click_on_the_rim_of_a_mask_belongs_to_it():
    masks = [MaskPrompt.from_array(np.ones((3, 3), bool), (10, x)) for x in (10, 20)]
    # pixel 10 reaches from 9.5 to 10.5, pixel 12 to 12.5
    rim = (PointPrompt(9.6, 10), PointPrompt(12.4, 12.4))
    first, second = PlacedPrompts(rim, (), tuple(masks)).by_object()
    assert first.points == rim
    assert second.points == ()


def test_what_is_ambiguous():
    positive, negative = PointPrompt(1, 1), PointPrompt(2, 2, False)
    assert PromptSet((positive,)).is_ambiguous
    assert not PromptSet((negative,)).is_ambiguous
    assert not PromptSet((positive, negative)).is_ambiguous
    assert not PromptSet((positive,), BoxPrompt(0, 0, 5, 5)).is_ambiguous


def test_the_extent_holds_all_prompts():
    mask = MaskPrompt.from_array(np.ones((2, 3), bool), (40, 30))
    prompts = PromptSet((PointPrompt(5, 99, False),), BoxPrompt(10, 10, 20, 20), mask)
    assert prompts.extent_xyxy == (5, 10, 33, 99)
    assert PromptSet((PointPrompt(5, 9),)).extent_xyxy == (5, 9, 5, 9)
    with pytest.raises(InputError, match="no prompts"):
        _ = PromptSet().extent_xyxy


def test_there_are_three_choices():
    with pytest.raises(InputError, match="three masks"):
        PromptSet((PointPrompt(1, 1),), choice=3)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"points": [[1, 2]]},
        {"points": [], "box_xyxy": [1, 2, 3]},
        {"points": [], "mask": {"origin_yx": [0, 0], "size_yx": [1, 1], "bits": "?"}},
        {"points": [["a", 2, 1]]},
    ],
)
def test_foreign_json_is_refused(values):
    with pytest.raises(InputError, match="prompts"):
        PromptSet.from_json(values)
