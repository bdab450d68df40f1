"""Which crop an object that the model proposes is decoded in.

The mask decoder's time goes with the area that it looks at. So an object is decoded in a close crop
(:attr:`~napari_sam.model.sam.InputSpec.decode_size`) where one holds it with room to spare, and
otherwise in a crop of the model's whole window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.masks import CROP_EDGE_TOLERANCE, PackedMask
from napari_sam.model.sam import InputSpec
from napari_sam.predict.crops import Crop, window_crops
from napari_sam.predict.proposed_objects import ProposedObjects
from napari_sam.predict.transforms import ImageTransform

__all__ = ["PromptedCrop", "close_crops", "share_out"]

_OVERLAP = 0.5
"""Of neighbouring close crops, so that objects up to a quarter of their side fit into one."""

_ROOM = 1.5 * CROP_EDGE_TOLERANCE
"""Input pixels between an object and the edges of its close crop: a mask may grow a little."""


class PromptedCrop(NamedTuple):
    """A crop and its prompts.

    Attributes
    ----------
    crop : Crop
        A part of the image.
    points_xy : ndarray of float64, shape (n, 2)
        Points as (x, y) in crop pixels.
    masks : tuple of PackedMask, or None
        With objects that the model proposes, a mask prompt for each point, in the image's frame.
    """

    crop: Crop
    points_xy: NDArray[np.float64]
    masks: tuple[PackedMask, ...] | None = None


def close_crops(transform: ImageTransform, spec: InputSpec) -> list[tuple[Crop, float]]:
    """List the close crops of an image, each with the room that its objects need.

    Parameters
    ----------
    transform : ImageTransform
        Of the image.
    spec : InputSpec
        Of the model.

    Returns
    -------
    list of tuple
        Crop, and pixels of the image between an object and its edges; none for a model without
        close windows.
    """
    size = spec.decode_size or spec.size
    if not spec.native_resolution or size >= spec.size:
        return []
    close = replace(spec, size=size)
    room = _ROOM / min(transform.scale_yx)
    return [(crop, room) for crop in window_crops(transform, close, 0, _OVERLAP)]


def share_out(
    proposed: ProposedObjects, close: Sequence[tuple[Crop, float]], wide: Sequence[Crop]
) -> list[PromptedCrop]:
    """Give each object to the one crop in whose middle it lies best.

    Parameters
    ----------
    proposed : ProposedObjects
        Objects of the image.
    close : sequence of tuple
        Close crops and the room that their objects need, as :func:`close_crops` lists them.
    wide : sequence of Crop
        Crops for the objects that no close crop holds; together they cover the image.

    Returns
    -------
    list of PromptedCrop
        The crops that have an object.
    """
    crops = [crop for crop, _ in close] + list(wide)
    if not proposed.masks:
        return []
    boxes = np.array([mask.box_xyxy for mask in proposed.masks], dtype=np.float64)
    rooms = np.array([room for _, room in close])
    owner = len(close) + _distance_to_edge(np.tile(proposed.points_xy, 2), wide).argmax(axis=1)
    if close:
        distance = _distance_to_edge(boxes, crops[: len(close)])
        fits = (distance >= rooms).any(axis=1)
        owner[fits] = distance[fits].argmax(axis=1)
    owned = [np.flatnonzero(owner == number) for number in range(len(crops))]
    return [
        PromptedCrop(
            crop,
            proposed.points_xy[own] - crop.box_xyxy[:2],
            tuple(proposed.masks[index] for index in own.tolist()),
        )
        for crop, own in zip(crops, owned, strict=True)
        if own.size
    ]


def _distance_to_edge(
    boxes_xyxy: NDArray[np.float64], crops: Sequence[Crop]
) -> NDArray[np.float64]:
    """Measure from boxes (K, 4) to the nearest edge of each crop, (K, n), but those of the image.

    An edge that no crop lies beyond is the image's: nothing is cut off there.
    """
    edges = np.array([crop.box_xyxy for crop in crops], dtype=np.float64)  # (n, 4)
    low, high = edges[:, :2].copy(), edges[:, 2:].copy()
    low[low == low.min(axis=0)] = -np.inf
    high[high == high.max(axis=0)] = np.inf
    to_low = boxes_xyxy[:, None, :2] - low
    to_high = high - boxes_xyxy[:, None, 2:]
    distance: NDArray[np.float64] = np.minimum(to_low, to_high).min(axis=-1)
    return distance
