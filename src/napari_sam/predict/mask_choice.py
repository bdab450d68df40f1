"""Which of the three masks of an ambiguous click is taken, where nobody says it.

Official models choose by the predicted IoU alone, as the original does. The compact model's
predicted IoU ranks masks less well, and a mask whose edge the threshold hardly moves is more often
the one that is meant. On 37 training images of four kinds, with half of the clicks into the middle
of objects and half anywhere in them, half of the stability score beside it raised the mean IoU of
the chosen mask from .657 to .693, where always choosing the best would give .767; in phase contrast
it changed nothing. Weights from 0.2 to 1 are as good, within .004.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.model.sam import InputSpec

__all__ = ["STABILITY_WEIGHT", "mask_ranks"]

STABILITY_WEIGHT = 0.5
"""What the stability score counts beside the predicted IoU, with models of native pixels."""


def mask_ranks(
    predicted_iou: NDArray[np.float32], stability_score: NDArray[np.float32], spec: InputSpec
) -> NDArray[np.float32]:
    """Rank masks.

    Parameters
    ----------
    predicted_iou, stability_score : ndarray of float32
        Of the masks, in any shape.
    spec : InputSpec
        Of the model.

    Returns
    -------
    ndarray of float32
        In the same shape; the mask of the highest rank is the best.
    """
    if not spec.native_resolution:
        return predicted_iou
    return predicted_iou + np.float32(STABILITY_WEIGHT) * stability_score
