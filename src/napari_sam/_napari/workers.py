"""Work in threads: generators that can be paused and cancelled, and the newest of many clicks.

napari's `thread_worker` is not used, for what it does was seen to lose words and warnings:

- A ``RuntimeError`` of a generator ends it without `errored` and `finished`, and torch's
  out-of-memory error is one.
- Each worker replaces Python's process-wide warning hook while it runs. Two that overlap leave
  the hook of a finished worker in place, which swallows every later warning of the process.
- All workers share Qt's pool of as many threads as there are cores: on two cores, a download and
  a paused run leave none for a click.

Here each generator has a Python thread of its own, and all calls back go through `mailbox`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from qtpy.QtCore import QObject

from napari_sam._napari.mailbox import call_safely, mailbox, warnings_as_notices
from napari_sam._napari.notices import show_error
from napari_sam._napari.thread_priority import stand_back
from napari_sam.core.memory import give_back_free_memory

__all__ = ["Job", "LatestOnly", "run_function", "run_steps"]

Step = TypeVar("Step")
Result = TypeVar("Result")
OnError = Callable[[BaseException], None]

_STEP_INTERVAL_S = 0.05
# how often a waiting thread looks whether the program is about to end
_POLL_S = 0.5


@dataclass(frozen=True)
class _Outcome(Generic[Result]):
    """How a computation ended: with an error, or else with a result."""

    result: Result | None = None
    error: BaseException | None = None


def _attempt(function: Callable[[], Result]) -> _Outcome[Result]:
    """Call a function in a worker thread; nothing it raises gets past."""
    try:
        with warnings_as_notices():
            return _Outcome(result=function())
    except BaseException as error:
        return _Outcome(error=error)


def _program_goes_on() -> bool:
    return threading.main_thread().is_alive()


class _Owned:
    """Something that is closed when its owner, a Qt object, is destroyed, or the program quits."""

    def __init__(self, parent: QObject) -> None:
        self._mailbox = mailbox()
        self._parent: QObject | None = parent
        parent.destroyed.connect(self.close)
        self._mailbox.close_at_quit(self)

    def close(self) -> None:
        """Do without the owner from now on."""
        # no longer connected, or destroyed just now
        with suppress(RuntimeError, TypeError):
            if self._parent is not None:
                self._parent.destroyed.disconnect(self.close)
        self._parent = None


class Job(_Owned):
    """A generator at work in a thread; made by `run_steps`.

    All methods are for the thread of the event loop, and none of them waits.
    """

    def __init__(
        self,
        steps: Generator[Any, None, Any] | Callable[[], Generator[Any, None, Any]],
        *,
        on_step: Callable[[Any], None] | None,
        on_result: Callable[[Any], None] | None,
        on_error: OnError,
        on_end: Callable[[], None] | None,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._steps = steps
        self._on_step = on_step
        self._on_result = on_result
        self._on_error = on_error
        self._on_end = on_end
        self._is_closed = False
        self._is_cancelled = False
        self._is_running = True
        self._may_go = threading.Event()
        self._may_go.set()
        self._step_lock = threading.Lock()
        self._waiting_step: list[Any] = []  # the latest, or nothing
        self._next_step_at = 0.0
        self._thread = threading.Thread(target=self._work, name="napari-sam job")
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """The generator has not ended yet."""
        return self._is_running

    @property
    def is_paused(self) -> bool:
        """The generator waits, or will at its next step."""
        return not self._may_go.is_set()

    @property
    def is_cancelled(self) -> bool:
        """It was told to stop."""
        return self._is_cancelled

    def pause(self) -> None:
        """Wait at the next step."""
        if not self._is_cancelled:
            self._may_go.clear()

    def resume(self) -> None:
        """Go on after a pause."""
        self._may_go.set()

    def cancel(self) -> None:
        """Close the generator at its next step; `on_end` is called when it is closed.

        From now on there are no steps and no result. An error while closing is still an error.
        """
        self._is_cancelled = True
        self._may_go.set()

    def close(self) -> None:
        """Cancel, and call nothing back from now on."""
        self.cancel()
        self._fall_silent()

    def _fall_silent(self) -> None:
        self._is_closed = True
        self._on_step = self._on_result = self._on_end = None
        super().close()

    def _work(self) -> None:
        stand_back()
        outcome = _attempt(self._drive)
        self._is_running = False
        self._mailbox.post(partial(self._deliver_end, outcome))
        give_back_free_memory()

    def _drive(self) -> Any:
        steps = self._steps() if callable(self._steps) else self._steps
        try:
            while self._goes_on():
                try:
                    step = next(steps)
                except StopIteration as end:
                    return end.value
                self._offer_step(step)
            return None
        finally:
            steps.close()

    def _goes_on(self) -> bool:
        while not self._may_go.wait(_POLL_S):
            if not _program_goes_on():
                return False
        return not self._is_cancelled and _program_goes_on()

    def _offer_step(self, step: Any) -> None:
        """Leave a step for the event loop, in the place of one that it has not taken yet."""
        with self._step_lock:
            nobody_comes = not self._waiting_step
            self._waiting_step[:] = [step]
        if nobody_comes:
            self._mailbox.post(self._fetch_step)

    def _fetch_step(self) -> None:
        wait_s = self._next_step_at - time.monotonic()
        if wait_s > 0:
            self._mailbox.post_later(math.ceil(wait_s * 1000), self._deliver_step)
        else:
            self._deliver_step()

    def _deliver_step(self) -> None:
        with self._step_lock:
            steps, self._waiting_step = self._waiting_step, []
        self._next_step_at = time.monotonic() + _STEP_INTERVAL_S
        if steps and self._on_step and not self._is_cancelled:
            call_safely(self._on_step, steps[0])

    def _deliver_end(self, outcome: _Outcome[Any]) -> None:
        self._deliver_step()
        if not self._is_closed:
            if outcome.error is not None:
                call_safely(self._on_error, outcome.error)
            elif self._on_result and not self._is_cancelled:
                call_safely(self._on_result, outcome.result)
        if self._on_end:  # None when closed, perhaps by the callback just made
            call_safely(self._on_end)
        # the generator and the callbacks may hold widgets: let go of them here, in Qt's thread
        del self._steps, self._on_error
        self._fall_silent()


def run_steps(
    steps: Generator[Step, None, Result] | Callable[[], Generator[Step, None, Result]],
    *,
    on_step: Callable[[Step], None] | None = None,
    on_result: Callable[[Result], None] | None = None,
    on_error: OnError = show_error,
    on_end: Callable[[], None] | None = None,
    parent: QObject,
) -> Job:
    """Run a generator in a thread of its own, and call back in the thread of the event loop.

    Steps come at most every 50 ms: of faster ones only the latest. Then exactly one of
    `on_result`, `on_error` and, when cancelled, nothing is called, and after that `on_end`.
    Whatever the generator raises is an error, be it a RuntimeError or a GeneratorExit. Nothing is
    called once `parent` is destroyed or the job closed; the generator then ends at its next step,
    its ``finally`` blocks run in its thread.

    Parameters
    ----------
    steps : generator, or callable without arguments that makes one
        The work. A callable is called in the thread.
    on_step : callable, optional
        Takes what the generator yields.
    on_result : callable, optional
        Takes what the generator returns.
    on_error : callable, default show_error
        Takes the exception.
    on_end : callable, optional
        Takes nothing.
    parent : QObject
        The owner.

    Returns
    -------
    Job
        The running job; it need not be kept.
    """
    return Job(
        steps,
        on_step=on_step,
        on_result=on_result,
        on_error=on_error,
        on_end=on_end,
        parent=parent,
    )


def run_function(
    function: Callable[[], Result],
    *,
    on_result: Callable[[Result], None] | None = None,
    on_error: OnError = show_error,
    on_end: Callable[[], None] | None = None,
    parent: QObject,
) -> Job:
    """Run a function in a thread of its own, as `run_steps` runs a generator.

    Parameters
    ----------
    function : callable without arguments
        The work. It cannot be stopped on the way; when the job is cancelled, its result is dropped.
    on_result, on_error, on_end : callable, optional
        See `run_steps`.
    parent : QObject
        The owner.

    Returns
    -------
    Job
        The running job; it need not be kept.
    """

    def steps() -> Generator[None, None, Result]:
        yield from ()
        return function()

    return run_steps(steps, on_result=on_result, on_error=on_error, on_end=on_end, parent=parent)


@dataclass(frozen=True)
class _Request:
    function: Callable[[], Any]
    on_result: Callable[[Any], None]
    on_error: OnError


class LatestOnly(_Owned):
    """Computes one request at a time; of those that wait, only the newest.

    The thread starts with the first request and stays until the end, because a new thread per
    click would cost torch a new team of threads each time. All methods are for the thread of the
    event loop, and none of them waits.

    Parameters
    ----------
    parent : QObject
        The owner: when it is destroyed, the thread ends.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._condition = threading.Condition()
        self._waiting: _Request | None = None
        self._undelivered = 0
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """A request waits, is computed, or has an answer that is not delivered yet."""
        with self._condition:
            return self._waiting is not None or self._undelivered > 0

    def submit(
        self,
        function: Callable[[], Result],
        on_result: Callable[[Result], None],
        on_error: OnError = show_error,
    ) -> None:
        """Compute a function in the thread; a request that still waits is forgotten.

        One that is being computed already is not: it calls back when it is ready. Nothing happens
        after `close`.

        Parameters
        ----------
        function : callable without arguments
            The work.
        on_result : callable
            Takes what the function returns.
        on_error : callable, default show_error
            Takes what it raises.
        """
        if self._is_closed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="napari-sam clicks")
            self._thread.start()
        with self._condition:
            self._waiting = _Request(function, on_result, on_error)
            self._condition.notify()

    def close(self) -> None:
        """Forget what waits, call nothing back from now on, and end the thread."""
        with self._condition:
            self._is_closed = True
            self._waiting = None
            self._condition.notify()
        super().close()

    def _work(self) -> None:
        while (request := self._take()) is not None:
            outcome = _attempt(request.function)
            self._mailbox.post(partial(self._deliver, request, outcome))
            del request, outcome

    def _take(self) -> _Request | None:
        """Wait for a request; None at the end."""
        with self._condition:
            while self._waiting is None:
                if self._is_closed or not _program_goes_on():
                    return None
                self._condition.wait(_POLL_S)
            request, self._waiting = self._waiting, None
            self._undelivered += 1
            return request

    def _deliver(self, request: _Request, outcome: _Outcome[Any]) -> None:
        with self._condition:
            self._undelivered -= 1
        if self._is_closed:
            return
        if outcome.error is not None:
            call_safely(request.on_error, outcome.error)
        else:
            call_safely(request.on_result, outcome.result)
