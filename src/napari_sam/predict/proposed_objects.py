"""The objects that a model proposes itself, as prompts for its mask decoder.

The instance head's maps are flooded and cut into objects, as a watershed does it
(:mod:`napari_sam.predict.basins`). Each object becomes one prompt of two parts: the point where its
centre is surest, and its pixels as a mask prompt, which the decoder corrects. So an object of
several peaks is prompted once, and the decoder is told how far the object reaches, which a point
alone leaves open.

On 12 validation images of three kinds, with the weights of the time, this gave a mean SA50 of .49
and an mSA of .28; points alone, three masks each, .47 and .27; the watershed's objects themselves
.50 and .26.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.masks import PackedMask
from napari_sam.model.sam import Sam
from napari_sam.predict.basins import WatershedOptions, flood_basins
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.modes import require_instance_head

__all__ = ["ProposedObjects", "propose_objects"]


class ProposedObjects(NamedTuple):
    """Prompts for K objects.

    Attributes
    ----------
    points_xy : ndarray of float64, shape (K, 2)
        A point in each as (x, y) in image pixels.
    masks : tuple of PackedMask
        The pixels of each, in the image's frame.
    """

    points_xy: NDArray[np.float64]
    masks: tuple[PackedMask, ...]


def propose_objects(sam: Sam, embedding: ImageEmbedding) -> ProposedObjects:
    """Find the objects that the instance head sees.

    Parameters
    ----------
    sam : Sam
        A model with an instance head.
    embedding : ImageEmbedding
        Of the image.

    Returns
    -------
    ProposedObjects
        From the surest down, of the default thresholds of a watershed.

    Raises
    ------
    ConfigError
        When the model has no instance head.
    DeviceError
        When the device fails, or has too little memory.
    """
    head = require_instance_head(sam, "mode='proposals'")
    basins = flood_basins(head, embedding, WatershedOptions())
    found = basins.segment(min_size=1, max_area_fraction=1.0)
    points = np.array([item.point_xy for item in found.objects], dtype=np.float64).reshape(-1, 2)
    return ProposedObjects(points, tuple(found.masks()))
