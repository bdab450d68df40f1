"""Work in threads: nothing is lost, nothing comes too late, nothing stays behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_sam.core.errors import InputError, NapariSamWarning

if TYPE_CHECKING:
    import napari
    from qtpy.QtCore import QObject

    from napari_sam._napari.workers import Job

Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture
def owner(screen: None, nothing_left_behind: None) -> Iterator[QObject]:
    """A Qt object whose jobs end with it, and an application without a window."""
    from napari.qt import get_qapp
    from qtpy.QtCore import QObject

    application = get_qapp()
    owner = QObject()
    yield owner
    owner.deleteLater()
    assert application is not None


@pytest.fixture
def notifications() -> Iterator[list[Any]]:
    """The notifications of napari that a test causes."""
    from napari.utils.notifications import notification_manager

    from napari_sam._napari import notices

    notices._shown_at.clear()
    before = len(notification_manager.records)
    seen: list[Any] = []
    notification_manager.notification_ready.connect(seen.append)
    yield seen
    notification_manager.notification_ready.disconnect(seen.append)
    del notification_manager.records[before:]
    notices._shown_at.clear()


@pytest.fixture
def unraised(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What the callbacks of a test raise."""
    raised: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: raised.append(error))
    return raised


class Log:
    """Every callback of a job, in order, and the thread that made it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.threads: set[threading.Thread] = set()

    def _note(self, name: str, value: Any = None) -> None:
        self.calls.append((name, value))
        self.threads.add(threading.current_thread())

    def run(self, steps: Any, owner: QObject) -> Job:
        from napari_sam._napari.workers import run_steps

        return run_steps(
            steps,
            on_step=lambda step: self._note("step", step),
            on_result=lambda result: self._note("result", result),
            on_error=lambda error: self._note("error", error),
            on_end=lambda: self._note("end"),
            parent=owner,
        )

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    @property
    def has_ended(self) -> bool:
        return "end" in self.names

    def values(self, name: str) -> list[Any]:
        return [value for called, value in self.calls if called == name]


class Endless:
    """A generator that goes on until it is told to stop, and notes how it was stopped."""

    def __init__(self, step_s: float = 0.001) -> None:
        self.step_s = step_s
        self.done = 0
        self.closed_in: threading.Thread | None = None

    def __call__(self) -> Generator[int, None, str]:
        try:
            while True:
                time.sleep(self.step_s)
                self.done += 1
                yield self.done
        finally:
            self.closed_in = threading.current_thread()


def three() -> Generator[int, None, str]:
    for step in range(3):
        yield step
        time.sleep(0.06)
    return "three"


def test_steps_result_and_end_come_in_order_in_the_event_loops_thread(
    owner: QObject, wait_until: Wait
) -> None:
    log = Log()

    def three_at_leisure() -> Generator[int, None, str]:
        for step in range(3):
            yield step
            while len(log.values("step")) <= step:  # else a later step takes its place
                time.sleep(0.001)
        return "three"

    job = log.run(three_at_leisure, owner)
    assert job.is_running
    assert log.calls == []
    wait_until(lambda: log.has_ended)
    assert log.calls == [("step", 0), ("step", 1), ("step", 2), ("result", "three"), ("end", None)]
    assert log.threads == {threading.main_thread()}
    assert not job.is_running
    assert not job.is_cancelled


def test_a_generator_runs_as_well_as_a_function_that_makes_one(
    owner: QObject, wait_until: Wait
) -> None:
    log = Log()
    log.run(three(), owner)
    wait_until(lambda: log.has_ended)
    assert log.values("result") == ["three"]


def test_a_job_runs_beside_the_event_loop(owner: QObject, wait_until: Wait) -> None:
    ran_in: list[threading.Thread] = []

    def steps() -> Generator[None, None, None]:
        ran_in.append(threading.current_thread())
        yield

    log = Log()
    log.run(steps, owner)
    wait_until(lambda: log.has_ended)
    assert ran_in[0] is not threading.main_thread()


def test_fast_steps_do_not_flood_the_event_loop(owner: QObject, wait_until: Wait) -> None:
    count = 20_000

    def fast() -> Generator[int, None, int]:
        yield from range(count)
        return count

    log = Log()
    begin = time.monotonic()
    log.run(fast, owner)
    wait_until(lambda: log.has_ended)
    intervals = (time.monotonic() - begin) / 0.05
    steps = log.values("step")
    assert 1 <= len(steps) <= intervals + 2
    assert steps == sorted(set(steps))
    assert steps[-1] == count - 1
    assert log.names[-2:] == ["result", "end"]


def test_the_latest_of_fast_steps_is_shown_though_the_next_takes_long(
    owner: QObject, wait_until: Wait
) -> None:
    go_on = threading.Event()

    def steps() -> Generator[int, None, None]:
        yield from range(100)
        go_on.wait(20)

    log = Log()
    log.run(steps, owner)
    wait_until(lambda: bool(log.calls) and log.calls[-1] == ("step", 99))
    assert not log.has_ended
    go_on.set()
    wait_until(lambda: log.has_ended)


def _errors() -> list[BaseException]:
    import torch

    return [
        RuntimeError("wrapped C/C++ object has been deleted"),
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        InputError("a", rule="b", cure="c"),
        GeneratorExit("raised by mistake"),
        SystemExit(3),
        KeyboardInterrupt(),
        StopIteration("inside a generator"),
        BaseException("of no kind"),
    ]


@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize("error", _errors(), ids=lambda error: type(error).__name__)
def test_no_error_is_lost(
    owner: QObject, wait_until: Wait, error: BaseException, steps_before: int
) -> None:
    def steps() -> Generator[int, None, None]:
        yield from range(steps_before)
        raise error

    log = Log()
    job = log.run(steps, owner)
    wait_until(lambda: log.has_ended)
    assert log.names[-2:] == ["error", "end"]
    assert log.names.count("error") == 1
    assert "result" not in log.names
    (caught,) = log.values("error")
    # Python turns a StopIteration that leaves a generator into a RuntimeError
    assert caught is error or caught.__cause__ is error
    assert not job.is_running


def test_an_error_before_the_generator_is_made_is_not_lost(
    owner: QObject, wait_until: Wait
) -> None:
    log = Log()
    log.run(lambda: 1 / 0, owner)
    wait_until(lambda: log.has_ended)
    assert log.names == ["error", "end"]
    assert isinstance(log.values("error")[0], ZeroDivisionError)


def test_an_error_leaves_no_memory_behind(owner: QObject, wait_until: Wait) -> None:
    class Tensor:
        pass

    held: list[weakref.ref[Tensor]] = []

    def steps() -> Generator[None, None, None]:
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        yield
        raise RuntimeError("out of memory")

    from napari_sam._napari.workers import run_steps

    ended: list[bool] = []
    run_steps(steps, on_error=lambda error: None, on_end=lambda: ended.append(True), parent=owner)
    wait_until(lambda: bool(ended))
    gc.collect()
    assert held[0]() is None


def test_cancel_closes_the_generator_in_its_thread(owner: QObject, wait_until: Wait) -> None:
    endless, log = Endless(), Log()
    job = log.run(endless, owner)
    wait_until(lambda: endless.done > 3)
    job.cancel()
    before = len(log.calls)
    wait_until(lambda: log.has_ended)
    assert log.names[before:] == ["end"]
    assert job.is_cancelled
    assert endless.closed_in not in (None, threading.main_thread())


def test_cancel_before_the_first_step_runs_nothing(owner: QObject, wait_until: Wait) -> None:
    made = threading.Event()
    go_on = threading.Event()
    endless, log = Endless(), Log()

    def slow_start() -> Generator[int, None, str]:
        made.set()
        go_on.wait(20)
        return endless()

    job = log.run(slow_start, owner)
    assert made.wait(20)
    job.cancel()
    go_on.set()
    wait_until(lambda: log.has_ended)
    assert log.names == ["end"]
    assert endless.done == 0


def test_a_result_that_comes_after_cancel_is_dropped(owner: QObject, wait_until: Wait) -> None:
    log = Log()

    def steps() -> Generator[None, None, str]:
        yield from ()
        time.sleep(0.1)
        return "too late"

    log.run(steps, owner).cancel()
    wait_until(lambda: log.has_ended)
    assert log.names == ["end"]


def test_an_error_while_closing_is_an_error(owner: QObject, wait_until: Wait) -> None:
    error = InputError("a", rule="b", cure="c")

    def steps() -> Generator[int, None, None]:
        try:
            while True:
                yield 0
                time.sleep(0.001)
        finally:
            raise error

    log = Log()
    job = log.run(steps, owner)
    wait_until(lambda: "step" in log.names)
    job.cancel()
    wait_until(lambda: log.has_ended)
    assert log.calls[-2:] == [("error", error), ("end", None)]


def test_a_generator_that_will_not_close_is_an_error(owner: QObject, wait_until: Wait) -> None:
    def stubborn() -> Generator[int, None, None]:
        try:
            while True:
                yield 0
        except GeneratorExit:
            yield 1

    log = Log()
    job = log.run(stubborn, owner)
    wait_until(lambda: "step" in log.names)
    job.cancel()
    wait_until(lambda: log.has_ended)
    assert [type(error) for error in log.values("error")] == [RuntimeError]


def test_pause_and_resume(owner: QObject, wait_until: Wait) -> None:
    endless, log = Endless(), Log()
    job = log.run(endless, owner)
    wait_until(lambda: endless.done > 3)
    job.pause()
    assert job.is_paused
    time.sleep(0.1)  # what was under way
    done = endless.done
    time.sleep(0.1)
    assert endless.done == done
    assert job.is_running
    job.resume()
    assert not job.is_paused
    wait_until(lambda: endless.done > done)
    job.cancel()
    wait_until(lambda: log.has_ended)


def test_a_paused_job_can_be_cancelled(owner: QObject, wait_until: Wait) -> None:
    endless, log = Endless(), Log()
    job = log.run(endless, owner)
    job.pause()
    job.cancel()
    wait_until(lambda: log.has_ended)
    assert not job.is_running
    job.pause()
    assert not job.is_paused


def test_paused_jobs_do_not_keep_others_from_running(owner: QObject, wait_until: Wait) -> None:
    paused = [Log().run(Endless(), owner) for _ in range(8)]
    for job in paused:
        job.pause()
    log = Log()
    log.run(three, owner)
    wait_until(lambda: log.has_ended)
    for job in paused:
        job.close()


def test_nothing_is_called_after_close(owner: QObject, wait_until: Wait) -> None:
    endless, log = Endless(), Log()
    job = log.run(endless, owner)
    wait_until(lambda: "step" in log.names)
    job.close()
    before = list(log.calls)
    wait_until(lambda: not job.is_running)
    _let_qt_work()
    assert log.calls == before
    assert endless.closed_in is not None
    job.close()


def test_nothing_is_called_after_the_owner_is_destroyed(owner: QObject, wait_until: Wait) -> None:
    from qtpy.QtCore import QObject

    endless, log = Endless(), Log()
    short_lived = QObject(owner)
    job = log.run(endless, short_lived)
    wait_until(lambda: "step" in log.names)
    short_lived.deleteLater()
    del short_lived
    wait_until(lambda: job.is_cancelled)
    before = list(log.calls)
    wait_until(lambda: not job.is_running)
    _let_qt_work()
    assert log.calls == before
    assert endless.closed_in is not None


def test_a_result_that_closes_the_job_is_its_last_call(owner: QObject, wait_until: Wait) -> None:
    from napari_sam._napari.workers import run_steps

    calls: list[str] = []

    def on_result(result: str) -> None:
        calls.append(result)
        job.close()

    job = run_steps(three, on_result=on_result, on_end=lambda: calls.append("end"), parent=owner)
    wait_until(lambda: bool(calls))
    _let_qt_work()
    assert calls == ["three"]


def test_an_error_in_a_callback_does_not_keep_the_end_away(
    owner: QObject, wait_until: Wait, unraised: list[BaseException]
) -> None:
    from napari_sam._napari.workers import run_steps

    ended: list[bool] = []
    error = ValueError("in the widget")

    def on_result(result: str) -> None:
        raise error

    run_steps(three, on_result=on_result, on_end=lambda: ended.append(True), parent=owner)
    wait_until(lambda: bool(ended))
    assert unraised == [error]


def test_jobs_end_when_the_application_quits(owner: QObject, wait_until: Wait) -> None:
    from qtpy.QtCore import QCoreApplication

    endless, log = Endless(), Log()
    job = log.run(endless, owner)
    wait_until(lambda: "step" in log.names)
    QCoreApplication.instance().aboutToQuit.emit()
    assert job.is_cancelled
    wait_until(lambda: endless.closed_in is not None)
    assert not log.has_ended


def test_a_finished_job_leaves_no_connection_to_its_owner(owner: QObject, wait_until: Wait) -> None:
    log = Log()
    gone = weakref.ref(log.run(three, owner))
    wait_until(lambda: log.has_ended)
    wait_until(lambda: gone() is None)


def test_a_function_runs_as_a_job(owner: QObject, wait_until: Wait) -> None:
    from napari_sam._napari.workers import run_function

    calls: list[Any] = []
    run_function(
        lambda: threading.current_thread().name,
        on_result=calls.append,
        on_end=lambda: calls.append("end"),
        parent=owner,
    )
    wait_until(lambda: "end" in calls)
    assert calls == ["napari-sam job", "end"]


def test_a_function_that_fails_reaches_the_user_without_being_asked_to(
    owner: QObject, wait_until: Wait, notifications: list[Any]
) -> None:
    from napari_sam._napari.workers import run_function

    run_function(lambda: [][1], parent=owner)
    wait_until(lambda: bool(notifications))
    assert "IndexError" in notifications[0].message


def test_closing_the_viewer_ends_the_work_of_its_widgets(
    viewer: napari.Viewer, wait_until: Wait
) -> None:
    from qtpy.QtWidgets import QWidget

    from napari_sam._napari.workers import LatestOnly

    widget = QWidget()
    endless, log = Endless(), Log()
    job = log.run(endless, widget)
    clicks = LatestOnly(widget)
    answers: list[str] = []
    viewer.window.add_dock_widget(widget)
    wait_until(lambda: "step" in log.names)
    clicks.submit(lambda: time.sleep(0.3) or "answer", answers.append)
    wait_until(lambda: clicks.is_busy)
    viewer.close()
    del widget
    wait_until(lambda: job.is_cancelled)
    before = list(log.calls)
    wait_until(lambda: not job.is_running and not clicks.is_busy)
    _let_qt_work()
    assert log.calls == before
    assert answers == []
    assert endless.closed_in is not None


# clicks


def test_each_click_is_answered_when_they_are_slow(owner: QObject, wait_until: Wait) -> None:
    from napari_sam._napari.workers import LatestOnly

    clicks = LatestOnly(owner)
    answers: list[int] = []
    threads: set[threading.Thread] = set()

    def compute(number: int) -> int:
        threads.add(threading.current_thread())
        return number**2

    for number in range(5):
        clicks.submit(lambda number=number: compute(number), answers.append)
        assert clicks.is_busy
        wait_until(lambda number=number: len(answers) == number + 1)
    assert answers == [0, 1, 4, 9, 16]
    assert not clicks.is_busy
    assert len(threads) == 1
    assert threading.main_thread() not in threads


def test_of_many_clicks_the_first_and_the_newest_are_answered(
    owner: QObject, wait_until: Wait
) -> None:
    from napari_sam._napari.workers import LatestOnly

    clicks = LatestOnly(owner)
    answers: list[int] = []
    computed: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def compute(number: int) -> int:
        computed.append(number)
        begun.set()
        go_on.wait(20)
        return number

    clicks.submit(lambda: compute(0), answers.append)
    assert begun.wait(20)
    for number in range(1, 10):
        clicks.submit(lambda number=number: compute(number), answers.append)
    go_on.set()
    wait_until(lambda: not clicks.is_busy)
    assert answers == computed == [0, 9]


@pytest.mark.parametrize("error", _errors(), ids=lambda error: type(error).__name__)
def test_an_error_in_a_click_is_told_and_the_next_click_works(
    owner: QObject, wait_until: Wait, error: BaseException
) -> None:
    from napari_sam._napari.workers import LatestOnly

    clicks = LatestOnly(owner)
    answers: list[Any] = []

    def fail() -> None:
        raise error

    clicks.submit(fail, answers.append, answers.append)
    wait_until(lambda: len(answers) == 1)
    clicks.submit(lambda: "fine", answers.append)
    wait_until(lambda: len(answers) == 2)
    assert answers == [error, "fine"]


def test_an_answer_that_raises_does_not_stop_the_clicks(
    owner: QObject, wait_until: Wait, unraised: list[BaseException]
) -> None:
    from napari_sam._napari.workers import LatestOnly

    clicks = LatestOnly(owner)
    answers: list[str] = []
    error = ValueError("in the widget")

    def on_result(result: str) -> None:
        raise error

    clicks.submit(lambda: "first", on_result)
    wait_until(lambda: bool(unraised))
    clicks.submit(lambda: "second", answers.append)
    wait_until(lambda: bool(answers))
    assert unraised == [error]


def test_closed_clicks_are_silent(owner: QObject, wait_until: Wait) -> None:
    from napari_sam._napari.workers import LatestOnly

    clicks = LatestOnly(owner)
    answers: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def compute() -> str:
        begun.set()
        go_on.wait(20)
        return "under way"

    clicks.submit(compute, answers.append)
    assert begun.wait(20)
    clicks.submit(lambda: "waiting", answers.append)
    clicks.close()
    clicks.submit(lambda: "too late", answers.append)
    go_on.set()
    wait_until(lambda: not clicks.is_busy)
    _let_qt_work()
    assert answers == []
    clicks.close()


def test_no_thread_before_the_first_click(owner: QObject) -> None:
    from napari_sam._napari.workers import LatestOnly

    before = set(threading.enumerate())
    clicks = LatestOnly(owner)
    assert set(threading.enumerate()) == before
    assert not clicks.is_busy


_SCRIPT = r"""
import sys, time
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication
application = QApplication([])
from napari_sam._napari.workers import LatestOnly, run_steps
def endless():
    try:
        while True:
            time.sleep(0.001)
            yield
    finally:
        sys.stdout.write("closed\n")
owner = QObject()
running = run_steps(endless, parent=owner)
paused = run_steps(endless, parent=owner)
paused.pause()
clicks = LatestOnly(owner)
clicks.submit(lambda: "clicked", print)
while clicks.is_busy:
    application.processEvents()
"""


def test_a_program_that_ends_does_not_wait_for_ever() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["clicked", "closed", "closed"]


# warnings and notifications


def _messages(notifications: list[Any]) -> list[tuple[str, str]]:
    return [(str(each.severity), each.message) for each in notifications]


def test_warnings_of_workers_are_notifications(
    owner: QObject, wait_until: Wait, notifications: list[Any]
) -> None:
    from napari_sam._napari.workers import LatestOnly

    def warn(message: str) -> None:
        warnings.warn(message, NapariSamWarning, stacklevel=2)

    def steps() -> Generator[None, None, None]:
        yield
        warn("Saturated pixels")

    log = Log()
    log.run(steps, owner)
    wait_until(lambda: log.has_ended)
    assert log.names[-2:] == ["result", "end"]
    answers: list[None] = []
    LatestOnly(owner).submit(lambda: warn("From a click"), answers.append)
    wait_until(lambda: bool(answers))
    assert _messages(notifications) == [
        ("warning", "Saturated pixels"),
        ("warning", "From a click"),
    ]


def test_the_same_warning_of_a_later_run_is_shown_again(
    owner: QObject,
    wait_until: Wait,
    notifications: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_sam._napari import notices

    monkeypatch.setattr(notices, "_REPEAT_AFTER_S", 0.0)

    def steps() -> Generator[None, None, None]:
        yield
        warnings.warn("Again", NapariSamWarning, stacklevel=1)

    for _ in range(2):
        log = Log()
        log.run(steps, owner)
        wait_until(lambda log=log: log.has_ended)
    assert _messages(notifications) == [("warning", "Again")] * 2


def test_pythons_warnings_are_as_before_when_jobs_have_overlapped(
    owner: QObject, wait_until: Wait
) -> None:
    before = warnings.showwarning
    logs = [Log(), Log(), Log()]
    jobs = [log.run(Endless(), owner) for log in logs]
    for job, log in zip(jobs, logs, strict=True):
        wait_until(lambda log=log: "step" in log.names)
        assert warnings.showwarning is not before
        job.cancel()
        wait_until(lambda log=log: log.has_ended)
    assert warnings.showwarning is before


def test_warnings_elsewhere_go_their_usual_way_while_a_job_runs(
    owner: QObject, wait_until: Wait, notifications: list[Any]
) -> None:
    log = Log()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        job = log.run(Endless(), owner)
        wait_until(lambda: "step" in log.names)
        warnings.warn("in the main thread", NapariSamWarning, stacklevel=1)
        job.cancel()
        wait_until(lambda: log.has_ended)
    assert [str(each.message) for each in caught] == ["in the main thread"]
    assert notifications == []


def test_an_error_of_ours_says_what_was_given_the_rule_and_the_cure(
    owner: QObject, notifications: list[Any]
) -> None:
    from napari_sam._napari.notices import show_error

    show_error(InputError("It is flat", rule="It has to be round", cure="Roll it"))
    assert _messages(notifications) == [("error", "It is flat\nIt has to be round\nRoll it")]


def test_any_other_error_keeps_its_traceback_but_not_its_variables(
    owner: QObject, notifications: list[Any]
) -> None:
    from napari_sam._napari.notices import show_error

    held: list[weakref.ref[np.ndarray]] = []

    def fail_with_an_array() -> None:
        array = np.zeros(3)
        held.append(weakref.ref(array))
        raise KeyError("absent")

    try:
        fail_with_an_array()
    except KeyError as error:
        show_error(error)
    gc.collect()
    (notification,) = notifications
    assert notification.message == "KeyError: 'absent'"
    assert "fail_with_an_array" in notification.as_text()
    assert held[0]() is None


def test_the_same_error_of_every_click_does_not_pile_up(
    owner: QObject, notifications: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_sam._napari import notices

    now = [100.0]
    monkeypatch.setattr(notices.time, "monotonic", lambda: now[0])
    for _ in range(10):
        notices.show_error(InputError("a", rule="b", cure="c"))
        now[0] += 0.4
    notices.show_error(InputError("another", rule="b", cure="c"))
    notices.show_warning("a\nb\nc")
    notices.show_info("a\nb\nc")
    now[0] += 1.1
    notices.show_error(InputError("a", rule="b", cure="c"))
    assert [message[0] for _, message in _messages(notifications)] == ["a", "a", "a", "a", "a"]
    assert [severity for severity, _ in _messages(notifications)] == [
        "error",
        "error",
        "warning",
        "info",
        "error",
    ]


def test_a_notification_is_seen_in_the_viewer(
    viewer: napari.Viewer, wait_until: Wait, notifications: list[Any]
) -> None:
    from napari._qt.dialogs.qt_notification import NapariQtNotification
    from qtpy.QtWidgets import QWidget

    from napari_sam._napari.workers import run_function

    owner = QWidget(viewer.window._qt_window)

    def warn() -> None:
        warnings.warn("Seen by the user", NapariSamWarning, stacklevel=1)

    def shown() -> list[str]:
        dialogs = viewer.window._qt_window.findChildren(NapariQtNotification)
        return [dialog.message.text() for dialog in dialogs]

    run_function(warn, parent=owner)
    wait_until(lambda: "Seen by the user" in shown())
    for dialog in viewer.window._qt_window.findChildren(NapariQtNotification):
        dialog.close()


def _let_qt_work() -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux has a niceness for each thread")
def test_jobs_stand_back_behind_the_window_and_clicks_do_not(
    owner: QObject, wait_until: Wait
) -> None:
    from napari_sam._napari.workers import LatestOnly, run_function

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def niceness_of_a_helper() -> list[int]:
        found: list[int] = []
        helper = threading.Thread(target=lambda: found.append(niceness()))
        helper.start()
        helper.join()
        return [niceness(), *found]

    in_job: list[int] = []
    in_click: list[int] = []
    run_function(niceness_of_a_helper, on_result=in_job.extend, parent=owner)
    clicks = LatestOnly(owner)
    clicks.submit(niceness, on_result=in_click.append)
    wait_until(lambda: bool(in_job and in_click))
    assert in_click == [niceness()]
    assert in_job == [min(niceness() + 10, 19)] * 2
    clicks.close()
