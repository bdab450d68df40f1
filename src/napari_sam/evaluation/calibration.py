"""Fit a map from predicted to true IoU on labelled images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.evaluation.clicks import bounding_box_xyxy, deepest_point, random_points
from napari_sam.evaluation.datasets import PairEntry, iter_images, thin
from napari_sam.evaluation.interactive import ChosenMasks, correct_masks
from napari_sam.evaluation.metrics import mask_iou
from napari_sam.evaluation.reliability import IouPairs, concatenate
from napari_sam.predict import ImageEmbedding, SamPredictor

__all__ = ["fit_iou_calibration", "rate_images"]

KNOTS = 17
"""Predictions from 0 to 1 that a map has a value for."""

BINS = 12
MASKS_PER_BIN = 25
"""Fewer leave much chance in a bin's mean."""

MIN_MASKS = 50
"""Masks from which on a map is fitted."""

MIN_SLOPE = 1e-3
"""What is fitted flat still rises a little, so that masks keep their order."""

OBJECTS_PER_CALL = 16
CLICKS = 3

FloatArray = NDArray[np.float64]


def rate_images(
    predictor: SamPredictor,
    pairs: list[PairEntry],
    *,
    max_images: int | None = None,
    max_objects: int = 40,
) -> Iterator[list[IouPairs]]:
    """Compare predicted and true IoU of each mask token, image by image.

    The three masks of a click are taken at each object's deepest point and at a pixel drawn at
    random, the single mask from a box and from the second and third corrective click: as each is
    used. Clicks on background are no part of it, because how often they happen is not known.

    Parameters
    ----------
    predictor : SamPredictor
        The model, without a map.
    pairs : list of PairEntry
        The images, from :func:`~napari_sam.evaluation.datasets.list_pairs`.
    max_images, max_objects : int
        Images a group and objects an image at most, evenly spaced.

    Yields
    ------
    list of IouPairs
        For an image, the masks of each of the four tokens.
    """
    for item in iter_images(thin(pairs, max_images)):
        truth = item.true_masks(max_objects)
        if len(truth):
            embedding = predictor.encode(item.image)
            parts = [
                _rate_some(predictor, embedding, truth[start : start + OBJECTS_PER_CALL])
                for start in range(0, len(truth), OBJECTS_PER_CALL)
            ]
            yield [concatenate(list(token)) for token in zip(*parts, strict=True)]


def fit_iou_calibration(rated: list[list[IouPairs]]) -> FloatArray:
    """Fit a rising map from predicted to true IoU: one for the single mask, one for the others.

    Means of bins of equally many masks are made to rise by pooling adjacent violators (Zadrozny
    and Elkan 2002, section 3.2, by way of bins), and joined by straight lines. A prediction of 0
    stays 0. The masks of a click share a map, so calibration never changes which one is chosen:
    with a map for each token, chance in the maps decides between masks that are nearly as good.

    Parameters
    ----------
    rated : list
        From :func:`rate_images`.

    Returns
    -------
    ndarray
        Calibrated IoU at predictions from 0 to 1 in equal steps, (M, K).

    Raises
    ------
    InputError
        If there are fewer than 50 masks of either kind.
    """
    single = [image[0] for image in rated]
    multimask = [token for image in rated for token in image[1:]]
    fewest = min(sum(len(part.true) for part in parts) for parts in (single, multimask))
    if fewest < MIN_MASKS:
        raise InputError(
            f"The images gave {fewest} masks to calibrate predicted IoU with",
            rule=f"It takes {MIN_MASKS} at least",
            cure="Give more images, or raise --max-objects",
        )
    shared = _fit(concatenate(multimask))
    return np.stack([_fit(concatenate(single))] + [shared] * len(rated[0][1:]))


def _rate_some(
    predictor: SamPredictor, embedding: ImageEmbedding, truth: NDArray[np.bool_]
) -> list[IouPairs]:
    points = np.array([[deepest_point(mask)] for mask in truth], dtype=float)  # (N, 1, 2)
    boxes = np.array([bounding_box_xyxy(mask) for mask in truth], dtype=float)
    labels = np.ones((len(truth), 1), dtype=int)
    deepest = predictor.predict(embedding, points_xy=points, point_labels=labels)
    drawn = predictor.predict(embedding, points_xy=random_points(truth), point_labels=labels)
    box = predictor.predict(embedding, box_xyxy=boxes, multimask=False)
    clicks = (deepest, drawn)
    everything, chosen = np.arange(len(truth)), deepest.best
    first = ChosenMasks(
        deepest.masks[everything, chosen],
        deepest.low_res_logits[everything, chosen],
        deepest.predicted_iou[everything, chosen],
    )
    true, predicted = correct_masks(predictor, embedding, truth, points, first, CLICKS)
    is_clicked = true[:, :-1] < 1  # one that is perfect gets no further click
    corrected = IouPairs(predicted[:, 1:][is_clicked], true[:, 1:][is_clicked])
    boxed = IouPairs(box.predicted_iou[:, 0].astype(float), mask_iou(box.masks[:, 0], truth))
    multimask = [
        IouPairs(
            np.concatenate([click.predicted_iou[:, token] for click in clicks]).astype(float),
            np.concatenate([mask_iou(click.masks[:, token], truth) for click in clicks]),
        )
        for token in range(deepest.predicted_iou.shape[1])
    ]
    return [concatenate([boxed, corrected]), *multimask]


def _fit(pairs: IouPairs) -> FloatArray:
    """Calibrated IoU at the knots, (K,)."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(pairs.predicted, kind="stable")
    bins = np.array_split(order, max(1, min(BINS, len(order) // MASKS_PER_BIN)))
    predicted = np.array([pairs.predicted[index].mean() for index in bins])
    true = np.array([pairs.true[index].mean() for index in bins])
    fitted = isotonic_regression(true, weights=[len(index) for index in bins]).x
    # beyond the outermost bins: a line from (0, 0), and one at the diagonal's slope up to 1
    predicted = np.concatenate([[min(0.0, predicted[0])], predicted, [max(1.0, predicted[-1])]])
    last = min(1.0, fitted[-1] + predicted[-1] - predicted[-2])
    fitted = np.concatenate([[0.0], fitted, [last]])
    knots = np.linspace(0, 1, KNOTS)
    values: FloatArray = np.interp(knots, predicted, fitted) + MIN_SLOPE * knots
    return values
