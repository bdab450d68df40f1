"""What a worker says of a run over a stack."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_sam._napari import everything_volume
from napari_sam._napari.everything_volume import estimate_volume, run_volume
from napari_sam.core.steps import result_of
from napari_sam.io import ArrayVolume
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.options import AutomaticOptions
from napari_sam.pipeline.unfinished import is_unfinished, unfinished_config
from napari_sam.training.synthetic import synthetic_stack
from tiny_models import tiny_sam

CONFIG = SegmentConfig(
    model="tiny",
    device="cpu",
    tile=64,
    halo=16,
    automatic=AutomaticOptions(
        mode="grid", points_per_side=2, pred_iou_thresh=0.0, stability_score_thresh=0.0
    ),
)
N_SLICES, TILES = 3, 4


@pytest.fixture
def volume(monkeypatch: pytest.MonkeyPatch) -> ArrayVolume:
    """A stack of three slices of four tiles, and a tiny model for it."""
    sam = tiny_sam("compact")
    monkeypatch.setattr(everything_volume, "load_shared_model", lambda *_: sam)
    image, _ = synthetic_stack(shape_zyx=(N_SLICES, 100, 100), seed=0)
    return ArrayVolume(Path("stack"), [image], "ZYX")


def test_progress_only_goes_forward_and_reaches_the_end(volume, tmp_path) -> None:
    told = list(run_volume(volume, CONFIG, tmp_path / "labels.zarr"))
    dones = [step.tiles_done for step in told]
    assert dones == sorted(dones)
    last = told[-1]
    assert last.finished is not None
    assert last.steps[0] == last.steps[1] == N_SLICES * TILES * 100
    assert last.written == ((0,), (1,), (2,))
    assert last.n_slices_done == N_SLICES
    assert last.n_objects == last.finished.n_objects


def test_the_store_is_announced_only_when_it_can_be_opened(volume, tmp_path) -> None:
    target = tmp_path / "labels.zarr"
    for step in run_volume(volume, CONFIG, target):
        if step.has_store:
            assert target.exists()
            break
        assert not target.exists()


def test_the_time_left_follows_from_the_tiles_that_are_done(volume, tmp_path) -> None:
    told = list(run_volume(volume, CONFIG, tmp_path / "labels.zarr"))
    lefts = [step.seconds_left for step in told if step.seconds_left is not None]
    assert lefts[0] > 0
    assert lefts[-1] == 0
    assert any("left" in step.text and "tile 2 of 4" in step.text for step in told)


def test_a_run_that_goes_on_counts_what_was_done_before(volume, tmp_path) -> None:
    target = tmp_path / "labels.zarr"
    with closing(run_volume(volume, CONFIG, target)) as steps:
        next(step for step in steps if step.n_slices_done == 1)
    assert is_unfinished(target)
    config = replace(unfinished_config(target), device="cpu")
    told = list(run_volume(volume, config, target))
    first = next(step for step in told if step.has_store)
    assert (first.n_slices_done, first.tiles_done) == (1, TILES)
    assert told[-1].written == ((1,), (2,))
    assert told[-1].n_slices_done == N_SLICES
    assert told[-1].steps[0] == N_SLICES * TILES * 100


def test_closing_stops_within_a_tile(volume, tmp_path, monkeypatch) -> None:
    from napari_sam.pipeline.segmenters import ModelSegmenter

    batches = []
    real = ModelSegmenter.steps

    def counted(self, tile):
        steps = real(self, tile)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                return end.value
            batches.append(step)
            yield step

    monkeypatch.setattr(ModelSegmenter, "steps", counted)
    config = replace(
        CONFIG, automatic=replace(CONFIG.automatic, points_per_side=6, points_per_batch=1)
    )
    steps = run_volume(volume, config, tmp_path / "labels.zarr")
    next(step for step in steps if 0 < step.tiles_done % 1 < 1)
    before = len(batches)
    steps.close()
    assert len(batches) == before
    assert not (tmp_path / "labels.zarr").exists()


def test_warnings_are_passed_on_whole(volume, tmp_path) -> None:
    pixels = np.full((2, 50, 50), np.nan, np.float32)
    pixels[:, :, :25] = np.random.default_rng(0).random((2, 50, 25))
    told = list(
        run_volume(ArrayVolume(Path("nan"), [pixels], "ZYX"), CONFIG, tmp_path / "labels.zarr")
    )
    assert any("NaN" in message for message in told[-1].warnings)


def test_an_estimate_brings_the_model_along(volume) -> None:
    estimate, sam = result_of(estimate_volume(volume, CONFIG))
    assert (estimate.n_slices, estimate.n_tiles) == (N_SLICES, N_SLICES * TILES)
    assert sam.name == "tiny_compact"
