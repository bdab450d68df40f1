"""Check the prompts that a caller gives, and bring them to one form: N objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from napari_sam.core.errors import InputError
from napari_sam.core.region import Box, Region
from napari_sam.predict.transforms import ImageTransform

__all__ = ["Prompts", "read_prompts"]


@dataclass(frozen=True, eq=False)
class Prompts:
    """The prompts of N objects, in the model's input frame.

    Parameters
    ----------
    points_xy : ndarray of float64, shape (N, K, 2), or None
        Clicks as (x, y).
    labels : ndarray of int64, shape (N, K), or None
        1 foreground, 0 background, -1 padding.
    boxes_xyxy : ndarray of float64, shape (N, 4), or None
        Boxes as (x0, y0, x1, y1).
    mask_logits : Tensor of float32, shape (N, hl, wl), or None
        Low-res logits of earlier masks, over the whole input frame.
    count : int
        The number of objects, N.
    is_batch : bool
        Whether the caller gave a batch, and so expects one back.
    """

    points_xy: NDArray[np.float64] | None
    labels: NDArray[np.int64] | None
    boxes_xyxy: NDArray[np.float64] | None
    mask_logits: Tensor | None
    count: int
    is_batch: bool

    def extents_xyxy(self, low_res_stride: int) -> NDArray[np.float64]:
        """Smallest rectangle around all prompts of each object, (N, 4), in the input frame."""
        lows, highs = [], []
        if self.points_xy is not None and self.labels is not None:
            real = self.labels[..., None] != -1
            lows.append(np.where(real, self.points_xy, np.inf).min(axis=1, initial=np.inf))
            highs.append(np.where(real, self.points_xy, -np.inf).max(axis=1, initial=-np.inf))
        if self.boxes_xyxy is not None:
            lows.append(self.boxes_xyxy[:, :2])
            highs.append(self.boxes_xyxy[:, 2:])
        if self.mask_logits is not None:
            mask_low, mask_high = _mask_extents(self.mask_logits, low_res_stride)
            lows.append(mask_low)
            highs.append(mask_high)
        return np.concatenate([np.min(lows, axis=0), np.max(highs, axis=0)], axis=1)

    def points_of(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Clicks of the object of one index, (K, 2) in the input frame, and their labels (K,)."""
        if self.points_xy is None or self.labels is None:
            return np.zeros((0, 2)), np.zeros(0, np.int64)
        return self.points_xy[index], self.labels[index]


def read_prompts(
    transform: ImageTransform,
    points_xy: ArrayLike | None,
    point_labels: ArrayLike | None,
    box_xyxy: ArrayLike | None,
    mask: ArrayLike | Tensor | None,
) -> Prompts:
    """Check prompts in image coordinates and map them to the input frame.

    Parameters
    ----------
    transform : ImageTransform
        Of the encoded image.
    points_xy, point_labels, box_xyxy, mask
        As :meth:`~napari_sam.predict.predictor.SamPredictor.predict` takes them.

    Returns
    -------
    Prompts

    Raises
    ------
    InputError
        When a prompt has a wrong shape, lies outside the image, is not finite, or when the
        prompts belong to different numbers of objects, or there is none.
    """
    counts: dict[str, tuple[int, bool]] = {}
    points = labels = boxes = logits = None
    if (points_xy is None) != (point_labels is None):
        raise InputError(
            "Points came without labels" if point_labels is None else "Labels came without points",
            rule="Each point needs a label: 1 for the object, 0 for background, -1 for padding",
            cure="Give points_xy and point_labels together",
        )
    if points_xy is not None and point_labels is not None:
        points, labels, is_batch = _read_points(points_xy, point_labels, transform)
        counts["points_xy"] = len(points), is_batch
    if box_xyxy is not None:
        boxes, is_batch = _read_boxes(box_xyxy, transform)
        counts["box_xyxy"] = len(boxes), is_batch
    if mask is not None:
        logits, is_batch = _read_mask(mask, transform)
        counts["mask"] = len(logits), is_batch
    count = _agree_on_count(counts)
    prompts = Prompts(
        None if points is None else transform.points_to_input(points),
        labels,
        None if boxes is None else transform.boxes_to_input(boxes),
        logits,
        count,
        any(is_batch for _, is_batch in counts.values()),
    )
    _refuse_objects_without_prompt(prompts, transform)
    return prompts


def _read_points(
    points_xy: ArrayLike, point_labels: ArrayLike, transform: ImageTransform
) -> tuple[NDArray[np.float64], NDArray[np.int64], bool]:
    points, labels = _real_array(points_xy, "points_xy"), np.asarray(point_labels)
    if points.ndim not in (2, 3) or points.shape[-1] != 2 or points.shape[:-1] != labels.shape:
        raise InputError(
            f"Points of shape {points.shape} and labels of shape {labels.shape} were given",
            rule="Points are (K, 2) with labels (K,) for one object, or (N, K, 2) with labels "
            "(N, K) for N objects",
            cure="Give one (x, y) and one label per point",
        )
    if not np.isin(labels, (1, 0, -1)).all():
        raise InputError(
            f"The point labels {np.unique(labels).tolist()} were given",
            rule="A label is 1 for the object, 0 for background or -1 for padding",
            cure="Use only these three labels",
        )
    rows, cols = transform.original_size_yx
    inside = ((points >= -0.5) & (points <= (cols, rows))).all(axis=-1)  # false for NaN
    outside = points[(labels != -1) & ~inside]
    if len(outside):
        raise InputError(
            f"The point (x, y) = {tuple(outside[0].tolist())} was given",
            rule=f"Points lie inside the image, x from 0 to {cols} and y from 0 to {rows}",
            cure="Check that coordinates are (x, y) in pixels, not (row, column)",
        )
    labels = labels.astype(np.int64)
    points = np.where(labels[..., None] == -1, 0.0, points)  # padding may hold anything
    if points.ndim == 2:
        return points[None], labels[None], False
    return points, labels, True


def _read_boxes(box_xyxy: ArrayLike, transform: ImageTransform) -> tuple[NDArray[np.float64], bool]:
    boxes = _real_array(box_xyxy, "box_xyxy")
    if boxes.ndim not in (1, 2) or boxes.shape[-1] != 4:
        raise InputError(
            f"Boxes of shape {boxes.shape} were given",
            rule="A box is (4,), N boxes are (N, 4), as x0, y0, x1, y1",
            cure="Give left, top, right and bottom of each box",
        )
    is_batch, boxes = boxes.ndim == 2, boxes.reshape(-1, 4)
    rows, cols = transform.original_size_yx
    proper = np.isfinite(boxes).all(axis=1) & (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    seen = (boxes[:, :2] < (cols, rows)).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    if not (proper & seen).all():
        raise InputError(
            f"The box (x0, y0, x1, y1) = {tuple(boxes[~(proper & seen)][0].tolist())} was given",
            rule="A box has finite corners with x0 < x1 and y0 < y1, and overlaps the image of "
            f"{cols} columns and {rows} rows",
            cure="Give left, top, right and bottom in pixels, in this order",
        )
    return boxes, is_batch


def _read_mask(mask: ArrayLike | Tensor, transform: ImageTransform) -> tuple[Tensor, bool]:
    given = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    is_drawn = given.dtype == np.bool_
    expected = transform.original_size_yx if is_drawn else transform.low_res_size_yx
    if given.dtype.kind not in "bf" or given.ndim < 2 or given.shape[-2:] != expected:
        raise InputError(
            f"A mask prompt of shape {given.shape} and dtype {given.dtype} was given",
            rule=f"A mask prompt is boolean with the image's shape {transform.original_size_yx}, "
            f"or low-res logits {transform.low_res_size_yx} as predict returned them",
            cure="Use mask.astype(bool) for a drawn mask, or one mask of low_res_logits",
        )
    extra = given.shape[:-2]
    if len(extra) > 2 or (len(extra) == 2 and extra[1] != 1):
        raise InputError(
            f"A mask prompt of shape {given.shape} was given",
            rule="There is one mask prompt per object: (H, W), (1, H, W), (N, H, W) or "
            "(N, 1, H, W)",
            cure="Choose one of the object's masks, for example low_res_logits[:, 0]",
        )
    if not np.isfinite(given).all():
        raise InputError(
            "A mask prompt with NaN or infinite logits was given",
            rule="Logits are finite numbers",
            cure="Give the low_res_logits as predict returned them",
        )
    stack = given.reshape(-1, *expected)
    # one mask with a leading axis, as low_res_logits[:1], still means one object
    is_batch = len(stack) > 1 or len(extra) == 2
    if is_drawn:
        return transform.masks_to_low_res(stack.astype(np.bool_)), is_batch
    return torch.from_numpy(stack.astype(np.float32)), is_batch


def _agree_on_count(counts: dict[str, tuple[int, bool]]) -> int:
    if not counts or all(count == 0 for count, _ in counts.values()):
        raise InputError(
            "No prompt was given",
            rule="At least one point, box or mask tells which object is meant",
            cure="Give points_xy with point_labels, box_xyxy or mask",
        )
    numbers = {count for count, _ in counts.values()}
    if len(numbers) > 1:
        given = ", ".join(f"{name} for {count}" for name, (count, _) in counts.items())
        raise InputError(
            f"Prompts for different numbers of objects were given: {given}",
            rule="All prompts of one call belong to the same N objects",
            cure="Give each kind of prompt once per object; pad points with label -1",
        )
    return numbers.pop()


def _refuse_objects_without_prompt(prompts: Prompts, transform: ImageTransform) -> None:
    extents = prompts.extents_xyxy(transform.low_res_stride)
    empty = np.flatnonzero(~np.isfinite(extents).all(axis=1))
    if len(empty):
        raise InputError(
            f"Object {empty[0]} has neither a point, nor a box, nor a mask with any pixel",
            rule="At least one point, box or mask tells which object is meant",
            cure="Give a point with label 1 or 0, a box, or a mask that is not empty",
        )


def _mask_extents(
    logits: Tensor, low_res_stride: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of each mask in input pixels, (N, 2) each; infinite for an empty mask."""
    corners = []
    for covered in (logits > 0).numpy():
        region = Region.around(covered)
        empty = (np.inf, np.inf, -np.inf, -np.inf)
        corners.append(empty if region.is_empty else Box.from_region(region).xyxy)
    in_pixels = np.array(corners, dtype=np.float64) * low_res_stride
    return in_pixels[:, :2], in_pixels[:, 2:]


def _real_array(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        array: NDArray[Any] = np.asarray(values)
        if array.dtype.kind not in "uif":
            raise TypeError
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} = {str(values)[:80]} was given",
            rule="Coordinates are a regular array of real numbers",
            cure="Give the same number of coordinates for each object",
        ) from error
