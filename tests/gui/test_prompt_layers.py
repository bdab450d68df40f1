"""Prompts that are drawn, moved and deleted in napari's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gui.driver import Driver
from gui.hands import process_events, wait_until
from gui.segmenting import (
    A,
    B,
    C,
    D,
    cells,
    click,
    commit,
    mask_of,
    open_widget,
    preview_of,
    wait_for_mask,
)

if TYPE_CHECKING:
    import napari

    from napari_sam._napari.segment_widget import SegmentWidget


def at_work(viewer: napari.Viewer) -> tuple[SegmentWidget, Driver]:
    """Open the widget on an image, with the keyboard on the canvas."""
    viewer.add_image(cells())
    widget = open_widget(viewer)
    driver = Driver(viewer)
    driver.show_all()
    return widget, driver


def around(centre: tuple[int, int], half: int = 14) -> list[tuple[int, int]]:
    """Return two corners of a box around a cell."""
    row, col = centre
    return [(row - half, col - half), (row + half, col + half)]


def test_clicks_correct_and_become_objects(viewer: napari.Viewer) -> None:
    widget, driver = at_work(viewer)
    image, session = widget.interaction.image, widget.interaction.session
    driver.click(A, image)
    wait_for_mask(widget)
    driver.key("t")
    driver.click((24, 50), image)
    wait_for_mask(widget)
    assert [point.is_positive for point in session.prompts.points] == [True, False]
    points = widget.interaction.prompts.points
    assert list(points.features["sign"]) == ["positive", "negative"]
    assert [str(symbol) for symbol in points.symbol] == ["disc", "x"]
    assert mask_of(widget)[A]
    assert not mask_of(widget)[24, 50]
    driver.key("c")
    assert session.next_is_positive
    assert not len(points.data)
    driver.click(B, image)
    wait_for_mask(widget)
    assert list(points.features["sign"]) == ["positive"]


def test_several_boxes_are_several_objects_at_once(viewer: napari.Viewer) -> None:
    widget, driver = at_work(viewer)
    image = widget.interaction.image
    driver.click_widget(widget.prompt_panel.tools["box"])
    for cell in (A, B, D):
        driver.drag([around(cell)[0], cell, around(cell)[1]], image)
    wait_for_mask(widget)
    session = widget.interaction.session
    assert len(session.prompts.boxes) == len(session.candidates) == 3
    driver.activate()
    driver.key("c")
    labels = widget.actions_on_objects.layer
    assert [labels.data[cell] for cell in (A, B, D)] == [1, 2, 3]
    assert labels.data[C] == 0
    driver.key("ctrl+z")
    assert len(session.prompts.boxes) == 3
    assert len(widget.interaction.prompts.shapes.data) == 3
    assert not labels.data.any()


def test_ellipse_and_polygon_are_masks_to_start_from(viewer: napari.Viewer) -> None:
    widget, driver = at_work(viewer)
    image, session = widget.interaction.image, widget.interaction.session
    widget.interaction.use_tool("ellipse")
    driver.drag([around(A)[0], A, around(A)[1]], image)
    wait_until(lambda: len(session.prompts.masks) == 1, "the ellipse is a mask")
    widget.interaction.use_tool("polygon")
    corners = [(56, 56), (56, 84), (84, 84), (84, 56)]
    for corner in corners:
        driver.click(corner, image)
    assert len(session.prompts.masks) == 1  # not finished
    driver.double_click((70, 54), image)
    wait_until(lambda: len(session.prompts.masks) == 2, "the polygon is a mask")
    wait_for_mask(widget)
    assert mask_of(widget, 0)[A]
    assert mask_of(widget, 1)[D]
    labels = commit(widget)
    assert {labels.data[A], labels.data[D]} == {1, 2}
    assert not len(widget.interaction.prompts.shapes.data)
    widget.action("undo")()
    assert list(widget.interaction.prompts.shapes.shape_type) == ["ellipse", "polygon"]


@pytest.mark.parametrize("is_positive", [True, False])
def test_a_scribble_becomes_points(viewer: napari.Viewer, is_positive: bool) -> None:
    widget, driver = at_work(viewer)
    image, session = widget.interaction.image, widget.interaction.session
    click(widget, A)
    widget.interaction.set_sign(is_positive)
    widget.interaction.use_tool("scribble")
    driver.drag([(62, 70), (66, 70), (70, 70), (74, 70), (78, 70)], image)
    wait_until(lambda: len(session.prompts.points) > 1, "the scribble is points")
    process_events()
    assert [point.is_positive for point in session.prompts.points][1:] == [is_positive] * 2
    assert not len(widget.interaction.prompts.shapes.data)
    wait_for_mask(widget)
    assert mask_of(widget)[D] == is_positive


def test_a_slip_of_the_mouse_is_no_box(viewer: napari.Viewer) -> None:
    widget, driver = at_work(viewer)
    widget.interaction.use_tool("box")
    driver.click(A, widget.interaction.image)
    assert widget.interaction.session.prompts.is_empty
    assert not widget.interaction.session.can_undo


def test_a_rotated_rectangle_is_a_mask(viewer: napari.Viewer) -> None:
    viewer.add_image(cells())
    widget = open_widget(viewer)
    widget.interaction.use_tool("box")
    shapes, session = widget.interaction.prompts.shapes, widget.interaction.session
    shapes.add_rectangles([around(A)])
    assert len(session.prompts.boxes) == 1
    row, col = A
    shapes.data = [np.array([(row - 18, col), (row, col + 18), (row + 18, col), (row, col - 18)])]
    assert not session.prompts.boxes
    (mask,) = session.prompts.masks
    assert mask.to_array().sum() < 0.6 * mask.to_array().size
    wait_for_mask(widget)
    assert mask_of(widget)[A]
    widget.action("undo")()
    assert len(session.prompts.boxes) == 1
    np.testing.assert_allclose(np.ptp(shapes.data[0], axis=0), 28)


def test_a_point_is_moved_and_deleted(viewer: napari.Viewer) -> None:
    widget, driver = at_work(viewer)
    image, session = widget.interaction.image, widget.interaction.session
    points = widget.interaction.prompts.points
    driver.click((50, 50), image)
    wait_for_mask(widget)
    points.mode = "select"
    driver.drag([(50, 50), (60, 60), D], points)
    (moved,) = session.prompts.points
    assert np.hypot(moved.y - D[0], moved.x - D[1]) < 2
    wait_for_mask(widget)
    assert preview_of(widget)[D]
    driver.click(D, points)
    driver.key("Delete")
    assert session.prompts.is_empty
    assert not preview_of(widget).any()
    driver.key("ctrl+z")
    assert session.prompts.points == (moved,)
    wait_for_mask(widget)
    assert preview_of(widget)[D]
    driver.key("ctrl+z")
    np.testing.assert_allclose(points.data, [(50, 50)], atol=1)
    driver.key("ctrl+shift+z")
    np.testing.assert_allclose(points.data, [(moved.y, moved.x)], atol=1e-3)


def test_prompts_follow_an_image_that_is_moved(viewer: napari.Viewer) -> None:
    image = viewer.add_image(cells())
    widget = open_widget(viewer)
    widget.interaction.use_tool("box")
    widget.interaction.prompts.shapes.add_rectangles([around(B)])
    click(widget, A)
    wait_for_mask(widget)
    mask = mask_of(widget)
    image.scale, image.translate, image.rotate = (2, 2), (100, -50), 30
    for layer in widget.interaction.prompts.layers:
        np.testing.assert_allclose(
            layer.data_to_world(A), image.data_to_world(A), err_msg=layer.name
        )
    assert widget.interaction.session.is_current
    np.testing.assert_array_equal(mask_of(widget), mask)
    preview = widget.interaction.preview.layer
    assert preview.get_value(image.data_to_world(B), world=True)
    assert not preview.get_value(image.data_to_world(C), world=True)
