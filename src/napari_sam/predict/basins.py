"""Objects from the instance head's maps alone: a seeded watershed, without the mask decoder.

**Seeds** are the peaks that also propose points (:func:`~napari_sam.predict.proposals.find_peaks`).
Each floods a *basin* of the boundary map (Vincent & Soille 1991; here from markers), which rises
outside of the foreground, so that basins of neighbours meet halfway there. Foreground that a
boundary or a gap parts from all seeds is in no basin. Its neighbours would flood it, and a sliver
of an object that the edge of a tile cuts off could join two objects into one. An *object* is the
part of a basin, in one piece with its seed, whose foreground probability is above a threshold. The
maps are interpolated to image resolution first, so that edges are smooth. A long object has several
peaks; basins between which there is hardly a boundary become one
(:mod:`napari_sam.predict.basin_merging`).

On 20 validation images of six kinds, before the scores were asked for anything, flooding the
boundary map gave the bundled model a mean SA50 of .39 and an mSA of .21; the centre map .38 and
.19; a flat one .35 and .18.

**Scores.** No mask decoder judges these objects, so two figures of the same meaning take the place
of its scores. The predicted IoU is the mean foreground probability inside: of 1,200 objects on
those images its rank correlation with their true IoU was .64. The stability score is the area at
a higher threshold as a fraction of that at a lower one, as SAM's is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, special
from skimage.measure import label as connected_parts
from skimage.segmentation import watershed
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (torch's own name for it)

from napari_sam.core.errors import ConfigError
from napari_sam.model.devices import translate_torch_errors
from napari_sam.model.instance_head import InstanceHead
from napari_sam.predict.basin_merging import merge_basins
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.proposals import find_peaks
from napari_sam.predict.segmented import SegmentedImage, SegmentedObject
from napari_sam.predict.transforms import ImageTransform

__all__ = ["LEAST_FOREGROUND", "InstanceBasins", "WatershedOptions", "flood_basins"]

LEAST_FOREGROUND = 0.05
"""Foreground probability up to which nothing is flooded, and the lowest threshold."""


@dataclass(frozen=True)
class WatershedOptions:
    """Options of :class:`WatershedSegmenter`.

    The defaults of the thresholds are within .01 of the best mean mSA, of steps of .05 and .1, both
    on 28 training and on 20 validation images of six kinds.

    Parameters
    ----------
    foreground_thresh : float
        Pixels of objects have a higher foreground probability, 0.05 to 1.
    pred_iou_thresh : float
        Objects need a higher mean foreground probability, 0 to 1.
    stability_score_thresh : float
        Objects need at least this stability score, 0 to 1.
    stability_score_offset : float
        How far the logit of the threshold moves up and down for the stability score.

    Raises
    ------
    ConfigError
        When a value is out of range.
    """

    foreground_thresh: float = 0.5
    pred_iou_thresh: float = 0.7
    stability_score_thresh: float = 0.3
    stability_score_offset: float = 1.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("foreground_thresh", LEAST_FOREGROUND, 1.0),
            ("pred_iou_thresh", 0.0, 1.0),
            ("stability_score_thresh", 0.0, 1.0),
            ("stability_score_offset", 0.0, np.inf),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"{name}={value} was given",
                    rule=f"{name} lies between {low} and {high}",
                    cure="Choose a value in this range, or leave it out for the default",
                )


@dataclass(frozen=True, eq=False)
class InstanceBasins:
    """The flooded maps of an image, from which thresholds cut objects without the model.

    As :meth:`WatershedSegmenter.basin_steps` returns it.

    Parameters
    ----------
    basins : ndarray of int32, shape (H, W)
        Which seed flooded a pixel, from 1; 0 where none did.
    foreground : ndarray of float32, shape (H, W)
        Logits of the foreground.
    seeds_xy : ndarray of float64, shape (K, 2)
        Seed ``i`` has basin ``i + 1``; as (x, y) in image pixels.
    options : WatershedOptions
        What :meth:`segment` takes where it is given nothing else.
    """

    basins: NDArray[np.int32]
    foreground: NDArray[np.float32]
    seeds_xy: NDArray[np.float64]
    options: WatershedOptions

    def segment(
        self,
        foreground_thresh: float | None = None,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        *,
        min_size: int = 16,
        max_area_fraction: float = 0.4,
    ) -> SegmentedImage:
        """Cut the objects out of their basins.

        Equal in every pixel to segmenting the image anew with these thresholds.

        Parameters
        ----------
        foreground_thresh, pred_iou_thresh, stability_score_thresh : float, optional
            As in :class:`WatershedOptions`; those of the segmenter unless given.
        min_size : int
            Smallest area of an object in pixels.
        max_area_fraction : float
            Largest fraction of the image that an object covers; what is larger is taken for
            background.

        Returns
        -------
        SegmentedImage

        Raises
        ------
        ConfigError
            When a threshold is out of range.
        """
        given = {
            "foreground_thresh": foreground_thresh,
            "pred_iou_thresh": pred_iou_thresh,
            "stability_score_thresh": stability_score_thresh,
        }
        options = replace(
            self.options, **{name: value for name, value in given.items() if value is not None}
        )
        level, offset = special.logit(options.foreground_thresh), options.stability_score_offset
        objects = self._cut(level)
        areas = self._count(objects)
        inside = special.expit(self.foreground, dtype=np.float64)
        predicted = self._count(objects, inside) / np.maximum(areas, 1)
        stability = self._count(self._cut(level + offset)) / np.maximum(
            self._count(self._cut(level - offset)), 1
        )
        passed = (areas >= max(min_size, 1)) & (areas <= max_area_fraction * objects.size)
        if options.pred_iou_thresh > 0:
            passed &= predicted > options.pred_iou_thresh
        passed &= stability >= options.stability_score_thresh
        passed[0] = False
        return self._rank(objects, np.flatnonzero(passed), areas, predicted, stability)

    def _cut(self, level: float) -> NDArray[np.int32]:
        """Keep of each basin what is above a level, and in one piece with its seed."""
        above = np.where(self.foreground > level, self.basins, 0)
        cols, rows = np.rint(self.seeds_xy).astype(np.int64).T
        objects: NDArray[np.int32] = np.where(_is_seeded(above, (rows, cols)), above, 0)
        return objects

    def _count(
        self, objects: NDArray[np.int32], weights: NDArray[np.float64] | None = None
    ) -> NDArray[Any]:
        """Sum up pixels, or their weights, by basin; index 0 is background."""
        flat = None if weights is None else weights.ravel()
        return np.bincount(objects.ravel(), flat, minlength=len(self.seeds_xy) + 1)

    def _rank(
        self,
        objects: NDArray[np.int32],
        chosen: NDArray[np.int64],
        areas: NDArray[np.int64],
        predicted: NDArray[np.float64],
        stability: NDArray[np.float64],
    ) -> SegmentedImage:
        """Give labels to the chosen basins, from the best score down."""
        scores = (predicted * stability)[chosen]
        ranking = chosen[np.lexsort((chosen, -areas[chosen], -scores))]
        labels_of = np.zeros(len(self.seeds_xy) + 1, dtype=np.int32)
        labels_of[ranking] = np.arange(1, len(ranking) + 1)
        labels = labels_of[objects]
        found = []
        for label, (basin, box) in enumerate(
            zip(ranking.tolist(), ndimage.find_objects(labels, len(ranking)), strict=True), start=1
        ):
            x, y = self.seeds_xy[basin - 1].tolist()
            found.append(
                SegmentedObject(
                    label=label,
                    area=int(areas[basin]),
                    box_xyxy=(box[1].start, box[0].start, box[1].stop - 1, box[0].stop - 1),
                    predicted_iou=float(predicted[basin]),
                    stability_score=float(stability[basin]),
                    point_xy=(x, y),
                    is_prompted=False,
                )
            )
        return SegmentedImage(labels, tuple(found))


def flood_basins(
    head: InstanceHead, embedding: ImageEmbedding, options: WatershedOptions
) -> InstanceBasins:
    """Flood the maps of an image.

    Parameters
    ----------
    head : InstanceHead
        Of the model.
    embedding : ImageEmbedding
        Of the image, from the same model.
    options : WatershedOptions
        What :meth:`InstanceBasins.segment` takes where it is given nothing else.

    Returns
    -------
    InstanceBasins

    Raises
    ------
    DeviceError
        When the device fails, or has too little memory.
    """
    with translate_torch_errors(), torch.inference_mode():
        maps = head(embedding.as_features())
        seeds_xy = find_peaks(maps, embedding.transform)
        foreground = _to_image(maps.foreground, embedding.transform)
        boundary = _to_image(maps.boundary.sigmoid(), embedding.transform)
        basins = _flood(seeds_xy, foreground, boundary)
        logits = foreground.cpu().numpy()
        owner = merge_basins(basins, boundary.cpu().numpy(), logits > 0)
    whole = np.unique(owner)  # 0, then the basins that are no piece of another
    merged = np.searchsorted(whole, owner).astype(np.int32)[basins]
    return InstanceBasins(merged, logits, seeds_xy[whole[1:] - 1], options)


def _flood(
    seeds_xy: NDArray[np.float64], foreground: Tensor, boundary: Tensor
) -> NDArray[np.int32]:
    """Flood from each seed, lowest pixels first."""
    probability = foreground.sigmoid()
    # away from objects there is no boundary to be seen, so the foreground slopes instead
    height = torch.maximum(boundary, 0.5 - probability).cpu().numpy()
    inside = ((probability > 0.5) & (boundary < 0.5)).cpu().numpy()
    markers = np.zeros(foreground.shape, dtype=np.int32)
    cols, rows = np.rint(seeds_xy).astype(np.int64).T
    markers[rows, cols] = np.arange(1, len(seeds_xy) + 1)
    nobody = len(seeds_xy) + 1
    # foreground that a boundary parts from all seeds: of another object, cut by the edge
    markers[inside & ~_is_seeded(inside, (rows, cols))] = nobody
    mask = (probability > LEAST_FOREGROUND).cpu().numpy()
    basins: NDArray[np.int32] = watershed(height, markers, mask=mask)
    basins[basins == nobody] = 0
    return basins


def _is_seeded(regions: NDArray[Any], seeds: tuple[NDArray[np.int64], ...]) -> NDArray[np.bool_]:
    """Find the pixels in one piece with a seed: joined to it by pixels of its value, not 0."""
    parts = connected_parts(regions, connectivity=1)
    has_seed = np.zeros(int(parts.max(initial=0)) + 1, dtype=np.bool_)
    has_seed[parts[seeds]] = True
    has_seed[0] = False
    seeded: NDArray[np.bool_] = has_seed[parts]
    return seeded


def _to_image(level: Tensor, transform: ImageTransform) -> Tensor:
    """Interpolate a map (1, h, w) of the input frame to the image, (H, W)."""
    framed = F.interpolate(
        level[:, None], transform.padded_size_yx, mode="bilinear", align_corners=False
    )
    rows, cols = transform.input_size_yx
    inside = framed[..., :rows, :cols]
    if transform.original_size_yx != transform.input_size_yx:
        inside = F.interpolate(
            inside, transform.original_size_yx, mode="bilinear", align_corners=False
        )
    return inside[0, 0]
