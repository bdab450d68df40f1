"""Objects of Segment by clicks: committed in time, refined, and beside labels of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
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
    works,
)

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray


def point_at(viewer: napari.Viewer, *position: float) -> None:
    """Put the mouse somewhere in the world."""
    viewer.cursor.position = position


def discs(size: int = 96) -> NDArray[np.int32]:
    """Draw the cells as labels, with gaps in their ids, as other programs leave them."""
    rows, cols = np.indices((size, size))
    labels = np.zeros((size, size), np.int32)
    for label, (row, col) in zip((5, 17, 40, 41), (A, B, C, D), strict=True):
        labels[np.hypot(rows - row, cols - col) < 9] = label
    return labels


def test_labels_of_another_layer_become_new_objects(viewer: napari.Viewer) -> None:
    viewer.add_image(cells())
    theirs = viewer.add_labels(discs(), name="cellpose")
    widget = open_widget(viewer)
    assert works(widget, A).name == "SAM labels"
    widget.prompt_panel.mask_source.choose(theirs)
    for at, new in ((B, 2), (D, 3)):
        point_at(viewer, *at)
        widget.action("refine_under_mouse")()
        assert widget.interaction.session.edited_label is None
        wait_for_mask(widget)
        assert mask_of(widget)[at]
        click(widget, (at[0] + 3, at[1]))  # corrections go on from the mask
        wait_for_mask(widget)
        assert commit(widget).data[at] == new
    np.testing.assert_array_equal(theirs.data, discs())
    widget.action("undo")()
    assert widget.interaction.session.prompts.masks
    wait_for_mask(widget)
    assert preview_of(widget)[D]


def test_refined_labels_keep_their_id(viewer: napari.Viewer) -> None:
    viewer.add_image(cells())
    theirs = viewer.add_labels(discs(), name="cellpose")
    theirs.features = pd.DataFrame({"index": [5, 17], "diameter": [18.0, 18.5]})
    widget = open_widget(viewer)
    widget.object_panel.target.choose(theirs)
    for key in ("refine_under_mouse", "edit_under_mouse"):  # there are no prompts to edit
        point_at(viewer, *B)
        widget.action(key)()
        assert widget.interaction.session.edited_label == 17
        wait_for_mask(widget)
        commit(widget)
        assert theirs.data[B] == 17
        assert set(np.unique(theirs.data)) == {0, 5, 17, 40, 41}
    rows = theirs.features.set_index("index")
    assert rows.loc[5, "diameter"] == 18.0  # what others know of the labels stays
    assert rows.loc[17, "diameter"] == 18.5
    assert rows.loc[17, "predicted_iou"] > 0
    theirs.data[theirs.data == 5] = 0
    works(widget, A)
    assert theirs.data[A] == 42


def test_labels_that_lie_elsewhere_are_no_masks(viewer: napari.Viewer, notes: list[str]) -> None:
    viewer.add_image(cells())
    theirs = viewer.add_labels(discs(), name="cellpose", scale=(2, 2))
    widget = open_widget(viewer)
    widget.prompt_panel.mask_source.choose(theirs)
    point_at(viewer, *A)
    widget.action("refine_under_mouse")()
    assert len(notes) == 1
    assert "same shape, scale and place" in notes[0]
    assert widget.interaction.session.prompts.is_empty
    works(widget, A)


def test_commit_before_the_mask_is_there(
    viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_image(cells())
    widget = open_widget(viewer)
    gate = hold(monkeypatch, "predict")
    click(widget, A)
    gate.wait_until_reached()
    widget.action("commit")()
    assert widget.actions_on_objects.layer is None
    gate.open()
    wait_until(lambda: widget.actions_on_objects.layer is not None, "it is committed")
    assert widget.actions_on_objects.layer.data[A] == 1
    assert widget.interaction.session.prompts.is_empty


def test_commit_is_for_what_stood_there(
    viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_image(cells(3))
    viewer.dims.set_point(0, 0)
    widget = open_widget(viewer)
    click(widget, C)
    wait_for_mask(widget)
    viewer.dims.set_point(0, 1)
    gate = hold(monkeypatch, "predict")
    click(widget, A)
    gate.wait_until_reached()
    widget.action("commit")()
    click(widget, B)
    assert "Not committed" in widget.status.text()
    widget.action("commit")()
    viewer.dims.set_point(0, 0)
    assert "Not committed" in widget.status.text()
    gate.open()
    wait_for_mask(widget)
    process_events(0.1)
    assert widget.actions_on_objects.layer is None
    viewer.dims.set_point(0, 1)
    wait_for_mask(widget)
    assert len(widget.interaction.session.prompts.points) == 2
    works(widget, A)


def test_labels_that_cannot_take_an_object(viewer: napari.Viewer, notes: list[str]) -> None:
    import dask.array as da

    viewer.add_image(cells())
    full = np.zeros((96, 96), np.uint8)
    full[90, 90] = 255
    viewer.add_labels(full, name="full")
    viewer.add_labels(da.zeros((96, 96), dtype=np.uint8), name="lazy")
    widget = open_widget(viewer)
    click(widget, A)
    wait_for_mask(widget)
    for number, (name, cure) in enumerate((("full", "Convert"), ("lazy", "Use a new labels")), 1):
        widget.object_panel.target.choose(viewer.layers[name])
        commit(widget)
        assert len(notes) == number, notes
        assert cure in notes[-1]
        assert mask_of(widget)[A]
    assert full.sum() == 255
    widget.object_panel.target.choose(None)
    assert works(widget, A).name == "SAM labels"


def test_rule_for_old_objects(viewer: napari.Viewer, notes: list[str]) -> None:
    viewer.add_image(cells())
    theirs = viewer.add_labels(discs(), name="cellpose")
    widget = open_widget(viewer)
    widget.object_panel.target.choose(theirs)
    widget.actions_on_objects.rule = "only_empty"
    click(widget, A)
    wait_for_mask(widget)
    commit(widget)
    assert len(notes) == 1
    np.testing.assert_array_equal(theirs.data, discs())
    widget.actions_on_objects.rule = "overwrite"
    commit(widget)
    assert theirs.data[A] == 42
    assert len(notes) == 1
    widget.action("undo")()
    np.testing.assert_array_equal(theirs.data, discs())
