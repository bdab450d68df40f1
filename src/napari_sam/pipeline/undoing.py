"""Steps that are done, undone and redone, and listeners that are told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from napari_sam.pipeline.history import History, Step

__all__ = ["UndoableSession"]


class UndoableSession(ABC):
    """What a session has from its history.

    Parameters
    ----------
    history_bytes : int
        Compressed label pixels that are kept in memory for undoing; older ones go to a temporary
        file.
    """

    def __init__(self, history_bytes: int) -> None:
        self._history = History(history_bytes)
        self._listeners: list[Callable[[], None]] = []

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a function after each change.

        Parameters
        ----------
        listener : callable
            Called without arguments; what it raises reaches the caller of the method that made
            the change.

        Returns
        -------
        callable
            Ends the subscription.
        """
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def close(self) -> None:
        """Forget the history and delete its temporary file."""
        self._history.close()

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo."""
        return self._history.next_undo is not None

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to redo."""
        return self._history.next_redo is not None

    def undo(self) -> str | None:
        """Take back the last step, wherever it happened.

        Returns
        -------
        str or None
            What was undone; None if there was nothing.
        """
        step = self._history.next_undo
        if step is None:
            return None
        self._restore(step, is_undo=True)
        self._history.step_back()
        self._refresh()
        return step.description

    def redo(self) -> str | None:
        """Do again what was undone last.

        Returns
        -------
        str or None
            What was redone; None if there was nothing.
        """
        step = self._history.next_redo
        if step is None:
            return None
        self._restore(step, is_undo=False)
        self._history.step_forward()
        self._refresh()
        return step.description

    @abstractmethod
    def _restore(self, step: Step, *, is_undo: bool) -> None:
        """Bring everything to how it was before or after a step."""

    @abstractmethod
    def _refresh(self) -> None:
        """Bring what follows from the state up to date, and tell the listeners."""

    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()
