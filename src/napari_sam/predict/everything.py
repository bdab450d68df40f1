"""Segment everything in an image to one label image, in one of three modes.

`grid` decodes the masks of points at even distances; `watershed` floods the model's own maps
(:mod:`napari_sam.predict.watershed`) and is done; `proposals` decodes one mask for each object of
the watershed (:mod:`napari_sam.predict.proposed_objects`).

**The rule** by which masks become objects. A mask's score is its predicted IoU times its stability
score.

1. Masks of fewer than `min_size` pixels, and those that cover more than `max_area_fraction` of the
   image, which are mostly background, go.
2. Large before small, each mask is compared with the masks inside it. One that at least two masks
   of no lower score, apart from each other, fill to half is a *group* of objects: it goes. In a
   mask that stays, the masks inside with no higher score are *parts* of it: they go.
3. Of masks whose pixels overlap by an IoU of more than `mask_nms_thresh`, the better stays.
4. The rest is painted from the best down; each pixel belongs to the first mask that covers it, and
   a mask that is half hidden by better ones is dropped whole
   (:func:`napari_sam.labels.compose_labels`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.core.errors import ConfigError
from napari_sam.core.modes import Mode
from napari_sam.core.steps import result_of
from napari_sam.labels import MaskCrop, compose_labels
from napari_sam.masks import PackedMask, boxes_meet, mask_nms
from napari_sam.model.sam import Sam
from napari_sam.predict.automatic import AutomaticMaskGenerator
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.modes import choose_mode, options_given
from napari_sam.predict.object_diameter import choose_diameter
from napari_sam.predict.records import AutomaticProgress, MaskRecord
from napari_sam.predict.segmented import SegmentedImage, SegmentedObject
from napari_sam.predict.watershed import WatershedSegmenter
from napari_sam.tiling.normalize import Contrast

__all__ = [
    "everything_generator",
    "records_to_labels",
    "segment_everything",
    "segment_everything_objects",
    "segment_everything_steps",
    "watershed_segmenter",
]

_INSIDE = 0.85
"""Fraction of a mask within another from which it counts as inside."""

_SAME_OBJECT = 0.75
"""Ratio of areas from which two masks, one inside the other, are versions of one object."""

_GROUP_FILL = 0.5
"""Fraction of a mask that separate masks inside must fill to make it a group."""

_SCORE_TOLERANCE = 0.05
"""Difference of scores that says nothing."""


def segment_everything(
    image: ArrayLike | ImageEmbedding,
    model: Sam,
    contrast: Contrast | None = None,
    *,
    mode: Mode | None = None,
    min_size: int = 16,
    max_area_fraction: float = 0.4,
    mask_nms_thresh: float = 0.5,
    **options: Any,
) -> NDArray[np.int32]:
    """Segment all objects of an image.

    Parameters
    ----------
    image : array-like, shape (H, W) or (H, W, C), or ImageEmbedding
        As :meth:`SamPredictor.encode` takes or returns it.
    model : Sam
        The model, as ``load_model`` returns it.
    contrast : Contrast, optional
        A fixed map of intensities, the same for all tiles and slices of a volume.
    mode : {"proposals", "watershed", "grid"}, optional
        Masks from points that the model proposes, objects from a watershed of its maps, or masks
        from a grid of points. Unless given, proposals where the model has an instance head, and a
        grid where it has none or an option describes one.
    min_size : int
        Smallest area of an object in pixels.
    max_area_fraction : float
        Largest fraction of the image that an object covers; what is larger is taken for
        background.
    mask_nms_thresh : float
        Mask IoU above which the worse of two masks goes; objects of a watershed never overlap.
    **options
        Options of :class:`AutomaticMaskGenerator`, or for a watershed of
        :class:`~napari_sam.predict.watershed.WatershedSegmenter`. Both take `diameter`: that of the
        objects in pixels, where they are much smaller or larger than those that the compact model
        learned; ``"auto"`` to estimate it, as is done unless it is given where the model can; or
        ``"native"`` for the image as it is.

    Returns
    -------
    ndarray of int32, shape (H, W)
        Label image; 0 is background, 1 the object with the best score. Which of overlapping masks
        become objects is written at :mod:`napari_sam.predict.everything`.

    Raises
    ------
    InputError
        When the image is not valid, or the embedding is of another model.
    ConfigError
        When an option is out of range, unknown, without meaning in the mode, or the mode needs an
        instance head that the model has not.
    DeviceError
        When the device fails, or has too little memory.
    """
    return segment_everything_objects(
        image,
        model,
        contrast,
        mode=mode,
        min_size=min_size,
        max_area_fraction=max_area_fraction,
        mask_nms_thresh=mask_nms_thresh,
        **options,
    ).labels


def segment_everything_objects(
    image: ArrayLike | ImageEmbedding,
    model: Sam,
    contrast: Contrast | None = None,
    *,
    mode: Mode | None = None,
    min_size: int = 16,
    max_area_fraction: float = 0.4,
    mask_nms_thresh: float = 0.5,
    **options: Any,
) -> SegmentedImage:
    """Segment all objects of an image, and tell about each.

    Parameters and errors as in :func:`segment_everything`.

    Returns
    -------
    SegmentedImage
    """
    return result_of(
        segment_everything_steps(
            image,
            model,
            contrast,
            mode=mode,
            min_size=min_size,
            max_area_fraction=max_area_fraction,
            mask_nms_thresh=mask_nms_thresh,
            **options,
        )
    )


def segment_everything_steps(
    image: ArrayLike | ImageEmbedding,
    model: Sam,
    contrast: Contrast | None = None,
    *,
    mode: Mode | None = None,
    min_size: int = 16,
    max_area_fraction: float = 0.4,
    mask_nms_thresh: float = 0.5,
    **options: Any,
) -> Generator[AutomaticProgress, None, SegmentedImage]:
    """Segment all objects of an image, giving control back after each batch of points.

    Parameters and errors as in :func:`segment_everything`. Closing the generator stops the work.

    Yields
    ------
    AutomaticProgress
        Once after the image is encoded, then after each batch, or when its maps are flooded.

    Returns
    -------
    SegmentedImage
    """
    _check_options(min_size, max_area_fraction, mask_nms_thresh)
    if not isinstance(image, ImageEmbedding):
        options["diameter"] = choose_diameter(model, options.get("diameter"))
    if choose_mode(model, mode, options) == "watershed":
        basins = yield from watershed_segmenter(model, **options).basin_steps(image, contrast)
        return basins.segment(min_size=min_size, max_area_fraction=max_area_fraction)
    generator = everything_generator(model, mode=mode, **options)
    records = yield from generator.generate_steps(image, contrast)
    if isinstance(image, ImageEmbedding):
        shape = image.original_size_yx
    else:
        rows, cols = np.shape(image)[:2]
        shape = (rows, cols)
    return records_to_labels(
        records,
        shape,
        min_size=min_size,
        max_area_fraction=max_area_fraction,
        mask_nms_thresh=mask_nms_thresh,
    )


def records_to_labels(
    records: Sequence[MaskRecord],
    shape_yx: tuple[int, int],
    *,
    min_size: int = 16,
    max_area_fraction: float = 0.4,
    mask_nms_thresh: float = 0.5,
) -> SegmentedImage:
    """Choose among overlapping masks and paint them.

    Parameters
    ----------
    records : sequence of MaskRecord
        As :meth:`AutomaticMaskGenerator.generate` returns them.
    shape_yx : tuple of int
        Rows and columns of the image.
    min_size, max_area_fraction, mask_nms_thresh
        As in :func:`segment_everything`.

    Returns
    -------
    SegmentedImage

    Raises
    ------
    ConfigError
        When an option is out of range.
    """
    _check_options(min_size, max_area_fraction, mask_nms_thresh)
    largest = max_area_fraction * shape_yx[0] * shape_yx[1]
    fitting = [record for record in records if min_size <= record.area <= largest]
    scores = np.array([_score(record) for record in fitting])
    kept = _without_groups_and_parts([record.mask for record in fitting], scores)
    chosen = [fitting[index] for index in kept]
    survivors = mask_nms([record.mask for record in chosen], scores[kept], mask_nms_thresh)
    chosen = [chosen[index] for index in survivors]
    composition = compose_labels(
        [_to_crop(record) for record in chosen], shape_yx, min_area=max(min_size, 1)
    )
    areas = np.bincount(composition.labels.ravel(), minlength=len(composition.sources) + 1)
    objects = tuple(
        SegmentedObject(
            label=label,
            area=int(areas[label]),
            box_xyxy=chosen[source].mask.box_xyxy,
            predicted_iou=chosen[source].predicted_iou,
            stability_score=chosen[source].stability_score,
            point_xy=chosen[source].point_xy,
        )
        for label, source in enumerate(composition.sources, start=1)
    )
    return SegmentedImage(composition.labels, objects)


def everything_generator(
    model: Sam, *, mode: Mode | None = None, **options: Any
) -> AutomaticMaskGenerator:
    """Make the generator that :func:`segment_everything` uses, in the modes with points.

    Parameters
    ----------
    model : Sam
        The model.
    mode : {"proposals", "grid"}, optional
        Where points come from; chosen as in :func:`segment_everything` unless given.
    **options
        Options of :class:`AutomaticMaskGenerator`.

    Returns
    -------
    AutomaticMaskGenerator

    Raises
    ------
    ConfigError
        When an option is out of range or unknown, or the mode is the watershed, which has no masks.
    """
    chosen = choose_mode(model, mode, options)
    if chosen == "watershed":
        raise ConfigError(
            "mode='watershed' was given where masks are generated",
            rule="A watershed makes a label image at once, without overlapping masks",
            cure="Use segment_everything(), or mode='proposals' or mode='grid'",
        )
    try:
        return AutomaticMaskGenerator(model, mode=chosen, **options)
    except TypeError as error:
        raise ConfigError(
            f"The options {', '.join(sorted(options))} were given",
            rule=f"Only options of AutomaticMaskGenerator are known: {error}",
            cure="Check the spelling of the options",
        ) from error


def watershed_segmenter(model: Sam, **options: Any) -> WatershedSegmenter:
    """Make the segmenter that :func:`segment_everything` uses with mode ``"watershed"``.

    Parameters
    ----------
    model : Sam
        The model.
    **options
        Options of :class:`~napari_sam.predict.watershed.WatershedSegmenter`.

    Returns
    -------
    WatershedSegmenter

    Raises
    ------
    ConfigError
        When an option is out of range or without meaning for a watershed, or the model has no
        instance head.
    """
    choose_mode(model, "watershed", options)
    given = {name: options[name] for name in options_given(options)}
    return WatershedSegmenter(model, **given)


def _check_options(min_size: int, max_area_fraction: float, mask_nms_thresh: float) -> None:
    if min_size < 0 or not 0 < max_area_fraction <= 1 or not 0 <= mask_nms_thresh <= 1:
        raise ConfigError(
            f"min_size={min_size}, max_area_fraction={max_area_fraction} and "
            f"mask_nms_thresh={mask_nms_thresh} were given",
            rule="min_size is a number of pixels, the others are fractions from 0 to 1",
            cure="Use for example min_size=16, max_area_fraction=0.4 and mask_nms_thresh=0.5",
        )


def _score(record: MaskRecord) -> float:
    return record.predicted_iou * float(np.nan_to_num(record.stability_score))


def _to_crop(record: MaskRecord) -> MaskCrop:
    x0, y0, x1, y1 = record.mask.box_xyxy
    return MaskCrop(record.mask.crop(), (x0, y0, x1 + 1, y1 + 1), _score(record))


def _without_groups_and_parts(
    masks: Sequence[PackedMask], scores: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Find the masks that are neither groups of others nor parts of one."""
    areas = np.array([mask.area for mask in masks], dtype=np.int64)
    boxes = np.array([mask.box_xyxy for mask in masks], dtype=np.int64).reshape(-1, 4)
    dropped = np.zeros(len(masks), dtype=np.bool_)
    for index in np.argsort(-areas, kind="stable").tolist():
        if dropped[index]:
            continue
        smaller = ~dropped & (areas < _SAME_OBJECT * areas[index])
        near = np.flatnonzero(smaller & boxes_meet(boxes[index], boxes))
        inside = _masks_inside(masks[index], near, masks)
        rivals = inside[scores[inside] >= scores[index] - _SCORE_TOLERANCE]
        separate = _separate(rivals, masks, scores)
        filled = sum(masks[i].intersection(masks[index]) for i in separate)
        if len(separate) >= 2 and filled >= _GROUP_FILL * areas[index]:
            dropped[index] = True
        else:
            dropped[inside[scores[inside] <= scores[index] + _SCORE_TOLERANCE]] = True
    return np.flatnonzero(~dropped)


def _masks_inside(
    outer: PackedMask, indices: NDArray[np.int64], masks: Sequence[PackedMask]
) -> NDArray[np.int64]:
    """Choose the masks that lie inside another."""
    inside = [
        index
        for index in indices.tolist()
        if masks[index].intersection(outer) >= _INSIDE * masks[index].area
    ]
    return np.array(inside, dtype=np.int64)


def _separate(
    indices: NDArray[np.int64], masks: Sequence[PackedMask], scores: NDArray[np.float64]
) -> list[int]:
    """Choose, from the best down, masks that hardly overlap the ones chosen before."""
    chosen: list[int] = []
    for index in sorted(indices.tolist(), key=lambda i: -scores[i]):
        mask = masks[index]
        if all(mask.intersection(masks[i]) <= 0.2 * min(mask.area, masks[i].area) for i in chosen):
            chosen.append(index)
    return chosen
