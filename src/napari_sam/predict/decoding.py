"""All masks of one object from one pass of the mask decoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.model.decoder_graph import decode_masks
from napari_sam.model.devices import translate_torch_errors
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.mask_decoder import ALL_MASKS
from napari_sam.model.sam import Sam
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.frames import View
from napari_sam.predict.mask_choice import mask_ranks
from napari_sam.predict.prompted_masks import hold_to_prompts
from napari_sam.predict.upsampling import MaskUpsampler
from napari_sam.predict.windows import Window, close_up, crop_features, window_around

__all__ = ["AllMasks", "ViewPrompts", "decode_all_masks", "prepare_decoding"]


@dataclass(frozen=True, eq=False)
class ViewPrompts:
    """The prompts of one object, in pixels of the plane.

    Parameters
    ----------
    points_xy : ndarray of float64, shape (K, 2)
        Clicks as (x, y).
    labels : ndarray of int64, shape (K,)
        1 for the object, 0 for background.
    box_xyxy : tuple of float, optional
        A box as (x0, y0, x1, y1).
    mask_logits : ndarray of float32, shape (hl, wl), optional
        Low-res logits in the view.
    """

    points_xy: NDArray[np.float64]
    labels: NDArray[np.int64]
    box_xyxy: tuple[float, float, float, float] | None = None
    mask_logits: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class AllMasks:
    """The single mask, and the three of multimask output, of one object.

    Parameters
    ----------
    low_res_logits : ndarray of float32, shape (4, hl, wl)
        Low-res logits in the view, its padding included.
    predicted_iou : ndarray of float32, shape (4,)
        The model's own estimate of each mask's intersection over union.
    stability_score : ndarray of float32, shape (4,)
        How little each mask changes when its threshold moves by 1 both ways; 0 for no mask.
    ranks : ndarray of float32, shape (4,)
        What the best mask is chosen by, as :mod:`~napari_sam.predict.mask_choice` says.
    """

    low_res_logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]
    stability_score: NDArray[np.float32]
    ranks: NDArray[np.float32]


def decode_all_masks(
    sam: Sam, embedding: ImageEmbedding, view: View, prompts: ViewPrompts
) -> AllMasks:
    """Decode the prompts of one object.

    Which of the masks is meant depends on the prompts; all of them cost hardly more than one. The
    embedding may be in half precision; the masks are computed in single precision.

    Parameters
    ----------
    sam : Sam
        The model.
    embedding : ImageEmbedding
        Of the view's frame.
    view : View
        Where to decode.
    prompts : ViewPrompts
        At least one prompt.

    Returns
    -------
    AllMasks

    Raises
    ------
    DeviceError
        When the device fails, or has too little memory.
    """
    with translate_torch_errors(), torch.inference_mode():
        features = _float_features(sam, embedding, view.window)
        grid = (features.embedding.shape[-2], features.embedding.shape[-1])
        embedded = sam.prompt_encoder(*_as_tensors(prompts, view, sam.device), grid)
        image_pe = sam.prompt_encoder.dense_pe(grid)
        batch, iou = decode_masks(sam.mask_decoder, features, image_pe, embedded, ALL_MASKS)
        logits = _held_to_prompts(sam, batch[0], prompts, view)
        upsampler = MaskUpsampler.for_window(view.transform, view.window, sam.mask_threshold)
        stability = [region.stability for region in upsampler.upsample(logits)]
        scores = iou[0].cpu().numpy(), np.nan_to_num(np.array(stability, np.float32))
        return AllMasks(logits.cpu().numpy(), *scores, mask_ranks(*scores, sam.input_spec))


def prepare_decoding(sam: Sam, embedding: ImageEmbedding) -> None:
    """Do what the first click on an image would have to do, and the later ones need not.

    The mask decoder keeps what it computes from the image alone, where prompts share it, and from
    the size of a window; so does torch. A click in the middle makes them do so; its mask is thrown
    away.

    Parameters
    ----------
    sam : Sam
        The model.
    embedding : ImageEmbedding
        Of the image that will be clicked on.

    Raises
    ------
    DeviceError
        When the device fails, or has too little memory.
    """
    rows, cols = embedding.transform.input_size_yx
    x, y = cols / 2, rows / 2
    extent, spec = (x, y, x, y), sam.input_spec
    window = close_up(extent, window_around(extent, embedding.transform, spec), spec)
    with translate_torch_errors(), torch.inference_mode():
        features = _float_features(sam, embedding, window)
        moved = torch.tensor([[[x - window.x, y - window.y]]], device=sam.device)
        sam.decode(features, points=(moved, torch.ones_like(moved[..., 0])), multimask=True)


def _held_to_prompts(sam: Sam, logits: Tensor, prompts: ViewPrompts, view: View) -> Tensor:
    """Hold masks (M, hl, wl) to the prompts."""
    in_frame = view.points_to_input(prompts.points_xy) + view.window.offset_xy
    mask = None if prompts.mask_logits is None else prompts.mask_logits > 0
    return hold_to_prompts(sam, logits, view.window, in_frame, prompts.labels, mask)


def _float_features(sam: Sam, embedding: ImageEmbedding, window: Window) -> ImageFeatures:
    cut = crop_features(embedding.as_features(), window, sam.input_spec.stride)
    return cut._replace(embedding=cut.embedding.to(torch.float32))


def _as_tensors(
    prompts: ViewPrompts, view: View, device: torch.device
) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]:
    """Points with labels, boxes and mask logits of a batch of one, in the window."""
    points = boxes = logits = None
    if len(prompts.points_xy):
        moved = view.points_to_input(prompts.points_xy)[None]
        points = (
            torch.from_numpy(moved).to(torch.float32).to(device),
            torch.from_numpy(prompts.labels)[None].to(device),
        )
    if prompts.box_xyxy is not None:
        corners = np.array(prompts.box_xyxy, np.float64).reshape(2, 2)
        moved = view.points_to_input(corners).reshape(1, 4)
        boxes = torch.from_numpy(moved).to(torch.float32).to(device)
    if prompts.mask_logits is not None:
        logits = torch.from_numpy(prompts.mask_logits)[None, None].to(device)
    return points, boxes, logits
