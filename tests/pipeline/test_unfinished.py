"""A stopped run is found again, with the options that it was begun with."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from napari_sam.core.errors import OutputError
from napari_sam.io import ArrayVolume
from napari_sam.pipeline.config import SegmentConfig, SliceRange
from napari_sam.pipeline.events import SliceDone
from napari_sam.pipeline.options import AutomaticOptions
from napari_sam.pipeline.segment import segment_volume
from napari_sam.pipeline.segmenters import FunctionSegmenter
from napari_sam.pipeline.unfinished import is_unfinished, unfinished_config

CONFIG = SegmentConfig(
    device="cpu",
    channels=(1, 0),
    slices=SliceRange(0, 3),
    times=SliceRange(1, None),
    tile=32,
    halo=4,
    contrast_limits=((0.0, 200.0), (1.0, 300.0)),
    ngff_version="0.4",
    automatic=AutomaticOptions(points_per_side=8, mode="grid"),
)


def volume() -> ArrayVolume:
    pixels = np.random.default_rng(0).integers(0, 400, (2, 2, 4, 40, 50)).astype(np.uint16)
    return ArrayVolume(Path("stack"), [pixels], "CTZYX")


def segmenter() -> FunctionSegmenter:
    return FunctionSegmenter(lambda tile: (tile[..., 0] > 128).astype(np.int32), "bright")


def stop_after_one_slice(target: Path, config: SegmentConfig = CONFIG) -> None:
    with closing(segment_volume(volume(), target, config, segmenter())) as events:
        next(event for event in events if isinstance(event, SliceDone))


def test_the_configuration_comes_back_and_completes_the_run(tmp_path: Path) -> None:
    target = tmp_path / "labels.zarr"
    stop_after_one_slice(target)
    assert is_unfinished(target)
    config = unfinished_config(target)
    assert config.fingerprint() == CONFIG.fingerprint()
    assert config.resume
    list(segment_volume(volume(), target, config, segmenter()))
    assert not is_unfinished(target)


@pytest.mark.parametrize("limits", [None, (0.0, 100.0)])
def test_defaults_come_back_too(tmp_path: Path, limits) -> None:
    before = SegmentConfig(channels=(0,), contrast_limits=limits)
    stop_after_one_slice(tmp_path / "labels.zarr", before)
    assert unfinished_config(tmp_path / "labels.zarr").fingerprint() == before.fingerprint()


def test_what_is_not_there_is_not_unfinished(tmp_path: Path) -> None:
    assert not is_unfinished(tmp_path / "nothing.zarr")
    with pytest.raises(OutputError, match="not an unfinished result"):
        unfinished_config(tmp_path / "nothing.zarr")


@pytest.mark.parametrize("first_line", ["", "{}", '{"options": {"colour": 1}}', '{"options": 3}'])
def test_a_damaged_journal_is_said(tmp_path: Path, first_line: str) -> None:
    target = tmp_path / "labels.zarr"
    stop_after_one_slice(target)
    target.with_name("labels.zarr.journal").write_text(first_line + "\n")
    with pytest.raises(OutputError, match="journal cannot be read"):
        unfinished_config(target)


def test_a_journal_beside_something_else_is_no_run(tmp_path: Path) -> None:
    target = tmp_path / "labels.zarr"
    stop_after_one_slice(target)
    (target / "zarr.json").unlink(missing_ok=True)
    (target / ".zgroup").unlink(missing_ok=True)
    assert not is_unfinished(target)
