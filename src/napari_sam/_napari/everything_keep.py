"""From what was found to objects of a labels layer, as one step that can be undone."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane
from napari_sam.core.prompts import PointPrompt, PromptSet
from napari_sam.core.region import Region
from napari_sam.pipeline.commit import OverwriteRule, check_rule
from napari_sam.pipeline.label_change import LabelChange
from napari_sam.pipeline.label_levels import blocks_of
from napari_sam.pipeline.objects import ObjectRecord

if TYPE_CHECKING:
    from napari_sam.pipeline.label_target import LabelTarget
    from napari_sam.predict import SegmentedImage

__all__ = ["KeepPlan", "keep_steps", "write_plan"]

BAND_PIXELS = 2**20
"""Pixels that one change of the label image holds."""


@dataclass(frozen=True, eq=False)
class _Band:
    """Some rows of the label image, before and after."""

    region: Region
    before: NDArray[Any]
    after: NDArray[Any]


@dataclass(frozen=True, eq=False)
class KeepPlan:
    """What is written into a label image.

    Attributes
    ----------
    target : LabelTarget
    plane : Plane
        The plane of the labels.
    first_label : int
        The new objects have this label and the following ones.
    bands : tuple
        The pixels.
    changes : tuple of LabelChange
        The same, compressed, to be undone.
    records : tuple of ObjectRecord
        The objects.
    n_left_out : int
        Objects that older ones leave no room for.
    """

    target: LabelTarget
    plane: Plane
    first_label: int
    bands: tuple[_Band, ...]
    changes: tuple[LabelChange, ...]
    records: tuple[ObjectRecord, ...]
    n_left_out: int


def keep_steps(
    found: SegmentedImage, plane: Plane, target: LabelTarget, rule: OverwriteRule
) -> Generator[None, None, KeepPlan]:
    """Plan how objects are written into a label image; nothing is written.

    Parameters
    ----------
    found : SegmentedImage
        The objects, with labels of shape (rows, columns).
    plane : Plane
        The plane of the image that they were found on.
    target : LabelTarget
    rule : {"keep", "overwrite", "only_empty"}
        Where an object meets one that was there before: that one keeps its pixels, or loses them,
        or the new object is left out.

    Yields
    ------
    None
        Between parts of the work.

    Returns
    -------
    KeepPlan

    Raises
    ------
    InputError
        When there is no object, or no room for any, or the labels are too large for their type.
    OutputError
        When the label image cannot be read.
    """
    from scipy import ndimage

    check_rule(rule)
    if not found.objects:
        raise _nothing("No object was found")
    if not target.is_scanned:
        for _ in target.scan():
            yield
    own = target.plane_of(plane)
    before = target.read(own, Region.whole(found.labels.shape)).copy()
    yield
    mine = _allowed(found.labels, before, rule)
    kept = np.where(mine, found.labels, 0)
    areas = np.bincount(kept.ravel(), minlength=len(found.objects) + 1)
    survivors = np.flatnonzero(areas[1:]) + 1
    if survivors.size == 0:
        raise _nothing("The objects lie on older ones with all their pixels")
    first = target.next_label()
    target.check_label(first + len(survivors) - 1)
    numbers = np.zeros(len(areas), before.dtype)
    numbers[survivors] = np.arange(first, first + len(survivors))
    after = np.where(mine, numbers[kept], before)
    yield
    boxes = ndimage.find_objects(kept)
    records = tuple(
        _record(found, int(label), int(numbers[label]), plane, int(areas[label]), boxes[label - 1])
        for label in survivors
    )
    bands, changes = [], []
    for region in _bands_of(before != after):
        band = _Band(region, before[region.slices], after[region.slices])
        bands.append(band)
        changes.append(LabelChange.between(target, own, region, band.before, band.after))
        yield
    n_left_out = len(found.objects) - len(survivors)
    return KeepPlan(target, own, first, tuple(bands), tuple(changes), records, n_left_out)


def write_plan(plan: KeepPlan) -> bool:
    """Write what was planned, unless the labels have changed since.

    Parameters
    ----------
    plan : KeepPlan

    Returns
    -------
    bool
        False, and nothing is written, when the plan has to be made anew.

    Raises
    ------
    OutputError
        When the label image cannot be written; it is put back as it was.
    """
    target = plan.target
    is_current = target.next_label() == plan.first_label and all(
        np.array_equal(target.read(plan.plane, band.region), band.before) for band in plan.bands
    )
    if not is_current:
        return False
    written = []
    try:
        for band in plan.bands:
            written.append(band)  # before it is written: a write may fail half way
            target.write(plan.plane, band.region, band.after)
    except Exception:
        for band in written:
            target.write(plan.plane, band.region, band.before)
        raise
    return True


def _allowed(
    labels: NDArray[np.int32], before: NDArray[Any], rule: OverwriteRule
) -> NDArray[np.bool_]:
    """Find the pixels that new objects may take."""
    wanted: NDArray[np.bool_] = labels > 0
    if rule == "overwrite":
        return wanted
    is_taken = before != 0
    if rule == "only_empty":
        touching = np.zeros(int(labels.max(initial=0)) + 1, np.bool_)
        touching[labels[is_taken]] = True
        is_taken = touching[labels]
    allowed: NDArray[np.bool_] = wanted & ~is_taken
    return allowed


def _record(
    found: SegmentedImage,
    old_label: int,
    label: int,
    plane: Plane,
    area: int,
    box: tuple[slice, slice],
) -> ObjectRecord:
    known = found.objects[old_label - 1]
    rows, cols = box
    x, y = known.point_xy
    points = (PointPrompt(float(x), float(y)),) if known.is_prompted else ()
    return ObjectRecord(
        label=label,
        plane=plane,
        prompts=PromptSet(points=points),  # without any, it is edited from its mask
        predicted_iou=float(known.predicted_iou),
        stability_score=float(known.stability_score),
        area=area,
        box_xyxy=(int(cols.start), int(rows.start), int(cols.stop), int(rows.stop)),
    )


def _bands_of(differs: NDArray[np.bool_]) -> Iterator[Region]:
    """Cut the rectangle that holds all changed pixels into bands of rows."""
    for band in blocks_of(Region.around(differs), BAND_PIXELS):
        if differs[band.slices].any():
            yield band


def _nothing(given: str) -> InputError:
    return InputError(
        given,
        rule="An object has at least one pixel of its own",
        cure="Lower the thresholds, choose another overwrite rule, or another labels layer",
    )
