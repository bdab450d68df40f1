import pytest

from fake_candidates import (
    BOX,
    FAR_BOX,
    NEGATIVE,
    OTHER,
    PLANE,
    POINT,
    RADII,
    SECOND,
    answer,
    areas,
    put,
    respond,
    squares,
)
from napari_sam.core.errors import ConfigError, InputError
from napari_sam.core.prompts import PlacedPrompts, PointPrompt, PromptSet


def test_the_best_of_three_masks_is_shown(session):
    assert session.request() is None
    put(session, POINT)
    (candidates,) = session.candidates
    assert candidates.is_ambiguous
    assert session.chosen == (1,)
    assert areas(session) == squares(RADII[1])
    assert session.request() is None  # the masks are there


def test_cycling_goes_round_and_is_undone_without_asking_again(session):
    put(session, POINT)
    seen = []
    for _ in range(3):
        session.cycle()
        seen.append(session.chosen[0])
    assert seen == [2, 0, 1]
    assert session.objects_prompts == (PromptSet((POINT,), choice=1),)
    session.cycle(-1)
    assert areas(session) == squares(RADII[0])
    assert session.undo() == "Choose mask"
    assert session.undo() == "Choose mask"
    assert areas(session) == squares(RADII[0])
    assert session.redo() == "Choose mask"
    assert areas(session) == squares(RADII[1])
    assert session.request() is None


def test_later_points_go_on_from_the_chosen_mask(session):
    put(session, POINT)
    session.choose(2)
    session.set_prompts(PlacedPrompts((POINT, SECOND)))
    assert session.request().objects == (PromptSet((POINT, SECOND), choice=2),)
    session.undo()
    session.undo()
    session.undo()
    assert session.prompts.is_empty
    assert not session.can_undo


def test_choosing_among_the_masks_of_clear_prompts_is_no_step(session):
    put(session, boxes=(BOX,))
    assert areas(session) == [100]
    session.cycle()
    assert session.chosen == (1,)
    assert session.undo() == "Add box"
    session.redo()
    respond(session)
    assert session.chosen == (0,)


def test_other_objects_keep_the_mask_that_was_chosen(session):
    put(session, boxes=(BOX, FAR_BOX))
    assert session.active == 1
    session.choose(3)
    put(session, PointPrompt(15, 15), boxes=(BOX, FAR_BOX))
    assert session.active == 0  # whose prompts changed
    assert session.chosen == (0, 3)
    session.activate(1)
    session.cycle()
    assert session.chosen == (0, 0)
    with pytest.raises(InputError, match="2 objects"):
        session.activate(2)
    with pytest.raises(InputError, match="4 masks"):
        session.choose(4)


def test_nothing_is_chosen_while_new_masks_are_computed(session):
    put(session, POINT)
    session.set_prompts(PlacedPrompts((POINT, SECOND)))
    assert len(session.candidates) == 1  # still those of the first point
    assert not session.is_current
    before = session.objects_prompts
    session.cycle()
    session.choose(0)
    assert session.objects_prompts == before


def test_an_old_answer_changes_nothing(session):
    put(session, POINT)
    session.set_prompts(PlacedPrompts((POINT, SECOND)))
    old = session.request()
    session.set_prompts(PlacedPrompts((POINT, SECOND, NEGATIVE)))
    shown = session.candidates
    calls = []
    session.subscribe(lambda: calls.append(1))
    assert session.apply(old, answer(old)) is False
    assert session.candidates is shown
    assert not calls
    respond(session)
    assert session.is_current


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session.reset(),
        lambda session: session.set_image("image"),
        lambda session: session.set_image("another"),
        lambda session: session.set_plane(OTHER),
        lambda session: session.set_plane(None),
        lambda session: session.clear_prompts(),
    ],
)
def test_masks_of_another_model_image_or_plane_are_never_shown(session, change):
    put(session, POINT)
    session.set_prompts(PlacedPrompts((POINT, SECOND)))
    pending = session.request()
    change(session)
    assert session.candidates == ()
    assert session.chosen_masks() == ()
    assert session.active is None
    assert session.apply(pending, answer(pending)) is False
    assert session.candidates == ()


def test_after_a_change_of_model_the_prompts_are_asked_again(session):
    put(session, POINT)
    session.reset()
    assert session.request().objects == (PromptSet((POINT,)),)
    respond(session)
    assert areas(session) == squares(RADII[1])


def test_prompts_are_kept_per_plane_and_forgotten_with_the_image(session):
    put(session, POINT)
    session.set_plane(OTHER)
    assert session.prompts.is_empty
    put(session, SECOND)
    session.set_plane(PLANE)
    assert session.prompts.points == (POINT,)
    respond(session)
    session.set_image("another")
    assert session.plane is None
    session.set_plane(PLANE)
    assert session.prompts.is_empty
    assert not session.can_undo


def test_undo_shows_the_plane_where_something_changed(session):
    put(session, POINT)
    session.set_plane(OTHER)
    assert session.undo() == "Add point"
    assert session.plane == PLANE
    assert session.prompts.is_empty


def test_prompts_need_a_plane(session):
    session.set_plane(None)
    assert session.prompts.is_empty
    session.set_prompts(PlacedPrompts())
    session.clear_prompts()
    with pytest.raises(InputError, match="No plane"):
        session.set_prompts(PlacedPrompts((POINT,)))


def test_equal_prompts_are_no_step(session):
    session.set_prompts(PlacedPrompts())
    assert not session.can_undo
    put(session, POINT)
    session.set_prompts(PlacedPrompts((PointPrompt(20.0, 30.0),)))
    assert session.is_current
    session.undo()
    assert not session.can_undo


def test_a_new_action_drops_what_could_be_redone(session):
    put(session, POINT)
    session.undo()
    assert session.can_redo
    session.set_prompts(PlacedPrompts((SECOND,)))
    assert not session.can_redo
    assert session.redo() is None


def test_the_threshold_moves_masks_without_asking(session):
    put(session, boxes=(BOX,))
    session.clear_prompts()
    put(session, POINT)
    session.threshold = 3.5  # the outermost ring has a logit of 3
    assert areas(session) == squares(RADII[1] - 1)
    assert session.request() is None
    with pytest.raises(ConfigError, match="threshold"):
        session.threshold = 6
    assert session.threshold == 3.5


def test_the_preference_moves_masks_without_asking_and_is_remembered(session):
    put(session, POINT)
    for preference, radius in (("whole", 6), ("sub-part", 2), ("part", 4), ("whole", 6)):
        session.preference = preference
        assert areas(session) == squares(radius)
        assert session.request() is None
    session.clear_prompts()
    put(session, SECOND)
    assert areas(session) == squares(6)
    with pytest.raises(ConfigError, match="preference"):
        session.preference = "largest"


def test_a_preference_overrules_an_earlier_choice_and_this_is_undone(session):
    put(session, POINT)
    session.choose(0)
    session.preference = "whole"
    assert areas(session) == squares(6)
    assert session.undo() == "Choose mask"
    assert areas(session) == squares(2)


def test_with_later_points_another_preference_asks_the_model_again(session):
    put(session, POINT, SECOND)
    session.preference = "whole"
    request = session.request()
    assert request.preference == "whole"
    respond(session)
    session.preference = "whole"
    assert session.request() is None


def test_with_a_chosen_first_mask_the_preference_does_not_matter(session):
    put(session, POINT)
    session.choose(0)
    put(session, POINT, SECOND)
    session.preference = "whole"
    assert session.request() is None
    put(session, boxes=(BOX,))
    session.preference = "part"
    assert session.request() is None


def test_listeners_hear_of_every_change_once_until_they_leave(session, target):
    calls = []
    leave = session.subscribe(lambda: calls.append(session.prompts))
    actions = [
        lambda: session.set_prompts(PlacedPrompts((POINT,))),
        lambda: respond(session),
        lambda: session.cycle(),
        lambda: session.flip_sign(),
        lambda: session.commit(target),
        lambda: session.undo(),
        lambda: session.set_plane(OTHER),
        lambda: setattr(session, "threshold", 1),
    ]
    for n, action in enumerate(actions, start=1):
        action()
        assert len(calls) == n
    assert calls[0].points == (POINT,)
    leave()
    leave()
    session.set_plane(PLANE)
    assert len(calls) == len(actions)


def test_what_a_listener_raises_is_not_hidden(session):
    def fail():
        raise KeyError("listener")

    session.subscribe(fail)
    with pytest.raises(KeyError, match="listener"):
        session.flip_sign()


def test_the_sign_starts_positive_for_each_object(session, target):
    session.flip_sign()
    assert not session.next_is_positive
    session.flip_sign()
    assert session.next_is_positive
    put(session, POINT)
    session.flip_sign()
    session.commit(target)
    assert session.next_is_positive
    session.flip_sign()
    session.clear_prompts()
    assert session.next_is_positive


@pytest.mark.parametrize("chosen", [None, 2])
@pytest.mark.parametrize(
    "points", [(POINT,), (POINT, SECOND), (POINT, SECOND, NEGATIVE), (SECOND,), (NEGATIVE,)]
)
def test_what_other_prompts_would_ask_is_known_before_they_stand(session, chosen, points):
    put(session, POINT)
    if chosen is not None:
        session.choose(chosen)
    prompts, before = PlacedPrompts(points), (session.prompts, session.chosen, session.can_redo)
    ahead = session.request_for(prompts)
    assert before == (session.prompts, session.chosen, session.can_redo)
    assert session.request() is None
    if ahead is not None:
        assert not session.apply(ahead, answer(ahead))
    session.set_prompts(prompts)
    session.reset()
    asked = session.request()
    assert (asked is None) == (ahead is None)
    if asked is not None:
        assert (asked.plane, asked.objects, asked.preference) == (
            ahead.plane,
            ahead.objects,
            ahead.preference,
        )


def test_without_a_plane_other_prompts_ask_nothing(session):
    session.set_plane(None)
    assert session.request_for(PlacedPrompts((POINT,))) is None
