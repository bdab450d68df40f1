"""What a worker does on one plane: the same as the engine does, in steps that can be closed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.layers import Image

from napari_sam._napari import everything_plane
from napari_sam._napari.everything_plane import (
    PlaneRequest,
    diameter_steps,
    learn_steps,
    plane_steps,
)
from napari_sam._napari.layers import ChannelChoice, LayerPlane
from napari_sam._napari.model_view import ContrastChoice, measure_contrast, model_view
from napari_sam.core.object_scale import Diameter
from napari_sam.core.plane import Plane
from napari_sam.core.steps import result_of
from napari_sam.pipeline.everything import PlaneBasins, segment_plane
from napari_sam.pipeline.options import AutomaticOptions
from napari_sam.training.synthetic import synthetic_stack
from tiny_models import tiny_sam

LOW = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
"""Thresholds that let the masks of random weights pass."""


@pytest.fixture(params=["vit", "compact"])
def sam(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path):
    """A tiny model that every name stands for."""
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path))
    sam = tiny_sam(request.param)
    monkeypatch.setattr(everything_plane, "load_shared_model", lambda *_: sam)
    return sam


def request_for(shape_yx=(96, 96), **options) -> PlaneRequest:
    image, _ = synthetic_stack(shape_zyx=(2, *shape_yx), seed=0)
    layer, plane = Image(image), Plane((1, 2), (1,))
    return PlaneRequest(
        layer=layer,
        plane=plane,
        pixels=LayerPlane(layer, plane),
        volume_key="volume",
        channels=ChannelChoice(),
        contrast=ContrastChoice(),
        model="tiny",
        device="cpu",
        options=AutomaticOptions(mode="grid", points_per_side=3, **LOW, **options),
    )


def areas(candidates) -> list[int]:
    found = candidates.labels(min_size=1, max_area_fraction=1.0)
    return sorted(item.area for item in found.objects)


@pytest.mark.parametrize("crop_n_layers", [0, 1])
def test_what_is_found_is_what_the_engine_finds(sam, crop_n_layers: int) -> None:
    request = request_for(crop_n_layers=crop_n_layers)
    found = result_of(plane_steps(request))
    keeps_8bit = sam.input_spec.contrast == "as_is"
    assert found.contrast == measure_contrast(request.layer, keeps_8bit=keeps_8bit)
    pixels = model_view(request.pixels, found.contrast)
    expected = result_of(segment_plane(pixels, sam, request.options))
    assert len(found.candidates.candidates) == len(expected.candidates) > 0
    ours, theirs = sum(areas(found.candidates)), sum(areas(expected))
    assert ours == pytest.approx(theirs, rel=0.05)  # embeddings are kept in half precision


def test_a_watershed_keeps_the_maps(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path))
    sam = tiny_sam("compact")
    monkeypatch.setattr(everything_plane, "load_shared_model", lambda *_: sam)
    options = AutomaticOptions(mode="watershed", **LOW)
    request = replace(request_for(), options=options)
    words = []
    steps = plane_steps(request)
    while True:
        try:
            words.append(next(steps).text)
        except StopIteration as end:
            found = end.value.candidates
            break
    assert isinstance(found, PlaneBasins)
    assert words[-1] == f"Looking for objects: {len(found.basins.seeds_xy)} seeds …"
    assert found.labels().labels.shape == (96, 96)


def test_steps_tell_what_is_done(sam) -> None:
    texts = [step.text for step in plane_steps(request_for())]
    order = ["Loading the model tiny", "Measuring", "Preparing", "Looking"]
    at = [next(i for i, text in enumerate(texts) if text.startswith(word)) for word in order]
    assert at == sorted(at)


def test_a_known_contrast_and_a_known_embedding_are_used_again(sam) -> None:
    request = request_for(diameter="native")  # random weights would look at other scales too
    first = result_of(plane_steps(request))
    calls = []
    hook = sam.image_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    again = replace(request, known_contrast=first.contrast, predictors=(first.predictor,))
    texts = []
    steps = plane_steps(again)
    while True:
        try:
            texts.append(next(steps).text)
        except StopIteration as end:
            second = end.value
            break
    hook.remove()
    assert not calls
    assert not any(text.startswith("Measuring") for text in texts)
    assert second.predictor is first.predictor
    assert areas(second.candidates) == areas(first.candidates)


def test_a_plane_that_is_too_large_is_left_to_tiles(sam, monkeypatch) -> None:
    monkeypatch.setattr("napari_sam.predict.frames.fits_whole", lambda *_: False)
    found = result_of(plane_steps(request_for()))
    assert found.candidates is None
    assert found.predictor.sam is sam


def test_closing_closes_the_search(sam, monkeypatch) -> None:
    closed = []

    def steps(*_, **__):
        try:
            from napari_sam.predict import AutomaticProgress

            while True:
                yield AutomaticProgress(0, 1, 0)
        finally:
            closed.append(True)

    monkeypatch.setattr("napari_sam.pipeline.everything.segment_plane", steps)
    running = plane_steps(request_for())
    next(step for step in running if step.text.startswith("Looking"))
    running.close()
    assert closed


def test_a_model_can_be_loaded_by_itself(sam) -> None:
    assert result_of(learn_steps("tiny", "cpu")) is sam


@pytest.fixture
def compact(monkeypatch: pytest.MonkeyPatch, tmp_path):
    from napari_sam.model import load_model

    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path))
    model = load_model("compact", device="cpu")
    monkeypatch.setattr(everything_plane, "load_shared_model", lambda *_: model)
    return model


def request_of_spots(diameter: Diameter | None = None) -> PlaneRequest:
    """Bright discs of 6 pixels, 25 of them."""
    rows, cols = np.indices((60, 60))
    image = np.full((60, 60), 40, np.uint8)
    image[np.hypot(rows % 12 - 6, cols % 12 - 6) < 3] = 160
    layer, plane = Image(image), Plane((0, 1), ())
    options = AutomaticOptions(mode="proposals", diameter=diameter)
    return replace(
        request_for(), layer=layer, plane=plane, pixels=LayerPlane(layer, plane), options=options
    )


def test_small_objects_are_found_at_the_diameter_that_was_estimated(compact) -> None:
    diameter, contrast = result_of(diameter_steps(request_of_spots()))
    assert diameter == pytest.approx(6, abs=1)
    assert contrast == measure_contrast(request_of_spots().layer)
    as_it_is = result_of(plane_steps(request_of_spots("native")))
    magnified = result_of(plane_steps(request_of_spots(round(diameter))))
    assert len(areas(as_it_is.candidates)) < 5
    found = magnified.candidates.labels()
    assert found.labels.shape == (60, 60)
    assert sum(20 <= item.area <= 45 for item in found.objects) >= 24
    by_itself = result_of(plane_steps(request_of_spots()))
    assert by_itself.estimated_diameter == diameter
    assert by_itself.scale == magnified.scale == 4
    assert (as_it_is.estimated_diameter, as_it_is.scale) == (None, 1)
    assert len(by_itself.candidates.labels().objects) >= 24


def test_a_plane_that_is_too_large_when_magnified_is_left_to_tiles(compact, monkeypatch) -> None:
    monkeypatch.setattr(everything_plane, "MAX_MAGNIFIED_PIXELS", 100 * 100)
    assert result_of(plane_steps(request_of_spots(6))).candidates is None
    estimated = result_of(plane_steps(request_of_spots()))
    assert estimated.candidates is not None  # nobody asked to have it magnified
    assert estimated.scale == 1
    assert estimated.estimated_diameter == pytest.approx(6, abs=1)
