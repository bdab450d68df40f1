"""Pixels that are read in the background while others are worked on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region

__all__ = ["ReadAhead"]

CLOSE_SECONDS = 5.0
"""How long closing waits for a read that is under way."""

T = TypeVar("T")
_Place = tuple[tuple[int, ...], Region]
"""Index of a slice, and a window of it."""


class ReadAhead(Generic[T]):
    """Reads one window at a time, and at most one ahead, in a thread of its own.

    Reads never overlap, so that what is read from is used by one thread at a time.

    Parameters
    ----------
    read : callable
        Takes the index of a slice along the axes before YX, and a window of it.
    """

    def __init__(self, read: Callable[[tuple[int, ...], Region], T]) -> None:
        self._read = read
        self._expected: _Place | None = None
        self._ahead: _Reading[T] | None = None

    def __enter__(self) -> ReadAhead[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception as lost:
            if error is None:
                raise
            error.add_note(f"Reading ahead has failed besides: {lost!r}")

    def expect(self, position: tuple[int, ...], window: Region) -> None:
        """Say what will be read after the next :meth:`get`, which then begins to read it.

        Parameters
        ----------
        position : tuple of int
            Index of the slice along the axes before YX.
        window : Region
            Rows and columns.
        """
        self._expected = position, window

    def get(self, position: tuple[int, ...], window: Region) -> T:
        """Return what was read ahead, or read it now; then begin with what is expected.

        Parameters
        ----------
        position : tuple of int
            Index of the slice along the axes before YX.
        window : Region
            Rows and columns.

        Returns
        -------
        object
            What `read` returns.

        Raises
        ------
        Exception
            What `read` raises. Nothing is read ahead then, and the next call reads anew.
        """
        expected, self._expected = self._expected, None
        pixels = self._take((position, window), expected)
        if expected is not None and self._ahead is None:
            self._ahead = _Reading(self._read, expected)
        return pixels

    def close(self) -> None:
        """Wait for the read that is under way, but not long; closing twice does nothing.

        Raises
        ------
        Exception
            What went wrong in a read that nobody asked for, unless the image cannot be read.
        """
        self._expected = None
        self._drop(CLOSE_SECONDS)

    def _take(self, place: _Place, expected: _Place | None) -> T:
        if self._ahead is not None and self._ahead.place == place:
            reading, self._ahead = self._ahead, None
            return reading.result()
        if self._ahead is not None:  # a tile that is tried again comes before the one read ahead
            self._ahead.wait()
            if self._ahead.place != expected:
                self._drop()
        return self._read(*place)

    def _drop(self, seconds: float | None = None) -> None:
        reading, self._ahead = self._ahead, None
        if reading is None or not reading.wait(seconds):
            return
        if reading.error is not None and not isinstance(reading.error, InputError):
            raise reading.error


class _Reading(Generic[T]):
    """One read in a thread. It ends with the process, so that a read that hangs cannot hold it."""

    def __init__(self, read: Callable[[tuple[int, ...], Region], T], place: _Place) -> None:
        self.place = place
        self.error: BaseException | None = None
        self._pixels: list[T] = []
        self._thread = threading.Thread(
            target=self._run, args=(read,), name="napari-sam read ahead", daemon=True
        )
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; return whether it has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> T:
        """Wait for the pixels; raise what was raised instead."""
        self.wait()
        if self.error is not None:
            raise self.error
        return self._pixels.pop()

    def _run(self, read: Callable[[tuple[int, ...], Region], T]) -> None:
        try:
            self._pixels.append(read(*self.place))
        except BaseException as error:
            self.error = error
