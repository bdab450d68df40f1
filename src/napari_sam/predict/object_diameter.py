"""How large the objects of an image are: what the instance head sees of them, at one scale or more.

The compact model is asked at the image's own scale. Where it sees too few objects there, or very
small or large ones, it is asked at half and twice that scale too, and where all of these show too
few, at a quarter and four times. It is believed at the scale at which its objects, each counting as
much as its score times its diameter, are most on a pixel. Counted alone, the pieces into which an
object falls would win over it; weighted by area, a few blobs would win over the many objects in
them.

The diameter of a set of objects is the median of those of circles of their areas, weighted by their
scores. On 31 training images of five kinds it was off by a factor of 1.25 in the mean, mostly too
large, as small objects are those that are missed.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.core.errors import ConfigError
from napari_sam.core.object_scale import (
    AUTO,
    NATIVE,
    Diameter,
    check_diameter,
    scale_for,
)
from napari_sam.core.steps import result_of, retold
from napari_sam.model.instance_head import InstanceHead
from napari_sam.model.sam import Sam
from napari_sam.predict.basins import WatershedOptions, flood_basins
from napari_sam.predict.embedding import ImageEmbedding, embed_steps
from napari_sam.predict.modes import require_instance_head
from napari_sam.predict.pixels import to_model_pixels
from napari_sam.predict.records import AutomaticProgress
from napari_sam.predict.segmented import SegmentedObject
from napari_sam.tiling.normalize import Contrast

__all__ = [
    "SAMPLE_SIDE",
    "choose_diameter",
    "diameter_steps",
    "estimate_diameter",
    "require_diameter",
    "scale_steps",
    "told_between_windows",
]

SAMPLE_SIDE = 1024
"""Rows and columns in the middle of a larger image that are looked at, in pixels of the input."""

_OTHER_SCALES = ((0.5, 2.0), (0.25, 4.0))
"""Where it is looked next, as long as nothing is found."""

_SEEN_WELL = (12.0, 100.0)
"""Diameters that are believed at the image's own scale, in pixels."""

_LEAST_OBJECTS = 3
"""So many are needed to tell a diameter."""

_LEAST_AREA = 16
"""Smaller objects are specks, in pixels of the input."""


@dataclass(frozen=True)
class _Sight:
    """What was seen at one scale.

    Parameters
    ----------
    diameters, scores : ndarray of float64, shape (n,)
        Of the objects; diameters in pixels of the image.
    n_pixels : int
        Pixels of the image that were looked at.
    """

    diameters: NDArray[np.float64]
    scores: NDArray[np.float64]
    n_pixels: int

    @property
    def weights(self) -> NDArray[np.float64]:
        """How much each object speaks for this scale."""
        return self.scores * self.diameters

    @property
    def diameter(self) -> float | None:
        """The median, weighted by scores; None where objects are too few."""
        if len(self.diameters) < _LEAST_OBJECTS:
            return None
        order = np.argsort(self.diameters, kind="stable")
        summed = np.cumsum(self.scores[order])
        middle = int(np.searchsorted(summed, summed[-1] / 2))
        return float(self.diameters[order[middle]])


def estimate_diameter(sam: Sam, image: ArrayLike, contrast: Contrast | None = None) -> float | None:
    """Estimate the diameter of the objects of an image.

    Parameters
    ----------
    sam : Sam
        A model of native pixels with an instance head, as the compact one is.
    image : array-like, shape (H, W) or (H, W, C)
        As :meth:`SamPredictor.encode` takes it. Of a large image the middle is looked at: 1024
        rows and columns, at half the scale 2048, at twice the scale 512.
    contrast : Contrast, optional
        A fixed map of intensities.

    Returns
    -------
    float or None
        Diameter in pixels of the image; None where fewer than three objects are seen.

    Raises
    ------
    InputError
        When the image is not valid.
    ConfigError
        When the model has no use of a diameter, or no instance head.
    DeviceError
        When the device fails, or has too little memory.
    """
    pixels = to_model_pixels(image, sam.input_spec, contrast)
    return result_of(diameter_steps(sam, [pixels]))


def diameter_steps(
    sam: Sam, samples: Sequence[NDArray[np.uint8]], embedding: ImageEmbedding | None = None
) -> Generator[AutomaticProgress, None, float | None]:
    """Estimate the diameter of objects as :func:`estimate_diameter` does, in steps.

    Parameters
    ----------
    sam : Sam
        A model of native pixels with an instance head.
    samples : sequence of ndarray of uint8, shape (H, W, 3)
        Images of the same objects, as the model sees them; their objects count together.
    embedding : ImageEmbedding, optional
        Of the only sample at its own scale, where it is known and the sample is not large.

    Yields
    ------
    AutomaticProgress
        Between windows of the samples and between scales; how many there are is not known.

    Returns
    -------
    float or None
        Diameter in pixels of the image; None where fewer than three objects are seen.

    Raises
    ------
    ConfigError
        When the model has no use of a diameter, or no instance head.
    DeviceError
        When the device fails, or has too little memory.
    """
    require_diameter(sam, AUTO)
    head = require_instance_head(sam, "diameter='auto'")
    first = yield from _look(sam, head, samples, 1.0, embedding)
    if first.diameter is not None and _SEEN_WELL[0] <= first.diameter <= _SEEN_WELL[1]:
        return first.diameter
    able = [first] if first.diameter is not None else []
    for scales in _OTHER_SCALES:
        for scale in scales:
            sight = yield from _look(sam, head, samples, scale)
            able += [sight] if sight.diameter is not None else []
        if able:
            return max(able, key=lambda one: one.weights.sum() / one.n_pixels).diameter
    return None


def require_diameter(sam: Sam, diameter: Diameter | None) -> Diameter | None:
    """Return the diameter that was given, when it is one and the model has a use of it.

    Parameters
    ----------
    sam : Sam
        The model.
    diameter : float, "auto" or "native", optional
        As it was given.

    Returns
    -------
    float, "auto" or "native", or None

    Raises
    ------
    ConfigError
        When it is no diameter, the model resizes each image to one size, or it is to be estimated
        and the model has no instance head.
    """
    check_diameter(diameter)
    if diameter is None or diameter == NATIVE:
        return diameter
    if not sam.input_spec.native_resolution:
        raise ConfigError(
            f"diameter={diameter!r} was given for the model {sam.name or 'in use'}",
            rule="This model resizes each image to one size, so no scale can be chosen for objects",
            cure="Leave it out (`--diameter`), or use the compact model",
        )
    if diameter == AUTO:
        require_instance_head(sam, "diameter='auto'")
    return diameter


def choose_diameter(sam: Sam, diameter: Diameter | None) -> Diameter:
    """Choose how the scale of images is found, where it was not said.

    Parameters
    ----------
    sam : Sam
        The model.
    diameter : float, "auto" or "native", optional
        As it was given.

    Returns
    -------
    float, "auto" or "native"
        `diameter` where it was given; else ``"auto"`` where the model can estimate it, as one of
        native pixels with an instance head can; else ``"native"``.

    Raises
    ------
    ConfigError
        As :func:`require_diameter` does.
    """
    given = require_diameter(sam, diameter)
    if given is not None:
        return given
    can_estimate = sam.input_spec.native_resolution and sam.instance_head is not None
    return AUTO if can_estimate else NATIVE


def scale_steps(
    sam: Sam,
    pixels: NDArray[np.uint8],
    diameter: Diameter | None,
    embedding: ImageEmbedding | None = None,
) -> Generator[AutomaticProgress, None, tuple[float, ImageEmbedding | None]]:
    """Choose the scale of an image, estimating the diameter of its objects where that is asked.

    Parameters
    ----------
    sam : Sam
        The model.
    pixels : ndarray of uint8, shape (H, W, 3)
        The image as the model sees it.
    diameter : float, "auto" or "native", optional
        Of its objects, in pixels; the image is left as it is without one.
    embedding : ImageEmbedding, optional
        Of the image at its own scale, where it is known.

    Yields
    ------
    AutomaticProgress
        While it is estimated.

    Returns
    -------
    scale : float
        Input pixels along an image pixel.
    embedding : ImageEmbedding or None
        Of the image at this scale, where it is known or the estimate has made it.

    Raises
    ------
    ConfigError, DeviceError
        As :func:`diameter_steps` does.
    """
    diameter = require_diameter(sam, diameter)
    scale = scale_for(diameter)
    if diameter == AUTO:
        is_seen_whole = max(pixels.shape[:2]) <= SAMPLE_SIDE
        if is_seen_whole and embedding is None:
            embedding = yield from told_between_windows(embed_steps(sam, pixels))
        seen = embedding if is_seen_whole else None
        scale = scale_for((yield from diameter_steps(sam, [pixels], seen)))
    return scale, embedding if scale == 1 else None


def _look(
    sam: Sam,
    head: InstanceHead,
    samples: Sequence[NDArray[np.uint8]],
    scale: float,
    embedding: ImageEmbedding | None = None,
) -> Generator[AutomaticProgress, None, _Sight]:
    """Look at the middle of samples at a scale."""
    chosen, n_pixels = list[SegmentedObject](), 0
    for sample in samples:
        pixels = _middle(sample, int(SAMPLE_SIDE / scale))
        known = embedding or (yield from told_between_windows(embed_steps(sam, pixels, scale)))
        yield AutomaticProgress(0, 0, len(chosen))
        basins = flood_basins(head, known, WatershedOptions())
        found = basins.segment(min_size=math.ceil(_LEAST_AREA / scale**2)).objects
        n_pixels += pixels.shape[0] * pixels.shape[1]
        chosen += _whole(found, (pixels.shape[0], pixels.shape[1]))
    return _Sight(
        np.array([2 * math.sqrt(item.area / math.pi) for item in chosen]),
        np.array([item.predicted_iou * item.stability_score for item in chosen]),
        n_pixels,
    )


def _whole(found: Sequence[SegmentedObject], size_yx: tuple[int, int]) -> Sequence[SegmentedObject]:
    """Leave out objects that the border cuts off, where enough others are there."""
    rows, cols = size_yx
    inside = [
        item
        for item in found
        if min(item.box_xyxy[:2]) > 0
        and item.box_xyxy[2] < cols - 1
        and item.box_xyxy[3] < rows - 1
    ]
    return inside if len(inside) >= _LEAST_OBJECTS else found


def _middle(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    (top, left) = (max(length - side, 0) // 2 for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def told_between_windows(
    steps: Generator[tuple[int, int], None, ImageEmbedding],
) -> Generator[AutomaticProgress, None, ImageEmbedding]:
    """Give control back between the windows of a large image; the steps are not known yet."""
    return (
        yield from retold(
            steps, lambda step: AutomaticProgress(0, 0, 0) if 0 < step[0] < step[1] else None
        )
    )
