"""Fine-tune a model on a folder of labelled images, and measure what it gained on held-out ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_sam.core.errors import InputError
from napari_sam.evaluation.report import EvaluationConfig, evaluate, summarize
from napari_sam.model import load_model
from napari_sam.model.checkpoints import detect_architecture, locate_weights
from napari_sam.model.store import verify_file
from napari_sam.model.weight_files import read_state_dict
from napari_sam.predict import SamPredictor
from napari_sam.training.batches import list_training_pairs
from napari_sam.training.config import TrainConfig
from napari_sam.training.export import export_model
from napari_sam.training.loop import Stopped, TrainEvent, train

__all__ = ["FineTuneEvent", "Measured", "Offered", "fine_tune", "fine_tune_config"]

HOLD_OUT_EVERY = 4
MODEL_NAME = "model.safetensors"

_MEASURED = EvaluationConfig(max_images=8, max_objects=20, max_clicks=5)


@dataclass(frozen=True)
class Measured:
    """The held-out images were scored.

    Attributes
    ----------
    stage : {"before", "after"}
        Before or after training.
    scores : dict of str to float
        Mean over the held-out images of each metric of ``napari-sam evaluate``. Segment
        everything is left out of "before" where the model proposes no objects yet.
    images : int
        How many images were held out and measured.
    """

    stage: Literal["before", "after"]
    scores: dict[str, float]
    images: int


@dataclass(frozen=True)
class Offered:
    """The new model is there.

    Attributes
    ----------
    path : Path
        Its file.
    gains : dict of str to float
        What each metric gained that was measured before and after.
    """

    path: Path
    gains: dict[str, float]


FineTuneEvent = TrainEvent | Measured | Offered


def fine_tune_config(
    data: Path,
    output: Path,
    model: str | Path = "compact",
    *,
    parts: Literal["all", "decoder", "head"] | None = None,
    iterations: int | None = None,
    device: str = "auto",
) -> TrainConfig:
    """Choose how a model is fine-tuned on a folder of images, for minutes on a CPU.

    The compact model is trained whole. Encoders of Segment Anything are too large for that: they
    encode a few crops once, and prompt encoder, mask decoder and instance head are trained on them.

    Parameters
    ----------
    data : Path
        Folder with ``images/`` and ``labels/``; every fourth image is held out.
    output : Path
        Folder of the run.
    model : str or Path
        Where to start: a name in the registry, or a file.
    parts : {"all", "decoder", "head"}, optional
        What is trained, instead of what was said above.
    iterations : int, optional
        Optimiser steps.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Returns
    -------
    TrainConfig

    Raises
    ------
    ConfigError
        If the name is unknown.
    CheckpointError
        If the weights are missing, damaged, or of no known architecture.
    """
    entry, path = locate_weights(model)
    verify_file(path, entry)
    is_compact = detect_architecture(read_state_dict(path)) == "compact"
    parts = parts or ("all" if is_compact else "decoder")
    return TrainConfig(
        data=str(data),
        output=str(output),
        model=str(path),
        train_parts=parts,
        crop_pool=0 if parts == "all" else (64 if is_compact else 16),
        hold_out_every=HOLD_OUT_EVERY,
        iterations=iterations or (240 if is_compact else 60),
        crop_size=256 if is_compact else 512,
        images_per_batch=3 if is_compact else 2,
        learning_rate=4e-4,
        warmup=20,
        decay_from=0.5,
        ema_decay=0.97,
        device=device,
        checkpoint_every=20,
        validate_every=60,
        validation_objects=24,
    )


def fine_tune(config: TrainConfig) -> Iterator[FineTuneEvent]:
    """Train a model on a folder, with held-out images measured before and after.

    Parameters
    ----------
    config : TrainConfig
        As :func:`fine_tune_config` makes it.

    Yields
    ------
    Measured
        First, and once more after training.
    TrainEvent
        From :func:`~napari_sam.training.loop.train`.
    Offered
        Last.

    Raises
    ------
    InputError
        If no image can be held out.
    ConfigError
        If the output folder holds another run.
    """
    held_out = list_training_pairs(Path(config.data), "val", config.hold_out_every)
    if not held_out:
        raise InputError(
            f"{config.data} has a single labelled image",
            rule="One image is held out, to measure what training gains",
            cure="Label one more image, or cut the image in two",
        )
    before = _measure(Path(config.model), config, "before")
    yield before
    for event in train(config):
        yield event
        if isinstance(event, Stopped):
            path = export_model(event.checkpoint, Path(config.output) / MODEL_NAME)
            after = _measure(path, config, "after")
            yield after
            gains = {
                name: value - before.scores[name]
                for name, value in after.scores.items()
                if name in before.scores
            }
            yield Offered(path, gains)


def _measure(model: Path, config: TrainConfig, stage: Literal["before", "after"]) -> Measured:
    sam = load_model(model, device=config.device)
    pairs = list_training_pairs(Path(config.data), "val", config.hold_out_every)
    # without a head there is only a grid, which takes many minutes with Segment Anything
    options = dataclasses.replace(_MEASURED, automatic=sam.instance_head is not None)
    results = list(evaluate(SamPredictor(sam), pairs, options))
    summary = summarize(results)
    scores = summary.get("mean") or next(iter(summary.values()))
    return Measured(stage, scores, int(scores.pop("images")))
