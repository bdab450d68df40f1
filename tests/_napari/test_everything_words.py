"""Numbers as people say them."""

from __future__ import annotations

import pytest

from napari_sam._napari.everything_words import (
    cost_text,
    counted,
    duration_text,
    found_scale_text,
)
from napari_sam.pipeline.estimate import CostEstimate
from napari_sam.pipeline.suggest import Suggestion


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.01, "1 s"),
        (45.4, "45 s"),
        (89, "89 s"),
        (91, "2 min"),
        (3600, "60 min"),
        (2 * 3600 + 20 * 60, "2 h 20 min"),
        (3 * 24 * 3600, "3 days"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("diameter", "scale", "text"),
    [
        (None, 1.0, ""),
        (30.0, 1.0, ""),
        (None, 0.5, ". The image was shrunk 2.0 times for the model."),
        (6.2, 4.0, ". They are about 6 pixels across: the image was magnified 4.0 times "
                   "for the model."),
        (6.2, 1.0, ". They are about 6 pixels across, and the slice is too large to be magnified "
                   "whole; to have that done in tiles, set it as object diameter."),
    ],
)  # fmt: skip
def test_a_resized_image_is_told_of(diameter: float | None, scale: float, text: str) -> None:
    assert found_scale_text(diameter, scale) == text


def test_counts() -> None:
    assert [counted(n, "slice") for n in (0, 1, 2)] == ["0 slices", "1 slice", "2 slices"]


def test_a_cost_names_tiles_time_memory_and_disk() -> None:
    estimate = CostEstimate(
        n_tiles=120,
        n_slices=30,
        seconds_per_tile=2.0,
        seconds=240,
        memory_bytes=12_300_000_000,
        disk_bytes=3,
        suggestion=Suggestion(384, 64, 40, None, 2),
    )
    assert cost_text(estimate) == (
        "120 tiles in 30 slices: about 4 min.\nMemory 12 GB besides the model.\nDisk up to 0.1 MB."
    )
