"""Which slices of a run are done, in a small file beside the output.

The first line holds the plan: everything that decides the labels. Each further line is one finished
slice, appended and flushed to disk after the slice itself. A line cut off by a crash is ignored, so
its slice is done again. The file goes when the run is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_sam.core.errors import OutputError
from napari_sam.io.output_files import output_errors

__all__ = ["Journal"]


class Journal:
    """The journal of one output.

    Parameters
    ----------
    target : Path
        Directory of the label store; the journal lies beside it as ``NAME.journal``.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.journal")
        self._target = target

    def start(self, plan: dict[str, Any]) -> None:
        """Begin a new journal.

        Parameters
        ----------
        plan : dict
            Everything that decides the labels, as JSON values.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        part = self._part
        with output_errors(self.path):
            with part.open("w", encoding="utf-8") as file:
                file.write(json.dumps(plan) + "\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)

    def resume(self, plan: dict[str, Any]) -> dict[tuple[int, ...], int]:
        """Read what is done, and refuse when the plan is another one.

        Parameters
        ----------
        plan : dict
            The plan of this run.

        Returns
        -------
        dict
            Number of objects per finished slice.

        Raises
        ------
        OutputError
            When there is no journal, or it belongs to another plan; the message says what changed.
        """
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
            before = json.loads(lines[0])
        except (OSError, IndexError, ValueError) as error:
            raise OutputError(
                f"The output {self._target} has no readable journal at {self.path}",
                rule="Only a run whose journal lies beside its output can be completed",
                cure="Start again with `--overwrite`",
            ) from error
        changes = list(_differences(before, json.loads(json.dumps(plan))))
        if changes:
            raise OutputError(
                f"The unfinished output {self._target} was made differently: {'; '.join(changes)}",
                rule="A run is completed with the same input, model and options",
                cure="Repeat the options of the first run, or start again with `--overwrite`",
            )
        return dict(_finished(lines[1:]))

    def planned(self) -> dict[str, Any]:
        """Read the plan of the run that was begun; empty where there is none that can be read."""
        try:
            with self.path.open(encoding="utf-8") as file:
                plan = json.loads(file.readline())
        except (OSError, ValueError):
            return {}
        return plan if isinstance(plan, dict) else {}

    def record(self, position: tuple[int, ...], n_objects: int) -> None:
        """Note that a slice is on disk.

        Parameters
        ----------
        position : tuple of int
            Index of the slice along the axes before YX.
        n_objects : int

        Raises
        ------
        OutputError
            When the disk is full.
        """
        self._append({"slice": position, "objects": n_objects})

    def record_end(self, n_objects: int) -> None:
        """Note that all there is to be done is to mark the output finished.

        Parameters
        ----------
        n_objects : int
            In the output.

        Raises
        ------
        OutputError
            When the disk is full.
        """
        self._append({"n_objects": n_objects})

    def n_objects_at_end(self) -> int:
        """Return what :meth:`record_end` was told.

        Returns
        -------
        int
            0 where it was not told.
        """
        lines = self.path.read_text(encoding="utf-8").splitlines()
        ends = [entry["n_objects"] for entry in _entries(lines[1:]) if "n_objects" in entry]
        return int(ends[-1]) if ends else 0

    def _append(self, entry: dict[str, Any]) -> None:
        with output_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            # The newline comes first: a line cut off by a crash then spoils only itself
            file.write("\n" + json.dumps(entry))
            file.flush()
            os.fsync(file.fileno())

    def count_finished(self) -> int:
        """Count the slices that are done.

        Returns
        -------
        int
        """
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return len(dict(_finished(lines[1:])))

    def remove(self) -> None:
        """Remove the journal of a complete or abandoned run."""
        with suppress(OSError):  # a journal that cannot be removed must not hide why a run ended
            self._part.unlink(missing_ok=True)
            self.path.unlink()

    @property
    def _part(self) -> Path:
        return self.path.with_name(f".{self.path.name}.partial")


def _finished(lines: list[str]) -> Iterator[tuple[tuple[int, ...], int]]:
    for entry in _entries(lines):
        if "slice" in entry and "objects" in entry:
            yield tuple(entry["slice"]), int(entry["objects"])


def _entries(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # empty, or cut off by a crash: what it says is done again
        if isinstance(entry, dict):
            yield entry


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield f"{name} was {before} and is now {now}"
