"""Segment everything on one plane: the model runs once, thresholds can be moved afterwards."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.pipeline.options import AutomaticOptions
from napari_sam.pipeline.segmenters import AS_IT_IS

if TYPE_CHECKING:
    from napari_sam.model import Sam
    from napari_sam.predict import (
        AutomaticProgress,
        CandidateSet,
        ImageEmbedding,
        InstanceBasins,
        SegmentedImage,
    )

__all__ = ["PlaneBasins", "PlaneCandidates", "segment_plane"]


@dataclass(frozen=True, eq=False)
class PlaneCandidates:
    """The masks that were found on a plane, before thresholds choose among them.

    As :func:`segment_plane` returns it.

    Parameters
    ----------
    candidates : CandidateSet
    """

    candidates: CandidateSet

    filters: ClassVar[frozenset[str]] = frozenset(
        {
            "pred_iou_thresh",
            "stability_score_thresh",
            "box_nms_thresh",
            "crop_nms_thresh",
            "min_mask_region_area",
            "min_size",
            "max_area_fraction",
        }
    )
    """What :meth:`labels` can be asked for, that users choose by."""

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Rows and columns of the plane."""
        return self.candidates.image_size_yx

    @property
    def thresholds(self) -> tuple[float, float]:
        """Predicted-IoU and stability threshold that :meth:`labels` takes when given none."""
        return self.candidates.thresholds

    @property
    def floors(self) -> tuple[float, float]:
        """Lowest predicted-IoU and stability threshold that :meth:`labels` can be asked for."""
        return self.candidates.floor_iou, self.candidates.floor_stability

    def labels(
        self,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        box_nms_thresh: float | None = None,
        crop_nms_thresh: float | None = None,
        min_mask_region_area: int | None = None,
        *,
        min_size: int = 16,
        max_area_fraction: float = 0.4,
        mask_nms_thresh: float = 0.5,
    ) -> SegmentedImage:
        """Choose among the masks and paint them; the model is not asked again.

        Equal in every pixel to segmenting the plane anew with these thresholds; with
        `skip_covered` only for those of the options, which decided what was skipped.

        Parameters
        ----------
        pred_iou_thresh : float, optional
            Masks need a higher predicted IoU.
        stability_score_thresh : float, optional
            Masks need at least this stability score.
        box_nms_thresh, crop_nms_thresh : float, optional
            Box IoU above which the worse of two masks goes, within a crop and across crops.
        min_mask_region_area : int, optional
            Holes and islands of masks with fewer pixels are removed. What is not given is as in
            the options of :func:`segment_plane`.
        min_size : int
            Smallest area of an object in pixels.
        max_area_fraction : float
            Largest fraction of the plane that an object covers; what is larger is taken for
            background.
        mask_nms_thresh : float
            Mask IoU above which the worse of two masks goes.

        Returns
        -------
        SegmentedImage
            Labels, shape (H, W), and the objects from the best score down.

        Raises
        ------
        ConfigError
            When a threshold is out of range, or lower than masks were collected for.
        """
        from napari_sam.predict import records_to_labels

        records = self.candidates.filter(
            pred_iou_thresh,
            stability_score_thresh,
            box_nms_thresh,
            crop_nms_thresh,
            min_mask_region_area,
        )
        return records_to_labels(
            records,
            self.shape_yx,
            min_size=min_size,
            max_area_fraction=max_area_fraction,
            mask_nms_thresh=mask_nms_thresh,
        )


@dataclass(frozen=True, eq=False)
class PlaneBasins:
    """The flooded maps of a plane, before thresholds cut objects out of them.

    As :func:`segment_plane` returns it for a watershed.

    Parameters
    ----------
    basins : InstanceBasins
    """

    basins: InstanceBasins

    filters: ClassVar[frozenset[str]] = frozenset(
        {
            "foreground_thresh",
            "pred_iou_thresh",
            "stability_score_thresh",
            "min_size",
            "max_area_fraction",
        }
    )
    """What :meth:`labels` can be asked for."""

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Rows and columns of the plane."""
        rows, cols = self.basins.basins.shape
        return rows, cols

    @property
    def thresholds(self) -> tuple[float, float]:
        """Predicted-IoU and stability threshold that :meth:`labels` takes when given none."""
        options = self.basins.options
        return options.pred_iou_thresh, options.stability_score_thresh

    @property
    def floors(self) -> tuple[float, float]:
        """Lowest predicted-IoU and stability threshold that :meth:`labels` can be asked for."""
        return 0.0, 0.0

    def labels(
        self,
        foreground_thresh: float | None = None,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        *,
        min_size: int = 16,
        max_area_fraction: float = 0.4,
    ) -> SegmentedImage:
        """Cut the objects out of their basins; the model is not asked again.

        Equal in every pixel to segmenting the plane anew with these thresholds.

        Parameters
        ----------
        foreground_thresh : float, optional
            Pixels of objects have a higher foreground probability, 0.05 to 1.
        pred_iou_thresh : float, optional
            Objects need a higher mean foreground probability.
        stability_score_thresh : float, optional
            Objects need at least this stability score. What is not given is as in the options of
            :func:`segment_plane`.
        min_size : int
            Smallest area of an object in pixels.
        max_area_fraction : float
            Largest fraction of the plane that an object covers; what is larger is taken for
            background.

        Returns
        -------
        SegmentedImage
            Labels, shape (H, W), and the objects from the best score down.

        Raises
        ------
        ConfigError
            When a threshold is out of range.
        """
        return self.basins.segment(
            foreground_thresh,
            pred_iou_thresh,
            stability_score_thresh,
            min_size=min_size,
            max_area_fraction=max_area_fraction,
        )


def segment_plane(
    image: ImageEmbedding | NDArray[np.uint8],
    model: Sam,
    options: AutomaticOptions | None = None,
    *,
    floor_iou: float = 0.3,
    floor_stability: float = 0.3,
) -> Generator[AutomaticProgress, None, PlaneCandidates | PlaneBasins]:
    """Find all objects on a plane, giving control back after each batch of points.

    Closing the generator stops the work there.

    Parameters
    ----------
    image : ImageEmbedding, or ndarray of uint8, shape (H, W, 3)
        The encoded plane; or its pixels as the model shall see them, with their contrast applied.
        Official models need the pixels when there are crop layers.
    model : Sam
        From :func:`napari_sam.model.load_model`; the model of the embedding.
    options : AutomaticOptions, optional
        How to look for objects. Its thresholds are where `labels` of the result starts.
    floor_iou, floor_stability : float
        Masks of lower scores are not collected, so thresholds can be moved down to these; lower
        where the options say so. Low floors take longer, as more masks are drawn. A watershed has
        no floors.

    Yields
    ------
    AutomaticProgress
        Once when the plane is encoded, then after each batch, or when its maps are flooded.

    Returns
    -------
    PlaneCandidates or PlaneBasins
        The latter for a watershed.

    Raises
    ------
    InputError
        When the pixels are no 8-bit RGB image, or the embedding is of another model.
    ConfigError
        When an option does not fit the model, or crop layers need pixels and an embedding came.
    DeviceError
        When the device fails, or has too little memory.
    """
    from napari_sam.model.devices import translate_torch_errors
    from napari_sam.predict import ImageEmbedding, everything_generator, watershed_segmenter
    from napari_sam.predict.object_diameter import choose_diameter

    options = options or AutomaticOptions()
    if not isinstance(image, ImageEmbedding):
        _check_pixels(image)
        options = replace(options, diameter=choose_diameter(model, options.diameter))
    with translate_torch_errors():
        if options.mode == "watershed":
            segmenter = watershed_segmenter(model, **options.given_besides_mode())
            return PlaneBasins((yield from segmenter.basin_steps(image, AS_IT_IS)))
        generator = everything_generator(model, **options.given())
        candidates = yield from generator.candidate_steps(
            image, AS_IT_IS, floor_iou=floor_iou, floor_stability=floor_stability
        )
    return PlaneCandidates(candidates)


def _check_pixels(pixels: NDArray[np.uint8]) -> None:
    shape, dtype = np.shape(pixels), getattr(pixels, "dtype", None)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InputError(
            f"Pixels of shape {shape} and type {dtype} were given",
            rule="The pixels of a plane are uint8 of shape (H, W, 3), their contrast applied",
            cure="Apply a Contrast and `to_rgb` of napari_sam.tiling, or encode the plane",
        )
