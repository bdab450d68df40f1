"""Segment by clicks on the planes of stacks: slices, channels, axes in any order, and 3D."""

from __future__ import annotations

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
    open_widget,
    preview_of,
    wait_for_mask,
    wait_until_ready,
    works,
)
from napari_sam.core.plane import Plane

if TYPE_CHECKING:
    import napari


def stack() -> np.ndarray:
    """Five slices, each with one cell of its own beside the cell A."""
    own = [(24, 70), (70, 26), (70, 70), (46, 46), (72, 48)]
    return np.stack([cells(centres_yx=[A, each], seed=i) for i, each in enumerate(own)])


def test_slices_are_passed_quickly_while_they_are_prepared(
    viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_image(stack())
    viewer.dims.set_point(0, 0)
    gate = hold(monkeypatch, "prepare")
    widget = open_widget(viewer, is_ready=False)
    click(widget, A)
    gate.wait_until_reached()
    for slice_ in (1, 2, 3, 4, 3, 2):
        viewer.dims.set_point(0, slice_)
        process_events()
    click(widget, D)
    gate.open()
    wait_for_mask(widget)
    assert widget.interaction.plane == Plane((1, 2), (2,))
    assert mask_of(widget)[D]
    assert not mask_of(widget)[A]
    viewer.dims.set_point(0, 0)
    wait_for_mask(widget)
    assert mask_of(widget)[A]
    assert not mask_of(widget)[D]


def test_prompts_stay_with_their_slice_and_commits_too(viewer: napari.Viewer) -> None:
    viewer.add_image(stack())
    viewer.dims.set_point(0, 1)
    widget = open_widget(viewer)
    click(widget, A)
    wait_for_mask(widget)
    viewer.dims.set_point(0, 3)
    assert not preview_of(widget).any()
    assert widget.interaction.session.prompts.is_empty
    click(widget, (46, 46))
    wait_for_mask(widget)
    labels = commit(widget)
    assert labels.data[3, 46, 46] == 1
    assert set(np.flatnonzero(labels.data.any(axis=(1, 2)))) == {3}
    viewer.dims.set_point(0, 1)
    wait_for_mask(widget)
    assert preview_of(widget)[A]
    assert len(widget.interaction.prompts.points.data) == 1
    commit(widget)
    assert labels.data[1, A[0], A[1]] == 2
    assert set(np.flatnonzero(labels.data.any(axis=(1, 2)))) == {1, 3}


def test_undo_and_redo_go_back_to_the_slice(viewer: napari.Viewer) -> None:
    viewer.add_image(stack())
    viewer.dims.set_point(0, 1)
    widget = open_widget(viewer)
    labels = works(widget, C)
    viewer.dims.set_point(0, 4)
    click(widget, A)
    wait_for_mask(widget)
    widget.action("undo")()  # the point
    widget.action("undo")()  # the commit
    assert viewer.dims.current_step[0] == 1
    assert not labels.data.any()
    wait_for_mask(widget)  # computed on the slice that came back
    assert mask_of(widget)[C]
    assert preview_of(widget)[C]
    viewer.dims.set_point(0, 0)
    widget.action("redo")()
    assert viewer.dims.current_step[0] == 1
    assert labels.data[1][C] == 1


def test_axes_are_rolled_and_transposed(viewer: napari.Viewer) -> None:
    volume = np.stack([cells(centres_yx=[A], seed=i) for i in range(96)], axis=1)  # (z, y, x)
    viewer.add_image(volume)
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_point(1, 40)
    widget = open_widget(viewer)
    assert widget.interaction.plane == Plane((0, 2), (40,))
    labels = works(widget, A)
    assert labels.data[A[0], 40, A[1]] == 1
    assert not labels.data[:, 39].any()
    click(widget, A)
    wait_for_mask(widget)
    viewer.dims.order = (1, 2, 0)  # transposed: another view of the same slice
    assert widget.interaction.plane == Plane((2, 0), (40,))
    assert widget.interaction.session.prompts.is_empty
    wait_until_ready(widget)
    click(widget, A)
    wait_for_mask(widget)
    assert mask_of(widget)[A]
    viewer.dims.order = (0, 1, 2)
    widget.action("undo")()  # takes the last point back, in the view it was given in
    assert tuple(viewer.dims.displayed) == (2, 0)
    assert widget.interaction.session.prompts.is_empty


def test_three_dimensions_are_refused_in_words(viewer: napari.Viewer) -> None:
    viewer.add_image(stack())
    viewer.dims.set_point(0, 1)
    widget = open_widget(viewer)
    labels = works(widget, C)
    click(widget, A)
    wait_for_mask(widget)
    viewer.dims.ndisplay = 3
    assert "2D" in widget.status.text()
    assert not widget.progress.isVisible()
    assert widget.interaction.plane is None
    widget.interaction.prompts.points.add([2, 30.0, 30.0])  # napari lets users click there
    viewer.add_labels(np.zeros((5, 96, 96), np.uint8), name="another")
    process_events()
    viewer.dims.ndisplay = 2
    wait_for_mask(widget)
    assert mask_of(widget)[A]
    assert preview_of(widget)[A]
    assert commit(widget) is labels
    assert labels.data[1][A] == 2
    viewer.dims.set_point(0, 2)
    assert not len(widget.interaction.prompts.points.data)


def test_undo_in_three_dimensions(viewer: napari.Viewer) -> None:
    viewer.add_image(stack())
    viewer.dims.set_point(0, 1)
    widget = open_widget(viewer)
    labels = works(widget, C)
    viewer.dims.ndisplay = 3
    widget.action("undo")()
    assert viewer.dims.ndisplay == 2
    assert not labels.data.any()
    wait_for_mask(widget)
    assert preview_of(widget)[C]


def test_prompts_stand_on_all_channels(viewer: napari.Viewer) -> None:
    both = [cells(centres_yx=[A, B]), cells(centres_yx=[A, C], seed=1)]
    volume = np.stack([cells(2), both, cells(2, seed=2)])  # (z, c, y, x)
    viewer.add_image(volume, axis_labels=("z", "c", "y", "x"))
    viewer.dims.set_point([0, 1], [1, 1])
    widget = open_widget(viewer)
    assert widget.image_panel.channel_choice.axis == 1
    click(widget, B)  # of the first channel, which the model sees, while the other one is shown
    wait_for_mask(widget)
    mask = mask_of(widget)
    assert mask[B]
    preview = widget.interaction.preview.layer
    assert preview.get_value((1, 1, *B), world=True)
    viewer.dims.set_point(1, 0)
    assert preview.get_value((1, 0, *B), world=True)
    np.testing.assert_array_equal(widget.interaction.prompts.points.data, [[1, 0, *B]])
    np.testing.assert_array_equal(mask_of(widget), mask)
    widget.interaction.use_tool("box")
    corners = [(1, 0, row, col) for row, col in ((12, 12), (12, 36), (36, 36), (36, 12))]
    widget.interaction.prompts.shapes.add_rectangles(np.array(corners))
    viewer.dims.set_point(1, 1)
    assert len(widget.interaction.session.prompts.boxes) == 1
    np.testing.assert_array_equal(widget.interaction.prompts.shapes.data[0][:, 1], 1)
    wait_for_mask(widget)
    labels = commit(widget)
    assert labels.data[1, 0].any()
    np.testing.assert_array_equal(labels.data[1, 0], labels.data[1, 1])
    widget.action("undo")()
    assert viewer.dims.current_step[1] == 1
    assert len(widget.interaction.session.prompts.boxes) == 1
    viewer.dims.order = (0, 2, 1, 3)
    assert "channels" in widget.status.text()
    viewer.dims.order = (0, 1, 2, 3)
    wait_for_mask(widget)


def test_a_layer_that_is_a_channel_goes(viewer: napari.Viewer) -> None:
    viewer.add_image(cells(centres_yx=[A]), name="first")
    second = viewer.add_image(cells(centres_yx=[B], seed=1), name="second")
    widget = open_widget(viewer, is_ready=False)
    panel = widget.image_panel
    panel.image.choose(viewer.layers["first"])
    panel.channels[1].setCurrentIndex(1)
    panel.channels[1].activated.emit(1)
    assert panel.channel_choice.other_layers == (second,)
    wait_until_ready(widget)
    click(widget, A)
    wait_for_mask(widget)
    second.name = "renamed"
    viewer.add_points(np.zeros((1, 2)))
    assert panel.channel_choice.other_layers == (second,)
    assert widget.interaction.session.is_current  # nothing has changed
    second.data = cells(centres_yx=[C], seed=2)
    assert not preview_of(widget).any()
    wait_for_mask(widget)
    viewer.layers.remove(second)
    assert panel.channel_choice.other_layers == ()
    assert not preview_of(widget).any()
    wait_for_mask(widget)
    works(widget, A)


def test_channels_that_lie_apart_are_told_once(viewer: napari.Viewer, notes: list[str]) -> None:
    first = viewer.add_image(cells(centres_yx=[A]), name="first")
    second = viewer.add_image(cells(centres_yx=[B], seed=1), name="second")
    widget = open_widget(viewer, is_ready=False)
    panel = widget.image_panel
    panel.image.choose(first)
    panel.channels[1].setCurrentIndex(1)
    panel.channels[1].activated.emit(1)
    wait_until_ready(widget)
    second.translate = (30, 0)
    click(widget, A)
    process_events(0.2)
    assert len(notes) == 1
    assert "Choose layers that were opened together" in notes[0]
    second.translate = (0, 0)
    works(widget, A)


def test_contrast_follows_the_limits_of_the_layer(viewer: napari.Viewer) -> None:
    image = viewer.add_image(cells(), contrast_limits=(0, 255))
    widget = open_widget(viewer)
    combo = widget.image_panel.contrast
    combo.setCurrentIndex(1)
    combo.activated.emit(1)
    wait_until_ready(widget)
    click(widget, A)
    wait_for_mask(widget)
    before = widget.interaction.engine.contrast
    image.contrast_limits = (20, 90)
    wait_until(lambda: not widget.interaction.session.is_current)
    wait_for_mask(widget)
    assert widget.interaction.engine.contrast != before
    assert mask_of(widget)[A]
