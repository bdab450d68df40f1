"""Segment by clicks while layers, images, settings and slices change under it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gui.hands import process_events, wait_until
from gui.segmenting import (
    A,
    B,
    C,
    D,
    cells,
    click,
    commit,
    hold,
    mask_of,
    open_another,
    open_widget,
    preview_of,
    wait_for_mask,
    wait_until_ready,
    works,
)

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_sam._napari.segment_widget import SegmentWidget


def layer_of(widget: SegmentWidget, kind: str) -> Layer:
    """Return a layer of the widget by what it is for."""
    prompts = widget.interaction.prompts
    if kind == "image":
        return widget.interaction.image
    if kind == "points":
        return prompts.points
    if kind == "shapes":
        prompts.use("box")
        prompts.use("point")
        return prompts.shapes
    if kind == "preview":
        return widget.interaction.preview.layer
    return widget.actions_on_objects.layer


KINDS = ("image", "points", "shapes", "preview", "labels")


@pytest.mark.parametrize("kind", KINDS)
def test_layer_is_deleted_with_prompts_standing(viewer: napari.Viewer, kind: str) -> None:
    viewer.add_image(cells(), name="first")
    widget = open_widget(viewer)
    click(widget, A)
    wait_for_mask(widget)
    commit(widget)
    click(widget, B)
    if kind in ("points", "shapes"):
        layer_of(widget, "shapes").add_rectangles([[56, 56], [84, 84]])
    wait_for_mask(widget)
    layer = layer_of(widget, kind)
    viewer.layers.remove(layer)
    process_events()
    if kind == "image":
        assert widget.interaction.image is None
        assert widget.interaction.session.plane is None
        assert not [each for each in viewer.layers if each.name.startswith(("SAM p", "SAM s"))]
        viewer.add_image(cells(seed=1), name="second")
        wait_until_ready(widget)
    elif kind in ("preview", "labels"):
        assert mask_of(widget)[B]  # the prompts are not touched
    else:
        left = widget.interaction.session.prompts
        assert (bool(left.points), bool(left.boxes)) == (kind == "shapes", kind == "points")
        process_events()
        assert widget.interaction.prompts.points in viewer.layers
        widget.action("undo")()  # what went with its layer comes back
        assert len(widget.interaction.session.prompts.points) == 1
        assert len(widget.interaction.session.prompts.boxes) == 1
        wait_for_mask(widget)
        assert mask_of(widget, 0)[D]
    labels = works(widget, C)
    assert labels in viewer.layers
    if kind == "labels":
        assert labels is not layer


@pytest.mark.parametrize("kind", ["image", "points", "shapes", "labels"])
@pytest.mark.parametrize("step", ["prepare", "predict"])
def test_layer_is_deleted_mid_run(
    viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch, kind: str, step: str
) -> None:
    viewer.add_image(cells(), name="first")
    viewer.add_labels(np.zeros((96, 96), np.uint8), name="mine")
    gate = hold(monkeypatch, step)
    widget = open_widget(viewer, is_ready=step == "predict")
    widget.object_panel.target.choose(viewer.layers["mine"])
    assert widget.actions_on_objects.layer is viewer.layers["mine"]
    click(widget, A)
    gate.wait_until_reached()
    viewer.layers.remove(layer_of(widget, kind))
    process_events()
    gate.open()
    process_events(0.1)
    if kind == "image":
        assert not widget.interaction.engine.is_busy
        assert not widget.progress.isVisible()
        viewer.add_image(cells(seed=1), name="second")
        wait_until_ready(widget)
    works(widget, B)


def test_all_layers_are_deleted_at_once(viewer: napari.Viewer) -> None:
    widget = None
    for remove in (viewer.layers.clear, lambda: _select_and_remove(viewer)):
        viewer.add_image(cells())
        widget = widget or open_widget(viewer)
        wait_until_ready(widget)
        click(widget, A)
        wait_for_mask(widget)
        commit(widget)
        click(widget, B)
        wait_for_mask(widget)
        remove()
        process_events()
        assert not len(viewer.layers)
    viewer.add_image(cells())
    wait_until_ready(widget)
    works(widget)


def _select_and_remove(viewer: napari.Viewer) -> None:
    viewer.layers.select_all()
    viewer.layers.remove_selected()


def test_layers_are_renamed_and_reordered(viewer: napari.Viewer) -> None:
    image = viewer.add_image(cells(), name="first")
    viewer.add_image(cells(seed=1), name="above")
    widget = open_widget(viewer)
    widget.image_panel.image.choose(image)
    wait_until_ready(widget)
    click(widget, A)
    wait_for_mask(widget)
    labels = commit(widget)
    click(widget, B)
    wait_for_mask(widget)
    mask = mask_of(widget)
    for number, layer in enumerate(list(viewer.layers)):
        layer.name = f"layer {number}"
    viewer.layers.reverse()
    viewer.add_points(np.zeros((1, 2)))  # combo boxes look at the layers again
    assert widget.interaction.image is image
    assert widget.actions_on_objects.layer is labels
    np.testing.assert_array_equal(mask_of(widget), mask)
    click(widget, (28, 70))
    wait_for_mask(widget)
    assert preview_of(widget)[B]
    commit(widget)
    assert labels.data[A] == 1
    assert labels.data[B] == 2
    combos = (widget.object_panel.target, widget.prompt_panel.mask_source)
    assert all(combo.findText("layer 3") < 0 for combo in combos)  # the preview


def test_data_of_the_image_are_replaced(
    viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = viewer.add_image(cells(centres_yx=[A, B]))
    widget = open_widget(viewer)
    click(widget, A)
    wait_for_mask(widget)
    assert preview_of(widget)[A]
    gate = hold(monkeypatch, "prepare")
    image.data = cells(centres_yx=[C, D], seed=1)
    gate.wait_until_reached()
    assert not preview_of(widget).any()  # no mask of the old pixels
    assert widget.candidate_panel.table.item(0, 0) is None
    gate.open()
    wait_for_mask(widget)  # of the prompts that still stand, on the new pixels
    assert not 300 < mask_of(widget).sum() < 700
    works(widget, C)


def test_pixels_of_the_image_are_changed_in_place(viewer: napari.Viewer) -> None:
    image = viewer.add_image(cells(centres_yx=[A, B]))
    first, second = open_widget(viewer), open_another(viewer)
    for widget in (first, second):
        click(widget, A)
        wait_for_mask(widget)
    image.data[:] = cells(centres_yx=[C, D], seed=1)
    image.data = image.data
    assert not preview_of(first).any()
    assert not preview_of(second).any()
    for widget in (first, second):
        wait_until_ready(widget)
        works(widget, C)
        widget.action("undo")()  # the other widget has the same pixels to write into
        widget.action("clear")()


def test_data_of_another_shape(viewer: napari.Viewer) -> None:
    image = viewer.add_image(cells())
    widget = open_widget(viewer)
    labels = works(widget, A)
    click(widget, D)
    wait_for_mask(widget)
    image.data = cells()[:50, :90]
    assert not preview_of(widget).any()
    wait_until_ready(widget)
    assert widget.interaction.session.prompts.is_empty
    assert widget.actions_on_objects.layer is not labels
    smaller = works(widget, B)
    assert smaller.data.shape == (50, 90)
    image.data = cells(3)
    wait_until_ready(widget)
    assert works(widget, B).data.shape == (3, 96, 96)
    assert labels.data.max() == 1


def test_labels_that_do_not_fit_any_more(viewer: napari.Viewer, notes: list[str]) -> None:
    viewer.add_image(cells())
    widget = open_widget(viewer)
    moved = works(widget, A)
    moved.translate = (10, 10)
    widget.action("edit_under_mouse")()
    assert len(notes) == 1
    assert "pixels of the image" in notes[0]
    new = works(widget, B)
    assert new is not moved
    assert moved.data.max() == new.data.max() == 1


def test_data_of_the_labels_are_replaced(viewer: napari.Viewer) -> None:
    viewer.add_image(cells())
    widget = open_widget(viewer)
    labels = works(widget, A)
    labels.data = np.where(labels.data > 0, 5, 0).astype(np.uint16)
    click(widget, B)
    wait_for_mask(widget)
    commit(widget)
    assert labels.data[A] == 5
    assert labels.data[B] == 6
    widget.action("undo")()
    assert labels.data[B] == 0
    assert labels.data[A] == 5


def test_labels_painted_by_hand_keep_their_label(viewer: napari.Viewer) -> None:
    viewer.add_image(cells())
    widget = open_widget(viewer)
    labels = works(widget, A)
    labels.selected_label = 2
    labels.paint((90, 5), 2)
    works(widget, B)
    assert labels.data[90, 5] == 2
    assert labels.data[B] == 3


def test_another_image_is_chosen(viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    first = viewer.add_image(cells(centres_yx=[A, B]), name="first")
    viewer.add_image(cells(centres_yx=[C, D], seed=1), name="second")
    widget = open_widget(viewer)
    click(widget, C)
    wait_for_mask(widget)
    gate = hold(monkeypatch, "predict")
    click(widget, (72, 26))
    gate.wait_until_reached()
    widget.image_panel.image.choose(first)
    assert not preview_of(widget).any()
    assert widget.interaction.session.prompts.is_empty
    gate.open()
    wait_until_ready(widget)
    process_events(0.1)
    assert not widget.interaction.session.candidates
    works(widget, A)


def change_contrast(widget: SegmentWidget) -> None:
    widget.image_panel.low.setValue(40)
    widget.image_panel.low.editingFinished.emit()


def change_device(widget: SegmentWidget) -> None:
    widget.model_choice.set_device("cpu")


def change_channel(widget: SegmentWidget) -> None:
    combo = widget.image_panel.channels[0]
    combo.setCurrentIndex(1)
    combo.activated.emit(1)


def change_model(widget: SegmentWidget) -> None:
    from napari_sam.model.registry import MODELS
    from napari_sam.model.store import model_path

    copy = Path(os.environ["NAPARI_SAM_HOME"]) / "own.safetensors"
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(model_path(MODELS["compact"]), copy)
    assert widget.model_choice.set_model(str(copy))


CHANGES = [change_contrast, change_device, change_channel, change_model]


@pytest.mark.parametrize("change", CHANGES)
def test_settings_change_with_prompts_standing(
    viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch, change: Callable[[SegmentWidget], None]
) -> None:
    channels = np.stack([cells(centres_yx=[A, B]), cells(centres_yx=[A, C], seed=1)])
    viewer.add_image(channels, axis_labels=("c", "y", "x"))
    widget = open_widget(viewer)
    click(widget, A)
    wait_for_mask(widget)
    before = widget.interaction.session.candidates[0].masks[0].logits
    gate = hold(monkeypatch, "predict")
    click(widget, (28, 24))
    gate.wait_until_reached()
    stale = widget.interaction.session.request()
    change(widget)
    assert not preview_of(widget).any()
    gate.open()
    wait_for_mask(widget)
    assert stale.revision != widget.interaction.session._applied
    assert mask_of(widget)[A]
    after = widget.interaction.session.candidates[0].masks[0].logits
    assert after is not before
    works(widget, A)


def test_a_model_that_cannot_be_loaded(
    viewer: napari.Viewer, tmp_path: Path, notes: list[str]
) -> None:
    viewer.add_image(cells())
    widget = open_widget(viewer)
    click(widget, A)
    wait_for_mask(widget)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"no weights")
    widget.model_choice.set_model(str(damaged))
    wait_until(lambda: bool(notes))
    process_events(0.1)
    assert len(notes) == 1
    assert not preview_of(widget).any()
    assert not widget.progress.isVisible()
    widget.model_choice.set_model("compact")
    click(widget, (28, 24))
    wait_for_mask(widget)
    works(widget, B)
    assert len(notes) == 1
