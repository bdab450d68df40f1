"""The prompts of one object, and which of the prompts on a plane mean one object."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from napari_sam.core.errors import InputError
from napari_sam.core.prompt_shapes import BoxPrompt, MaskPrompt, PointPrompt

__all__ = ["BoxPrompt", "MaskPrompt", "PlacedPrompts", "PointPrompt", "PromptSet"]

N_AMBIGUOUS = 3
"""Masks that the model offers for one ambiguous point."""


@dataclass(frozen=True)
class PromptSet:
    """All prompts of one object, in the order they were given.

    Parameters
    ----------
    points : tuple of PointPrompt
    box : BoxPrompt, optional
    mask : MaskPrompt, optional
    choice : int, optional
        Which of the three masks for the first, ambiguous point was taken, 0 to 2; by preference
        when None.

    Raises
    ------
    InputError
        When the choice is none of the three.
    """

    points: tuple[PointPrompt, ...] = ()
    box: BoxPrompt | None = None
    mask: MaskPrompt | None = None
    choice: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(self.points))
        if self.choice is not None and self.choice not in range(N_AMBIGUOUS):
            raise InputError(
                f"The choice {self.choice} was given",
                rule="An ambiguous point has three masks, 0 to 2",
                cure="Choose one of them, or None to choose by preference",
            )

    @property
    def has_region(self) -> bool:
        """Whether a box or a mask says where the object is."""
        return self.box is not None or self.mask is not None

    @property
    def is_empty(self) -> bool:
        """Whether there is no prompt."""
        return not self.points and not self.has_region

    @property
    def is_ambiguous(self) -> bool:
        """Whether one positive point is all there is, which may mean a part or the whole."""
        return not self.has_region and len(self.points) == 1 and self.points[0].is_positive

    @property
    def extent_xyxy(self) -> tuple[float, float, float, float]:
        """Smallest rectangle around all prompts; points alone may have no width or height.

        Raises
        ------
        InputError
            When there is no prompt.
        """
        boxes = [region.xyxy for region in self._regions]
        boxes += [(point.x, point.y, point.x, point.y) for point in self.points]
        if not boxes:
            raise InputError(
                "The extent of no prompts was asked for",
                rule="An object has at least one point, box or mask",
                cure="Look at is_empty first",
            )
        left, top, right, bottom = zip(*boxes, strict=True)
        return min(left), min(top), max(right), max(bottom)

    @property
    def _regions(self) -> list[BoxPrompt]:
        mask_box = [] if self.mask is None else [self.mask.box]
        return mask_box if self.box is None else [self.box, *mask_box]

    def to_json(self) -> dict[str, Any]:
        """Turn the prompts into values that JSON knows.

        Returns
        -------
        dict
        """
        points = [[point.x, point.y, int(point.is_positive)] for point in self.points]
        values: dict[str, Any] = {"points": points}
        if self.box is not None:
            values["box_xyxy"] = list(self.box.xyxy)
        if self.mask is not None:
            values["mask"] = {
                "origin_yx": list(self.mask.origin_yx),
                "size_yx": list(self.mask.size_yx),
                "bits": base64.b64encode(self.mask.bits).decode("ascii"),
            }
        if self.choice is not None:
            values["choice"] = self.choice
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PromptSet:
        """Take back what :meth:`to_json` gave.

        Parameters
        ----------
        values : mapping

        Returns
        -------
        PromptSet

        Raises
        ------
        InputError
            When the values are not those of prompts.
        """
        try:
            points = tuple(PointPrompt(x, y, bool(sign)) for x, y, sign in values["points"])
            box = BoxPrompt(*values["box_xyxy"]) if "box_xyxy" in values else None
            mask = _mask_from_json(values["mask"]) if "mask" in values else None
            return cls(points, box, mask, values.get("choice"))
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise InputError(
                f"The prompts {str(values)[:80]} were given",
                rule="Prompts are stored as points [x, y, sign], box_xyxy, mask and choice",
                cure="Use a file as napari_sam wrote it",
            ) from error


@dataclass(frozen=True)
class PlacedPrompts:
    """Everything that stands on one plane, for one or more objects.

    Parameters
    ----------
    points : tuple of PointPrompt
    boxes : tuple of BoxPrompt
    masks : tuple of MaskPrompt
    """

    points: tuple[PointPrompt, ...] = ()
    boxes: tuple[BoxPrompt, ...] = ()
    masks: tuple[MaskPrompt, ...] = ()

    def __post_init__(self) -> None:
        for name in ("points", "boxes", "masks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def of(cls, prompts: PromptSet) -> PlacedPrompts:
        """Place the prompts of one object.

        Parameters
        ----------
        prompts : PromptSet

        Returns
        -------
        PlacedPrompts
        """
        boxes = () if prompts.box is None else (prompts.box,)
        return cls(prompts.points, boxes, () if prompts.mask is None else (prompts.mask,))

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands on the plane."""
        return not (self.points or self.boxes or self.masks)

    def by_object(self) -> tuple[PromptSet, ...]:
        """Tell which prompts mean one object.

        Each box opens an object. A mask joins the smallest box without a mask that holds its
        centre, or else opens an object of its own. Points belong to the smallest box or mask
        rectangle around them; where there is only one, all points belong to it. The points
        outside of several, and all points where there is none, form one more object, unless all
        of them are negative.

        Returns
        -------
        tuple of PromptSet
            Objects with boxes first, then those with masks, then that of the free points.
        """
        return _group(self)


@lru_cache(maxsize=16)  # the same prompts are asked for several times per click
def _group(placed: PlacedPrompts) -> tuple[PromptSet, ...]:
    objects = [PromptSet(box=box) for box in placed.boxes]
    for mask in placed.masks:
        _join_mask(objects, len(placed.boxes), mask)
    free: list[PointPrompt] = []
    owned: list[list[PointPrompt]] = [[] for _ in objects]
    for point in placed.points:
        owner = _owner(objects, point)
        (free if owner is None else owned[owner]).append(point)
    grouped = [replace(o, points=tuple(own)) for o, own in zip(objects, owned, strict=True)]
    if any(point.is_positive for point in free):
        grouped.append(PromptSet(points=tuple(free)))
    return tuple(grouped)


def _join_mask(objects: list[PromptSet], n_boxes: int, mask: MaskPrompt) -> None:
    (top, left), (rows, cols) = mask.origin_yx, mask.size_yx
    x, y = left + (cols - 1) / 2, top + (rows - 1) / 2
    around = [
        i
        for i, prompts in enumerate(objects[:n_boxes])
        if prompts.mask is None and prompts.box is not None and prompts.box.holds(x, y)
    ]
    if not around:
        objects.append(PromptSet(mask=mask))
        return
    smallest = min(around, key=lambda i: _area(objects[i]))
    objects[smallest] = replace(objects[smallest], mask=mask)


def _owner(objects: list[PromptSet], point: PointPrompt) -> int | None:
    if len(objects) == 1:
        return 0
    around = [i for i, prompts in enumerate(objects) if _region_holds(prompts, point)]
    return min(around, key=lambda i: _area(objects[i]), default=None)


def _region_holds(prompts: PromptSet, point: PointPrompt) -> bool:
    if prompts.box is not None:
        return prompts.box.holds(point.x, point.y)
    # the outline of a pixel lies half a pixel before its centre
    return prompts.mask is not None and prompts.mask.box.holds(point.x + 0.5, point.y + 0.5)


def _area(prompts: PromptSet) -> float:
    region = prompts.box or (prompts.mask and prompts.mask.box)
    return region.area if region else math.inf


def _mask_from_json(values: Mapping[str, Any]) -> MaskPrompt:
    bits = base64.b64decode(values["bits"], validate=True)
    return MaskPrompt(tuple(values["origin_yx"]), tuple(values["size_yx"]), bits)
