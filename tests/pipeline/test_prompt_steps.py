"""The order of steps, and which prompts are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.errors import InputError
from napari_sam.core.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet
from napari_sam.pipeline.prompt_steps import check_inside, prompt_steps

BOX = BoxPrompt(1, 2, 8, 9)
MASK = MaskPrompt.from_array(np.ones((3, 4), bool), (5, 6))


def points(signs: str) -> tuple[PointPrompt, ...]:
    return tuple(PointPrompt(i, i, sign == "+") for i, sign in enumerate(signs))


@pytest.mark.parametrize(
    ("signs", "counts"),
    [("+", [1]), ("++-", [1, 2, 3]), ("-+", [2]), ("--+-", [3, 4]), ("--", [2])],
)
def test_points_alone_start_with_the_first_positive(signs: str, counts: list[int]) -> None:
    steps = prompt_steps(PromptSet(points(signs), choice=1))
    assert [len(step.points) for step in steps] == counts
    assert all(step.choice is None for step in steps)


@pytest.mark.parametrize(("box", "mask"), [(BOX, None), (None, MASK), (BOX, MASK)])
def test_regions_come_before_points(box: BoxPrompt | None, mask: MaskPrompt | None) -> None:
    steps = prompt_steps(PromptSet(points("-+"), box, mask))
    assert [len(step.points) for step in steps] == [0, 1, 2]
    assert all((step.box, step.mask) == (box, mask) for step in steps)


@given(st.text("+-", min_size=1, max_size=6), st.booleans(), st.text("+-", max_size=3))
def test_one_more_point_adds_steps_and_changes_none(signs: str, boxed: bool, more: str) -> None:
    box = BOX if boxed else None
    steps = prompt_steps(PromptSet(points(signs), box))
    longer = prompt_steps(PromptSet(points(signs + more), box))
    assert steps[-1].points == points(signs)
    if boxed or "+" in signs:
        assert longer[: len(steps)] == steps


@pytest.mark.parametrize(
    "prompts",
    [
        PromptSet(),
        PromptSet((PointPrompt(-1, 5),)),
        PromptSet((PointPrompt(5, 5), PointPrompt(5, 41))),
        PromptSet(box=BoxPrompt(60, 0, 70, 10)),
        PromptSet(box=BoxPrompt(-9, 0, 0, 10)),
        PromptSet(mask=MaskPrompt.from_array(np.ones((2, 2), bool), (40, 0))),
    ],
)
def test_what_misses_the_plane_is_refused(prompts: PromptSet) -> None:
    with pytest.raises(InputError):
        check_inside(prompts, (40, 60))


@pytest.mark.parametrize(
    "prompts",
    [
        PromptSet((PointPrompt(-0.5, 0), PointPrompt(60, 40))),
        PromptSet(box=BoxPrompt(-5, -5, 90, 90)),
        PromptSet(mask=MaskPrompt.from_array(np.ones((2, 2), bool), (39, 59))),
    ],
)
def test_what_meets_the_plane_is_taken(prompts: PromptSet) -> None:
    check_inside(prompts, (40, 60))
