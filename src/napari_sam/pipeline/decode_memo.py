"""Decoded masks that are remembered, so that one more click costs one decode and undo none."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sam.pipeline.candidates import CandidateMask
from napari_sam.predict.decoding import AllMasks
from napari_sam.predict.frames import View

__all__ = ["DecodeMemo", "DecodedView"]

Kept = TypeVar("Kept")


@dataclass(frozen=True, eq=False)
class DecodedView:
    """All masks of one object in one view.

    Parameters
    ----------
    view : View
        Where they were decoded.
    masks : AllMasks
        The single mask and the three of multimask output.
    """

    view: View
    masks: AllMasks
    candidates: tuple[CandidateMask, ...] = field(init=False)
    """The same masks for the plane."""

    def __post_init__(self) -> None:
        region, per_pixel = self.view.region_yx, self.view.cells_per_pixel_yx
        origin, size = (region.start[0], region.start[1]), (region.shape[0], region.shape[1])
        masks = self.masks
        candidates = tuple(
            CandidateMask(
                logits, origin, float(iou), float(stability), per_pixel, size, float(rank)
            )
            for logits, iou, stability, rank in zip(
                masks.low_res_logits,
                masks.predicted_iou,
                masks.stability_score,
                masks.ranks,
                strict=True,
            )
        )
        object.__setattr__(self, "candidates", candidates)

    @property
    def n_bytes(self) -> int:
        """Size of the logits."""
        return self.masks.low_res_logits.nbytes

    def inside(self, mask: int) -> NDArray[np.bool_]:
        """Return the cells of a mask, bool (hl, wl)."""
        inside: NDArray[np.bool_] = self.masks.low_res_logits[mask] > 0.0
        return inside


class DecodeMemo(Generic[Kept]):
    """Remembers what was decoded, the least recently used of which is forgotten.

    Several threads may share one.

    Parameters
    ----------
    max_bytes : int
        Size that all values together keep to; the newest stays in any case.
    size_of : callable
        Tells the size of a value in bytes.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[Kept], int]) -> None:
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._bytes = 0
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, Kept] = OrderedDict()

    def get(self, key: Hashable) -> Kept | None:
        """Return what :meth:`put` was given under this key; None where it is not known."""
        with self._lock:
            if key not in self._known:
                return None
            self._known.move_to_end(key)
            return self._known[key]

    def put(self, key: Hashable, value: Kept) -> None:
        """Remember a value."""
        with self._lock:
            replaced = self._known.pop(key, None)
            if replaced is not None:
                self._bytes -= self._size_of(replaced)
            self._known[key] = value
            self._bytes += self._size_of(value)
            while self._bytes > self._max_bytes and len(self._known) > 1:
                _, dropped = self._known.popitem(last=False)
                self._bytes -= self._size_of(dropped)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._known.clear()
            self._bytes = 0
