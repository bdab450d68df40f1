"""The way of a new user through the plugin, in a real window with real mouse and key events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import napari

    from gui.tour import Tour


@pytest.fixture
def tour(viewer: napari.Viewer) -> Tour:
    from gui.tour import Tour

    tour = Tour(viewer)
    tour.open_sample()
    tour.open_widget()
    return tour


def test_nine_of_ten_clicked_nuclei_are_segmented(tour: Tour) -> None:
    from gui.tour import CELLS, iou

    found = []
    for number, label in enumerate(CELLS, start=1):
        tour.click(tour.centre(label))
        found.append(iou(tour.mask(), tour.truth == label))
        tour.driver.key("c")
        assert len(tour.session.objects) == number
        assert tour.session.prompts.is_empty
    assert sum(value >= 0.7 for value in found) >= 9, found
    labels = np.asarray(tour.labels().data)
    assert labels.max() == len(CELLS)
    committed = [
        iou(labels == number, tour.truth == label) for number, label in enumerate(CELLS, start=1)
    ]
    np.testing.assert_allclose(committed, found)
    features = tour.labels().features
    assert features["index"].tolist() == list(range(1, 11))
    assert features["predicted_iou"].between(0, 1).all()


def test_correct_choose_commit_undo_and_save(tour: Tour, tmp_path: Path) -> None:
    from gui.tour import CELLS, iou

    first, second = CELLS[:2]

    # a box around a nucleus
    tour.draw_box(first)
    assert iou(tour.mask(), tour.truth == first) >= 0.7
    tour.driver.key("shift+c")
    assert tour.session.prompts.is_empty

    # a click, then a negative click that takes pixels away
    tour.driver.click_widget(tour.widget.prompt_panel.tools["point"])
    tour.click(tour.centre(first))
    before = tour.mask()
    row, col = np.argwhere(before)[-1].tolist()
    tour.driver.key("t")
    assert tour.widget.prompt_panel.negative.isChecked()
    tour.click((row, col))
    assert before[row, col]
    assert not tour.mask()[row, col]
    assert [point.is_positive for point in tour.session.prompts.points] == [True, False]
    tour.driver.key("ctrl+z")
    tour.wait_for_mask()
    np.testing.assert_array_equal(tour.mask(), before)
    assert len(tour.widget.interaction.prompts.points.data) == 1

    # Tab goes through the candidates
    masks = [tour.mask()]
    for _ in range(3):
        tour.driver.key("Tab")
        tour.wait_for_mask()
        masks.append(tour.mask())
    np.testing.assert_array_equal(masks[0], masks[3])
    assert len({mask.tobytes() for mask in masks}) == 3

    # commit, undo, redo
    tour.driver.key("c")
    committed = np.asarray(tour.labels().data).copy()
    np.testing.assert_array_equal(committed == 1, masks[3])
    tour.driver.key("ctrl+z")
    assert not np.asarray(tour.labels().data).any()
    tour.driver.key("ctrl+shift+z")
    np.testing.assert_array_equal(tour.labels().data, committed)
    tour.click(tour.centre(second))
    tour.driver.key("c")
    expected = np.asarray(tour.labels().data).copy()

    # saved, read with another library, and opened again
    path = tmp_path / "nuclei.ome.zarr"
    tour.save(path)
    np.testing.assert_array_equal(read_with_ome_zarr(path), expected)
    tour.viewer.layers.remove(tour.labels())
    (layer,) = tour.viewer.open(path, plugin="napari-sam")
    np.testing.assert_array_equal(np.asarray(layer.data), expected)
    tour.widget.object_panel.target.choose(layer)
    assert [record.label for record in tour.session.objects] == [1, 2]
    # and edited further, from the prompts that were saved with it
    tour.driver.click_widget(tour.widget.prompt_panel.tools["point"])
    tour.driver.move(tour.centre(second), tour.image)
    tour.driver.key("e")
    tour.wait_for_mask()
    assert tour.session.edited_label == 2
    np.testing.assert_array_equal(tour.mask(), expected == 2)


@pytest.mark.parametrize("is_open", [False, True])
def test_key_s_segments_the_slice_in_one_widget_behind_a_tab(tour: Tour, is_open: bool) -> None:
    from gui.driver import wait_until
    from napari_sam._napari.everything_widget import EverythingWidget

    if is_open:
        tour.segment_everything()
        tour.driver.show_all()
    tour.driver.activate()
    tour.driver.key("s")
    (widget,) = tour.viewer.window._qt_window.findChildren(EverythingWidget)
    wait_until(lambda: widget.search.shown is not None, "objects are found")
    assert len(widget.search.shown.objects) > 40
    assert not widget.visibleRegion().isEmpty()


def read_with_ome_zarr(path: Path) -> np.ndarray:
    """Read the full resolution with ome-zarr-py."""
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    (node,) = list(Reader(parse_url(path))())
    return node.data[0].compute(scheduler="synchronous")  # no threads of dask stay behind
