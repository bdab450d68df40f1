"""From the overlapping, ranked masks of one tile to a label image.

**The overlap rule.** Masks are taken from the highest score to the lowest. A pixel goes to the
first mask that covers it. A mask that keeps less than `min_visible` of its own pixels is dropped
whole, because what remains of it is a rim around better objects and not an object. Equal scores
fall back to the larger mask, then to the order given, so the result never depends on chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError, InputError

__all__ = ["Composition", "MaskCrop", "compose_labels"]


class MaskCrop(NamedTuple):
    """One mask, cut to its box.

    Attributes
    ----------
    mask : ndarray of bool, shape (h, w)
        The mask inside its box.
    box_xyxy : tuple of int
        Left, top, right, bottom in pixels of the label image; right and bottom are exclusive.
    score : float
        Higher is better, usually predicted IoU times stability.
    """

    mask: NDArray[np.bool_]
    box_xyxy: tuple[int, int, int, int]
    score: float


class Composition(NamedTuple):
    """A label image and where its labels come from.

    Attributes
    ----------
    labels : ndarray of int32, shape (H, W)
        0 is background, 1..n are objects in order of decreasing score.
    sources : tuple of int
        ``sources[label - 1]`` is the index of the mask that became `label`.
    """

    labels: NDArray[np.int32]
    sources: tuple[int, ...]


def compose_labels(
    masks: Sequence[MaskCrop | tuple[NDArray[np.bool_], tuple[int, int, int, int], float]],
    shape_yx: tuple[int, int],
    *,
    min_visible: float = 0.5,
    min_area: int = 1,
) -> Composition:
    """Paint ranked masks into one label image under the overlap rule of this module.

    Parameters
    ----------
    masks : sequence of MaskCrop, or of equal (mask, box_xyxy, score) tuples
        In any order. Boxes must lie inside the label image.
    shape_yx : tuple of int
        Height and width of the label image in pixels.
    min_visible : float
        Smallest fraction of a mask, 0 to 1, that must still be free for it to become an object.
    min_area : int
        Smallest number of free pixels of an object.

    Returns
    -------
    Composition

    Raises
    ------
    ConfigError
        When `min_visible` or `min_area` is out of range.
    InputError
        When a mask is not as large as its box, or its box leaves the image.
    """
    if not 0.0 <= min_visible <= 1.0 or min_area < 1:
        raise ConfigError(
            f"min_visible={min_visible} and min_area={min_area} were given",
            rule="min_visible is a fraction from 0 to 1 and min_area at least one pixel",
            cure="Use for example min_visible=0.5 and min_area=1",
        )
    crops = [MaskCrop(*item) for item in masks]
    areas = [int(np.count_nonzero(crop.mask)) for crop in crops]
    ranking = sorted(range(len(crops)), key=lambda i: (-crops[i].score, -areas[i], i))
    labels = np.zeros(shape_yx, dtype=np.int32)
    sources: list[int] = []
    for index in ranking:
        window = labels[_window(crops[index], shape_yx)]
        free = crops[index].mask & (window == 0)
        n_free = int(np.count_nonzero(free))
        if n_free >= min_area and n_free >= min_visible * areas[index]:
            sources.append(index)
            window[free] = len(sources)
    return Composition(labels, tuple(sources))


def _window(crop: MaskCrop, shape_yx: tuple[int, int]) -> tuple[slice, slice]:
    left, top, right, bottom = (int(edge) for edge in crop.box_xyxy)
    inside = 0 <= left <= right <= shape_yx[1] and 0 <= top <= bottom <= shape_yx[0]
    if not inside or crop.mask.shape != (bottom - top, right - left):
        raise InputError(
            f"A mask of shape {crop.mask.shape} came with box {tuple(crop.box_xyxy)}",
            rule=f"A mask is as large as its box, and the box lies inside the {shape_yx} image",
            cure="Cut the mask with mask[top:bottom, left:right] of its own box",
        )
    return slice(top, bottom), slice(left, right)
