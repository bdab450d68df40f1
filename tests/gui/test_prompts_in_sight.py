"""Prompts and masks stay in sight, whatever is opened after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gui.driver import Driver
from gui.hands import process_events, wait_until
from gui.segmenting import A, cells, click, commit, open_widget, wait_for_mask

if TYPE_CHECKING:
    import napari


def names(viewer: napari.Viewer) -> list[str]:
    """Names of the layers from top to bottom."""
    process_events()
    return [layer.name for layer in reversed(viewer.layers)]


def test_prompts_stay_above_masks_and_these_above_all_others(viewer: napari.Viewer) -> None:
    viewer.add_image(cells(), name="image")
    widget = open_widget(viewer)
    widget.interaction.use_tool("box")
    widget.interaction.use_tool("point")
    click(widget, A)
    wait_for_mask(widget)
    assert names(viewer) == ["SAM points", "SAM shapes", "SAM preview", "image"]
    active = viewer.layers.selection.active
    viewer.add_labels(np.zeros((96, 96), np.uint8), name="other labels")
    viewer.layers.selection.active = active
    assert names(viewer)[:4] == ["SAM points", "SAM shapes", "SAM preview", "other labels"]
    assert viewer.layers.selection.active is active
    commit(widget)
    wait_until(lambda: "SAM labels" in viewer.layers)
    assert names(viewer)[:4] == ["SAM points", "SAM shapes", "SAM preview", "SAM labels"]


def test_an_order_that_the_user_chose_stays_until_a_layer_comes(viewer: napari.Viewer) -> None:
    viewer.add_image(cells(), name="image")
    widget = open_widget(viewer)
    points = viewer.layers.index(widget.interaction.prompts.points)
    viewer.layers.move(points, 0)
    assert names(viewer) == ["image", "SAM points"]
    click(widget, A)  # adds the preview
    wait_for_mask(widget)
    assert names(viewer) == ["SAM points", "SAM preview", "image"]


def test_a_closed_widget_leaves_the_order_alone(viewer: napari.Viewer) -> None:
    viewer.add_image(cells(), name="image")
    widget = open_widget(viewer)
    viewer.window.remove_dock_widget(widget)
    viewer.add_labels(np.zeros((96, 96), np.uint8), name="other labels")
    assert names(viewer) == ["other labels", "image"]


def test_a_new_point_is_not_hidden_by_the_mark_of_the_selection(viewer: napari.Viewer) -> None:
    image = viewer.add_image(cells(), name="image")
    widget = open_widget(viewer)
    driver = Driver(viewer)
    driver.show_all()
    points = widget.interaction.prompts.points
    for number, sign in enumerate(("positive", "negative"), start=1):
        driver.click((A[0] + 2 * number, A[1]), image)
        wait_for_mask(widget)
        assert len(points.data) == number
        assert points.features["sign"].iloc[-1] == sign
        assert points.selected_data == set()
        driver.key("t")
    assert points.features["sign"].tolist() == ["positive", "negative"]
