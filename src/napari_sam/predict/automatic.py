"""Segment everything: prompt with many points, keep the good masks, drop the duplicates.

The filters run in the original's order: predicted IoU, stability score, crop edge, then
non-maximum suppression within a crop and across crops (Kirillov et al. 2023, appendix B). Masks
whose predicted IoU fails are never drawn, and the others only inside their own region.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_sam.core.errors import ConfigError
from napari_sam.masks import (
    PackedMask,
    is_box_near_crop_edge,
    nms,
    remove_small_regions_packed,
)
from napari_sam.model.devices import translate_torch_errors
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam
from napari_sam.predict.crops import Crop, image_crops, layer_grids, point_grid, window_crops
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.pixels import to_model_pixels
from napari_sam.predict.predictor import SamPredictor
from napari_sam.predict.proposals import assign_to_crops, propose_points, require_instance_head
from napari_sam.predict.records import (
    AutomaticOptions,
    AutomaticProgress,
    MaskRecord,
    OutputMode,
    PointSource,
)
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.upsampling import MaskUpsampler
from napari_sam.predict.windows import crop_features, whole_frame
from napari_sam.tiling.normalize import Contrast

__all__ = ["AutomaticMaskGenerator"]

_POINTS_PER_SIDE = 32


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A mask that passed the filters of its batch."""

    mask: PackedMask
    predicted_iou: float
    stability: float
    point_xy: tuple[float, float]
    crop: Crop


@dataclass(frozen=True, eq=False)
class _CropView:
    """A crop, ready to be decoded: its features, and how to come back from them."""

    features: ImageFeatures
    transform: ImageTransform
    upsampler: MaskUpsampler
    origin_yx: tuple[int, int]


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
        models; for the compact one 0.6, and 0.5 with points from its instance head.
    stability_score_thresh : float, optional
        Masks need at least this stability score. The model's default unless given: 0.95 for
        official models; for the compact one 0.8, and 0.5 with points from its instance head.
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
    point_source : {"grid", "instance_head"}
        Where the points of layer 0 come from: a grid, or the centres that the instance head sees,
        which the compact model has.

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
        point_source: PointSource = "grid",
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
            point_source=point_source,
        )
        if point_source == "instance_head":
            require_instance_head(sam)

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
            When crop layers need the image, and an embedding was given.
        DeviceError
            When the device fails, or has too little memory.
        """
        steps = self.generate_steps(image, contrast)
        while True:
            try:
                next(steps)
            except StopIteration as finished:
                records: list[MaskRecord] = finished.value
                return records

    def generate_steps(
        self, image: ArrayLike | ImageEmbedding, contrast: Contrast | None = None
    ) -> Generator[AutomaticProgress, None, list[MaskRecord]]:
        """Find all masks, giving control back after each batch of points.

        Parameters and errors as in :meth:`generate`. Closing the generator stops the work.

        Yields
        ------
        AutomaticProgress
            Once after the image is encoded, then after each batch.

        Returns
        -------
        list of MaskRecord
        """
        embedding, pixels = self._encode(image, contrast)
        crops = self._crops_with_points(embedding, pixels)
        size = self.options.batch_size(self.sam.device.type)
        total = sum(-(-len(points) // size) for _, points in crops)
        done, found = 0, list[_Candidate]()
        yield AutomaticProgress(done, total, 0)
        for crop, points in crops:
            view = self._open_crop(crop, embedding, pixels)
            in_crop: list[_Candidate] = []
            for start in range(0, len(points), size):
                in_crop += self._process_batch(
                    crop, view, points[start : start + size], embedding.original_size_yx
                )
                done += 1
                yield AutomaticProgress(done, total, len(found) + len(in_crop))
            found += self._drop_duplicates(in_crop)
        if len(crops) > 1:
            found = self._drop_duplicates_across_crops(found)
        if self.options.min_mask_region_area > 0:
            found = self._clean_regions(found, embedding.original_size_yx)
        return [self._to_record(candidate, embedding.original_size_yx) for candidate in found]

    def _encode(
        self, image: ArrayLike | ImageEmbedding, contrast: Contrast | None
    ) -> tuple[ImageEmbedding, NDArray[np.uint8] | None]:
        """Embedding of the whole image, and its pixels where crops are encoded by themselves."""
        predictor = SamPredictor(self.sam)
        native = self.sam.input_spec.native_resolution
        if isinstance(image, ImageEmbedding):
            predictor.check_embedding(image)
            if self.options.crop_n_layers and not native:
                raise ConfigError(
                    f"An embedding was given with crop_n_layers={self.options.crop_n_layers}",
                    rule="Crops are encoded from the image itself",
                    cure="Give the image instead of its embedding, or use crop_n_layers=0",
                )
            return image, None
        pixels = to_model_pixels(image, self.sam.input_spec, contrast)
        return predictor.encode_pixels(pixels), None if native else pixels

    def _crops_with_points(
        self, embedding: ImageEmbedding, pixels: NDArray[np.uint8] | None
    ) -> list[tuple[Crop, NDArray[np.float64]]]:
        """All crops, each with its points (n, 2) in crop pixels."""
        options, spec = self.options, self.sam.input_spec
        if not spec.native_resolution:
            side = options.points_per_side or _POINTS_PER_SIDE
            grids = options.point_grids or layer_grids(
                side, options.crop_n_layers, options.crop_n_points_downscale_factor
            )
            return image_crops(
                embedding.original_size_yx,
                options.crop_n_layers,
                options.crop_overlap_ratio,
                grids,
            )
        crops = window_crops(
            embedding.transform, spec, options.crop_n_layers, options.crop_overlap_ratio
        )
        points = {id(crop): self._window_points(crop) for crop in crops}
        if options.point_source == "instance_head":
            with translate_torch_errors(), torch.inference_mode():
                proposals = propose_points(self.sam, embedding)
            first_layer = [crop for crop in crops if crop.layer == 0]
            for crop, own in zip(first_layer, assign_to_crops(proposals, first_layer), strict=True):
                points[id(crop)] = own
        return [(crop, points[id(crop)]) for crop in crops]

    def _window_points(self, crop: Crop) -> NDArray[np.float64]:
        """Points of a decode window: spaced as over a full window of the crop's layer."""
        options = self.options
        rows, cols = crop.size_yx
        if options.point_grids is not None:
            return np.asarray(options.point_grids[crop.layer]) * (cols, rows)
        per_side = options.points_per_side or _POINTS_PER_SIDE
        per_side = max(per_side // options.crop_n_points_downscale_factor**crop.layer, 1)
        full = self.sam.input_spec.size / 2**crop.layer
        n_cols, n_rows = (max(round(per_side * length / full), 1) for length in (cols, rows))
        return point_grid(n_cols, n_rows) * (cols, rows)

    def _open_crop(
        self, crop: Crop, embedding: ImageEmbedding, pixels: NDArray[np.uint8] | None
    ) -> _CropView:
        """Features of a crop: cut from the image's, or encoded from its pixels."""
        window, origin = crop.window, (0, 0)
        features = embedding.as_features()
        if window is not None:
            features = crop_features(features, window, self.sam.input_spec.stride)
        elif crop.layer > 0 and pixels is not None:
            x0, y0, x1, y1 = crop.box_xyxy
            inside = np.ascontiguousarray(pixels[y0:y1, x0:x1])
            embedding, origin = SamPredictor(self.sam).encode_pixels(inside), (y0, x0)
            features = embedding.as_features()
        transform = embedding.transform
        with translate_torch_errors():
            upsampler = MaskUpsampler.for_window(
                transform,
                window or whole_frame(transform),
                self.sam.device,
                self.sam.mask_threshold,
                self.options.stability_score_offset,
            )
        return _CropView(features, transform, upsampler, origin)

    def _process_batch(
        self,
        crop: Crop,
        view: _CropView,
        points_xy: NDArray[np.float64],
        image_size_yx: tuple[int, int],
    ) -> list[_Candidate]:
        """Masks of some points (n, 2) in crop pixels that pass the filters."""
        min_iou, min_stability = self.options.thresholds(self.sam.input_spec)
        in_frame = view.transform.points_to_input(points_xy)
        with translate_torch_errors(), torch.inference_mode():
            coords = torch.from_numpy(in_frame).to(torch.float32)[:, None]
            coords = coords.to(self.sam.device)
            decoded = self.sam.decode_above(
                view.features,
                points=(coords, torch.ones_like(coords[..., 0], dtype=torch.int64)),
                min_predicted_iou=min_iou if min_iou > 0 else -np.inf,
            )
            regions = view.upsampler.upsample(decoded.low_res_logits)
            scores = decoded.predicted_iou.tolist()
            owners = decoded.prompt_index.tolist()
        x0, y0 = crop.box_xyxy[:2]
        candidates = []
        for region, score, owner in zip(regions, scores, owners, strict=True):
            # single precision, as the original compares; NaN fails
            if min_stability > 0 and not np.float32(region.stability) >= np.float32(min_stability):
                continue
            y, x = region.origin_yx
            mask = PackedMask.from_array(
                region.pixels, (y + view.origin_yx[0], x + view.origin_yx[1])
            )
            px, py = points_xy[owner].tolist()
            candidates.append(_Candidate(mask, score, region.stability, (px + x0, py + y0), crop))
        image_box = (0, 0, image_size_yx[1], image_size_yx[0])
        boxes = _boxes(candidates)
        near_edge = is_box_near_crop_edge(boxes, crop.box_xyxy, image_box)
        return [c for c, near in zip(candidates, near_edge, strict=True) if not near]

    def _drop_duplicates(self, candidates: list[_Candidate]) -> list[_Candidate]:
        scores = np.array([c.predicted_iou for c in candidates], dtype=np.float32)
        kept = nms(_boxes(candidates), scores, self.options.box_nms_thresh)
        return [candidates[index] for index in kept]

    def _drop_duplicates_across_crops(self, candidates: list[_Candidate]) -> list[_Candidate]:
        if self.sam.input_spec.native_resolution:  # no crop is magnified: none knows better
            scores = np.array([c.predicted_iou for c in candidates], dtype=np.float32)
        else:  # a smaller crop shows more detail
            scores = np.array([1 / c.crop.area for c in candidates], dtype=np.float32)
        kept = nms(_boxes(candidates), scores, self.options.crop_nms_thresh)
        return [candidates[index] for index in kept]

    def _clean_regions(
        self, candidates: list[_Candidate], image_size_yx: tuple[int, int]
    ) -> list[_Candidate]:
        """Remove small holes and islands, then the duplicates that this makes."""
        options = self.options
        cleaned, unchanged = [], []
        for candidate in candidates:
            mask, changed = remove_small_regions_packed(
                candidate.mask, options.min_mask_region_area, image_size_yx
            )
            cleaned.append(replace(candidate, mask=mask))
            unchanged.append(float(not changed))  # masks that needed no cleaning win
        threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
        kept = nms(_boxes(cleaned), np.array(unchanged), threshold)
        return [cleaned[index] for index in kept]

    def _to_record(self, candidate: _Candidate, image_size_yx: tuple[int, int]) -> MaskRecord:
        return MaskRecord(
            mask=candidate.mask,
            image_size_yx=image_size_yx,
            bbox_xywh=_xyxy_to_xywh(candidate.mask.box_xyxy),
            predicted_iou=candidate.predicted_iou,
            point_xy=candidate.point_xy,
            stability_score=candidate.stability,
            crop_box_xywh=_xyxy_to_xywh(candidate.crop.box_xyxy),
            output_mode=self.options.output_mode,
        )


def _boxes(candidates: Sequence[_Candidate]) -> NDArray[np.int64]:
    boxes = [candidate.mask.box_xyxy for candidate in candidates]
    return np.array(boxes, dtype=np.int64).reshape(-1, 4)


def _xyxy_to_xywh(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = box
    return x0, y0, x1 - x0, y1 - y0
