"""Undo and redo without limit; what does not fit into memory goes to a temporary file."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO

from napari_sam.core.plane import Plane
from napari_sam.pipeline.drafts import Draft
from napari_sam.pipeline.label_change import LabelChange, Payload
from napari_sam.pipeline.label_target import LabelTarget
from napari_sam.pipeline.objects import ObjectRecord

__all__ = ["DraftChange", "History", "MaximumChange", "RecordChange", "Step"]


@dataclass(frozen=True)
class DraftChange:
    """How the draft of a plane of the image changed.

    Parameters
    ----------
    plane : Plane
    before, after : Draft
    """

    plane: Plane
    before: Draft
    after: Draft


@dataclass(frozen=True)
class RecordChange:
    """How the record of an object changed.

    Parameters
    ----------
    target : LabelTarget
    label : int
    before, after : ObjectRecord or None
        None where there is no record.
    """

    target: LabelTarget
    label: int
    before: ObjectRecord | None
    after: ObjectRecord | None


@dataclass(frozen=True)
class MaximumChange:
    """How the largest label that was written to a label image changed.

    Parameters
    ----------
    target : LabelTarget
    before, after : int
    """

    target: LabelTarget
    before: int
    after: int


@dataclass(frozen=True)
class Step:
    """What one action of the user changed.

    Parameters
    ----------
    description : str
        A few words for a menu, as "Add point".
    drafts : tuple of DraftChange
    labels : tuple of LabelChange
        In the order in which they were written.
    records : tuple of RecordChange
    maxima : tuple of MaximumChange
    """

    description: str
    drafts: tuple[DraftChange, ...] = ()
    labels: tuple[LabelChange, ...] = ()
    records: tuple[RecordChange, ...] = ()
    maxima: tuple[MaximumChange, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the step changes nothing."""
        return not (self.drafts or self.labels or self.records or self.maxima)

    def without_target(self, target: LabelTarget) -> Step:
        """Leave out what was done to a label image; prompts stay.

        Parameters
        ----------
        target : LabelTarget

        Returns
        -------
        Step
        """
        drafts = (
            replace(
                change,
                before=change.before.without_target(target),
                after=change.after.without_target(target),
            )
            for change in self.drafts
        )
        return replace(
            self,
            drafts=tuple(change for change in drafts if change.before != change.after),
            labels=tuple(change for change in self.labels if change.target is not target),
            records=tuple(change for change in self.records if change.target is not target),
            maxima=tuple(change for change in self.maxima if change.target is not target),
        )

    def payloads(self) -> Iterator[Payload]:
        """List the pixels that the step holds.

        Yields
        ------
        Payload
        """
        return (change.payload for change in self.labels)


class History:
    """The steps that were done and can be undone, and those that were undone and can be redone.

    Parameters
    ----------
    memory_bytes : int
        Compressed pixels that are kept in memory. Those of older steps go to a temporary file.
    """

    def __init__(self, memory_bytes: int = 2**26) -> None:
        self._memory_bytes = memory_bytes
        self._steps: list[Step] = []
        self._n_done = 0
        self._in_memory = 0
        self._n_spilled = 0  # the oldest steps; their pixels lie in the file
        self._file: IO[bytes] | None = None
        self._file_end = 0
        self._close_file: Callable[[], object] = lambda: None

    @property
    def next_undo(self) -> Step | None:
        """The step that would be undone next."""
        return self._steps[self._n_done - 1] if self._n_done else None

    @property
    def next_redo(self) -> Step | None:
        """The step that would be redone next."""
        return self._steps[self._n_done] if self._n_done < len(self._steps) else None

    @property
    def memory_bytes(self) -> int:
        """Compressed pixels in memory."""
        return self._in_memory

    def push(self, step: Step) -> None:
        """Add a step that was done; what was undone before cannot be redone any more.

        Parameters
        ----------
        step : Step
        """
        for dropped in self._steps[self._n_done :]:
            self._in_memory -= _memory_of(dropped)
        del self._steps[self._n_done :]
        self._n_spilled = min(self._n_spilled, self._n_done)
        self._shrink_file()
        self._steps.append(step)
        self._n_done += 1
        self._in_memory += _memory_of(step)
        self._spill()

    def step_back(self) -> None:
        """Note that :attr:`next_undo` was undone."""
        self._n_done -= 1

    def step_forward(self) -> None:
        """Note that :attr:`next_redo` was redone."""
        self._n_done += 1

    def rewrite(self, change: Callable[[Step], Step]) -> None:
        """Change all steps, and drop those that become empty.

        Parameters
        ----------
        change : callable
            Gives the new form of a step, without new pixels.
        """
        kept = [(i, change(step)) for i, step in enumerate(self._steps)]
        kept = [(i, step) for i, step in kept if not step.is_empty]
        self._n_done, self._n_spilled = (
            sum(i < count for i, _ in kept) for count in (self._n_done, self._n_spilled)
        )
        self._steps = [step for _, step in kept]
        self._in_memory = sum(map(_memory_of, self._steps))
        self._shrink_file()

    def close(self) -> None:
        """Forget all steps, and delete the temporary file."""
        self._steps, self._n_done, self._in_memory, self._n_spilled = [], 0, 0, 0
        self._close_file()
        self._file, self._file_end = None, 0

    def _spill(self) -> None:
        with suppress(OSError):  # with a full disk, the pixels stay in memory
            while self._in_memory > self._memory_bytes and self._n_spilled < len(self._steps):
                step = self._steps[self._n_spilled]
                self._n_spilled += 1
                self._spill_step(step)

    def _spill_step(self, step: Step) -> None:
        for payload in step.payloads():
            size = payload.memory_bytes
            self._file_end += payload.spill(self._open_file(), self._file_end)
            self._in_memory -= size

    def _open_file(self) -> IO[bytes]:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="napari_sam_undo_")  # noqa: SIM115
            self._close_file = weakref.finalize(self, self._file.close)
        return self._file

    def _shrink_file(self) -> None:
        if self._file is not None and self._n_spilled == 0 and self._file_end:
            self._file.truncate(0)
            self._file_end = 0


def _memory_of(step: Step) -> int:
    return sum(payload.memory_bytes for payload in step.payloads())
