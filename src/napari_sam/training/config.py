"""The configuration of a training run, read from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from napari_sam.training.config_file import read_config, refused, require

__all__ = ["TrainConfig", "load_config"]


@dataclass(frozen=True)
class TrainConfig:
    """What to train on, for how long, and where to put it.

    Attributes
    ----------
    data : str
        Folder with ``index.csv``, or with ``images/`` and ``labels/``. A relative path starts at
        the configuration file.
    output : str
        Folder for checkpoints, log and curves.
    model : str
        An architecture for random weights, or a file of weights to start from. A relative path
        starts at the configuration file.
    train_parts : {"all", "decoder", "head"}
        What is trained: everything; prompt encoder, mask decoder and instance head; or the
        instance head alone. The rest keeps its weights.
    crop_pool : int
        How many crops there are in all: a frozen image encoder sees each only once. 0 to draw a
        new one each time.
    hold_out_every : int
        Every so many images of a folder without an index are held out for validation, and the
        last where there are fewer; 0 to train on all.
    iterations : int
        Optimiser steps in all.
    crop_size : int
        Side of a training crop, in pixels.
    images_per_batch, objects_per_image : int
        Crops a step, and prompts a crop.
    max_rounds : int
        Rounds an object goes through at most: the first prompt, then corrective clicks.
    extra_round_probability : float
        Chance of each further round.
    mask_only_fraction : float
        Share of the further rounds without a new click; in half of them the prompts before are
        left out too, so that the mask prompt stands alone.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over ``warmup`` steps, stays, and falls to a hundredth over the
        last part of the run.
    warmup : int
        Steps over which the learning rate rises.
    decay_from : float
        Fraction of the run from which the learning rate falls, and batch normalisation keeps its
        statistics. Until then a run may be made longer or shorter.
    ema_decay : float
        Decay of the moving average of the weights, which is what is validated and exported.
    start_share : float
        Share of the weights that the run started from in those that are validated and exported,
        0 to 1: the model keeps more of what it knew (Wortsman et al. 2022, arXiv:2109.01903).
    sampling : dict of str to float
        Relative weight of each group (set and modality, or the start of it); ``synthetic`` is the
        generator with all its kinds alike, ``synthetic nuclei`` one kind of it. Groups of images
        that are not named have weight 1, the generator 0.
    warp_fraction : float
        Share of the crops that are turned by any angle and stretched, where the image is large
        enough; the others are turned by quarters alone.
    background_fraction : float
        Share of clicks on background, which teach the predicted IoU to be low there.
    box_fraction : float
        Share of objects that get a box first instead of a click.
    box_click_fraction : float
        Share of first boxes that come with a click.
    proposal_weight : float
        Weight of the instance maps' loss.
    autocast : bool
        bfloat16 in the forward pass.
    seed : int
        Fixes weights, crops and prompts.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    checkpoint_every, validate_every : int
        Steps between checkpoints and between validations.
    validation_objects : int
        Objects a group in each validation.
    """

    data: str
    output: str
    model: str = "compact"
    train_parts: str = "all"
    crop_pool: int = 0
    hold_out_every: int = 0
    iterations: int = 4000
    crop_size: int = 256
    images_per_batch: int = 4
    objects_per_image: int = 6
    max_rounds: int = 11
    extra_round_probability: float = 0.5
    mask_only_fraction: float = 0.15
    learning_rate: float = 1.2e-3
    weight_decay: float = 0.01
    warmup: int = 100
    decay_from: float = 0.7
    ema_decay: float = 0.998
    start_share: float = 0.0
    sampling: dict[str, float] = field(default_factory=dict)
    warp_fraction: float = 0.0
    background_fraction: float = 0.1
    box_fraction: float = 0.35
    box_click_fraction: float = 0.25
    proposal_weight: float = 1.0
    autocast: bool = False
    seed: int = 0
    device: str = "auto"
    checkpoint_every: int = 100
    validate_every: int = 250
    validation_objects: int = 60

    def __post_init__(self) -> None:
        positive = ("iterations", "images_per_batch", "objects_per_image", "max_rounds",
                    "checkpoint_every", "validate_every", "validation_objects")  # fmt: skip
        require(self, positive, "at least 1", lambda value: value >= 1)
        require(self, ("crop_pool", "hold_out_every"), "at least 0", lambda value: value >= 0)
        if self.train_parts not in ("all", "decoder", "head"):
            raise refused("train_parts", self.train_parts, "'all', 'decoder' or 'head'")
        if self.start_share and not Path(self.model).suffix:
            raise refused("start_share", self.start_share, "0 where `model` is not a file")
        if self.train_parts == "all" and self.crop_pool:
            raise refused("crop_pool", self.crop_pool, "0 where the image encoder is trained")
        if self.crop_size < 64 or self.crop_size % 32:
            raise refused("crop_size", self.crop_size, "a multiple of 32 from 64 on")
        require(self, ("learning_rate",), "above 0", lambda value: value > 0)
        fractions = ("extra_round_probability", "mask_only_fraction", "background_fraction",
                     "box_fraction", "box_click_fraction", "decay_from", "ema_decay",
                     "start_share", "warp_fraction")  # fmt: skip
        require(self, fractions, "between 0 and 1", lambda value: 0 <= value <= 1)


def load_config(path: Path) -> TrainConfig:
    """Read a training configuration.

    Parameters
    ----------
    path : Path
        A TOML file with the fields of :class:`TrainConfig`.

    Raises
    ------
    ConfigError
        If the file is missing, not TOML, or names an option that does not exist or has a value
        out of range.
    """
    return read_config(
        path, TrainConfig, folders=("data", "output"), models=("model",), example="compact.toml"
    )
