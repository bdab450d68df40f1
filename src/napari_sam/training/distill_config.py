"""The configuration of a distillation, read from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_sam.training.config_file import read_config, require

__all__ = ["DistillConfig", "load_distill_config"]


@dataclass(frozen=True)
class DistillConfig:
    """Which image encoder to train after which teacher, on what, for how long.

    Attributes
    ----------
    data : str
        Folder with ``images/``; with a mask loss also with ``labels/``, or with ``index.csv``. A
        relative path starts at the configuration file.
    output : str
        Folder for checkpoints, log and the teacher's embeddings.
    teacher : str
        Name of a model in the registry, or a file of its weights. A relative path starts at the
        configuration file.
    student : str
        An architecture, such as ``vit_t``, for random weights, or a file of weights to start from.
    embeddings : str
        Folder for the teacher's embeddings, which several runs may share; ``teacher`` in the output
        folder if empty.
    iterations : int
        Optimiser steps in all.
    images_per_batch : int
        Images a step.
    mask_weight : float
        Weight of the mask loss beside the squared error on the embedding; 0 leaves it out, and no
        labels are read then.
    objects_per_image : int
        Prompts an image for the mask loss.
    box_fraction : float
        Share of images whose objects are prompted by boxes, and not by clicks.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over ``warmup`` steps, stays, and falls to a hundredth over the
        last part of the run.
    warmup : int
        Steps over which the learning rate rises.
    decay_from : float
        Fraction of the run from which the learning rate falls, and batch normalisation keeps its
        statistics. Until then a run may be made longer or shorter.
    ema_decay : float
        Decay of the moving average of the weights, which is what is exported.
    autocast : bool
        bfloat16 in the student's image encoder.
    seed : int
        Fixes weights, order of images and prompts.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    checkpoint_every : int
        Steps between checkpoints.
    """

    data: str
    output: str
    teacher: str
    student: str = "vit_t"
    embeddings: str = ""
    iterations: int = 20000
    images_per_batch: int = 4
    mask_weight: float = 0.0
    objects_per_image: int = 4
    box_fraction: float = 0.5
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 100
    decay_from: float = 0.5
    ema_decay: float = 0.998
    autocast: bool = False
    seed: int = 0
    device: str = "auto"
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        positive = ("iterations", "images_per_batch", "objects_per_image", "checkpoint_every")
        require(self, positive, "at least 1", lambda value: value >= 1)
        not_negative = ("mask_weight", "weight_decay", "warmup", "seed")
        require(self, not_negative, "0 or more", lambda value: value >= 0)
        require(self, ("learning_rate",), "above 0", lambda value: value > 0)
        fractions = ("box_fraction", "decay_from", "ema_decay")
        require(self, fractions, "between 0 and 1", lambda value: 0 <= value <= 1)


def load_distill_config(path: Path) -> DistillConfig:
    """Read the configuration of a distillation.

    Parameters
    ----------
    path : Path
        A TOML file with the fields of :class:`DistillConfig`.

    Raises
    ------
    ConfigError
        If the file is missing, not TOML, or names an option that does not exist or has a value
        out of range.
    """
    return read_config(
        path,
        DistillConfig,
        folders=("data", "output", "embeddings"),
        models=("teacher", "student"),
        example="distill_vit_t.toml",
    )
