"""Fine-tuning measures held-out images before and after, and writes a model that loads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from napari_sam.core.errors import ConfigError, InputError
from napari_sam.model import load_model
from napari_sam.training import (
    Measured,
    Offered,
    StepDone,
    fine_tune,
    fine_tune_config,
)
from napari_sam.training.batches import list_training_pairs, load_training_images
from training_data import write_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "cells", "01234")


def test_every_fourth_image_is_held_out(folder: Path) -> None:
    names = [pair.image_path.stem for pair in list_training_pairs(folder, "val", 4)]
    assert names == ["3"]
    assert [pair.image_path.stem for pair in list_training_pairs(folder, "train", 4)] == list(
        "0124"
    )
    assert [pair.image_path.stem for pair in list_training_pairs(folder, "val", 9)] == ["4"]
    assert list_training_pairs(folder, "val", 0) == []
    assert len(load_training_images(folder)) == 5


def test_the_gain_is_measured_on_held_out_images(folder: Path, tmp_path: Path) -> None:
    config = fine_tune_config(folder, tmp_path / "run", iterations=2, device="cpu")
    assert (config.train_parts, config.crop_pool, config.hold_out_every) == ("all", 0, 4)
    small = dataclasses.replace(
        config, crop_size=64, images_per_batch=1, objects_per_image=2, max_rounds=1
    )
    events = list(fine_tune(small))
    before, after = (event for event in events if isinstance(event, Measured))
    assert (before.stage, after.stage, before.images) == ("before", "after", 1)
    assert sum(isinstance(event, StepDone) for event in events) == 2
    offer = events[-1]
    assert isinstance(offer, Offered)
    assert offer.gains["mSA"] == pytest.approx(after.scores["mSA"] - before.scores["mSA"])
    new, old = load_model(offer.path, device="cpu"), load_model("compact", device="cpu")
    weights = zip(new.parameters(), old.parameters(), strict=True)
    assert any((a != b).any() for a, b in weights)


def test_a_single_image_is_refused(folder: Path, tmp_path: Path) -> None:
    for index in range(1, 5):
        (folder / "images" / f"{index}.png").unlink()
    with pytest.raises(InputError, match="single labelled image"):
        next(fine_tune(fine_tune_config(folder, tmp_path / "run")))


def test_an_unknown_start_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compct"):
        fine_tune_config(folder, tmp_path / "run", "compct")
