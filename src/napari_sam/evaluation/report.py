"""The protocol: a model on labelled images, averaged per image, then per group."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError, OutputError
from napari_sam.core.modes import Mode
from napari_sam.core.object_scale import AUTO, Diameter, check_diameter
from napari_sam.core.steps import result_of
from napari_sam.evaluation.datasets import LabelledImage, PairEntry, iter_images, thin
from napari_sam.evaluation.interactive import CLICK_CAP, InteractiveScores, score_interactive
from napari_sam.evaluation.metrics import (
    average_recall,
    mean_segmentation_accuracy,
    panoptic_quality,
    segmentation_accuracy,
)
from napari_sam.evaluation.reliability import IouPairs, collect_pairs, write_reliability
from napari_sam.masks import PackedMask
from napari_sam.model.sam import Sam
from napari_sam.predict import (
    ImageEmbedding,
    SamPredictor,
    choose_mode,
    everything_generator,
    records_to_labels,
    segment_everything_objects,
)
from napari_sam.predict.object_diameter import choose_diameter, scale_steps
from napari_sam.predict.pixels import to_model_pixels

__all__ = ["EvaluationConfig", "ImageScores", "evaluate", "summarize", "write_report"]


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure.

    Attributes
    ----------
    interactive : bool
        Clicks and boxes.
    automatic : bool
        Segment everything.
    max_images : int, optional
        Images a group at most, evenly spaced.
    max_objects : int
        Objects an image at most that are prompted for, evenly spaced.
    max_clicks : int
        Clicks an object at most, 5 to 20.
    diameter : float, "auto" or "native", optional
        Diameter of the objects in pixels, at whose scale each image is encoded; ``"auto"`` is
        estimated for each, and ``"native"`` leaves images as they are. Unless given, as users have
        it by default: prompts see images as they are, and segment everything estimates the
        diameter where the model can.
    """

    interactive: bool = True
    automatic: bool = True
    max_images: int | None = None
    max_objects: int = 40
    max_clicks: int = CLICK_CAP
    diameter: Diameter | None = None

    def __post_init__(self) -> None:
        check_diameter(self.diameter)
        if not 5 <= self.max_clicks <= CLICK_CAP:
            raise ConfigError(
                f"{self.max_clicks} clicks were asked for",
                rule=f"An object gets from 5 to {CLICK_CAP} clicks",
                cure="Choose a number in this range",
            )
        if self.max_objects < 1 or (self.max_images is not None and self.max_images < 1):
            raise ConfigError(
                f"max_objects={self.max_objects}, max_images={self.max_images}",
                rule="Both are at least 1",
                cure="Correct the value",
            )


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image.

    Attributes
    ----------
    name, group : str
        Of the image.
    scores : dict of str to float
        By metric; one that was not asked for is absent.
    pairs : dict of str to IouPairs
        Predicted and true IoU of its objects' masks by prompt: ``click``, ``box``, ``clicks_3``.
    """

    name: str
    group: str
    scores: dict[str, float]
    pairs: dict[str, IouPairs] = field(default_factory=dict)


def evaluate(
    predictor: SamPredictor,
    pairs: list[PairEntry],
    config: EvaluationConfig | None = None,
    **everything_options: Any,
) -> Iterator[ImageScores]:
    """Score a model image by image.

    Parameters
    ----------
    predictor : SamPredictor
        The model.
    pairs : list of PairEntry
        The images, from :func:`~napari_sam.evaluation.datasets.list_pairs`.
    config : EvaluationConfig, optional
        What to measure.
    **everything_options
        Options of segment everything, its `mode` among them.

    Yields
    ------
    ImageScores
        One an image (or a slice with objects), as soon as it is measured.
    """
    config = config or EvaluationConfig()
    for item in iter_images(thin(pairs, config.max_images)):
        embedding = predictor.encode(item.image, diameter=config.diameter)
        scores: dict[str, float] = {}
        ious: dict[str, IouPairs] = {}
        prompted = _prompt_objects(predictor, embedding, item, config)
        if prompted is not None:
            scores |= _interactive_scores(prompted)
            ious = _iou_pairs(prompted)
        if config.automatic:
            if config.diameter is None and choose_diameter(predictor.sam, None) == AUTO:
                embedding = _at_estimated_scale(predictor, embedding, item)
            scores |= _automatic_scores(predictor, embedding, item, everything_options)
        if scores:
            yield ImageScores(item.name, item.group, scores, ious)


def summarize(results: list[ImageScores]) -> dict[str, dict[str, float]]:
    """Average the images of each group; ``mean`` is the mean of the groups.

    Parameters
    ----------
    results : list of ImageScores
        From :func:`evaluate`.

    Returns
    -------
    dict
        Group to metric to mean, with the number of images as ``images``.
    """
    summary: dict[str, dict[str, float]] = {}
    for group in sorted({result.group for result in results}):
        members = [result.scores for result in results if result.group == group]
        names = [name for name in members[0] if any(name in member for member in members)]
        summary[group] = {
            name: float(np.mean([member[name] for member in members if name in member]))
            for name in names
        }
        summary[group]["images"] = len(members)
    if len(summary) > 1:
        names = list(next(iter(summary.values())))
        mean = {
            name: float(np.mean([row[name] for row in summary.values() if name in row]))
            for name in names
        }
        summary["mean"] = mean | {"images": len(results)}
    return summary


def write_report(folder: Path, results: list[ImageScores]) -> None:
    """Write ``images.csv`` and ``summary.json`` into a folder, and how far to trust predicted IoU.

    That is ``reliability.csv`` and ``reliability.png``, where objects were prompted for.

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    names = list(dict.fromkeys(name for result in results for name in result.scores))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "images.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["name", "group", *names])
            writer.writeheader()
            for result in results:
                rounded = {name: f"{value:.5f}" for name, value in result.scores.items()}
                writer.writerow({"name": result.name, "group": result.group} | rounded)
        text = json.dumps(summarize(results), indent=2)
        (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
        if table := collect_pairs(results):
            write_reliability(folder, table)
    except OSError as error:
        raise OutputError(
            f"The report cannot be written to {folder} ({error})",
            rule="It needs a folder that can be written to",
            cure="Choose another folder with --output",
        ) from error


def _at_estimated_scale(
    predictor: SamPredictor, embedding: ImageEmbedding, item: LabelledImage
) -> ImageEmbedding:
    """Encode an image at the scale that suits its objects, unless that is the one it has."""
    pixels = to_model_pixels(item.image, predictor.sam.input_spec)
    scale, known = result_of(scale_steps(predictor.sam, pixels, AUTO, embedding))
    return known or predictor.encode_pixels(pixels, scale)


def _prompt_objects(
    predictor: SamPredictor,
    embedding: ImageEmbedding,
    item: LabelledImage,
    config: EvaluationConfig,
) -> InteractiveScores | None:
    """Click and box the objects; None where there are none, or it was not asked for."""
    truth = item.true_masks(config.max_objects)
    if not len(truth) or not config.interactive:
        return None
    return score_interactive(predictor, embedding, truth, max_clicks=config.max_clicks)


def _interactive_scores(scores: InteractiveScores) -> dict[str, float]:
    values = {name: array.mean() for name, array in dataclasses.asdict(scores).items()}
    error = np.abs(scores.predicted_iou - scores.click).mean()
    return {name: float(value) for name, value in values.items()} | {"iou_error": float(error)}


def _iou_pairs(scores: InteractiveScores) -> dict[str, IouPairs]:
    return {
        "click": IouPairs(scores.predicted_iou, scores.click),
        "box": IouPairs(scores.predicted_iou_box, scores.box),
        "clicks_3": IouPairs(scores.predicted_iou_3, scores.clicks_3),
    }


def _automatic_scores(
    predictor: SamPredictor,
    embedding: ImageEmbedding,
    item: LabelledImage,
    options: dict[str, Any],
) -> dict[str, float]:
    labels, ranked = _everything(predictor.sam, embedding, **options)
    quality = panoptic_quality(labels, item.labels)
    best = _best_overlaps(ranked, item.labels)
    return {
        "SA50": segmentation_accuracy(labels, item.labels),
        "mSA": mean_segmentation_accuracy(labels, item.labels),
        "SQ": quality.segmentation_quality,
        "PQ": quality.quality,
        "AR100": average_recall(best[:100].max(axis=0, initial=0.0).tolist()),
        "AR1000": average_recall(best[:1000].max(axis=0, initial=0.0).tolist()),
    }


def _everything(
    sam: Sam, embedding: ImageEmbedding, *, mode: Mode | None = None, **options: Any
) -> tuple[NDArray[np.int32], list[PackedMask]]:
    """Label image, and from the best down the masks that it was chosen from."""
    if choose_mode(sam, mode, options) == "watershed":  # which makes no masks but those it labels
        found = segment_everything_objects(embedding, sam, mode=mode, **options)
        return found.labels, found.masks()
    records = everything_generator(sam, mode=mode, **options).generate(embedding)
    ranked = sorted(records, key=lambda record: -record.predicted_iou * record.stability_score)
    labels = records_to_labels(records, embedding.original_size_yx).labels
    return labels, [record.mask for record in ranked]


def _best_overlaps(masks: Sequence[PackedMask], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """IoU of each proposed mask with each true object, (P, T)."""
    count = int(labels.max(initial=0)) + 1
    sizes = np.bincount(labels.ravel(), minlength=count)
    iou = np.zeros((len(masks), count))
    for row, mask in enumerate(masks):
        under = labels[mask.slices][mask.crop()]
        overlap = np.bincount(under, minlength=count)
        iou[row] = overlap / (sizes + mask.area - overlap)
    return iou[:, 1:][:, sizes[1:] > 0]
