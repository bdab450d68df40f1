"""The table of options says what the engine's options are, and the form's defaults are its own."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest

from napari_sam._napari.everything_options import (
    OPTIONS,
    FilterValues,
    ModelTraits,
    automatic_options,
    default_values,
    traits_of,
)
from napari_sam.core.errors import ConfigError
from napari_sam.core.modes import MODES
from napari_sam.model.registry import MODELS
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.options import PRESETS, AutomaticOptions
from napari_sam.pipeline.segmenters import ModelSegmenter
from tiny_models import tiny_sam

AUTOMATIC = {field.name for field in fields(AutomaticOptions)}


def test_every_official_option_can_be_set() -> None:
    assert AUTOMATIC - {"mode"} <= {field.name for field in OPTIONS}


def test_what_filters_is_what_the_candidates_can_be_filtered_by() -> None:
    assert {field.name for field in OPTIONS if field.refilters} == {
        field.name for field in fields(FilterValues)
    }


@pytest.mark.parametrize("field", [f for f in OPTIONS if f.name in AUTOMATIC], ids=lambda f: f.name)
def test_the_ends_of_a_range_are_allowed_and_no_more_than_the_engine_allows(field) -> None:
    low = field.low + 1 if field.zero_text else field.low
    for value in (low, field.high):
        AutomaticOptions(**{field.name: value})
    if field.kind == "flag":
        assert (field.low, field.high) == (False, True)
    if field.kind in ("slider", "fraction"):
        with pytest.raises(ConfigError):
            AutomaticOptions(**{field.name: field.high + 0.01})


@pytest.mark.parametrize("field", OPTIONS, ids=lambda f: f.name)
def test_every_option_is_explained(field) -> None:
    assert field.tip.endswith(".")
    assert field.label.replace("&", "")[0].isupper()


def test_mnemonics_are_told_apart() -> None:
    marked = [
        field.label[field.label.index("&") + 1].lower() for field in OPTIONS if "&" in field.label
    ]
    assert len(set(marked)) == len(marked)


@pytest.mark.parametrize("is_native", [True, False])
@pytest.mark.parametrize("source", ["grid", "proposals"])
def test_defaults_are_those_of_the_generator(is_native: bool, source) -> None:
    from types import SimpleNamespace

    from napari_sam.predict.records import AutomaticOptions as GeneratorOptions

    ours = default_values(ModelTraits(True, is_native), source)
    theirs = GeneratorOptions(mode=source)
    spec = SimpleNamespace(native_resolution=is_native)
    thresholds = ours["pred_iou_thresh"], ours["stability_score_thresh"]
    assert thresholds == theirs.thresholds(spec)
    for name in AUTOMATIC - {
        "mode",
        "foreground_thresh",
        "pred_iou_thresh",
        "stability_score_thresh",
    }:
        default = getattr(theirs, name)
        if default is not None:
            assert ours[name] == default
    assert ours["min_size"] == SegmentConfig().min_size
    assert ours["halo"] == SegmentConfig().halo


def test_defaults_of_a_watershed_are_those_of_its_segmenter() -> None:
    from napari_sam.predict import WatershedOptions

    ours = default_values(ModelTraits(True, True), "watershed")
    assert asdict(WatershedOptions()).items() <= ours.items()


@pytest.mark.parametrize("mode", MODES)
def test_options_without_a_meaning_in_the_mode_stay_out(mode) -> None:
    changed = {"points_per_side": 8, "foreground_thresh": 0.3, "pred_iou_thresh": 0.2}
    given = automatic_options(PRESETS["large-objects"], changed, mode).given()
    ours = {"foreground_thresh"} if mode == "watershed" else {"points_per_side"}
    assert ("min_mask_region_area" in given) == (mode != "watershed")
    assert given.keys() - {"min_mask_region_area"} == ours | {"mode", "pred_iou_thresh"}
    ModelSegmenter(tiny_sam("compact"), AutomaticOptions(**given))  # the engine takes them


def test_what_was_found_takes_the_filters_of_its_mode() -> None:
    from napari_sam.pipeline import PlaneBasins, PlaneCandidates

    of_points = {field.name for field in OPTIONS if field.refilters and "grid" in field.modes}
    of_maps = {field.name for field in OPTIONS if field.refilters and "watershed" in field.modes}
    assert (PlaneCandidates.filters, PlaneBasins.filters) == (of_points, of_maps)


def test_every_default_lies_in_its_range() -> None:
    values = default_values(ModelTraits(True, True), "grid")
    assert {field.name for field in OPTIONS} == set(values)
    for field in OPTIONS:
        assert field.low <= values[field.name] <= field.high


def test_only_the_compact_model_is_known_to_propose_points() -> None:
    assert [name for name in MODELS if traits_of(name).has_instance_head] == ["compact"]
    assert traits_of("/somewhere/own.safetensors") is None


def test_options_that_nobody_set_stay_open() -> None:
    options = automatic_options(PRESETS["large-objects"], {}, "grid")
    assert options == PRESETS["large-objects"].options


def test_what_was_changed_wins_over_the_preset() -> None:
    changed = {"points_per_side": 12, "min_size": 40, "points_per_batch": 0}
    options = automatic_options(PRESETS["large-objects"], changed, "proposals")
    assert options.given() == {
        "points_per_side": 12,
        "min_mask_region_area": 100,
        "mode": "proposals",
    }


def test_the_widget_opens_before_torch_is_loaded() -> None:
    import subprocess
    import sys

    code = (
        "import sys, napari_sam._napari.everything_widget;"
        "print([name for name in ('torch',) if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert "torch" not in done.stdout
