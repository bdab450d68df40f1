"""Segmenting everything from a grid of points, after the embedding.

Both generators get an image encoder that gives a fixed random embedding at no cost. The reference
returns run lengths, the form that it makes fastest, ours its packed masks.

`everything-sparse` keeps about one mask in 20, as real images do: the threshold of the predicted
IoU is a quantile over an 8 x 8 grid. `everything-all` keeps all masks, the worst case. Nothing is
removed as a duplicate in either, so that thousands of random masks stay to be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from comparison.contest import OURS, REFERENCE, Contest, Setting, Target, Work
from comparison.equality import Check, check_records
from comparison.flops import count_flops
from comparison.random_models import decoder_pair, random_image, reference_predictor
from napari_sam.model import Sam
from napari_sam.predict import AutomaticMaskGenerator, MaskRecord, SamPredictor

KEPT = 0.05
SAMPLED_PER_SIDE = 8
MIN_STABILITY = 0.01
"""Low, as masks of random weights are hardly stable."""


def _sparse(setting: Setting) -> Contest:
    return _everything(setting, KEPT)


def _all(setting: Setting) -> Contest:
    return _everything(setting, 1.0)


def _everything(setting: Setting, kept: float) -> Contest:
    from segment_anything import SamAutomaticMaskGenerator

    pair = decoder_pair(setting)
    image = random_image(setting.scale.image_side, setting.seed)
    options: dict[str, Any] = {
        "points_per_side": setting.scale.points_per_side,
        "pred_iou_thresh": 0.0 if kept == 1 else _threshold(pair.ours, image, kept),
        "stability_score_thresh": 0.0 if kept == 1 else MIN_STABILITY,
        "box_nms_thresh": 1.0,
    }
    generator = AutomaticMaskGenerator(pair.ours, **options)
    theirs = SamAutomaticMaskGenerator(pair.reference, output_mode="uncompressed_rle", **options)

    def figures(records: Sequence[MaskRecord]) -> dict[str, float]:
        drawn = 3 * setting.scale.points_per_side**2
        return {"masks kept": float(len(records)), "share kept": len(records) / drawn}

    return Contest(
        sides={
            REFERENCE: lambda: theirs.generate(image),
            OURS: lambda: generator.generate(image),
        },
        check=_check_with(pair.reference, image),
        flops=lambda: count_flops(lambda: generator.generate(image)),
        figures=figures,
    )


def _threshold(sam: Sam, image: NDArray[np.uint8], kept: float) -> float:
    """Return the predicted IoU that a share of the masks of a coarse grid exceeds."""
    embedding = SamPredictor(sam).encode(image)
    places = (np.arange(SAMPLED_PER_SIDE) + 0.5) / SAMPLED_PER_SIDE * image.shape[0]
    points = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 1, 2)
    coords = torch.from_numpy(points).to(torch.float32).to(sam.device)
    labels = torch.ones(coords.shape[:2], dtype=torch.int64, device=sam.device)
    with torch.inference_mode():
        ious = [
            sam.decode(embedding.as_features(), points=batch, multimask=True)[1].flatten()
            for batch in zip(coords.split(8), labels.split(8), strict=True)
        ]
    return float(np.quantile(torch.cat(ious).cpu().numpy(), 1 - kept))


def _check_with(
    reference: Any, image: NDArray[np.uint8]
) -> Callable[[Sequence[MaskRecord], Sequence[Mapping[str, Any]]], Check]:
    """Compare records; the reference computes the logits of a mask where they are asked for."""

    def logits_of(record: Mapping[str, Any]) -> NDArray[np.float32]:
        predictor = reference_predictor(reference, image)
        point = np.array(record["point_coords"])
        logits, ious, _ = predictor.predict(point, np.array([1]), return_logits=True)
        chosen: NDArray[np.float32] = logits[np.abs(ious - record["predicted_iou"]).argmin()]
        return chosen

    return lambda ours, other: check_records(ours, other, logits_of)


SPARSE = Work(
    name="everything-sparse",
    title="everything, 5 % of the masks kept",
    target=Target(ratio=5),
    against="segment_anything",
    repeats=1,
    prepare=_sparse,
    warm_ups=0,
)
ALL = Work(
    name="everything-all",
    title="everything, all masks kept",
    target=Target(ratio=20),
    against="segment_anything",
    repeats=1,
    prepare=_all,
    warm_ups=0,
)
