"""Stands in for the model: masks that follow from prompts in a way that a test can foresee."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_sam.core.plane import Plane
from napari_sam.core.prompts import BoxPrompt, MaskPrompt, PlacedPrompts, PointPrompt, PromptSet
from napari_sam.pipeline.candidates import CandidateMask, ObjectCandidates, PredictionRequest
from napari_sam.pipeline.session import Session

RADII = (2, 4, 6)
"""Half the sides of the squares around an ambiguous point; the middle one has the highest IoU."""
IOUS = (0.7, 0.9, 0.8)

PLANE, OTHER = Plane((1, 2), (0,)), Plane((1, 2), (1,))
POINT, SECOND, NEGATIVE = PointPrompt(20, 30), PointPrompt(24, 30), PointPrompt(40, 40, False)
BOX, FAR_BOX = BoxPrompt(10, 10, 20, 20), BoxPrompt(50, 50, 60, 58)


def square(x: float, y: float, radius: int, predicted_iou: float) -> CandidateMask:
    """Offer a square; its logits are 3 in the outermost ring of pixels and 4 inside."""
    side = 2 * radius + 1
    logits = np.full((side, side), 3.0, np.float32)
    logits[1:-1, 1:-1] = 4.0
    return CandidateMask(logits, (round(y) - radius, round(x) - radius), predicted_iou, 0.95)


def answer_one(prompts: PromptSet, preference: str = "best") -> ObjectCandidates:
    """Answer for one object.

    One positive point gives three squares. A box is filled, a mask returned. More points give a
    square around the first one, as large as the number of positive points; its score falls with x.
    """
    if prompts.is_ambiguous:
        point = prompts.points[0]
        three = [square(point.x, point.y, r, iou) for r, iou in zip(RADII, IOUS, strict=True)]
        return ObjectCandidates(prompts, tuple(three), is_ambiguous=True)
    first = None
    if prompts.box is not None:
        x0, y0, x1, y1 = (round(edge) for edge in prompts.box.xyxy)
        logits = np.full((max(y1 - y0, 1), max(x1 - x0, 1)), 5.0, np.float32)
        single = CandidateMask(logits, (y0, x0), 1 - x0 / 1000, 0.9)
    elif prompts.mask is not None:
        logits = np.where(prompts.mask.to_array(), 5.0, -5.0).astype(np.float32)
        single = CandidateMask(logits, prompts.mask.origin_yx, 0.85, 0.9)
    else:
        point = prompts.points[0]
        n_positive = sum(own.is_positive for own in prompts.points)
        single = square(point.x, point.y, n_positive, 1 - point.x / 1000)
        first = prompts.choice
        if first is None:
            first = {"best": 1, "whole": 2, "part": 1, "sub-part": 0}[preference]
    top, left = single.origin_yx
    others = tuple(square(left + 3, top + 3, r, iou) for r, iou in zip(RADII, IOUS, strict=True))
    return ObjectCandidates(prompts, (single, *others), is_ambiguous=False, first_choice=first)


def answer(request: PredictionRequest) -> tuple[ObjectCandidates, ...]:
    """Answer a request of a session."""
    return tuple(answer_one(prompts, request.preference) for prompts in request.objects)


def respond(session: Session) -> None:
    """Answer what a session wants now."""
    request = session.request()
    assert session.apply(request, answer(request))


def put(
    session: Session,
    *points: PointPrompt,
    boxes: Sequence[BoxPrompt] = (),
    masks: Sequence[MaskPrompt] = (),
) -> None:
    """Place other prompts than before, and answer."""
    session.set_prompts(PlacedPrompts(points, boxes, masks))
    respond(session)


def areas(session: Session) -> list[int]:
    """Sizes of the masks that are shown."""
    return [patch.area for patch in session.chosen_masks()]


def squares(*radii: int) -> list[int]:
    """Sizes of the squares around points."""
    return [(2 * radius + 1) ** 2 for radius in radii]
