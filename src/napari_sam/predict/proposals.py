"""Points from the instance head's maps: its peaks, and points of a grid seen through them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F  # noqa: N812  (torch's own name for it)

from napari_sam.model.instance_head import InstanceMaps
from napari_sam.model.sam import Sam
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.modes import require_instance_head
from napari_sam.predict.transforms import ImageTransform

__all__ = ["find_peaks", "foreground_at"]

_MIN_CENTRE = 0.1
"""Height of the smoothed centre map from which a local maximum counts as an object.

On a sample of its training images the bundled model's mean SA50 was about equal at 0.08 and 0.11,
and fell from 0.15 to 0.35: a false point costs little, as its mask still has to pass the filters.
"""

_PEAK_REACH = 2
"""Cells of the map, around a peak, in which no other peak stands."""


def find_peaks(maps: InstanceMaps, transform: ImageTransform) -> NDArray[np.float64]:
    """Find the local maxima of the smoothed product of centre and foreground probability.

    To be called in inference mode.

    Parameters
    ----------
    maps : InstanceMaps
        Of the whole input frame, (1, h, w) each.
    transform : ImageTransform
        How the image lies in it.

    Returns
    -------
    ndarray of float64, shape (K, 2)
        Points as (x, y) in image pixels; none lies in the padding.
    """
    centres = (maps.centre.sigmoid() * maps.foreground.sigmoid())[:, None]  # (1, 1, h, w)
    smooth = F.avg_pool2d(centres, 3, stride=1, padding=1, count_include_pad=False)
    highest = F.max_pool2d(smooth, 2 * _PEAK_REACH + 1, stride=1, padding=_PEAK_REACH)
    peaks = ((smooth == highest) & (smooth > _MIN_CENTRE))[0, 0].cpu().numpy()
    regions, n_peaks = ndimage.label(peaks, np.ones((3, 3)))
    if n_peaks == 0:
        return np.zeros((0, 2))
    cells_yx = np.array(ndimage.center_of_mass(peaks, regions, np.arange(1, n_peaks + 1)))
    stride = transform.padded_size_yx[0] / peaks.shape[0]
    points = transform.points_to_original((cells_yx[:, ::-1] + 0.5) * stride - 0.5)
    rows, cols = transform.original_size_yx
    return points[((points >= 0) & (points <= (cols - 1, rows - 1))).all(axis=1)]


def foreground_at(
    sam: Sam, embedding: ImageEmbedding, points_xy: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Tell how likely an object is at some points, or right beside them.

    A point in the seam between an object and the background often prompts the object as well, so
    the neighbouring cells of the instance head's map are looked at too. To be called in inference
    mode.

    Parameters
    ----------
    sam : Sam
        A model with an instance head.
    embedding : ImageEmbedding
        Of the image.
    points_xy : ndarray of float64, shape (K, 2)
        Points as (x, y) in image pixels.

    Returns
    -------
    ndarray of float64, shape (K,)
        Highest foreground probability, 0 to 1, of the cell in which each point lies and the eight
        around it.

    Raises
    ------
    ConfigError
        When the model has no instance head.
    """
    head = require_instance_head(sam, "foreground_only")
    logits = head(embedding.as_features()).foreground[:, None]  # (1, 1, h, w)
    highest = F.max_pool2d(logits, 3, stride=1, padding=1)
    foreground = highest.sigmoid()[0, 0].cpu().numpy()
    stride = embedding.transform.padded_size_yx[0] / foreground.shape[0]
    in_frame = embedding.transform.points_to_input(points_xy)
    cells = np.floor((in_frame + 0.5) / stride).astype(np.int64)
    cols, rows = np.clip(cells, 0, np.array(foreground.shape[::-1]) - 1).T
    likely: NDArray[np.float64] = foreground[rows, cols].astype(np.float64)
    return likely
