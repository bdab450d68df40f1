import dataclasses

import pytest

from napari_sam import predict
from napari_sam.core.errors import ConfigError
from napari_sam.pipeline import PRESETS, AutomaticOptions, ModelSegmenter, find_preset
from napari_sam.predict import everything_generator, watershed_segmenter
from tiny_models import tiny_sam

MODELS = {encoder: tiny_sam(encoder) for encoder in ("vit", "compact")}


@pytest.mark.parametrize(
    "options",
    [
        {"points_per_side": 0},
        {"points_per_side": 2.5},
        {"points_per_batch": 0},
        {"pred_iou_thresh": 1.5},
        {"pred_iou_thresh": float("nan")},
        {"stability_score_thresh": -0.1},
        {"stability_score_offset": -1.0},
        {"box_nms_thresh": 2.0},
        {"crop_n_layers": 9},
        {"crop_n_layers": -1},
        {"crop_nms_thresh": -0.5},
        {"crop_overlap_ratio": 1.0},
        {"crop_n_points_downscale_factor": 0},
        {"foreground_thresh": 0.04},
        {"min_mask_region_area": -1},
        {"mode": "magic"},
    ],
    ids=lambda options: "-".join(f"{name}={value}" for name, value in options.items()),
)
def test_impossible_options_are_refused_with_an_option_that_cures(options):
    name = next(iter(options))
    with pytest.raises(ConfigError, match=name) as caught:
        AutomaticOptions(**options)
    assert f"--{name.replace('_', '-')} " in caught.value.cure


@pytest.mark.parametrize("name", ["skip_covered", "foreground_only"])
@pytest.mark.parametrize("value", [1, "yes"])
def test_switches_are_on_or_off(name, value):
    with pytest.raises(ConfigError, match=name) as caught:
        AutomaticOptions(**{name: value})
    assert f"`--{name.replace('_', '-')}`" in caught.value.cure


def test_only_given_options_are_passed_on():
    assert AutomaticOptions(points_per_side=8).given() == {"points_per_side": 8}
    assert AutomaticOptions(skip_covered=True).given() == {"skip_covered": True}
    assert AutomaticOptions().given() == {}


def test_every_option_of_the_engine_can_be_set_but_for_arrays_and_the_form_of_records():
    ours = {field.name for field in dataclasses.fields(AutomaticOptions)}
    generators = {field.name for field in dataclasses.fields(predict.AutomaticOptions)}
    watersheds = {field.name for field in dataclasses.fields(predict.WatershedOptions)}
    assert generators - ours == {"point_grids", "output_mode"}
    assert watersheds - generators == ours - generators == {"foreground_thresh"}


def test_options_at_the_ends_of_their_ranges_are_taken_by_the_engine():
    lowest = AutomaticOptions(1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, "grid")
    highest = AutomaticOptions(4096, 2**20, 1, 1, 9e9, 1, 8, 1, 0.9, 4096, 10**9, "grid")
    for options in (lowest, highest):
        for model in MODELS.values():
            everything_generator(model, **options.given())
    for level, rest in ((0.05, 0), (1, 1)):
        options = AutomaticOptions(
            mode="watershed",
            foreground_thresh=level,
            pred_iou_thresh=rest,
            stability_score_thresh=rest,
            stability_score_offset=rest,
        )
        watershed_segmenter(MODELS["compact"], **options.given_besides_mode())


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("encoder", MODELS)
def test_presets_fit_the_models_that_they_say(name, encoder):
    preset, model = find_preset(name), MODELS[encoder]
    if preset.needs_instance_head and model.instance_head is None:
        with pytest.raises(ConfigError, match="instance head"):
            ModelSegmenter(model, preset.options)
        return
    ModelSegmenter(model, preset.options)
    if preset.options.mode == "watershed":
        return
    generator = everything_generator(model, **preset.options.given())
    for option, value in preset.options.given().items():
        assert getattr(generator.options, option) == value


def test_presets_are_told_apart_and_some_fits_any_model():
    assert len({preset.name for preset in PRESETS.values()}) == len(PRESETS)
    assert len({preset.options for preset in PRESETS.values()}) == len(PRESETS)
    assert {preset.needs_instance_head for preset in PRESETS.values()} == {True, False}
    for preset in PRESETS.values():
        assert preset.description.endswith(".")
        assert "\n" not in preset.description


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="small-objects"):
        find_preset("medium-objects")
