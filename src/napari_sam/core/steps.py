"""Work that gives control back as it goes: generators that yield progress and return a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, TypeVar

__all__ = ["result_of", "retold", "timed"]

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


def result_of(steps: Generator[Any, None, T]) -> T:
    """Run a generator to its end, and return what it returns.

    Parameters
    ----------
    steps : generator
        Its progress is dropped.

    Returns
    -------
    object
        The generator's return value.
    """
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            result: T = finished.value
            return result


def retold(steps: Generator[S, None, T], tell: Callable[[S], R | None]) -> Generator[R, None, T]:
    """Yield a generator's progress in other terms, and return what it returns.

    Parameters
    ----------
    steps : generator
        Closed when this one is closed.
    tell : callable
        Turns what `steps` yields into what is yielded here; None for what is passed over.

    Yields
    ------
    object
        What `tell` returns.

    Returns
    -------
    object
        What `steps` returns.
    """
    with closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as finished:
                result: T = finished.value
                return result
            if (told := tell(step)) is not None:
                yield told


def timed(steps: Generator[S, None, T]) -> Generator[S, None, tuple[T, float]]:
    """Measure the work of a generator, without the time that others spend between its steps.

    Parameters
    ----------
    steps : generator
        Closed when this one is closed.

    Yields
    ------
    object
        What `steps` yields.

    Returns
    -------
    tuple
        What `steps` returns, and the seconds that it worked.
    """
    seconds = 0.0
    with closing(steps):
        while True:
            begun = time.monotonic()
            try:
                step = next(steps)
            except StopIteration as finished:
                return finished.value, seconds + time.monotonic() - begun
            seconds += time.monotonic() - begun
            yield step
