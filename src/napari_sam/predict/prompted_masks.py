"""What becomes of the masks that the decoder draws, before anyone sees them.

Official models' masks stay as they are. Those of a model of native pixels keep the parts that are
prompted for (:mod:`~napari_sam.predict.prompted_parts`), and follow their clicks
(:mod:`~napari_sam.predict.followed_clicks`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.model.sam import Sam
from napari_sam.predict.followed_clicks import follow_clicks
from napari_sam.predict.prompted_parts import (
    cell_coordinates,
    cells_of_points,
    keep_prompted_parts,
)
from napari_sam.predict.windows import Window

__all__ = ["hold_to_prompts"]


def hold_to_prompts(
    sam: Sam,
    logits: Tensor,
    window: Window,
    points_xy: NDArray[np.float64],
    labels: NDArray[np.int64],
    mask_prompt: NDArray[np.bool_] | None = None,
) -> Tensor:
    """Hold the masks of one object to its prompts.

    Parameters
    ----------
    sam : Sam
        The model that drew them.
    logits : Tensor, shape (M, hl, wl)
        Low-res logits; they stay as they are.
    window : Window
        Where they lie in the input frame.
    points_xy : ndarray of float64, shape (K, 2)
        Clicks as (x, y) in the input frame.
    labels : ndarray of int64, shape (K,)
        1 for the object, 0 for background, others for no click.
    mask_prompt : ndarray of bool, shape (hl, wl), optional
        The mask that was prompted with.

    Returns
    -------
    Tensor, shape (M, hl, wl)
    """
    if not sam.input_spec.native_resolution:
        return logits
    stride, threshold = sam.input_spec.low_res_stride, sam.mask_threshold
    under = cells_of_points(points_xy[labels == 1], window, stride)
    logits = keep_prompted_parts(logits, threshold, under, mask_prompt)
    is_click = (labels == 0) | (labels == 1)
    cells_yx = cell_coordinates(points_xy[is_click], window, stride)
    return follow_clicks(logits, threshold, cells_yx, labels[is_click] == 1)
