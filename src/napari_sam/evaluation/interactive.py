"""How well prompts find objects: simulated clicks and boxes on labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.evaluation.clicks import (
    bounding_box_xyxy,
    corrective_click,
    deepest_point,
    random_points,
)
from napari_sam.evaluation.metrics import mask_iou
from napari_sam.predict import ImageEmbedding, SamPredictor

__all__ = ["ChosenMasks", "InteractiveScores", "correct_masks", "score_interactive"]

OBJECTS_PER_CALL = 16
CLICK_CAP = 20
"""Clicks after which an object counts as not found (NoC)."""

FloatArray = NDArray[np.float64]
MaskArray = NDArray[np.bool_]


@dataclass(frozen=True)
class InteractiveScores:
    """Scores of the objects of one image, each an array with an entry for each object.

    Attributes
    ----------
    click : ndarray
        IoU after one click into the deepest point; of three masks the one that the
        model takes.
    click_best : ndarray
        The same, of three masks the best.
    click_jitter : ndarray
        The same as ``click``, from a pixel of the object drawn at random.
    clicks_3, clicks_5 : ndarray
        IoU after corrective clicks.
    box : ndarray
        IoU from the bounding box.
    box_click : ndarray
        IoU from the bounding box and the first click.
    noc_85, noc_90 : ndarray
        Clicks until the IoU is 0.85 or 0.90; 20 if it never is.
    predicted_iou, predicted_iou_3, predicted_iou_box : ndarray
        Predicted IoU of ``click``, ``clicks_3`` and ``box``.
    """

    click: FloatArray
    click_best: FloatArray
    click_jitter: FloatArray
    clicks_3: FloatArray
    clicks_5: FloatArray
    box: FloatArray
    box_click: FloatArray
    noc_85: FloatArray
    noc_90: FloatArray
    predicted_iou: FloatArray
    predicted_iou_3: FloatArray
    predicted_iou_box: FloatArray


class ChosenMasks(NamedTuple):
    """The mask of each object that is corrected: (N, H, W), (N, hl, wl) and (N,)."""

    masks: MaskArray
    logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]


def score_interactive(
    predictor: SamPredictor,
    embedding: ImageEmbedding,
    truth: MaskArray,
    max_clicks: int = CLICK_CAP,
) -> InteractiveScores:
    """Click and box the objects of an image.

    The first click goes to the deepest point of the object, each next one to the deepest point of
    the largest error, with the last logits as mask prompt.

    Parameters
    ----------
    predictor : SamPredictor
        The model.
    embedding : ImageEmbedding
        Of the image.
    truth : ndarray of bool
        True masks, (N, H, W).
    max_clicks : int
        Clicks an object gets at most, from 5 to 20. Objects that have reached an IoU of 0.90 get
        none after the fifth.

    Returns
    -------
    InteractiveScores
    """
    parts = [
        _score_some(predictor, embedding, truth[start : start + OBJECTS_PER_CALL], max_clicks)
        for start in range(0, len(truth), OBJECTS_PER_CALL)
    ]
    return InteractiveScores(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _score_some(
    predictor: SamPredictor, embedding: ImageEmbedding, truth: MaskArray, max_clicks: int
) -> tuple[FloatArray, ...]:
    everything = np.arange(len(truth))
    points = np.array([[deepest_point(mask)] for mask in truth], dtype=float)  # (N, 1, 2)
    boxes = np.array([bounding_box_xyxy(mask) for mask in truth], dtype=float)
    labels = np.ones((len(truth), 1), dtype=int)

    first = predictor.predict(embedding, points_xy=points, point_labels=labels)
    three = mask_iou(first.masks, truth[:, None])
    chosen = first.best
    click = three[everything, chosen]
    jittered = predictor.predict(embedding, points_xy=random_points(truth), point_labels=labels)
    jitter = mask_iou(jittered.masks, truth[:, None])[everything, jittered.best]
    box = predictor.predict(embedding, box_xyxy=boxes, multimask=False)
    both = predictor.predict(
        embedding, points_xy=points, point_labels=labels, box_xyxy=boxes, multimask=False
    )
    history, predicted = correct_masks(
        predictor,
        embedding,
        truth,
        points,
        ChosenMasks(
            first.masks[everything, chosen],
            first.low_res_logits[everything, chosen],
            first.predicted_iou[everything, chosen],
        ),
        max_clicks,
    )
    return (
        click,
        three.max(axis=1),
        jitter,
        history[:, 2],
        history[:, 4],
        mask_iou(box.masks[:, 0], truth),
        mask_iou(both.masks[:, 0], truth),
        _number_of_clicks(history, 0.85),
        _number_of_clicks(history, 0.90),
        predicted[:, 0],
        predicted[:, 2],
        box.predicted_iou[:, 0].astype(float),
    )


def correct_masks(
    predictor: SamPredictor,
    embedding: ImageEmbedding,
    truth: MaskArray,
    points: FloatArray,
    first: ChosenMasks,
    max_clicks: int,
) -> tuple[FloatArray, FloatArray]:
    """Return true and predicted IoU after each click, (N, max_clicks).

    An object that is done keeps its last ones.
    """
    history, predicted = np.empty((2, len(truth), max_clicks))
    masks, logits = first.masks.copy(), first.logits.copy()
    history[:, 0], predicted[:, 0] = mask_iou(masks, truth), first.predicted_iou
    labels = np.ones((len(truth), 1), dtype=int)
    for number in range(1, max_clicks):
        history[:, number], predicted[:, number] = history[:, number - 1], predicted[:, number - 1]
        new_points, new_labels, active = [], [], []
        for index, (mask, prediction) in enumerate(zip(truth, masks, strict=True)):
            click = corrective_click(mask, prediction)
            is_done = click is None or (number >= 5 and history[index, number] >= 0.90)
            if not is_done:
                active.append(index)
            # an object that is done repeats its first click, so that counts stay equal
            new_points.append(click[0] if click else tuple(points[index, 0]))
            new_labels.append(click[1] if click else 1)
        points = np.concatenate([points, np.array(new_points, float)[:, None]], axis=1)
        labels = np.concatenate([labels, np.array(new_labels)[:, None]], axis=1)
        if not active:
            continue
        result = predictor.predict(
            embedding,
            points_xy=points[active],
            point_labels=labels[active],
            mask=logits[active],
            multimask=False,
        )
        masks[active], logits[active] = result.masks[:, 0], result.low_res_logits[:, 0]
        history[active, number] = mask_iou(masks[active], truth[active])
        predicted[active, number] = result.predicted_iou[:, 0]
    return history, predicted


def _number_of_clicks(history: FloatArray, wanted: float) -> FloatArray:
    reached = history >= wanted
    first = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, CLICK_CAP)
    return first.astype(float)
