"""The diameter of a volume's objects: estimated once, kept for all tiles and for a resumed run."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from map_model import draw_discs, map_sam
from napari_sam.core.errors import ConfigError, OutputError
from napari_sam.io import ArrayVolume
from napari_sam.pipeline import (
    AutomaticOptions,
    ContrastMeasured,
    DiameterEstimated,
    EstimatingDiameter,
    Finished,
    ModelSegmenter,
    Planned,
    SegmentConfig,
    SliceDone,
    Warned,
    estimate_cost,
    segment_volume,
)
from napari_sam.pipeline.journal import Journal
from napari_sam.pipeline.object_size import estimates_diameter, middle_window
from napari_sam.pipeline.plan import settle_plan
from napari_sam.pipeline.source import SliceSource
from napari_sam.pipeline.unfinished import unfinished_config
from tiny_models import tiny_sam

RADIUS = 56.0
AUTO = AutomaticOptions(mode="watershed", diameter="auto")
CONFIG = SegmentConfig(tile=200, halo=120, min_size=4, contrast_limits=(0, 255), automatic=AUTO)


def volume(n_slices: int = 2) -> ArrayVolume:
    """Slices of six large discs, as the model of drawn maps sees them."""
    image = draw_discs((270, 400), [(x, y, RADIUS) for x in (66, 200, 334) for y in (66, 200)])
    return ArrayVolume(Path("discs"), [np.stack([image] * n_slices)], "ZYXS")


def run(target: Path, config: SegmentConfig = CONFIG) -> list[Any]:
    segmenter = ModelSegmenter(map_sam(), config.automatic)
    return list(segment_volume(volume(), target, config, segmenter))


def labels_of(target: Path) -> np.ndarray:
    return np.asarray(zarr.open_group(target, mode="r")["0"])


def of_kind(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def automatic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    target = tmp_path_factory.mktemp("run") / "labels.zarr"
    return target, run(target)


def test_the_diameter_is_estimated_once_for_all_tiles(automatic: tuple[Path, list[Any]]) -> None:
    target, events = automatic
    (estimate,) = of_kind(events, DiameterEstimated)
    assert estimate.diameter == pytest.approx(2 * RADIUS, abs=3)
    assert estimate.scale == pytest.approx(45 / estimate.diameter)
    assert of_kind(events, EstimatingDiameter)
    kinds = [type(event) for event in events]
    assert kinds.index(ContrastMeasured) < kinds.index(DiameterEstimated) < kinds.index(Planned)
    labels = labels_of(target)
    assert len(np.unique(labels[0])) - 1 == 6
    assert of_kind(events, Finished)[0].n_objects == 12


def test_it_is_what_a_given_number_does(automatic: tuple[Path, list[Any]], tmp_path: Path) -> None:
    target, events = automatic
    (estimate,) = of_kind(events, DiameterEstimated)
    given = replace(AUTO, diameter=estimate.diameter)
    events = run(tmp_path / "labels.zarr", replace(CONFIG, automatic=given))
    assert isinstance(events[0], Planned)
    np.testing.assert_array_equal(labels_of(tmp_path / "labels.zarr"), labels_of(target))


def test_a_resumed_run_takes_the_diameter_of_the_first(
    automatic: tuple[Path, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, (finished, events) = tmp_path / "labels.zarr", automatic
    (estimate,) = of_kind(events, DiameterEstimated)
    segmenter = ModelSegmenter(map_sam(), AUTO)
    with closing(segment_volume(volume(), target, CONFIG, segmenter)) as begun:
        next(event for event in begun if isinstance(event, SliceDone))
    assert Journal(target).planned()["estimate"] == {"diameter": estimate.diameter}
    config = unfinished_config(target)
    assert config.automatic.diameter == "auto"

    def estimated_anew(*_: Any) -> Any:
        raise AssertionError("The diameter was estimated anew.")

    monkeypatch.setattr(ModelSegmenter, "diameter_steps", estimated_anew)
    resumed = list(segment_volume(volume(), target, config, ModelSegmenter(map_sam(), AUTO)))
    assert of_kind(resumed, DiameterEstimated) == [estimate]
    np.testing.assert_array_equal(labels_of(target), labels_of(finished))


def test_a_resumed_run_with_another_diameter_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "labels.zarr"
    segmenter = ModelSegmenter(map_sam(), AUTO)
    with closing(segment_volume(volume(), target, CONFIG, segmenter)) as begun:
        next(event for event in begun if isinstance(event, SliceDone))
    other = replace(CONFIG, automatic=replace(AUTO, diameter=30.0), resume=True)
    with pytest.raises(OutputError, match="diameter"):
        run(target, other)


def test_too_few_objects_leave_the_volume_as_it_is(tmp_path: Path) -> None:
    even = ArrayVolume(Path("even"), [np.full((1, 64, 64, 3), 20, np.uint8)], "ZYXS")
    segmenter = ModelSegmenter(map_sam(), AUTO)
    events = list(segment_volume(even, tmp_path / "a.zarr", CONFIG, segmenter))
    assert of_kind(events, DiameterEstimated) == [DiameterEstimated(None, 1.0)]


def test_it_is_estimated_unless_it_is_said(
    automatic: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    target, events = automatic
    silent = replace(CONFIG, automatic=AutomaticOptions(mode="watershed"))
    told = run(tmp_path / "a.zarr", silent)
    assert of_kind(told, DiameterEstimated) == of_kind(events, DiameterEstimated)
    np.testing.assert_array_equal(labels_of(tmp_path / "a.zarr"), labels_of(target))
    native = replace(CONFIG, automatic=replace(AUTO, diameter="native"))
    assert not of_kind(run(tmp_path / "b.zarr", native), DiameterEstimated)
    vit = ModelSegmenter(tiny_sam("vit"), AutomaticOptions())
    assert not estimates_diameter(vit)


def test_a_run_that_began_without_an_estimate_ends_without_one(tmp_path: Path) -> None:
    target = tmp_path / "labels.zarr"
    native = replace(CONFIG, automatic=replace(AUTO, diameter="native"))
    segmenter = ModelSegmenter(map_sam(), native.automatic)
    with closing(segment_volume(volume(), target, native, segmenter)) as begun:
        next(event for event in begun if isinstance(event, SliceDone))
    planned = Journal(target).planned()
    assert "estimate" not in planned
    silent = ModelSegmenter(map_sam(), AutomaticOptions(mode="watershed"))
    source = SliceSource(volume(), CONFIG)
    events = list(settle_plan(source, CONFIG, silent, np.dtype(np.uint8), planned))
    assert not of_kind(events, EstimatingDiameter)
    assert of_kind(events, DiameterEstimated) == [DiameterEstimated(None, 1.0)]


def test_objects_longer_than_the_halo_are_warned_of(tmp_path: Path) -> None:
    config = replace(CONFIG, halo=12, automatic=replace(AUTO, diameter=40.0))
    warned = of_kind(run(tmp_path / "a.zarr", config), Warned)
    assert "60 pixels" in warned[0].message
    assert "--halo" in warned[0].message
    for enough in (replace(config, halo=60), replace(config, tile=400)):
        events = run(tmp_path / "b.zarr", replace(enough, overwrite=True))
        assert not [event for event in of_kind(events, Warned) if "--halo" in event.message]


def test_tiles_are_as_large_as_the_window_shows() -> None:
    sam = map_sam()
    sizes = [
        ModelSegmenter(sam, AutomaticOptions(mode="watershed", diameter=diameter)).window
        for diameter in ("native", 30.0, 6.0, 320.0)
    ]
    assert sizes == [128, 128, 128, 512]


def test_the_cost_is_that_of_the_scale() -> None:
    cost = estimate_cost(volume(), CONFIG, ModelSegmenter(map_sam(), AUTO))
    assert cost.diameter == pytest.approx(2 * RADIUS, abs=3)
    plain = AutomaticOptions(mode="watershed", diameter="native")
    config = replace(CONFIG, automatic=plain)
    assert estimate_cost(volume(), config, ModelSegmenter(map_sam(), plain)).diameter is None


def test_the_sample_lies_in_the_middle() -> None:
    assert middle_window((100, 3000)).slices == (slice(0, 100), slice(476, 2524))
    assert middle_window((30, 40)).shape == (30, 40)


@pytest.mark.parametrize("value", [0, -1.0, "large", True])
def test_what_is_no_diameter_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="--diameter 30"):
        AutomaticOptions(diameter=value)


def test_workers_are_given_the_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    orders = []

    def noted(source: Any, sent: Any, job: Any) -> Any:
        orders.append((job.config.automatic.diameter, sent.diameter))
        raise ConfigError("noted", rule="", cure="")

    monkeypatch.setattr("napari_sam.pipeline.segment._pool", noted)
    with pytest.raises(ConfigError, match="noted"):
        run(tmp_path / "a.zarr", replace(CONFIG, workers=2))
    assert orders[0] == (pytest.approx(2 * RADIUS, abs=3),) * 2


def test_models_that_resize_refuse_it_at_once() -> None:
    with pytest.raises(ConfigError, match="one size"):
        ModelSegmenter(tiny_sam("vit"), AutomaticOptions(diameter=30))
