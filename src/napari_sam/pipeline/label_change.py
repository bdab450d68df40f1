"""Changes of a label image that can be taken back."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import NapariSamError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.pipeline.label_levels import blocks_of
from napari_sam.pipeline.label_target import LabelTarget

__all__ = ["LabelChange", "LabelEdit", "Payload", "change_labels", "count_overwritten"]

COMPRESSION = 1
"""zlib's fastest level: labels are long runs of equal numbers, which any level packs well."""


class Payload:
    """Compressed bytes, in memory or in a file.

    Parameters
    ----------
    content : bytes
        What is kept.
    """

    def __init__(self, content: bytes) -> None:
        self._packed: bytes | None = zlib.compress(content, COMPRESSION)
        self._file: IO[bytes] | None = None
        self._offset = self._length = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes in memory; 0 once they lie in a file."""
        return 0 if self._packed is None else len(self._packed)

    def spill(self, file: IO[bytes], offset: int) -> int:
        """Move the bytes into a file.

        Parameters
        ----------
        file : binary file
            Open for reading and writing, for as long as the payload is needed.
        offset : int
            Where to write them.

        Returns
        -------
        int
            Bytes written.

        Raises
        ------
        OSError
            When the disk is full; the bytes stay in memory then.
        """
        if self._packed is None:
            return 0
        file.seek(offset)
        file.write(self._packed)
        file.flush()
        self._file, self._offset, self._length = file, offset, len(self._packed)
        self._packed = None
        return self._length

    def load(self) -> bytes:
        """Unpack the bytes, from wherever they are.

        Returns
        -------
        bytes
        """
        packed = self._packed
        if packed is None and self._file is not None:
            self._file.seek(self._offset)
            packed = self._file.read(self._length)
        return zlib.decompress(packed or b"")


@dataclass(frozen=True, eq=False)
class LabelChange:
    """What one write did to a rectangle of a label image.

    Parameters
    ----------
    target : LabelTarget
    plane : Plane
        A plane of the labels.
    region_yx : Region
    dtype : dtype
        Type of the labels when they were written.
    payload : Payload
        The pixels before and after, in C order.
    overwritten : tuple of (int, int)
        Which labels lost pixels, and how many.
    maximum : int
        The largest label that was written.
    """

    target: LabelTarget
    plane: Plane
    region_yx: Region
    dtype: np.dtype[Any]
    payload: Payload
    overwritten: tuple[tuple[int, int], ...]
    maximum: int

    @classmethod
    def between(
        cls,
        target: LabelTarget,
        plane: Plane,
        region_yx: Region,
        before: NDArray[Any],
        after: NDArray[Any],
    ) -> LabelChange:
        """Note what a write does.

        Parameters
        ----------
        target : LabelTarget
        plane : Plane
            A plane of the labels.
        region_yx : Region
        before, after : ndarray of int, shape (rows, columns)
            The labels of the region, both of the type of the label image.

        Returns
        -------
        LabelChange
        """
        lost, counts = np.unique(before[(before != after) & (before != 0)], return_counts=True)
        return cls(
            target,
            plane,
            region_yx,
            before.dtype,
            Payload(before.tobytes() + after.tobytes()),
            tuple((int(a), int(n)) for a, n in zip(lost, counts, strict=True)),
            int(after.max()),
        )

    def undo(self) -> bool:
        """Put back what was there; pixels that someone else has changed since stay as they are.

        Returns
        -------
        bool
            Whether anything was written.
        """
        before, after = self._pixels()
        return self._replace(after, before)

    def redo(self) -> bool:
        """Write again; pixels that someone else has changed since stay as they are.

        Returns
        -------
        bool
            Whether anything was written.
        """
        before, after = self._pixels()
        return self._replace(before, after)

    def _pixels(self) -> NDArray[Any]:
        values = np.frombuffer(self.payload.load(), self.dtype)
        return values.reshape(2, *self.region_yx.shape)

    def _replace(self, expected: NDArray[Any], new: NDArray[Any]) -> bool:
        current = self.target.read(self.plane, self.region_yx)
        ours = (current == expected) & (expected != new)
        if not ours.any():
            return False
        self.target.write(self.plane, self.region_yx, np.where(ours, new, current))
        return True


def change_labels(
    target: LabelTarget, plane: Plane, region_yx: Region, values: NDArray[Any]
) -> list[LabelChange]:
    """Write into a label image so that it can be taken back.

    Parameters
    ----------
    target : LabelTarget
    plane : Plane
        A plane of the labels.
    region_yx : Region
    values : ndarray of int, shape (rows, columns)
        The labels of the rectangle from now on.

    Returns
    -------
    list of LabelChange
        Empty if nothing changed.

    Raises
    ------
    InputError
        When a label is too large for the type of the label image; nothing is written.
    OutputError
        When the label image cannot be written; it is put back as it was.
    """
    if values.size:
        target.check_label(int(values.max()))
    with LabelEdit(target) as edit:
        for block in blocks_of(region_yx):
            edit.write(plane, block, values[block.relative_to(region_yx).slices])
    return edit.changes


def count_overwritten(changes: Iterable[LabelChange]) -> Counter[int]:
    """Count the pixels that each label lost.

    Parameters
    ----------
    changes : iterable of LabelChange

    Returns
    -------
    Counter
        From label to number of pixels.
    """
    counts: Counter[int] = Counter()
    for change in changes:
        for label, n_pixels in change.overwritten:
            counts[label] += n_pixels
    return counts


class LabelEdit:
    """Several writes to one label image, of which all happen or none.

    As a context manager it takes everything back when its block fails.

    Parameters
    ----------
    target : LabelTarget
    """

    def __init__(self, target: LabelTarget) -> None:
        self.target = target
        self.changes: list[LabelChange] = []
        """What was changed, in this order."""

    def write(self, plane: Plane, region_yx: Region, values: NDArray[Any]) -> None:
        """Write a rectangle.

        Parameters
        ----------
        plane : Plane
            A plane of the labels.
        region_yx : Region
        values : ndarray of int, shape (rows, columns)

        Raises
        ------
        InputError
            When a label is too large for the type of the label image.
        OutputError
            When the label image cannot be written.
        """
        before = self.target.read(plane, region_yx)
        changed = Region.around(before != values)
        if changed.is_empty:
            return
        self.target.check_label(int(values.max()))
        before, after = before[changed.slices], values[changed.slices].astype(before.dtype)
        region = changed.within(region_yx)
        change = LabelChange.between(self.target, plane, region, before, after)
        # noted before it is written, so that a write that fails half way is taken back too
        self.changes.append(change)
        self.target.write(plane, region, after)

    def erase(self, label: int, plane: Plane, hint_yx: Region | None = None) -> int:
        """Erase a label from a plane.

        Parameters
        ----------
        label : int
        plane : Plane
            A plane of the labels.
        hint_yx : Region, optional
            Where to look, see :meth:`~napari_sam.pipeline.label_target.LabelTarget.find`.

        Returns
        -------
        int
            Number of pixels that had the label.
        """
        area = 0
        for block in blocks_of(self.target.find(label, plane, hint_yx)):
            before = self.target.read(plane, block)
            held = before == label
            area += int(np.count_nonzero(held))
            self.write(plane, block, np.where(held, 0, before).astype(before.dtype))
        return area

    def __enter__(self) -> LabelEdit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            return
        for change in reversed(self.changes):
            try:
                change.undo()
            except NapariSamError as failure:
                error.add_note(f"Taking back what was written failed too: {failure}")
        self.changes = []
