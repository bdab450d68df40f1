"""Training batches: crops, their instance maps, and the objects to prompt for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.evaluation.datasets import PairEntry, iter_images, list_pairs, stretch
from napari_sam.training.augment import (
    Crop,
    TrainingImage,
    change_look,
    make_training_image,
    take_crop,
)
from napari_sam.training.config import TrainConfig
from napari_sam.training.synthetic import KINDS, synthetic_image
from napari_sam.training.targets import instance_targets

__all__ = [
    "MIN_OBJECT_PIXELS",
    "Batch",
    "BatchSource",
    "list_training_pairs",
    "load_training_images",
]

SYNTHETIC = "synthetic"
MIN_OBJECT_PIXELS = 24
"""Objects with fewer pixels are not prompted for."""


@dataclass(frozen=True)
class Batch:
    """One step's crops and objects.

    Attributes
    ----------
    images : ndarray of uint8
        (B, S, S, 3).
    maps : ndarray of float32
        Targets of the instance head, (B, 3, S, S).
    masks : ndarray of bool
        True mask of each object, (N, S, S); empty for a background click.
    image_index : ndarray of int
        The crop of each object, (N,).
    background : ndarray of bool
        Which objects are background clicks, (N,).
    background_masks : ndarray of bool
        Where a background click may land, (N, S, S); empty masks for objects.
    pool_numbers : tuple of int, optional
        The number of each crop in the pool, where there is one.
    """

    images: NDArray[np.uint8]
    maps: NDArray[np.float32]
    masks: NDArray[np.bool_]
    image_index: NDArray[np.int64]
    background: NDArray[np.bool_]
    background_masks: NDArray[np.bool_]
    pool_numbers: tuple[int, ...] | None = None


def list_training_pairs(
    folder: Path, split: Literal["train", "val"] = "train", hold_out_every: int = 0
) -> list[PairEntry]:
    """List the labelled images of a split that a licence allows training on.

    Of a folder without an index, every `hold_out_every`-th image is the validation split, and the
    last where there are fewer; with 0 there is none.
    """
    if (Path(folder) / "index.csv").exists():
        return list_pairs(folder, split=split, use="train")
    pairs = list_pairs(folder)
    held_out: list[PairEntry] = []
    if hold_out_every and len(pairs) > 1:
        held_out = pairs[hold_out_every - 1 :: hold_out_every] or pairs[-1:]
    return held_out if split == "val" else [pair for pair in pairs if pair not in held_out]


def load_training_images(
    folder: Path, split: Literal["train", "val"] = "train", hold_out_every: int = 0
) -> list[TrainingImage]:
    """Read and stretch the images that :func:`list_training_pairs` names."""
    return [
        make_training_image(item.group, stretch(item.image), item.labels)
        for item in iter_images(list_training_pairs(folder, split, hold_out_every))
        if item.labels.any()
    ]


class BatchSource:
    """Draws batches; batch ``i`` depends on the seed and ``i`` alone, so a run can resume.

    Parameters
    ----------
    images : list of TrainingImage
        What to crop from.
    config : TrainConfig
        Sizes, fractions and the weight of each group.

    Raises
    ------
    InputError
        If no image has a group with a positive weight, or ``sampling`` names a kind of synthetic
        image that there is not.
    """

    def __init__(self, images: list[TrainingImage], config: TrainConfig) -> None:
        self.config = config
        self.by_group: dict[str, list[TrainingImage]] = {}
        for image in images:
            self.by_group.setdefault(image.group, []).append(image)
        weights = {group: _group_weight(group, config.sampling) for group in self.by_group}
        weights |= _synthetic_weights(config.sampling, list(self.by_group))
        total = sum(weights.values())
        if total <= 0:
            raise InputError(
                f"No group of {sorted(self.by_group)} has a weight above 0",
                rule="Training samples groups by the weights in `sampling`",
                cure="Correct the group names or weights in the training configuration",
            )
        self.groups = sorted(weights)
        self.probabilities = np.array([weights[group] / total for group in self.groups])

    def batch(self, index: int) -> Batch:
        """Draw batch number ``index``."""
        rng = np.random.default_rng([self.config.seed, index])
        pool_numbers = self._draw_from_pool(rng)
        sources = [np.random.default_rng([self.config.seed, 0, n]) for n in pool_numbers or ()]
        sources = sources or [rng] * self.config.images_per_batch
        crops = [self._crop(source) for source in sources]
        looks = zip(crops, sources, strict=True)
        images = np.stack([change_look(crop.image, source) for crop, source in looks])
        maps = np.stack([instance_targets(crop.labels) for crop in crops])
        objects = [
            (number, *self._object(crop.labels, rng))
            for number, crop in enumerate(crops)
            for _ in range(self.config.objects_per_image)
        ]
        numbers, masks, background = zip(*objects, strict=True)
        is_background = np.array(background)
        stacked = np.stack(masks)
        return Batch(
            images,
            maps,
            stacked & ~is_background[:, None, None],
            np.array(numbers),
            is_background,
            stacked & is_background[:, None, None],
            pool_numbers,
        )

    def _draw_from_pool(self, rng: np.random.Generator) -> tuple[int, ...] | None:
        config = self.config
        if not config.crop_pool:
            return None
        return tuple(rng.integers(config.crop_pool, size=config.images_per_batch).tolist())

    def _crop(self, rng: np.random.Generator) -> Crop:
        size = self.config.crop_size
        group = self.groups[int(rng.choice(len(self.groups), p=self.probabilities))]
        members = self.by_group.get(group)
        if members is None:
            kind = group.removeprefix(SYNTHETIC).strip() or None
            image, labels = synthetic_image((size, size), rng, kind)
            shown = stretch(image)
            if shown.ndim == 2:
                shown = np.repeat(shown[..., None], 3, axis=2)
            return Crop(shown, labels)
        member = members[int(rng.integers(len(members)))]
        return take_crop(member, size, rng, self.config.warp_fraction)

    def _object(
        self, labels: NDArray[np.int32], rng: np.random.Generator
    ) -> tuple[NDArray[np.bool_], bool]:
        """Draw an object, or the background, as a mask and whether it is background."""
        sizes = np.bincount(labels.ravel())
        candidates = np.flatnonzero(sizes >= MIN_OBJECT_PIXELS)
        candidates = candidates[candidates > 0]
        wants_background = rng.random() < self.config.background_fraction
        if candidates.size and not (wants_background and sizes[0] > 0):
            return labels == int(rng.choice(candidates)), False
        ground = labels == 0
        return (ground, True) if ground.any() else (labels > 0, False)


def _group_weight(group: str, sampling: dict[str, float]) -> float:
    """Weight of the longest name in ``sampling`` that the group starts with."""
    matches = [name for name in sampling if group.startswith(name)]
    return sampling[max(matches, key=len)] if matches else 1.0


def _synthetic_weights(sampling: dict[str, float], groups: list[str]) -> dict[str, float]:
    """Weights of ``synthetic`` and of single kinds of it, such as ``synthetic nuclei``."""
    weights = {}
    for name, weight in sampling.items():
        word, _, kind = name.partition(" ")
        if word != SYNTHETIC or any(group.startswith(name) for group in groups if kind):
            continue  # it weighs images from the folder
        if kind and kind not in KINDS:
            raise InputError(
                f"`sampling` gives a weight to {name!r}",
                rule=f"The kinds of synthetic image are {', '.join(sorted(KINDS))}",
                cure="Correct the kind, or give a weight to `synthetic`, which draws all kinds",
            )
        if weight > 0:
            weights[name] = weight
    return weights
