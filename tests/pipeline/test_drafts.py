import numpy as np
import pytest

from napari_sam.core.prompts import BoxPrompt, MaskPrompt, PlacedPrompts, PointPrompt, PromptSet
from napari_sam.core.region import Region
from napari_sam.pipeline.drafts import Draft, EditedObject, describe_change
from napari_sam.pipeline.label_target import LabelTarget

A, B, C = PointPrompt(1, 1), PointPrompt(50, 50), PointPrompt(70, 70, False)
BOX, FAR_BOX = BoxPrompt(40, 40, 60, 60), BoxPrompt(80, 80, 90, 90)
MASK = MaskPrompt.from_array(np.ones((2, 2), bool), (5, 5))
REGION = Region((0, 0), (5, 5))


def target():
    return LabelTarget([np.zeros((5, 5), np.uint8)])


def test_the_choice_belongs_to_the_free_points():
    draft = Draft(PlacedPrompts((A, B), (BOX, FAR_BOX)), choice=2)
    assert draft.objects() == (
        PromptSet((B,), BOX),
        PromptSet((), FAR_BOX),
        PromptSet((A,), choice=2),
    )


def test_the_choice_lasts_as_long_as_the_first_point():
    draft = Draft(PlacedPrompts((A,)), choice=2)
    assert draft.with_prompts(PlacedPrompts((A, B))).choice == 2
    assert draft.with_prompts(PlacedPrompts((B, A))).choice is None
    assert draft.with_prompts(PlacedPrompts()).choice is None
    assert draft.with_prompts(PlacedPrompts((A,), (BOX,))).choice is None


def test_an_edited_object_is_let_go_with_its_last_prompt():
    edited = EditedObject(7, target(), PromptSet((A,)), REGION)
    draft = Draft.of(PromptSet((A,), choice=1), edited)
    assert draft.choice == 1
    assert draft.with_prompts(PlacedPrompts((B,))).edited == edited
    assert draft.with_prompts(PlacedPrompts()).edited is None


def test_the_object_that_shares_most_prompts_takes_the_place_of_the_edited_one():
    labels = target()
    edited = EditedObject(7, labels, PromptSet((A, B), BOX), REGION)
    draft = Draft(PlacedPrompts((A, B, C), (FAR_BOX, BOX)), edited=edited)
    assert draft.edited_index(labels) == 1
    assert draft.edited_index(target()) is None
    assert Draft(draft.prompts).edited_index(labels) is None
    alone = Draft(PlacedPrompts((PointPrompt(9, 9),)), edited=edited)
    assert alone.edited_index(labels) == 0
    by_mask = EditedObject(7, labels, PromptSet(mask=MASK), REGION)
    assert Draft(PlacedPrompts((), (BOX,), (MASK,)), edited=by_mask).edited_index(labels) == 1


def test_a_draft_forgets_a_label_image_or_one_object_of_it():
    labels = target()
    draft = Draft.of(PromptSet((A,)), EditedObject(7, labels, PromptSet((A,)), REGION))
    assert draft.without_target(labels).edited is None
    assert draft.without_target(labels, 7).edited is None
    assert draft.without_target(labels, 8) == draft
    assert draft.without_target(target()) == draft


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (PlacedPrompts(), PlacedPrompts((A,)), "Add point"),
        (PlacedPrompts((A,)), PlacedPrompts((B,)), "Change point"),
        (PlacedPrompts((A,)), PlacedPrompts(), "Remove point"),
        (PlacedPrompts((A,)), PlacedPrompts((A,), (BOX,)), "Add box"),
        (PlacedPrompts((), (), (MASK,)), PlacedPrompts(), "Remove mask"),
        (PlacedPrompts((A,)), PlacedPrompts((), (BOX,)), "Change prompts"),
    ],
)
def test_menus_say_what_would_be_undone(before, after, words):
    assert describe_change(before, after) == words
