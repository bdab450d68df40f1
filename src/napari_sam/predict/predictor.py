"""Prompts to masks: numpy in, numpy out, nothing remembered between calls."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from napari_sam.core.errors import InputError
from napari_sam.core.object_scale import Diameter
from napari_sam.core.steps import result_of
from napari_sam.model.devices import translate_torch_errors
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam
from napari_sam.predict.embedding import ImageEmbedding, embed_steps
from napari_sam.predict.mask_choice import mask_ranks
from napari_sam.predict.object_diameter import require_diameter, scale_steps
from napari_sam.predict.pixels import to_model_pixels
from napari_sam.predict.prompted_masks import hold_to_prompts
from napari_sam.predict.prompted_parts import cells_of_points, is_cut_off
from napari_sam.predict.prompts import Prompts, read_prompts
from napari_sam.predict.transforms import CERTAIN_LOGIT, ImageTransform
from napari_sam.predict.upsampling import MaskUpsampler
from napari_sam.predict.windows import Window, close_up, crop_features, window_around
from napari_sam.tiling.normalize import Contrast

__all__ = ["MaskPrediction", "SamPredictor"]

_PROMPTS_PER_CALL = 64
"""Objects in one call of the mask decoder where they share a window."""

_WINDOWS_PER_CALL = 16
"""Objects in one call of the mask decoder where each brings the features of its own window."""


@dataclass(frozen=True, eq=False)
class MaskPrediction:
    """Masks of one object, or of N objects when the prompts were a batch.

    M is 3 for multimask output and 1 otherwise.

    Parameters
    ----------
    masks : ndarray of bool, shape (M, H, W) or (N, M, H, W)
        Masks at the image's resolution.
    predicted_iou : ndarray of float32, shape (M,) or (N, M)
        The model's own estimate of each mask's intersection over union.
    stability_score : ndarray of float32, shape (M,) or (N, M)
        How little the mask changes when its threshold moves by 1 both ways; 0 for no mask.
    low_res_logits : ndarray of float32, shape (M, hl, wl) or (N, M, hl, wl)
        Logits in the low-res input frame; one mask of them is a valid mask prompt.
    ranks : ndarray of float32, shape (M,) or (N, M)
        What the best mask is chosen by, as :mod:`~napari_sam.predict.mask_choice` says.
    """

    masks: NDArray[np.bool_]
    predicted_iou: NDArray[np.float32]
    stability_score: NDArray[np.float32]
    low_res_logits: NDArray[np.float32]
    ranks: NDArray[np.float32]

    @property
    def best(self) -> Any:
        """Index of the best mask: an integer, or an array of integers (N,) for a batch."""
        return self.ranks.argmax(axis=-1)


class _DecodePrompts(TypedDict):
    """Prompts as the keyword arguments of ``Sam.decode``."""

    points: tuple[Tensor, Tensor] | None
    boxes: Tensor | None
    mask_logits: Tensor | None


class SamPredictor:
    """Predict masks from prompts.

    It remembers nothing between calls, so several threads may share one.

    Parameters
    ----------
    sam : Sam
        The model, in evaluation mode, as ``load_model`` returns it.
    """

    def __init__(self, sam: Sam) -> None:
        self.sam = sam

    def encode(
        self,
        image: ArrayLike,
        contrast: Contrast | None = None,
        *,
        diameter: Diameter | None = None,
    ) -> ImageEmbedding:
        """Compute the embedding of an image.

        Official models resize the image to their input. The compact model keeps native pixels and
        encodes an image of any size, a large one in overlapping windows. Where its objects are much
        smaller or larger than those it learned, their diameter lets it magnify or shrink the image;
        prompts and masks stay in pixels of the image.

        Parameters
        ----------
        image : array-like, shape (H, W) or (H, W, C)
            Intensities of any real dtype, with one to three channels. How they become 8 bit is
            written at :func:`~napari_sam.predict.pixels.to_model_pixels`.
        contrast : Contrast, optional
            A fixed map of intensities, the same for all tiles and slices of a volume.
        diameter : float, "auto" or "native", optional
            Diameter of the objects in pixels, or ``"auto"`` to estimate it
            (:func:`~napari_sam.predict.estimate_diameter`). The scale that follows from it is
            :func:`~napari_sam.core.object_scale.scale_for`; without it the image is left as it is.

        Returns
        -------
        ImageEmbedding

        Raises
        ------
        InputError
            When the image is empty, has another shape, more than three channels, or is boolean or
            complex.
        ConfigError
            When the diameter is none, or the model has no use of it.
        DeviceError
            When the device fails, or has too little memory.

        Warns
        -----
        NapariSamWarning
            When pixels are NaN or infinite; they become black.
        """
        require_diameter(self.sam, diameter)
        pixels = to_model_pixels(image, self.sam.input_spec, contrast)
        scale, embedding = result_of(scale_steps(self.sam, pixels, diameter))
        return embedding or self.encode_pixels(pixels, scale)

    def encode_pixels(self, pixels: NDArray[np.uint8], scale: float = 1.0) -> ImageEmbedding:
        """Compute the embedding of pixels that are ready for the model.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (H, W, 3)
            As :func:`~napari_sam.predict.pixels.to_model_pixels` makes them.
        scale : float
            Input pixels along an image pixel, for models with native pixels.

        Returns
        -------
        ImageEmbedding

        Raises
        ------
        ConfigError
            When a scale is given for a model that resizes images.
        DeviceError
            When the device fails, or has too little memory.
        """
        return result_of(embed_steps(self.sam, pixels, scale))

    def predict(
        self,
        embedding: ImageEmbedding,
        points_xy: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box_xyxy: ArrayLike | None = None,
        mask: ArrayLike | Tensor | None = None,
        multimask: bool = True,
    ) -> MaskPrediction:
        """Predict the masks of one object, or of N objects at once.

        Prompts of one object can be mixed freely. A batch is given as points (N, K, 2), boxes
        (N, 4), masks (N, H, W), or a mix of these with the same N, and is decoded together.

        The compact model decodes an object in a window of its decode size around all of its
        prompts, a mask prompt included. Where any mask that is returned reaches an edge of that
        window, other than the image's border and by the part of it that the prompts mean, the
        object is decoded again in a window of the model's input size, and that counts. So the
        masks depend on the prompts alone.

        Parameters
        ----------
        embedding : ImageEmbedding
            As :meth:`encode` of the same model returned it.
        points_xy : array-like, shape (K, 2) or (N, K, 2), optional
            Clicks as (x, y) in image pixels; (0, 0) is the centre of the first pixel.
        point_labels : array-like of int, shape (K,) or (N, K), optional
            1 for the object, 0 for background, -1 for padding.
        box_xyxy : array-like, shape (4,) or (N, 4), optional
            Boxes as (x0, y0, x1, y1) in image pixels.
        mask : array-like, optional
            Low-res logits (hl, wl), one mask of ``low_res_logits``; or a boolean mask (H, W),
            which becomes logits of +-10, in between where its edge crosses a low-res cell. One
            more axis in front for a batch.
        multimask : bool
            Three masks for an ambiguous prompt instead of one.

        Returns
        -------
        MaskPrediction

        Raises
        ------
        InputError
            When a prompt is not valid, or the embedding is of another model.
        DeviceError
            When the device fails, or has too little memory.
        """
        self.check_embedding(embedding)
        prompts = read_prompts(embedding.transform, points_xy, point_labels, box_xyxy, mask)
        with translate_torch_errors(), torch.inference_mode():
            prediction = self._predict_batch(embedding, prompts, multimask)
        if prompts.is_batch:
            return prediction
        return MaskPrediction(
            prediction.masks[0],
            prediction.predicted_iou[0],
            prediction.stability_score[0],
            prediction.low_res_logits[0],
            prediction.ranks[0],
        )

    def check_embedding(self, embedding: ImageEmbedding) -> None:
        """Refuse an embedding that another model made.

        Raises
        ------
        InputError
        """
        if embedding.model_digest != self.sam.digest:
            raise InputError(
                f"An embedding of the model {embedding.model_digest[:12] or 'without digest'} "
                f"met the model {self.sam.name or 'in use'} ({self.sam.digest[:12]})",
                rule="An embedding is decoded by the model that made it",
                cure="Encode the image again with this predictor",
            )

    def _predict_batch(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool
    ) -> MaskPrediction:
        transform, threshold = embedding.transform, self.sam.mask_threshold
        n_masks = 3 if multimask else 1
        shape = (prompts.count, n_masks)
        masks = np.zeros((*shape, *transform.original_size_yx), dtype=np.bool_)
        stability = np.zeros(shape, dtype=np.float32)
        predicted_iou = np.zeros(shape, dtype=np.float32)
        low_res = np.full((*shape, *transform.low_res_size_yx), -CERTAIN_LOGIT, dtype=np.float32)
        for indices, windows, logits, iou in self._decode(embedding, prompts, multimask):
            predicted_iou[indices] = iou.cpu().numpy()
            for index, window, object_logits in zip(indices, windows, logits, strict=True):
                object_logits = self._held_to_prompts(object_logits, prompts, index, window)
                upsampler = MaskUpsampler.for_window(transform, window, threshold)
                rows, cols = window.cells(transform.low_res_stride)
                low_res[index, :, rows, cols] = object_logits.cpu().numpy()
                for m, region in enumerate(upsampler.upsample(object_logits)):
                    (y, x), (height, width) = region.origin_yx, region.pixels.shape
                    masks[index, m, y : y + height, x : x + width] = region.pixels
                    stability[index, m] = np.nan_to_num(region.stability)
        ranks = mask_ranks(predicted_iou, stability, self.sam.input_spec)
        return MaskPrediction(masks, predicted_iou, stability, low_res, ranks)

    def _decode(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool
    ) -> Iterator[tuple[list[int], list[Window], Tensor, Tensor]]:
        """Decode the objects in close windows, and those that these cut off in wide ones.

        Yields the objects' indices, their windows, logits (n, M, hl, wl) and IoU (n, M).
        """
        spec, transform = self.sam.input_spec, embedding.transform
        extents = [tuple(extent) for extent in prompts.extents_xyxy(spec.low_res_stride).tolist()]
        wide = [window_around(extent, transform, spec) for extent in extents]
        close = [close_up(*pair, spec) for pair in zip(extents, wide, strict=True)]
        everything, cut = range(prompts.count), list[int]()
        for indices, logits, iou in self._decode_in(
            embedding, prompts, close, everything, multimask
        ):
            is_cut = [
                close[index] != wide[index]
                and self._is_cut_off(logits[place], prompts, index, close[index], transform)
                for place, index in enumerate(indices)
            ]
            cut += itertools.compress(indices, is_cut)
            kept = [place for place, missed in enumerate(is_cut) if not missed]
            if kept:
                chosen = [indices[place] for place in kept]
                yield chosen, [close[index] for index in chosen], logits[kept], iou[kept]
        for indices, logits, iou in self._decode_in(embedding, prompts, wide, cut, multimask):
            yield indices, [wide[index] for index in indices], logits, iou

    def _decode_in(
        self,
        embedding: ImageEmbedding,
        prompts: Prompts,
        windows: list[Window],
        some: Sequence[int],
        multimask: bool,
    ) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Decode some objects, each in its window, in batches whose windows have one size."""
        features, stride = embedding.as_features(), self.sam.input_spec.stride
        for indices in _batches_of_one_size(windows, some):
            chosen = [windows[index] for index in indices]
            logits, iou = self.sam.decode(
                _gather(features, chosen, stride),
                multimask=multimask,
                **self._window_prompts(prompts, indices, chosen),
            )
            yield indices, logits, iou

    def _is_cut_off(
        self,
        logits: Tensor,
        prompts: Prompts,
        index: int,
        window: Window,
        transform: ImageTransform,
    ) -> bool:
        """Tell whether a window cuts the object off; a box says where an object ends."""
        if prompts.boxes_xyxy is not None:
            return False
        points, labels = prompts.points_of(index)
        cells = cells_of_points(points[labels == 1], window, transform.low_res_stride)
        inside = (logits > self.sam.mask_threshold).cpu().numpy()
        return is_cut_off(inside, cells, window, transform.input_size_yx)

    def _held_to_prompts(
        self, logits: Tensor, prompts: Prompts, index: int, window: Window
    ) -> Tensor:
        """Hold an object's masks (M, hl, wl) to its prompts."""
        mask = None
        if prompts.mask_logits is not None:
            cells = window.cells(self.sam.input_spec.low_res_stride)
            mask = (prompts.mask_logits[index][cells] > 0).numpy()
        return hold_to_prompts(self.sam, logits, window, *prompts.points_of(index), mask)

    def _window_prompts(
        self, prompts: Prompts, indices: list[int], windows: list[Window]
    ) -> _DecodePrompts:
        """Move the prompts of some objects to their windows, as tensors on the device."""
        device, stride = self.sam.device, self.sam.input_spec.low_res_stride
        offsets = np.stack([window.offset_xy for window in windows])  # (n, 2)
        points = boxes = logits = None
        if prompts.points_xy is not None and prompts.labels is not None:
            moved = prompts.points_xy[indices] - offsets[:, None]
            points = (
                torch.from_numpy(moved).to(torch.float32).to(device),
                torch.from_numpy(prompts.labels[indices]).to(device),
            )
        if prompts.boxes_xyxy is not None:
            moved = prompts.boxes_xyxy[indices] - np.tile(offsets, 2)
            boxes = torch.from_numpy(moved).to(torch.float32).to(device)
        if prompts.mask_logits is not None:
            cut = [
                prompts.mask_logits[index][window.cells(stride)]
                for index, window in zip(indices, windows, strict=True)
            ]
            logits = torch.stack(cut)[:, None].to(device)
        return {"points": points, "boxes": boxes, "mask_logits": logits}


def _batches_of_one_size(windows: list[Window], some: Sequence[int]) -> Iterator[list[int]]:
    """Split indices into batches whose windows have one size, so that one call decodes them."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for index in some:
        by_size.setdefault(windows[index].size_yx, []).append(index)
    for indices in by_size.values():
        shared = len({windows[index] for index in indices}) == 1
        limit = _PROMPTS_PER_CALL if shared else _WINDOWS_PER_CALL
        for start in range(0, len(indices), limit):
            yield indices[start : start + limit]


def _gather(features: ImageFeatures, windows: list[Window], stride: int) -> ImageFeatures:
    """Features of one window that all share, or of each window."""
    distinct = list(dict.fromkeys(windows))
    cut = {window: crop_features(features, window, stride) for window in distinct}
    if len(distinct) == 1:
        return cut[distinct[0]]
    embedding = torch.cat([cut[window].embedding for window in windows])
    skips = tuple(
        torch.cat([cut[window].skips[level] for window in windows])
        for level in range(len(features.skips))
    )
    return ImageFeatures(embedding, skips)
