"""The masks that "segment everything" found, kept before they are filtered.

The model is what takes time. With its candidates kept, other thresholds cost a few milliseconds,
and give exactly what a new run with them would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError
from napari_sam.masks import (
    CROP_EDGE_TOLERANCE,
    PackedMask,
    is_box_near_crop_edge,
    nms,
    remove_small_regions_packed,
)
from napari_sam.model.sam import InputSpec
from napari_sam.predict.crops import Crop
from napari_sam.predict.records import AutomaticOptions, MaskRecord

__all__ = ["Candidate", "CandidateSet", "CropCandidates"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mask before the filters.

    Parameters
    ----------
    mask : PackedMask
        The mask in the image's frame.
    predicted_iou, stability_score : float
        Its scores; the stability score of an empty mask is NaN.
    point_xy : tuple of float
        The point that prompted it, in image pixels.
    crop : Crop
        The crop that it was predicted in.
    """

    mask: PackedMask
    predicted_iou: float
    stability_score: float
    point_xy: tuple[float, float]
    crop: Crop


@dataclass(frozen=True, eq=False)
class CropCandidates:
    """The candidates of one crop, in the order of their points.

    Parameters
    ----------
    candidates : tuple of Candidate
    """

    candidates: tuple[Candidate, ...]

    def away_from_crop_edge(
        self,
        crop: Crop,
        image_size_yx: tuple[int, int],
        tolerance: float = CROP_EDGE_TOLERANCE,
    ) -> CropCandidates:
        """Drop the masks that the edge of their crop cuts off, or comes near in image pixels."""
        image_box = (0, 0, image_size_yx[1], image_size_yx[0])
        near = is_box_near_crop_edge(self._boxes, crop.box_xyxy, image_box, tolerance)
        return self._choose(np.flatnonzero(~near))

    def filtered(
        self, pred_iou_thresh: float, stability_score_thresh: float, box_nms_thresh: float
    ) -> CropCandidates:
        """Drop masks below the thresholds, then the worse of two with much the same box."""
        passed = self.passing(pred_iou_thresh, stability_score_thresh)
        return passed._choose(nms(passed._boxes, passed._predicted_ious, box_nms_thresh))

    def passing(self, pred_iou_thresh: float, stability_score_thresh: float) -> CropCandidates:
        """Drop masks below the thresholds."""
        # in single precision, as the model's scores are; NaN fails
        passed = np.ones(len(self.candidates), dtype=np.bool_)
        if pred_iou_thresh > 0:
            passed &= self._predicted_ious > np.float32(pred_iou_thresh)
        if stability_score_thresh > 0:
            passed &= self._stability_scores >= np.float32(stability_score_thresh)
        return self._choose(np.flatnonzero(passed))

    def _choose(self, indices: NDArray[np.int64]) -> CropCandidates:
        return CropCandidates(tuple(self.candidates[index] for index in indices.tolist()))

    @cached_property
    def _boxes(self) -> NDArray[np.int64]:
        return _boxes(self.candidates)

    @cached_property
    def _predicted_ious(self) -> NDArray[np.float32]:
        return np.array([c.predicted_iou for c in self.candidates], dtype=np.float32)

    @cached_property
    def _stability_scores(self) -> NDArray[np.float32]:
        return np.array([c.stability_score for c in self.candidates], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """All candidates of an image, to be filtered as often as wanted without the model.

    As :meth:`AutomaticMaskGenerator.candidate_steps` returns it.

    Parameters
    ----------
    crops : tuple of CropCandidates
        The candidates of each crop.
    image_size_yx : tuple of int
        Rows and columns of the image.
    options : AutomaticOptions
        Options of the generator; thresholds that :meth:`filter` is not given are taken from them.
    spec : InputSpec
        What the model expects, which decides thresholds that the options leave open.
    floor_iou, floor_stability : float
        Masks of a predicted IoU up to `floor_iou`, or a stability score below `floor_stability`,
        were not collected.
    """

    crops: tuple[CropCandidates, ...]
    image_size_yx: tuple[int, int]
    options: AutomaticOptions
    spec: InputSpec
    floor_iou: float
    floor_stability: float
    _cleaned: dict[int, dict[int, tuple[PackedMask, bool]]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __len__(self) -> int:
        return sum(len(crop.candidates) for crop in self.crops)

    @property
    def thresholds(self) -> tuple[float, float]:
        """Predicted-IoU and stability threshold that :meth:`filter` takes when given none."""
        return self.options.thresholds(self.spec)

    def filter(
        self,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        box_nms_thresh: float | None = None,
        crop_nms_thresh: float | None = None,
        min_mask_region_area: int | None = None,
    ) -> list[MaskRecord]:
        """Keep the good masks and drop the duplicates.

        Equal in every bit to what the generator returns with the same thresholds; with
        `skip_covered` only for the generator's own, which decided what was skipped.

        Parameters
        ----------
        pred_iou_thresh, stability_score_thresh, box_nms_thresh, crop_nms_thresh : float, optional
            As in :class:`AutomaticMaskGenerator`; those of the generator unless given.
        min_mask_region_area : int, optional
            Likewise.

        Returns
        -------
        list of MaskRecord

        Raises
        ------
        ConfigError
            When a threshold is out of range, or so low that masks were not collected for it.
        """
        given = {
            "pred_iou_thresh": pred_iou_thresh,
            "stability_score_thresh": stability_score_thresh,
            "box_nms_thresh": box_nms_thresh,
            "crop_nms_thresh": crop_nms_thresh,
            "min_mask_region_area": min_mask_region_area,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        options = replace(self.options, **changes)  # type: ignore[arg-type]  # names match types
        min_iou, min_stability = options.thresholds(self.spec)
        _check_floor("pred_iou_thresh", min_iou, self.floor_iou)
        _check_floor("stability_score_thresh", min_stability, self.floor_stability)
        found = [
            candidate
            for crop in self.crops
            for candidate in crop.filtered(
                min_iou, min_stability, options.box_nms_thresh
            ).candidates
        ]
        if len(self.crops) > 1:
            found = self._without_duplicates_across_crops(found, options.crop_nms_thresh)
        if options.min_mask_region_area > 0:
            found = self._with_clean_regions(found, options)
        return [self._to_record(candidate) for candidate in found]

    def _without_duplicates_across_crops(
        self, candidates: list[Candidate], crop_nms_thresh: float
    ) -> list[Candidate]:
        if self.spec.native_resolution:  # no crop is magnified: none knows better
            scores = np.array([c.predicted_iou for c in candidates], dtype=np.float32)
        else:  # a smaller crop shows more detail
            scores = np.array([1 / c.crop.area for c in candidates], dtype=np.float32)
        return [candidates[index] for index in nms(_boxes(candidates), scores, crop_nms_thresh)]

    def _with_clean_regions(
        self, candidates: list[Candidate], options: AutomaticOptions
    ) -> list[Candidate]:
        """Remove small holes and islands, then the duplicates that this makes."""
        cleaned, unchanged = [], []
        for candidate in candidates:
            mask, changed = self._clean(candidate, options.min_mask_region_area)
            cleaned.append(replace(candidate, mask=mask))
            unchanged.append(float(not changed))  # masks that needed no cleaning win
        threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
        kept = nms(_boxes(cleaned), np.array(unchanged), threshold)
        return [cleaned[index] for index in kept]

    def _clean(self, candidate: Candidate, min_area: int) -> tuple[PackedMask, bool]:
        """Clean a mask, once for as long as `min_area` stays."""
        known = self._cleaned.get(min_area)
        if known is None:
            known = {}
            self._cleaned.clear()
            self._cleaned[min_area] = known
        key = id(candidate)  # candidates live as long as this set
        if key not in known:
            known[key] = remove_small_regions_packed(candidate.mask, min_area, self.image_size_yx)
        return known[key]

    def _to_record(self, candidate: Candidate) -> MaskRecord:
        return MaskRecord(
            mask=candidate.mask,
            image_size_yx=self.image_size_yx,
            bbox_xywh=_xyxy_to_xywh(candidate.mask.box_xyxy),
            predicted_iou=candidate.predicted_iou,
            point_xy=candidate.point_xy,
            stability_score=candidate.stability_score,
            crop_box_xywh=_xyxy_to_xywh(candidate.crop.box_xyxy),
            output_mode=self.options.output_mode,
        )


def _check_floor(name: str, threshold: float, floor: float) -> None:
    if threshold < floor:
        raise ConfigError(
            f"{name}={threshold} was given",
            rule=f"Masks below {floor} were not collected",
            cure=f"Use {name}={floor} or more, or collect the candidates again with a lower floor",
        )


def _boxes(candidates: Sequence[Candidate]) -> NDArray[np.int64]:
    boxes = [candidate.mask.box_xyxy for candidate in candidates]
    return np.array(boxes, dtype=np.int64).reshape(-1, 4)


def _xyxy_to_xywh(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = box
    return x0, y0, x1 - x0, y1 - y0
