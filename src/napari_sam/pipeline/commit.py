"""Masks become objects of a label image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError, InputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.pipeline.candidates import MaskPatch
from napari_sam.pipeline.drafts import Draft
from napari_sam.pipeline.history import MaximumChange, RecordChange, Step
from napari_sam.pipeline.label_change import LabelEdit, count_overwritten
from napari_sam.pipeline.label_levels import blocks_of
from napari_sam.pipeline.label_target import LabelTarget
from napari_sam.pipeline.objects import ObjectRecord, ObjectTable

__all__ = [
    "DraftedMask",
    "OverwriteRule",
    "WrittenMask",
    "check_rule",
    "complete_step",
    "draft_masks",
    "write_masks",
]

OverwriteRule = Literal["keep", "overwrite", "only_empty"]
"""What happens where a new object meets an old one: the old one keeps its pixels, the new one takes
them, or the new one is refused."""


@dataclass(frozen=True, eq=False)
class DraftedMask:
    """A mask that shall become an object.

    Parameters
    ----------
    label : int
        Its id.
    patch : MaskPatch
        Its pixels in the plane.
    score : float
        Predicted IoU; where masks overlap, the one of the higher score gets the pixels.
    old_region_yx : Region, optional
        Where the object is now, if it exists. Its pixels are freed first.
    """

    label: int
    patch: MaskPatch
    score: float
    old_region_yx: Region | None = None


@dataclass(frozen=True)
class WrittenMask:
    """An object that was written.

    Parameters
    ----------
    area : int
        Number of its pixels.
    box_xyxy : tuple of int
        Left, top, right and bottom; right and bottom are exclusive.
    """

    area: int
    box_xyxy: tuple[int, int, int, int]


def check_rule(rule: str) -> None:
    """Refuse an unknown rule.

    Parameters
    ----------
    rule : str

    Raises
    ------
    ConfigError
    """
    known: Sequence[str] = get_args(OverwriteRule)
    if rule not in known:
        raise ConfigError(
            f"The overwrite rule {rule!r} was given",
            rule=f"Objects are written under one of the rules {', '.join(known)}",
            cure="Use 'keep', under which old objects keep their pixels",
        )


def write_masks(
    edit: LabelEdit, plane: Plane, masks: Sequence[DraftedMask], rule: OverwriteRule
) -> list[WrittenMask]:
    """Write masks as objects that do not overlap.

    Parameters
    ----------
    edit : LabelEdit
        Takes the writes; takes them back where this function raises.
    plane : Plane
        A plane of the labels.
    masks : sequence of DraftedMask
    rule : {"keep", "overwrite", "only_empty"}
        What happens where a mask meets an object that was there before.

    Returns
    -------
    list of WrittenMask
        In the order of `masks`.

    Raises
    ------
    InputError
        When a mask has no pixels, none is left to it, or the rule forbids it.
    """
    shape_yx = edit.target.shape_yx(plane)
    for drafted in masks:
        if drafted.old_region_yx is not None:
            edit.erase(drafted.label, plane, drafted.old_region_yx)
    written: dict[int, WrittenMask] = {}
    labels: list[int] = []
    for i in sorted(range(len(masks)), key=lambda i: -_rank(masks[i].score)):
        inside = replace(masks[i], patch=masks[i].patch.clipped(shape_yx))
        _require_pixels(inside.patch, masks[i].patch)
        written[i] = _write_mask(edit, plane, inside, rule, labels)
        labels.append(masks[i].label)
    return [written[i] for i in range(len(masks))]


def draft_masks(
    target: LabelTarget, draft: Draft, patches: Sequence[MaskPatch], scores: Sequence[float]
) -> list[DraftedMask]:
    """Give labels to the masks of a draft.

    Parameters
    ----------
    target : LabelTarget
        Where they will be written.
    draft : Draft
        Tells which of them takes the place of an object that is edited.
    patches : sequence of MaskPatch
        One per object of the draft.
    scores : sequence of float
        Their predicted IoU.

    Returns
    -------
    list of DraftedMask

    Raises
    ------
    InputError
        When the type of the label image has no more labels.
    """
    edited, edited_index = draft.edited, draft.edited_index(target)
    n_new = len(patches) - (edited_index is not None)
    next_label = target.next_label() if n_new else 1
    target.check_label(next_label + n_new - 1)
    drafted = []
    for i, (patch, score) in enumerate(zip(patches, scores, strict=True)):
        if i == edited_index and edited is not None:
            drafted.append(DraftedMask(edited.label, patch, score, edited.region_yx))
        else:
            drafted.append(DraftedMask(next_label, patch, score))
            next_label += 1
    return drafted


def complete_step(
    step: Step, target: LabelTarget, table: ObjectTable, records: Sequence[ObjectRecord]
) -> Step:
    """Add to a step what follows from the pixels that it wrote.

    Parameters
    ----------
    step : Step
        Its pixels are written to one label image.
    target : LabelTarget
    table : ObjectTable
        The objects of the label image before the step.
    records : sequence of ObjectRecord
        The objects that were written.

    Returns
    -------
    Step
        With the records of these, and of the objects that lost pixels to them. One that lost all
        has no record any more.
    """
    new = [RecordChange(target, own.label, table.get(own.label), own) for own in records]
    lost = _lost_pixels(step, target, table)
    before = target.written_maximum
    after = max([before, *(change.maximum for change in step.labels)])
    maxima = (MaximumChange(target, before, after),) if after > before else ()
    # an edited object has lost its old pixels too; its new record comes last
    return replace(step, records=(*lost, *new), maxima=maxima)


def _lost_pixels(step: Step, target: LabelTarget, table: ObjectTable) -> list[RecordChange]:
    found: list[RecordChange] = []
    for label, n_pixels in sorted(count_overwritten(step.labels).items()):
        record = table.get(label)
        if record is not None:
            left = record.area - n_pixels
            after = replace(record, area=left) if left > 0 else None
            found.append(RecordChange(target, label, record, after))
    return found


def _write_mask(
    edit: LabelEdit, plane: Plane, drafted: DraftedMask, rule: OverwriteRule, labels: list[int]
) -> WrittenMask:
    region = drafted.patch.region_yx
    taken = np.zeros(region.shape, np.bool_)
    for block in blocks_of(region):
        part = block.relative_to(region).slices
        before = edit.target.read(plane, block)
        mine = _allowed(before, drafted.patch.mask[part], rule, labels)
        taken[part] = mine
        edit.write(plane, block, np.where(mine, drafted.label, before))
    patch = MaskPatch.from_array(taken, drafted.patch.origin_yx)
    if patch.is_empty:
        raise InputError(
            "A mask lies on other objects with all its pixels",
            rule="An object has at least one pixel of its own",
            cure="Remove its prompts, or allow to overwrite old objects",
        )
    return WrittenMask(patch.area, patch.box_xyxy)


def _allowed(
    before: NDArray[Any], mask: NDArray[np.bool_], rule: OverwriteRule, labels: list[int]
) -> NDArray[np.bool_]:
    """Pixels of a mask that it may take; `labels` are those written together with it."""
    is_free: NDArray[np.bool_] = before == 0
    if rule == "keep":
        return mask & is_free
    is_old: NDArray[np.bool_] = ~is_free & ~np.isin(before, labels)
    if rule == "overwrite":
        return mask & (is_free | is_old)
    met = before[mask & is_old]
    if met.size:
        raise InputError(
            f"A mask meets object {int(met[0])}",
            rule="Only empty pixels may be written",
            cure="Correct the mask with a negative click there, or choose another overwrite rule",
        )
    return mask & is_free


def _rank(score: float) -> float:
    return score if score == score else -np.inf  # NaN comes last


def _require_pixels(inside: MaskPatch, whole: MaskPatch) -> None:
    if whole.is_empty:
        raise InputError(
            "A mask without any pixel was to be committed",
            rule="An object has at least one pixel",
            cure="Lower the threshold, choose another of its masks, or add a positive click",
        )
    if inside.is_empty:
        raise InputError(
            f"A mask at (x, y) = {whole.box_xyxy[:2]} lies outside of the label image",
            rule="An object lies inside the label image",
            cure="Choose the labels that belong to the image",
        )
