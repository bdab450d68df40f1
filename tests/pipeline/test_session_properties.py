"""Whatever is done in whatever order: undoing all leads back to the start, redoing all forward."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fake_candidates import answer
from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane
from napari_sam.core.prompts import BoxPrompt, MaskPrompt, PlacedPrompts, PointPrompt
from napari_sam.core.region import Region
from napari_sam.pipeline.label_change import change_labels
from napari_sam.pipeline.label_target import LabelTarget
from napari_sam.pipeline.session import Session

PLANES = (Plane((1, 2), (0,)), Plane((1, 2), (1,)), Plane((2, 0), (5,)))
SHAPE = (20, 30, 24)

pixels = st.integers(0, 20)
points = st.builds(PointPrompt, pixels, pixels, st.booleans())
boxes = st.builds(
    lambda x, y, w, h: BoxPrompt(x, y, x + w, y + h), pixels, pixels, *[st.integers(1, 12)] * 2
)


class AnySession(RuleBasedStateMachine):
    """A session beside plain copies of what it had after each step."""

    @initialize(seed=st.integers(0, 99), budget=st.sampled_from([0, 300, 2**26]))
    def start(self, seed, budget):
        rng = np.random.default_rng(seed)
        self.labels = np.where(rng.random(SHAPE) < 0.1, rng.integers(1, 4, SHAPE), 0)
        self.labels = self.labels.astype(np.uint16)
        self.coarse = self.labels[:, ::2, ::2].copy()
        self.target = LabelTarget([self.labels, self.coarse], ((1, 1), (2, 2)))
        self.session = Session(history_bytes=budget)
        self.session.set_image("image")
        self.session.set_plane(PLANES[0])
        self.session.set_target(self.target)
        self.states = [self.state()]
        self.position = 0

    def state(self):
        """What undo brings back; never what is shown, as the plane or the threshold."""
        return (
            self.labels.tobytes(),
            tuple(self.session.objects),
            dict(self.session._drafts),
            self.target.next_label(),
        )

    def answered(self):
        request = self.session.request()
        if request is not None:
            assert self.session.apply(request, answer(request))

    @rule(plane=st.sampled_from(PLANES))
    def go_to(self, plane):
        self.session.set_plane(plane)

    @rule(point=points)
    def add_point(self, point):
        old = self.session.prompts
        self.session.set_prompts(PlacedPrompts((*old.points, point), old.boxes, old.masks))
        self.took_step()

    @rule(box=boxes)
    def add_box(self, box):
        old = self.session.prompts
        self.session.set_prompts(PlacedPrompts(old.points, (*old.boxes, box), old.masks))
        self.took_step()

    @rule(data=st.data())
    def remove_points(self, data):
        old = self.session.prompts
        kept = tuple(p for p in old.points if data.draw(st.booleans()))
        self.session.set_prompts(PlacedPrompts(kept, old.boxes, old.masks))
        if kept != old.points:
            self.took_step()

    @rule()
    def clear(self):
        had = not self.session.prompts.is_empty
        self.session.clear_prompts()
        if had:
            self.took_step()

    @rule(step=st.sampled_from([1, -1]))
    def cycle(self, step):
        self.answered()
        active, candidates = self.session.active, self.session.candidates
        self.session.cycle(step)
        if active is not None and candidates[active].is_ambiguous:
            self.took_step()

    @rule(preference=st.sampled_from(["best", "whole", "part", "sub-part"]))
    def prefer(self, preference):
        was_chosen = any(
            own.is_ambiguous and own.choice is not None for own in self.session.objects_prompts
        )
        self.session.preference = preference
        if was_chosen:
            self.took_step()

    @rule(threshold=st.sampled_from([-1.0, 0.0, 3.5]))
    def move_threshold(self, threshold):
        self.session.threshold = threshold

    @precondition(lambda self: self.session.objects_prompts)
    @rule(overwrite=st.sampled_from(["keep", "overwrite", "only_empty"]))
    def commit(self, overwrite):
        """Often refused, for what is in the way; then nothing may have changed."""
        self.answered()
        before = self.state()
        try:
            records = self.session.commit(self.target, overwrite)
        except InputError:
            assert self.state() == before
            return
        self.took_step()
        for record in records:
            plane = record.plane.read(self.labels)
            assert (plane == record.label).sum() >= record.area > 0

    @rule(data=st.data())
    def edit(self, data):
        known = [own.label for own in self.session.objects if not own.prompts.is_empty]
        if known:
            before = self.state()
            self.session.edit(data.draw(st.sampled_from(known)))
            if self.state() != before:
                self.took_step()

    @rule(label=st.integers(1, 6))
    def refine(self, label):
        mask = self.session.plane.read(self.labels) == label
        if mask.any():
            before = self.state()
            self.session.refine(label, MaskPrompt.from_array(mask))
            if self.state() != before:
                self.took_step()

    @rule(label=st.integers(1, 6))
    def delete(self, label):
        try:
            self.session.delete(label)
        except InputError:
            return
        self.took_step()

    @rule(seed=st.integers(0, 99))
    def run_automatically(self, seed):
        plane = self.session.plane
        shape = plane.shape_yx(SHAPE)
        first = self.target.next_label()
        rng = np.random.default_rng(seed)
        region = Region((seed % 10, 3), (seed % 10 + 6, 12)).intersect(Region.whole(shape))
        values = rng.integers(first, first + 3, region.shape)
        changes = change_labels(self.target, plane, region, values)
        self.session.record_change("Segment everything", changes)
        self.took_step()

    def took_step(self):
        assert not self.session.can_redo
        del self.states[self.position + 1 :]
        self.states.append(self.state())
        self.position += 1

    @precondition(lambda self: self.position > 0)
    @rule()
    def undo(self):
        assert self.session.undo() is not None
        self.position -= 1
        assert self.state() == self.states[self.position]

    @precondition(lambda self: self.position < len(self.states) - 1)
    @rule()
    def redo(self):
        assert self.session.redo() is not None
        self.position += 1
        assert self.state() == self.states[self.position]

    @invariant()
    def levels_agree(self):
        if hasattr(self, "labels"):
            np.testing.assert_array_equal(self.coarse, self.labels[:, ::2, ::2])

    @invariant()
    def buttons_agree(self):
        if hasattr(self, "states"):
            assert self.session.can_undo == (self.position > 0)
            assert self.session.can_redo == (self.position < len(self.states) - 1)

    def teardown(self):
        if not hasattr(self, "states"):
            return
        while self.session.undo() is not None:
            self.position -= 1
            assert self.state() == self.states[self.position]
        assert self.position == 0
        while self.session.redo() is not None:
            self.position += 1
        assert self.state() == self.states[self.position] == self.states[-1]
        self.session.close()


AnySession.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_any_sequence_of_actions = AnySession.TestCase
