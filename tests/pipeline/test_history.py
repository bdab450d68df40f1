import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.plane import Plane
from napari_sam.core.prompts import PlacedPrompts, PointPrompt, PromptSet
from napari_sam.core.region import Region
from napari_sam.pipeline.drafts import Draft, EditedObject
from napari_sam.pipeline.history import DraftChange, History, MaximumChange, RecordChange, Step
from napari_sam.pipeline.label_change import change_labels
from napari_sam.pipeline.label_target import LabelTarget

FLAT = Plane((0, 1))
WHOLE = Region((0, 0), (40, 40))


def noise_step(target, seed):
    """A step that does not compress well, about 3 kB."""
    values = np.random.default_rng(seed).integers(0, 255, WHOLE.shape).astype(np.uint8)
    return Step(f"step {seed}", labels=tuple(change_labels(target, FLAT, WHOLE, values)))


def undo(history):
    for change in reversed(history.next_undo.labels):
        change.undo()
    history.step_back()


def redo(history):
    for change in history.next_redo.labels:
        change.redo()
    history.step_forward()


@given(st.integers(0, 20_000), st.lists(st.sampled_from(["do", "undo", "redo"]), max_size=25))
def test_pixels_come_back_from_memory_and_from_disk(budget, actions):
    array = np.zeros(WHOLE.shape, np.uint8)
    target, history = LabelTarget([array]), History(budget)
    states, position = [array.copy()], 0
    for number, action in enumerate([*actions, *["undo"] * 25, *["redo"] * 25]):
        if action == "do":
            history.push(noise_step(target, number))
            states, position = [*states[: position + 1], array.copy()], position + 1
        elif action == "undo" and history.next_undo is not None:
            undo(history)
            position -= 1
        elif action == "redo" and history.next_redo is not None:
            redo(history)
            position += 1
        np.testing.assert_array_equal(array, states[position])
        assert (history.next_undo is None) == (position == 0)
        assert (history.next_redo is None) == (position == len(states) - 1)
        assert history.memory_bytes <= budget
    history.close()


def test_the_newest_steps_stay_in_memory():
    target, history = LabelTarget([np.zeros(WHOLE.shape, np.uint8)]), History(10_000)
    steps = [noise_step(target, seed) for seed in range(6)]
    for step in steps:
        history.push(step)
    kept = [any(payload.memory_bytes for payload in step.payloads()) for step in steps]
    assert kept == sorted(kept)
    assert kept[-1]
    assert not kept[0]
    history.close()


def test_the_file_becomes_empty_when_nothing_in_it_is_needed():
    array = np.zeros(WHOLE.shape, np.uint8)
    target, history = LabelTarget([array]), History(0)
    for seed in range(3):
        history.push(noise_step(target, seed))
    file = history._file
    assert file.seek(0, 2) > 5000
    for _ in range(3):
        undo(history)
    history.push(Step("small", drafts=(DraftChange(FLAT, Draft(), Draft(choice=1)),)))
    assert file.seek(0, 2) == 0
    history.push(noise_step(target, 9))
    undo(history)
    assert not array.any()
    history.close()
    assert file.closed


def test_the_file_is_closed_with_its_history():
    history = History(0)
    history.push(noise_step(LabelTarget([np.zeros(WHOLE.shape, np.uint8)]), 0))
    file = history._file
    del history
    gc.collect()
    assert file.closed


def test_with_a_full_disk_pixels_stay_in_memory(monkeypatch):
    array = np.zeros(WHOLE.shape, np.uint8)
    target, history = LabelTarget([array]), History(0)

    class FullDisk:
        def seek(self, offset):
            pass

        def write(self, content):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(history, "_open_file", FullDisk)
    history.push(noise_step(target, 0))
    history.push(noise_step(target, 1))
    assert history.memory_bytes > 4000
    undo(history)
    undo(history)
    assert not array.any()


def test_rewriting_drops_steps_that_become_empty():
    target, history = LabelTarget([np.zeros(WHOLE.shape, np.uint8)]), History(0)
    drafts = (DraftChange(FLAT, Draft(), Draft(choice=1)),)
    history.push(Step("prompts", drafts=drafts))
    history.push(noise_step(target, 1))
    history.push(Step("more prompts", drafts=drafts))
    history.push(Step("undone prompts", drafts=drafts))
    history.step_back()
    history.rewrite(lambda step: Step(step.description, labels=step.labels))
    assert history.next_undo.description == "step 1"
    assert history.next_redo is None
    history.step_back()
    assert history.next_undo is None
    assert history.next_redo.description == "step 1"
    history.close()


@pytest.mark.parametrize("kind", ["labels", "records", "maxima"])
def test_a_step_forgets_a_label_image(kind):
    gone, other = (LabelTarget([np.zeros(WHOLE.shape, np.uint8)]) for _ in range(2))
    parts = {
        "labels": lambda target: noise_step(target, 0).labels[0],
        "records": lambda target: RecordChange(target, 1, None, None),
        "maxima": lambda target: MaximumChange(target, 0, 1),
    }[kind]
    kept = parts(other)
    step = Step("both", **{kind: (parts(gone), kept)})
    assert step.without_target(gone) == Step("both", **{kind: (kept,)})
    assert step.without_target(gone).without_target(other).is_empty


def test_prompts_outlive_the_label_image():
    target = LabelTarget([np.zeros(WHOLE.shape, np.uint8)])
    prompts = PromptSet((PointPrompt(1, 1),))
    edited = Draft.of(prompts, EditedObject(1, target, prompts, WHOLE))
    step = Step("edit", drafts=(DraftChange(FLAT, Draft(), edited),))
    (change,) = step.without_target(target).drafts
    assert change.after == Draft(PlacedPrompts(prompts.points))
