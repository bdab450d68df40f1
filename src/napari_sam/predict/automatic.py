"""Segment everything: prompt with many points, keep the good masks, drop the duplicates.

The filters run in the original's order: predicted IoU, stability score, crop edge, then
non-maximum suppression within a crop and across crops (Kirillov et al. 2023, appendix B). Masks
whose predicted IoU fails are never drawn, and the others only inside their own region.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_sam.core.errors import ConfigError
from napari_sam.core.modes import PointMode
from napari_sam.core.object_scale import Diameter
from napari_sam.core.steps import result_of
from napari_sam.masks import CROP_EDGE_TOLERANCE, PackedMask
from napari_sam.model.devices import translate_torch_errors
from napari_sam.model.sam import InputSpec, Sam
from napari_sam.predict.candidates import Candidate, CandidateSet, CropCandidates
from napari_sam.predict.crop_view import CropView
from napari_sam.predict.crops import Crop
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.image_steps import encode_image_steps
from napari_sam.predict.modes import require_instance_head
from napari_sam.predict.object_diameter import require_diameter
from napari_sam.predict.point_levels import PromptBatch, point_schedules
from napari_sam.predict.predictor import SamPredictor
from napari_sam.predict.prompted_crops import prompted_crops
from napari_sam.predict.prompted_parts import cells_of_points, keep_prompted_parts
from napari_sam.predict.records import (
    AutomaticOptions,
    AutomaticProgress,
    MaskRecord,
    OutputMode,
)
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.upsampling import MaskUpsampler
from napari_sam.predict.windows import Window, crop_features, whole_frame
from napari_sam.tiling.normalize import Contrast

__all__ = ["AutomaticMaskGenerator"]


class AutomaticMaskGenerator:
    """Find the masks of all objects in an image.

    Parameters
    ----------
    sam : Sam
        The model, in evaluation mode, as ``load_model`` returns it.
    points_per_side : int, optional
        Points along a side of the image, or of a window of the model's input size for models with
        native pixels, where smaller windows get fewer. 32 unless given.
    points_per_batch : int, optional
        Points in one call of the mask decoder. Unless given, 8 on a CPU, 16 on MPS, 64 on CUDA.
    pred_iou_thresh : float, optional
        Masks need a higher predicted IoU. The model's default unless given: 0.88 for official
        models, 0.5 for the compact one.
    stability_score_thresh : float, optional
        Masks need at least this stability score. The model's default unless given: 0.95 for
        official models, 0.15 for the compact one.
    stability_score_offset : float
        How far the mask threshold moves for the stability score.
    box_nms_thresh : float
        Box IoU above which the worse of two masks of one crop goes.
    crop_n_layers : int
        Layers of crops beyond layer 0, with 2**i crops along each side in layer i. A model with
        native pixels gets windows of half the side in each further layer.
    crop_nms_thresh : float
        Box IoU above which the worse of two masks of different crops goes: for official models
        that of the larger crop, for native pixels that of the lower predicted IoU.
    crop_overlap_ratio : float
        Overlap of crops: in layer 1 as a fraction of the image's short side, halved from layer to
        layer; for native pixels as a fraction of the window's side.
    crop_n_points_downscale_factor : int
        Division of the points per side from layer to layer.
    point_grids : sequence of ndarray, shape (N, 2), optional
        Explicit points as (x, y) from 0 to 1 for each layer, instead of `points_per_side`.
    min_mask_region_area : int
        Holes and islands of masks with fewer pixels are removed; 0 leaves all.
    output_mode : {"binary_mask", "uncompressed_rle", "coco_rle"}
        The form of the records' ``segmentation``.
    mode : {"grid", "proposals"}
        Where the prompts of layer 0 come from: a grid of points, three masks each, or the objects
        that the instance head sees, which the compact model has: one mask each, from a point and
        the object's pixels. The third mode of segmenting everything, ``"watershed"``,
        prompts with no points: see :class:`~napari_sam.predict.watershed.WatershedSegmenter`.
    skip_covered : bool
        Prompt grids from coarse to fine, and skip points in masks that were found already
        (:mod:`napari_sam.predict.point_levels`): faster, but not exactly the same masks.
    foreground_only : bool
        Skip the points of grids where the instance head sees background: likewise.
    diameter : float, "auto" or "native", optional
        Diameter of the objects in pixels, where they are much smaller or larger than those that a
        model with native pixels learned: the image is magnified or shrunk for the model, as
        :meth:`SamPredictor.encode` does it. ``"auto"`` estimates it; ``"native"``, or none, leaves
        the image as it is.

    Raises
    ------
    ConfigError
        When an option is out of range or does not fit the model.
    """

    def __init__(
        self,
        sam: Sam,
        points_per_side: int | None = None,
        points_per_batch: int | None = None,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[NDArray[np.float64]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: OutputMode = "binary_mask",
        mode: PointMode = "grid",
        skip_covered: bool = False,
        foreground_only: bool = False,
        diameter: Diameter | None = None,
    ) -> None:
        self.sam = sam
        self.options = AutomaticOptions(
            points_per_side=points_per_side,
            points_per_batch=points_per_batch,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=crop_nms_thresh,
            crop_overlap_ratio=crop_overlap_ratio,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
            point_grids=point_grids,
            min_mask_region_area=min_mask_region_area,
            output_mode=output_mode,
            mode=mode,
            skip_covered=skip_covered,
            foreground_only=foreground_only,
            diameter=diameter,
        )
        require_diameter(sam, diameter)
        if mode == "proposals":
            require_instance_head(sam, "mode='proposals'")
        if foreground_only:
            require_instance_head(sam, "foreground_only")

    def generate(
        self, image: ArrayLike | ImageEmbedding, contrast: Contrast | None = None
    ) -> list[MaskRecord]:
        """Find all masks.

        Parameters
        ----------
        image : array-like, shape (H, W) or (H, W, C), or ImageEmbedding
            As :meth:`SamPredictor.encode` takes or returns it. Official models need the image
            itself when there are crop layers.
        contrast : Contrast, optional
            A fixed map of intensities.

        Returns
        -------
        list of MaskRecord

        Raises
        ------
        InputError
            When the image is not valid, or the embedding is of another model.
        ConfigError
            When crop layers need the image and an embedding was given, or one of another scale
            than the diameter asks for.
        DeviceError
            When the device fails, or has too little memory.
        """
        return result_of(self.generate_steps(image, contrast))

    def generate_steps(
        self, image: ArrayLike | ImageEmbedding, contrast: Contrast | None = None
    ) -> Generator[AutomaticProgress, None, list[MaskRecord]]:
        """Find all masks, giving control back after each batch of points.

        Parameters and errors as in :meth:`generate`. Closing the generator stops the work.

        Yields
        ------
        AutomaticProgress
            Between the windows of an image that is encoded in several, once when it is encoded,
            after each batch, and after each crop that is encoded by itself.

        Returns
        -------
        list of MaskRecord
        """
        thresholds = self.options.thresholds(self.sam.input_spec)
        candidates = yield from self._collect(image, contrast, *thresholds, prune=True)
        return candidates.filter()

    def candidate_steps(
        self,
        image: ArrayLike | ImageEmbedding,
        contrast: Contrast | None = None,
        *,
        floor_iou: float = 0.3,
        floor_stability: float = 0.3,
    ) -> Generator[AutomaticProgress, None, CandidateSet]:
        """Find masks to be filtered later, giving control back after each batch of points.

        A low floor keeps more masks to choose from, and takes longer, as each has to be drawn. With
        `skip_covered`, the generator's own thresholds decide which masks cover points.

        Parameters
        ----------
        image, contrast
            As in :meth:`generate`.
        floor_iou : float
            Masks need a higher predicted IoU to be collected, 0 to 1. The generator's own
            threshold where that is lower.
        floor_stability : float
            Masks need at least this stability score, 0 to 1. The generator's own threshold where
            that is lower.

        Yields
        ------
        AutomaticProgress
            Between the windows of an image that is encoded in several, once when it is encoded,
            after each batch, and after each crop that is encoded by itself.

        Returns
        -------
        CandidateSet

        Raises
        ------
        InputError, ConfigError, DeviceError
            As :meth:`generate` does, or when a floor is out of range.
        """
        for name, floor in (("floor_iou", floor_iou), ("floor_stability", floor_stability)):
            if not 0 <= floor <= 1:
                raise ConfigError(
                    f"{name}={floor} was given",
                    rule=f"{name} lies between 0 and 1",
                    cure="Leave it out for 0.3",
                )
        min_iou, min_stability = self.options.thresholds(self.sam.input_spec)
        floors = min(floor_iou, min_iou), min(floor_stability, min_stability)
        return (yield from self._collect(image, contrast, *floors, prune=False))

    def _collect(
        self,
        image: ArrayLike | ImageEmbedding,
        contrast: Contrast | None,
        floor_iou: float,
        floor_stability: float,
        *,
        prune: bool,
    ) -> Generator[AutomaticProgress, None, CandidateSet]:
        """Prompt with all points; with `prune`, duplicates within a crop are not kept in memory."""
        embedding, pixels = yield from self._encode(image, contrast)
        size_yx, spec = embedding.original_size_yx, self.sam.input_spec
        tolerance = _edge_tolerance(embedding.transform, spec)
        prompted = prompted_crops(self.sam, embedding, self.options)
        size = self.options.batch_size(self.sam.device)
        schedules = point_schedules(prompted, self.options, spec, size)
        done, later, n_found, crops = 0, sum(map(len, schedules)), 0, list[CropCandidates]()
        yield AutomaticProgress(done, later, n_found)
        for points in schedules:
            crop = points.crop
            view = self._open_crop(crop, embedding, pixels)
            if view.is_encoded_alone:
                yield AutomaticProgress(done, done + later, n_found)
            later -= len(points)
            in_crop: list[Candidate] = []
            while points:
                masks = self._process_batch(view, points.take(), floor_iou, floor_stability)
                found = CropCandidates(masks).away_from_crop_edge(crop, size_yx, tolerance)
                points.learn(found)
                in_crop += found.candidates
                done += 1
                yield AutomaticProgress(done, done + len(points) + later, n_found + len(in_crop))
            crops.append(CropCandidates(tuple(in_crop)))
            if prune:
                crops[-1] = crops[-1].filtered(
                    floor_iou, floor_stability, self.options.box_nms_thresh
                )
            n_found += len(crops[-1].candidates)
        return CandidateSet(tuple(crops), size_yx, self.options, spec, floor_iou, floor_stability)

    def _encode(
        self, image: ArrayLike | ImageEmbedding, contrast: Contrast | None
    ) -> Generator[AutomaticProgress, None, tuple[ImageEmbedding, NDArray[np.uint8] | None]]:
        """Embedding of the whole image, and its pixels where crops are encoded by themselves."""
        native = self.sam.input_spec.native_resolution
        encoded = yield from encode_image_steps(self.sam, image, contrast, self.options.diameter)
        if encoded.pixels is None and self.options.crop_n_layers and not native:
            raise ConfigError(
                f"An embedding was given with crop_n_layers={self.options.crop_n_layers}",
                rule="Crops are encoded from the image itself",
                cure="Give the image instead of its embedding, or use crop_n_layers=0",
            )
        return encoded.embedding, None if native else encoded.pixels

    def _open_crop(
        self, crop: Crop, embedding: ImageEmbedding, pixels: NDArray[np.uint8] | None
    ) -> CropView:
        """Features of a crop: cut from the image's, or encoded from its pixels."""
        window, origin, shift_xy = crop.window, (0, 0), np.zeros(2)
        features = embedding.as_features()
        is_encoded_alone = False
        if window is not None:
            features = crop_features(features, window, self.sam.input_spec.stride)
            scale_xy = np.array(embedding.transform.scale_yx[::-1])
            shift_xy = np.array(crop.box_xyxy[:2]) * scale_xy - window.offset_xy
        elif crop.layer > 0 and pixels is not None:
            x0, y0, x1, y1 = crop.box_xyxy
            inside, is_encoded_alone = np.ascontiguousarray(pixels[y0:y1, x0:x1]), True
            embedding, origin = SamPredictor(self.sam).encode_pixels(inside), (y0, x0)
            features = embedding.as_features()
        transform = embedding.transform
        upsampler = MaskUpsampler.for_window(
            transform,
            window or whole_frame(transform),
            self.sam.mask_threshold,
            self.options.stability_score_offset,
        )
        return CropView(crop, features, transform, upsampler, origin, is_encoded_alone, shift_xy)

    def _process_batch(
        self,
        view: CropView,
        batch: PromptBatch,
        min_iou: float,
        min_stability: float,
    ) -> tuple[Candidate, ...]:
        """Masks of some prompts whose scores pass: three a point, one with a mask prompt."""
        in_window = view.transform.points_to_input(batch.points_xy) + view.shift_xy
        with translate_torch_errors(), torch.inference_mode():
            coords = torch.from_numpy(in_window).to(torch.float32)[:, None]
            coords = coords.to(self.sam.device)
            mask_logits = None
            if batch.masks is not None:
                mask_logits = view.mask_logits(batch.masks).to(self.sam.device)
            decoded = self.sam.decode_above(
                view.features,
                points=(coords, torch.ones_like(coords[..., 0], dtype=torch.int64)),
                mask_logits=mask_logits,
                min_predicted_iou=min_iou if min_iou > 0 else -np.inf,
                multimask=batch.masks is None,
            )
            owners = decoded.prompt_index.tolist()
            logits = decoded.low_res_logits
            if self.sam.input_spec.native_resolution:  # official masks stay as they are
                logits = self._without_scraps(logits, in_window[owners])
            regions = view.upsampler.upsample(logits)
            scores = decoded.predicted_iou.tolist()
        x0, y0 = view.crop.box_xyxy[:2]
        candidates = []
        for region, score, owner in zip(regions, scores, owners, strict=True):
            # single precision, as the original compares; NaN fails
            if min_stability > 0 and not np.float32(region.stability) >= np.float32(min_stability):
                continue
            y, x = region.origin_yx
            mask = PackedMask.from_array(
                region.pixels, (y + view.origin_yx[0], x + view.origin_yx[1])
            )
            px, py = batch.points_xy[owner].tolist()
            candidates.append(
                Candidate(mask, score, region.stability, (px + x0, py + y0), view.crop)
            )
        return tuple(candidates)

    def _without_scraps(self, logits: torch.Tensor, points_xy: NDArray[np.float64]) -> torch.Tensor:
        """Keep the parts of masks (K, hl, wl) under their points (K, 2) in the window."""
        rows, cols = logits.shape[-2:]
        stride = self.sam.input_spec.low_res_stride
        window = Window(0, 0, rows * stride, cols * stride)
        whole = [
            keep_prompted_parts(
                mask[None], self.sam.mask_threshold, cells_of_points(point[None], window, stride)
            )
            for mask, point in zip(logits, points_xy, strict=True)
        ]
        return torch.cat(whole) if whole else logits


def _edge_tolerance(transform: ImageTransform, spec: InputSpec) -> float:
    """Pixels of the image within which a mask counts as touching an edge of its crop.

    A model with native pixels sees an edge as far away as it is in its input.
    """
    if not spec.native_resolution:
        return CROP_EDGE_TOLERANCE
    return CROP_EDGE_TOLERANCE / min(transform.scale_yx)
