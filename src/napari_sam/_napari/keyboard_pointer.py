"""A pointer for people without a mouse: arrow keys move it, a key puts a point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam._napari.coordinates import visible_region
from napari_sam.core.region import Region
from napari_sam.pipeline.candidates import MaskPatch

if TYPE_CHECKING:
    from napari_sam._napari.interaction import Interaction

__all__ = ["KeyboardPointer"]

STEPS_PER_VIEW = 40
ARM = 6


class KeyboardPointer:
    """Move a cross over the plane, and click with it.

    Parameters
    ----------
    interaction : Interaction
    """

    def __init__(self, interaction: Interaction) -> None:
        self._interaction = interaction
        self._at: tuple[float, float] | None = None

    def move(self, columns: int, rows: int) -> None:
        """Move by steps of a fortieth of what is seen; the first move shows the pointer."""
        view = self._view()
        if view is None:
            return
        (top, left), (bottom, right) = view.start, view.stop
        step = max((right - left) / STEPS_PER_VIEW, 1.0)
        x, y = self._at or ((left + right) / 2, (top + bottom) / 2)
        x = float(np.clip(round(x + columns * step), left, right - 1))
        y = float(np.clip(round(y + rows * step), top, bottom - 1))
        self._at = x, y
        self._interaction.show_cross(_cross(x, y, max(round(ARM * step / 4), ARM)))
        self._interaction.told.emit(f"Pointer at x {x:.0f}, y {y:.0f}.")

    def click(self) -> None:
        """Put a point where the pointer is, or the nearest place that can be seen now."""
        self.move(0, 0)
        if self._at is not None:
            self._interaction.add_point(*self._at)

    def _view(self) -> Region | None:
        interaction = self._interaction
        if interaction.image is None or interaction.plane is None:
            return None
        view = visible_region(interaction.viewer, interaction.image, interaction.plane)
        return None if view.is_empty else view


def _cross(x: float, y: float, arm: int) -> MaskPatch:
    """Draw a cross of two lines, without its centre, so that the pixel there is seen."""
    mask = np.zeros((2 * arm + 1, 2 * arm + 1), np.bool_)
    mask[arm], mask[:, arm] = True, True
    mask[arm - 1 : arm + 2, arm - 1 : arm + 2] = False
    return MaskPatch.from_array(mask, (round(y) - arm, round(x) - arm))
