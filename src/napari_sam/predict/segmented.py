"""What segmenting everything returns: a label image, and what is known of each object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.masks import PackedMask

__all__ = ["SegmentedImage", "SegmentedObject"]


@dataclass(frozen=True)
class SegmentedObject:
    """One object of a label image.

    Parameters
    ----------
    label : int
        Its label id.
    area : int
        Its visible pixels.
    box_xyxy : tuple of int
        First and last column and row of its mask, (x0, y0, x1, y1), ends included.
    predicted_iou, stability_score : float
        Scores of its mask; of an object of a watershed as
        :mod:`napari_sam.predict.basins` defines them.
    point_xy : tuple of float
        The point that prompted it, or the seed that it grew from.
    is_prompted : bool
        Whether the point makes its mask again; the seed of a watershed does not.
    """

    label: int
    area: int
    box_xyxy: tuple[int, int, int, int]
    predicted_iou: float
    stability_score: float
    point_xy: tuple[float, float]
    is_prompted: bool = True


@dataclass(frozen=True, eq=False)
class SegmentedImage:
    """A label image and its objects.

    Parameters
    ----------
    labels : ndarray of int32, shape (H, W)
        0 is background; object ``objects[i]`` has label ``i + 1``.
    objects : tuple of SegmentedObject
        From the best score down.
    """

    labels: NDArray[np.int32]
    objects: tuple[SegmentedObject, ...]

    def masks(self) -> list[PackedMask]:
        """Return the visible pixels of each object, in the order of the objects."""
        boxes = ndimage.find_objects(self.labels, len(self.objects))
        return [
            PackedMask.from_array(self.labels[box] == label, (box[0].start, box[1].start))
            for label, box in enumerate(boxes, start=1)
        ]
