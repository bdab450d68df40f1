from types import SimpleNamespace

import pytest

from napari_sam.core.steps import result_of, retold, timed


def counting(stop):
    total = 0
    for i in range(stop):
        total += i
        yield i
    return total


def test_a_generator_runs_to_its_end():
    assert result_of(counting(5)) == 10
    assert result_of(counting(0)) == 0


def test_errors_come_through():
    def failing():
        yield 1
        raise KeyError("x")

    with pytest.raises(KeyError):
        result_of(failing())


def test_waiting_between_steps_is_not_work(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("napari_sam.core.steps.time", SimpleNamespace(monotonic=lambda: clock.now))

    def working():
        clock.now += 1
        yield "a step"
        clock.now += 2
        return "the result"

    steps = timed(working())
    assert next(steps) == "a step"
    clock.now += 100
    assert result_of(steps) == ("the result", 3.0)


def test_closing_a_timed_generator_closes_what_it_times():
    closed = []

    def working():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    steps = timed(working())
    next(steps)
    steps.close()
    assert closed == [True]


def test_steps_are_told_in_other_terms():
    told = retold(counting(5), lambda step: f"step {step}" if step % 2 else None)
    assert next(told) == "step 1"
    assert next(told) == "step 3"
    assert result_of(told) == 10


def test_closing_a_retold_generator_closes_what_it_tells():
    closed = []

    def working():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    told = retold(working(), str)
    assert next(told) == "1"
    told.close()
    assert closed == [True]
