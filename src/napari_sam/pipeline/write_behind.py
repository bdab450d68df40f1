"""Results that are written in the background while the next ones are computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["WriteBehind"]

T = TypeVar("T")


class WriteBehind(Generic[T]):
    """Writes one result at a time, in a thread of its own, and keeps none waiting behind it.

    So a result is held in memory only while it is written, and results reach the disk in the order
    in which they are given. Leaving the block waits for what is being written, whatever ends it.
    """

    def __init__(self) -> None:
        self._writing: _Writing[T] | None = None

    def __enter__(self) -> WriteBehind[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        writing, self._writing = self._writing, None
        if writing is None:
            return
        writing.wait()
        if writing.error is None:
            return
        if error is None or isinstance(error, GeneratorExit):
            raise writing.error
        error.add_note(f"Writing has failed besides: {writing.error!r}")

    def begin(self, write: Callable[[], T]) -> None:
        """Begin to write, when the last result has been taken.

        Parameters
        ----------
        write : callable
            When it returns, the result is on the disk.

        Raises
        ------
        RuntimeError
            When the last result has not been taken.
        """
        if self._writing is not None:
            raise RuntimeError("the last result has not been taken")
        self._writing = _Writing(write)

    def wait(self) -> Iterator[T]:
        """Wait for what is being written, and take it.

        Yields
        ------
        object
            What `write` returned, if anything was begun.

        Raises
        ------
        Exception
            What `write` raised.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            yield writing.result()


class _Writing(Generic[T]):
    """One result. Its thread holds the process: what is begun gets to the disk."""

    def __init__(self, write: Callable[[], T]) -> None:
        self.error: BaseException | None = None
        self._written: list[T] = []
        self._thread = threading.Thread(
            target=self._run, args=(write,), name="napari-sam write behind"
        )
        self._thread.start()

    def wait(self) -> None:
        self._thread.join()

    def result(self) -> T:
        """Wait for the end; raise what was raised instead."""
        self.wait()
        if self.error is not None:
            raise self.error
        return self._written.pop()

    def _run(self, write: Callable[[], T]) -> None:
        try:
            self._written.append(write())
        except BaseException as error:
            self.error = error
