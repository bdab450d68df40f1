"""The widget Segment everything in a real window: previews, runs to disk, and their ends."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gui.driver import Driver, wait_until
from napari_sam.core.errors import DeviceError
from napari_sam.training.synthetic import synthetic_stack

if TYPE_CHECKING:
    import napari

    from napari_sam._napari.everything_widget import EverythingWidget

PLUGIN, TITLE = "napari-sam", "Segment everything"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of napari_sam."""
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run writes: what the user would answer the dialog."""
    from napari_sam._napari.everything_output import Output

    path = tmp_path / "labels.ome.zarr"
    monkeypatch.setattr(
        "napari_sam._napari.everything_widget.ask_for_output", lambda *_: Output(path)
    )
    return path


class Gate:
    """Holds a run after its first slice, until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def open(self) -> None:
        self.opened.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Hold runs over volumes after their first slice."""
    from napari_sam.pipeline import segment
    from napari_sam.pipeline.events import SliceDone

    gate = Gate()
    real = segment.segment_volume

    def held(*args: Any) -> Iterator[Any]:
        with closing(real(*args)) as events:
            for event in events:
                yield event
                if isinstance(event, SliceDone):
                    gate.opened.wait(20)

    monkeypatch.setattr(segment, "segment_volume", held)
    yield gate
    gate.open()


def nuclei(size: int = 96, n_slices: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make a synthetic image and its true labels, 2D where there is one slice."""
    image, labels = synthetic_stack(shape_zyx=(n_slices, size, size), seed=seed)
    return (image[0], labels[0]) if n_slices == 1 else (image, labels)


def open_widget(viewer: napari.Viewer) -> EverythingWidget:
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, TITLE)
    return widget


def run_slice(widget: EverythingWidget) -> None:
    """Segment the slice in view."""
    widget.run_panel.run.click()
    wait_until(lambda: widget.search.shown is not None and not widget.work.is_running)


def count(widget: EverythingWidget) -> int:
    return len(widget.search.shown.objects)


def start_run(widget: EverythingWidget) -> None:
    """Estimate the cost of all slices, then begin."""
    widget.start(None, all_slices=True)
    wait_until(lambda: not widget.work.is_running)
    assert "slices" in widget.run_panel.status.text()
    widget.run_panel.run.click()
    assert widget.runner.is_running


def wait_for_slices(widget: EverythingWidget, n_slices: int) -> None:
    wait_until(lambda: widget.runner._progress.n_slices_done >= n_slices)


def contents(store: Path) -> dict[str, bytes]:
    """Return all files of a store."""
    files = (path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def found_fraction(truth: np.ndarray, labels: np.ndarray) -> float:
    """Return the fraction of true objects that a label covers with an IoU of at least 0.5."""
    n_found = 0
    ids = np.unique(truth[truth > 0])
    for own in ids:
        mask = truth == own
        best = 0.0
        for label in np.unique(labels[mask & (labels > 0)]):
            other = labels == label
            best = max(best, (mask & other).sum() / (mask | other).sum())
        n_found += best >= 0.5
    return n_found / len(ids)


# one slice


def test_one_slice_finds_most_nuclei(viewer: napari.Viewer) -> None:
    image, truth = nuclei(192, seed=1)
    layer = viewer.add_image(image, scale=(0.5, 0.5), translate=(3, 4))
    widget = open_widget(viewer)
    run_slice(widget)
    preview = widget.search.preview.layer
    assert found_fraction(truth, preview.data) >= 0.8
    assert count(widget) == preview.data.max() >= 5
    np.testing.assert_allclose(preview.data_to_world((5, 6)), layer.data_to_world((5, 6)))
    assert widget.result_panel.count.text() == f"{count(widget)} objects"


def test_moving_a_threshold_does_not_ask_the_model(viewer: napari.Viewer) -> None:
    viewer.add_image(nuclei(160)[0])
    widget = open_widget(viewer)
    run_slice(widget)
    before, calls = count(widget), []
    preview = widget.search.preview.layer
    colors = preview.data.copy()
    ious = sorted(each.predicted_iou for each in widget.search.shown.objects)
    sam = widget.search.found.predictor.sam
    parts = (sam.image_encoder, sam.prompt_encoder, sam.mask_decoder)
    hooks = [part.register_forward_pre_hook(lambda *_: calls.append(1)) for part in parts]
    values = widget.form.values
    slider = values["pred_iou_thresh"].native.focusProxy()
    slider.setValue(slider.maximum() * 99 // 100)
    wait_until(lambda: count(widget) < before)
    values["pred_iou_thresh"].value = ious[-2] - 0.01
    wait_until(lambda: 0 < count(widget) < before)
    same = set(np.unique(preview.data)) & set(np.unique(colors)) - {0}
    assert same
    for number in same:  # what is still there keeps its colour
        np.testing.assert_array_equal(preview.data == number, colors == number)
    values["pred_iou_thresh"].value = 0.5
    wait_until(lambda: count(widget) == before)
    areas = sorted(each.area for each in widget.search.shown.objects)
    values["min_size"].value = areas[0] + 1
    wait_until(lambda: min(each.area for each in widget.search.shown.objects) > areas[0])
    values["max_area_fraction"].value = largest = 0.01
    assert areas[-1] > largest * 160**2
    wait_until(lambda: max(each.area for each in widget.search.shown.objects) <= largest * 160**2)
    assert not calls
    for hook in hooks:
        hook.remove()


def test_a_watershed_is_cut_anew_without_the_model(viewer: napari.Viewer) -> None:
    image, truth = nuclei(160, seed=1)
    viewer.add_image(image)
    widget = open_widget(viewer)
    form = widget.form
    form.choose_preset("watershed")
    assert form.modes.key == "watershed"
    assert form.values["foreground_thresh"].enabled
    assert not form.values["points_per_side"].enabled
    run_slice(widget)
    preview = widget.search.preview.layer
    assert found_fraction(truth, preview.data) >= 0.5
    before, area, calls = preview.data.copy(), np.count_nonzero(preview.data), []
    sam = widget.search.found.predictor.sam
    hook = sam.image_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    form.values["foreground_thresh"].value = 0.3
    wait_until(lambda: np.count_nonzero(preview.data) > area)
    same = (before > 0) & (preview.data > 0)  # colours stay though edges move
    assert (before[same] == preview.data[same]).mean() > 0.9
    assert not calls
    hook.remove()
    form.modes._on_activated(form.modes.findData("grid"))  # as the user does
    assert not form.values["foreground_thresh"].enabled
    assert form.values["points_per_side"].enabled
    assert "options before" in widget.result_panel.count.text()


def test_what_the_model_is_needed_for_is_said(viewer: napari.Viewer) -> None:
    viewer.add_image(nuclei()[0])
    widget = open_widget(viewer)
    run_slice(widget)
    text = widget.result_panel.count.text
    widget.form.values["pred_iou_thresh"].value = 0.1
    assert "segment again" in text()  # nothing was looked for below 0.3
    widget.form.choose_preset("large-objects")
    assert "options before" in text()
    widget.form.values["pred_iou_thresh"].value = 0.1
    run_slice(widget)
    assert "again" not in text()
    assert widget.search.floors[0] == 0.1


def test_objects_are_kept_in_one_step_and_taken_back(viewer: napari.Viewer) -> None:
    viewer.add_image(nuclei(n_slices=3)[0])
    viewer.dims.set_point(0, 1)
    widget = open_widget(viewer)
    run_slice(widget)
    shown = widget.search.shown.labels
    n_objects, panel = count(widget), widget.result_panel
    panel.keep.click()
    wait_until(lambda: not widget.work.is_running)
    labels = panel.target.layer
    np.testing.assert_array_equal(labels.data[1] > 0, shown > 0)
    assert not labels.data[[0, 2]].any()
    assert labels.features["index"].tolist() == list(range(1, n_objects + 1))
    assert widget.search.preview.layer is None
    assert not panel.keep.isEnabled()
    assert f"{n_objects} objects kept" in widget.run_panel.status.text()
    panel.undo.click()
    assert not labels.data.any()
    assert len(labels.features) == 0
    panel.redo.click()
    np.testing.assert_array_equal(labels.data[1] > 0, shown > 0)
    # a second slice gets the ids that follow
    viewer.dims.set_point(0, 2)
    run_slice(widget)
    panel.keep.click()
    wait_until(lambda: not widget.work.is_running)
    assert labels.data[2][labels.data[2] > 0].min() == n_objects + 1


def test_with_segment_by_clicks_open_its_session_takes_the_step(viewer: napari.Viewer) -> None:
    viewer.add_image(nuclei()[0])
    _, clicks = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment by clicks")
    widget = open_widget(viewer)
    clicks.image_panel.contrast.setCurrentIndex(1)
    wait_until(lambda: clicks.interaction.engine.is_ready)
    widget.start(clicks.interaction.image, all_slices=False)
    assert widget.image_panel.contrast_choice == clicks.image_panel.contrast_choice
    wait_until(lambda: widget.search.shown is not None and not widget.work.is_running)
    assert widget.search.found.predictor is clicks.interaction.engine.predictor
    n_objects = count(widget)
    widget.result_panel.keep.click()
    wait_until(lambda: not widget.work.is_running)
    session, layer = clicks.interaction.session, clicks.actions_on_objects.layer
    assert len(session.objects) == n_objects == layer.data.max()
    assert session.undo() == "Segment everything"
    assert not layer.data.any()
    assert not session.can_undo
    session.redo()
    # without that widget, the next objects join the same table
    viewer.window.remove_dock_widget(clicks)
    viewer.layers.selection.active = widget.image_panel.layer
    run_slice(widget)
    widget.result_panel.rule.choose("overwrite")
    widget.result_panel.keep.click()
    wait_until(lambda: not widget.work.is_running)
    assert layer.features["index"].tolist() == list(range(n_objects + 1, 2 * n_objects + 1))
    widget.result_panel.undo.click()
    assert layer.features["index"].tolist() == list(range(1, n_objects + 1))


def test_channels_are_labelled_together(viewer: napari.Viewer) -> None:
    image = nuclei()[0]
    viewer.add_image(np.stack([np.zeros_like(image), image]))
    widget = open_widget(viewer)
    panel = widget.image_panel
    panel.axis.setCurrentIndex(1)
    panel.axis.activated.emit(1)
    panel.channels[0].setCurrentIndex(1)
    panel.channels[0].activated.emit(1)
    assert not widget.scope_panel.is_stack
    run_slice(widget)
    widget.result_panel.keep.click()
    wait_until(lambda: not widget.work.is_running)
    labels = widget.result_panel.target.layer
    assert labels.data.any()
    np.testing.assert_array_equal(labels.data[0], labels.data[1])


def test_an_error_is_shown_and_the_widget_goes_on(
    viewer: napari.Viewer,
    notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    viewer.add_image(nuclei()[0])
    widget = open_widget(viewer)

    def fail(*_: Any, **__: Any) -> None:
        raise DeviceError("No memory", rule="It has to fit", cure="Buy more")

    with monkeypatch.context() as patch:
        patch.setattr("napari_sam.pipeline.everything.segment_plane", fail)
        widget.run_panel.run.click()
        wait_until(lambda: not widget.work.is_running)
    assert notes == ["No memory\nIt has to fit\nBuy more"]
    assert widget.search.shown is None
    run_slice(widget)
    assert count(widget)


def test_a_preview_goes_with_its_layer(viewer: napari.Viewer) -> None:
    image = viewer.add_image(nuclei()[0])
    widget = open_widget(viewer)
    for what in ("preview", "image"):
        run_slice(widget)
        viewer.layers.remove(image if what == "image" else widget.search.preview.layer)
        assert widget.search.shown is None
        assert widget.search.preview.layer is None
        assert not widget.result_panel.keep.isEnabled()
    wait_until(lambda: len(viewer.layers) == 0)


def test_removing_the_image_while_a_slice_is_segmented(viewer: napari.Viewer) -> None:
    image = viewer.add_image(nuclei()[0])
    widget = open_widget(viewer)
    widget.run_panel.run.click()
    viewer.layers.remove(image)
    wait_until(lambda: not widget.work.is_running)
    assert widget.search.shown is None
    assert len(viewer.layers) == 0


def test_the_mouse_segments_and_keeps(viewer: napari.Viewer) -> None:
    viewer.add_image(nuclei()[0])
    widget = open_widget(viewer)
    driver = Driver(viewer)
    driver.click_widget(widget.run_panel.run)
    wait_until(lambda: widget.search.shown is not None and not widget.work.is_running)
    driver.click_widget(widget.result_panel.keep)
    wait_until(lambda: not widget.work.is_running)
    assert widget.result_panel.target.layer.data.max() > 0
    driver.activate(widget.result_panel.undo)
    driver.key("Space")  # the keyboard does what the mouse does
    assert widget.result_panel.target.layer.data.max() == 0


def test_own_weights_are_loaded_first_to_know_what_they_can_do(
    viewer: napari.Viewer, tmp_path: Path
) -> None:
    from napari_sam.model.registry import MODELS
    from napari_sam.model.store import model_path

    own = tmp_path / "own.safetensors"
    own.write_bytes(model_path(MODELS["compact"]).read_bytes())
    viewer.add_image(nuclei()[0])
    widget = open_widget(viewer)
    assert widget.model_choice.set_model(str(own))
    assert widget.learning.is_running
    widget.run()  # waits for the model
    wait_until(lambda: widget.search.shown is not None and not widget.work.is_running)
    assert widget.search.request.model == str(own)
    assert widget.form.presets.key == "automatic"
    assert "options before" not in widget.result_panel.count.text()


# options


def test_presets_that_need_an_instance_head_are_greyed_for_others(screen: None) -> None:
    from napari.qt import get_qapp

    from napari_sam._napari.everything_form import EverythingForm
    from napari_sam._napari.everything_options import ModelTraits

    application = get_qapp()
    form = EverythingForm("automatic")
    assert form.presets.key == "automatic"
    assert form.values["pred_iou_thresh"].value == 0.5
    form.set_model(ModelTraits(has_instance_head=False, is_native=False))
    greyed = form.presets.model().item(form.presets.findData("automatic"))
    assert not greyed.isEnabled()
    assert "does not propose points" in greyed.toolTip()
    maps = form.modes.model().item(form.modes.findData("watershed"))
    assert not maps.isEnabled()
    assert "no maps" in maps.toolTip()
    assert form.presets.key == "grid"
    assert form.automatic.given() == {"points_per_side": 32, "mode": "grid"}
    shown = form.values["pred_iou_thresh"].value, form.values["stability_score_thresh"].value
    assert shown == (0.88, 0.95)
    form.set_model(ModelTraits(has_instance_head=True, is_native=True))
    assert form.presets.key == "automatic"
    assert form.automatic.given() == {"mode": "proposals"}
    form.deleteLater()
    application.processEvents()


def test_what_was_changed_stays_with_another_model_until_reset(screen: None) -> None:
    from napari.qt import get_qapp

    from napari_sam._napari.everything_form import EverythingForm
    from napari_sam._napari.everything_options import ModelTraits

    application = get_qapp()
    form = EverythingForm("small-objects")
    form.values["box_nms_thresh"].value = 0.4
    form.values["crop_n_layers"].value = 2
    form.set_model(ModelTraits(has_instance_head=False, is_native=False))
    given = form.automatic.given()
    assert (given["box_nms_thresh"], given["crop_n_layers"]) == (0.4, 2)
    assert "box_nms_thresh" not in form.search.given()
    form.reset.click()
    assert form.automatic.given() == {
        "points_per_side": 32,
        "crop_n_layers": 1,
        "mode": "grid",
    }
    form.deleteLater()
    application.processEvents()


def test_points_are_skipped_where_the_user_ticks_it(screen: None) -> None:
    from napari.qt import get_qapp

    from napari_sam._napari.everything_form import EverythingForm
    from napari_sam._napari.everything_options import ModelTraits

    application = get_qapp()
    form = EverythingForm("grid")
    searches: list[int] = []
    form.search_changed.connect(lambda: searches.append(1))
    flags = {name: form.values[name] for name in ("skip_covered", "foreground_only")}
    for flag in flags.values():
        flag.native.click()
    assert len(searches) == 2
    both = {"skip_covered": True, "foreground_only": True}
    assert both.items() <= form.automatic.given().items()
    assert both.items() <= form.search.given().items()
    form.set_model(ModelTraits(has_instance_head=False, is_native=False))
    given = form.automatic.given()
    assert given["skip_covered"] is True
    assert "foreground_only" not in given
    assert not flags["foreground_only"].enabled
    form.set_model(ModelTraits(has_instance_head=True, is_native=True))
    assert flags["foreground_only"].enabled
    form.reset.click()
    assert not both.keys() & form.automatic.given().keys()
    form.deleteLater()
    application.processEvents()


def test_the_form_gives_back_what_was_set(screen: None) -> None:
    from napari.qt import get_qapp

    from napari_sam._napari.everything_form import EverythingForm

    application = get_qapp()
    form = EverythingForm("grid")
    assert (form.halo, form.tile, form.min_size, form.ngff_version) == (64, None, 16, "0.5")
    for number, name in enumerate(("halo", "tile", "min_size"), start=100):
        form.values[name].value = number
    form.format.choose("0.4")
    assert (form.halo, form.tile, form.min_size, form.ngff_version) == (100, 101, 102, "0.4")
    form.deleteLater()
    application.processEvents()


def test_a_chosen_preset_is_remembered(viewer: napari.Viewer) -> None:
    from napari_sam._napari.settings import load_settings

    widget = open_widget(viewer)
    index = widget.form.presets.findData("small-objects")
    assert index > 0
    widget.form.presets.setCurrentIndex(index)
    widget.form.presets.activated.emit(index)
    assert load_settings().everything_preset == "small-objects"
    assert widget.form.values["crop_n_layers"].value == 1


def test_every_control_has_a_tooltip_and_a_name(viewer: napari.Viewer) -> None:
    from qtpy.QtWidgets import (
        QAbstractButton,
        QAbstractSlider,
        QAbstractSpinBox,
        QComboBox,
        QScrollBar,
    )

    widget = open_widget(viewer)
    panels = (widget.form, widget.scope_panel, widget.result_panel, widget.run_panel)
    for panel in panels:
        for kind in (QComboBox, QAbstractSpinBox, QAbstractSlider):
            for control in panel.findChildren(kind):
                if not isinstance(control, QScrollBar):
                    assert control.toolTip(), control
                    assert control.accessibleName(), control
    for panel in panels[2:]:
        for button in panel.findChildren(QAbstractButton):
            assert button.toolTip(), button.text()
            assert button.accessibleName(), button.text()


def test_only_what_is_there_is_offered(viewer: napari.Viewer) -> None:
    widget = open_widget(viewer)
    assert not widget.run_panel.run.isEnabled()
    viewer.add_image(nuclei()[0])
    assert widget.run_panel.run.isEnabled()
    scopes = widget.scope_panel.scopes
    entries = [scopes.model().item(i) for i in range(scopes.count())]
    assert [entry.isEnabled() for entry in entries] == [True, False, False]
    assert "one slice only" in entries[1].toolTip()
    widget.start(None, all_slices=True)
    assert widget.scope_panel.scope == "slice"
    widget.work.cancel()


def test_a_range_of_slices_and_times(viewer: napari.Viewer) -> None:
    viewer.add_image(np.random.default_rng(0).random((4, 5, 16, 16)).astype(np.float32))
    widget = open_widget(viewer)
    panel = widget.scope_panel
    panel.choose("range")
    panel.rows["Z"].first.setValue(3)
    panel.rows["Z"].last.setValue(2)
    panel.rows["T"].last.setValue(1)
    config = widget.choices.volume_request().config
    assert [*config.slices.indices(5)] == [2]
    assert [*config.times.indices(4)] == [0, 1]
    panel.choose("all")
    config = widget.choices.volume_request().config
    assert [*config.slices.indices(5)] == [*range(5)]
    assert [*config.times.indices(4)] == [*range(4)]


# stacks


def test_a_stack_is_written_to_disk_and_shown_from_there(
    viewer: napari.Viewer, target: Path
) -> None:
    from napari_sam.core.region import Region
    from napari_sam.io import open_volume

    image, _ = nuclei(n_slices=3)
    viewer.add_image(image, scale=(2, 0.5, 0.5))
    widget = open_widget(viewer)
    start_run(widget)
    wait_until(lambda: not widget.work.is_running)
    with closing(open_volume(target)) as volume:
        written = volume.read(Region.whole(volume.shape))
        assert volume.scale == (2, 0.5, 0.5)
    assert written.shape == image.shape
    assert len(np.unique(written)) == written.max() + 1 > 3
    layer = viewer.layers["labels"]
    np.testing.assert_array_equal(np.asarray(layer.data), written)
    np.testing.assert_array_equal(layer.scale, (2, 0.5, 0.5))
    assert layer.editable
    assert f"{written.max()} objects in 3 slices" in widget.run_panel.status.text()


def test_a_run_can_be_paused(viewer: napari.Viewer, target: Path, gate: Gate) -> None:
    viewer.add_image(nuclei(n_slices=3)[0])
    widget = open_widget(viewer)
    start_run(widget)
    wait_for_slices(widget, 1)
    widget.run_panel.pause.click()
    assert widget.run_panel.pause.text() == "Go on"
    assert widget.run_panel.status.text().startswith("Paused.")
    gate.open()
    pauses = iter(range(20))
    wait_until(lambda: next(pauses, None) is None)  # a while, in which nothing may happen
    assert widget.runner._progress.n_slices_done == 1
    widget.run_panel.pause.click()
    wait_until(lambda: not widget.work.is_running)
    assert widget.runner._progress.finished is not None


def test_finished_slices_are_shown_while_the_run_goes_on(
    viewer: napari.Viewer, target: Path, gate: Gate
) -> None:
    viewer.add_image(nuclei(n_slices=3)[0])
    viewer.dims.set_point(0, 0)
    widget = open_widget(viewer)
    start_run(widget)
    wait_for_slices(widget, 1)
    layer = viewer.layers["labels"]
    assert np.asarray(layer._slice.image.raw).any()  # what napari draws
    assert not layer.editable
    gate.open()
    wait_until(lambda: not widget.work.is_running)


def test_cancel_keeps_finished_slices_and_resume_completes_the_same_bytes(
    viewer: napari.Viewer,
    target: Path,
    gate: Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_sam._napari.everything_output import Output
    from napari_sam.pipeline.unfinished import is_unfinished

    viewer.add_image(nuclei(n_slices=3)[0])
    widget = open_widget(viewer)
    start_run(widget)
    wait_for_slices(widget, 1)
    widget.run_panel.cancel.click()
    assert not widget.run_panel.cancel.isEnabled()
    gate.open()
    wait_until(lambda: not widget.work.is_running)
    assert is_unfinished(target)
    assert "1 of 3 slices are on disk" in widget.run_panel.status.text()
    layer = viewer.layers["labels"]
    assert np.asarray(layer.data[0]).any()
    assert not np.asarray(layer.data[1:]).any()
    widget.form.choose_preset("large-objects")  # what is completed keeps its own options
    widget.run_panel.resume.click()
    wait_until(lambda: not widget.work.is_running)
    assert not is_unfinished(target)
    assert [each.name for each in viewer.layers].count("labels") == 1
    assert layer.editable
    # and once more without a break
    whole = tmp_path / "whole" / target.name
    monkeypatch.setattr(
        "napari_sam._napari.everything_widget.ask_for_output", lambda *_: Output(whole)
    )
    widget.form.choose_preset("automatic")
    start_run(widget)
    wait_until(lambda: not widget.work.is_running)
    assert contents(whole) == contents(target)


def test_a_run_that_is_cancelled_before_its_first_slice_leaves_nothing(
    viewer: napari.Viewer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_sam.pipeline.segmenters import ModelSegmenter

    opened = threading.Event()
    real = ModelSegmenter.steps

    def held(self: ModelSegmenter, tile: np.ndarray) -> Iterator[Any]:
        steps = real(self, tile)
        yield next(steps)
        opened.wait(20)
        return (yield from steps)

    viewer.add_image(nuclei(n_slices=3)[0])
    widget = open_widget(viewer)
    widget.start(None, all_slices=True)
    wait_until(lambda: not widget.work.is_running)
    monkeypatch.setattr(ModelSegmenter, "steps", held)
    widget.run_panel.run.click()
    wait_until(lambda: widget.runner._progress.has_store)
    assert "labels" in viewer.layers
    widget.run_panel.cancel.click()
    opened.set()
    wait_until(lambda: not widget.work.is_running)
    assert not target.exists()
    assert "labels" not in viewer.layers
    assert "Nothing was written" in widget.run_panel.status.text()


def test_a_store_that_is_there_can_be_resumed_or_chosen(
    viewer: napari.Viewer,
    target: Path,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_sam._napari.everything_output import Output

    viewer.add_image(nuclei(n_slices=2)[0])
    widget = open_widget(viewer)
    start_run(widget)
    wait_for_slices(widget, 1)
    widget.run_panel.cancel.click()
    gate.open()
    wait_until(lambda: not widget.work.is_running)
    monkeypatch.setattr(
        "napari_sam._napari.everything_widget.ask_for_output",
        lambda *_: Output(target, resume=True),
    )
    widget.run_panel.run.click()
    wait_until(lambda: not widget.work.is_running)
    assert widget.runner._progress.finished is not None
    asked = []
    monkeypatch.setattr(
        "napari_sam._napari.everything_widget.ask_for_unfinished",
        lambda _, directory: asked.append(directory),
    )
    widget.run_panel.resume.click()  # nothing of this widget is left to complete
    assert len(asked) == 1
    assert not widget.work.is_running


def test_layers_may_go_while_a_run_goes_on(viewer: napari.Viewer, target: Path, gate: Gate) -> None:
    from napari_sam.pipeline.unfinished import is_unfinished

    viewer.add_image(nuclei(n_slices=3)[0])
    widget = open_widget(viewer)
    start_run(widget)
    wait_for_slices(widget, 1)
    viewer.layers.clear()
    gate.open()
    wait_until(lambda: not widget.work.is_running)
    assert widget.runner._progress.finished is not None
    assert not is_unfinished(target)
    assert len(viewer.layers) == 0


@pytest.mark.parametrize("way", ["dock", "viewer"])
def test_closing_in_the_middle_of_a_run_leaves_no_thread(
    viewer: napari.Viewer, target: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    from napari_sam._napari.everything_widget import EverythingWidget
    from napari_sam.pipeline.unfinished import is_unfinished

    real = EverythingWidget._let_go

    def let_go(self: EverythingWidget) -> None:
        real(self)
        gate.open()  # only now the run can go on, and so end

    monkeypatch.setattr(EverythingWidget, "_let_go", let_go)
    viewer.add_image(nuclei(n_slices=3)[0])
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, TITLE)
    start_run(widget)
    wait_for_slices(widget, 1)
    if way == "dock":
        viewer.window.remove_dock_widget(dock)
        wait_until(gate.opened.is_set)
        wait_until(lambda: "napari-sam job" not in [t.name for t in threading.enumerate()])
        assert is_unfinished(target)
    # else the fixture closes the viewer; it looks for threads and widgets that stay


def test_a_slice_that_is_too_large_is_done_in_tiles(
    viewer: napari.Viewer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_sam.core.region import Region
    from napari_sam.io import open_volume

    monkeypatch.setattr("napari_sam.predict.frames.fits_whole", lambda *_: False)
    viewer.add_image(nuclei(n_slices=3)[0])
    viewer.dims.set_point(0, 1)
    widget = open_widget(viewer)
    widget.run_panel.run.click()
    wait_until(lambda: "too large" in widget.run_panel.status.text())
    wait_until(lambda: not widget.work.is_running)
    widget.run_panel.run.click()
    wait_until(lambda: not widget.work.is_running)
    with closing(open_volume(target)) as volume:
        written = volume.read(Region.whole(volume.shape))
    assert [bool(plane.any()) for plane in written] == [False, True, False]


def test_other_options_make_an_estimate_void(viewer: napari.Viewer) -> None:
    viewer.add_image(nuclei(n_slices=3)[0])
    widget = open_widget(viewer)
    widget.start(None, all_slices=True)
    wait_until(lambda: not widget.work.is_running)
    assert widget.run_panel.run.text() == "Segme&nt…"
    widget.form.values["min_size"].value = 20  # chooses among masks, and costs nothing
    assert widget.run_panel.run.text() == "Segme&nt…"
    widget.form.values["crop_n_layers"].value = 1
    assert widget.run_panel.run.text() == "Estimate c&ost"
    assert widget.run_panel.status.text() == ""


def spots() -> np.ndarray:
    """Draw 25 bright discs of 6 pixels."""
    rows, cols = np.indices((60, 60))
    image = np.full((60, 60), 40, np.uint8)
    image[np.hypot(rows % 12 - 6, cols % 12 - 6) < 3] = 160
    return image


def test_the_diameter_is_estimated_shown_and_used(viewer: napari.Viewer) -> None:
    viewer.add_image(spots())
    widget = open_widget(viewer)
    field = widget.form.values["diameter"]
    assert field.value == 0
    widget.form.estimate.click()
    wait_until(lambda: field.value > 0 and not widget.work.is_running)
    assert 5 <= field.value <= 7
    assert "pixels across; the image is magnified" in widget.run_panel.status.text()
    assert widget.form.search.diameter == field.value
    run_slice(widget)
    assert count(widget) >= 24
    kept = widget.search.to_keep  # with points, clicks would make other masks of them
    assert kept is not None
    assert not any(item.is_prompted for item in kept.objects)
    assert all(item.is_prompted for item in widget.search.shown.objects)
    widget.form.reset.click()
    assert field.value == 0


def test_the_diameter_is_estimated_by_itself_unless_it_is_said(viewer: napari.Viewer) -> None:
    viewer.add_image(spots())
    widget = open_widget(viewer)
    run_slice(widget)
    assert count(widget) >= 24
    told = widget.result_panel.count.text()
    assert re.search(r"about [567] pixels across: the image was magnified", told)
    kept = widget.search.to_keep
    assert kept is not None
    assert not any(item.is_prompted for item in kept.objects)
    assert widget.form.values["diameter"].value == 0
    widget.form.set_diameter(30)
    run_slice(widget)
    assert count(widget) < 5  # as they are, which is too small for the model
    assert "magnified" not in widget.result_panel.count.text()


def test_an_estimate_is_cancelled_like_other_work(viewer: napari.Viewer) -> None:
    viewer.add_image(spots())
    widget = open_widget(viewer)
    widget.form.estimate.click()
    widget.run_panel.cancel.click()
    wait_until(lambda: not widget.work.is_running)
    assert widget.form.values["diameter"].value == 0
    assert widget.run_panel.status.text() == "Stopped."


def test_too_few_objects_leave_the_diameter(viewer: napari.Viewer) -> None:
    image = np.full((60, 60), 40, np.uint8)
    image[20:40, 20:40] = 160
    viewer.add_image(image)
    widget = open_widget(viewer)
    widget.form.values["diameter"].value = 50
    widget.form.estimate.click()
    wait_until(lambda: "Fewer than three" in widget.run_panel.status.text())
    assert widget.form.values["diameter"].value == 50


def test_a_diameter_is_offered_for_models_of_native_pixels(screen: None) -> None:
    from napari_sam._napari.everything_form import EverythingForm
    from napari_sam._napari.everything_options import traits_of

    form = EverythingForm("automatic")
    field = form.values["diameter"]
    form.set_diameter(200.4)
    assert (field.value, form.automatic.diameter) == (200, 200)
    form.set_model(traits_of("vit_b"))
    assert (field.value, form.automatic.diameter) == (0, None)
    assert not field.enabled
    assert not form.estimate.isEnabled()
    form.set_model(traits_of("compact"))
    assert field.enabled
    assert form.estimate.isEnabled()


def test_a_run_over_a_stack_takes_the_diameter(viewer: napari.Viewer) -> None:
    viewer.add_image(np.stack([spots()] * 2))
    widget = open_widget(viewer)
    widget.scope_panel.choose("all")
    widget.form.set_diameter(6)
    assert widget.choices.volume_request().config.automatic.diameter == 6
