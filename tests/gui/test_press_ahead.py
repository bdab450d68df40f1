"""The model begins with a click when the button is pressed, and only a click shows masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gui.driver import Driver, process_events, wait_until
from gui.segmenting import A, B, C, cells, click, hold, mask_of, open_widget, preview_of
from gui.segmenting import wait_for_mask as wait_for_mask_of

if TYPE_CHECKING:
    import napari

    from napari_sam._napari.segment_widget import SegmentWidget


class Decodes:
    """Counts what the mask decoder decodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from napari_sam.pipeline import prompt_decoding

        self.count = 0
        real = prompt_decoding.decode_all_masks

        def counted(*args: object) -> object:
            self.count += 1
            return real(*args)

        monkeypatch.setattr(prompt_decoding, "decode_all_masks", counted)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Decodes:
    return Decodes(monkeypatch)


@pytest.fixture
def widget(viewer: napari.Viewer) -> Iterator[SegmentWidget]:
    viewer.add_image(cells(), scale=(0.5, 0.25), translate=(3, 7))
    return open_widget(viewer)


@pytest.fixture
def driver(viewer: napari.Viewer, widget: SegmentWidget) -> Driver:
    driver = Driver(viewer)
    driver.show_all()
    return driver


def press(driver: Driver, widget: SegmentWidget, point_yx: tuple[int, int]) -> None:
    """Press the button over a cell, and wait until the model is done."""
    driver.move(point_yx, widget.interaction.image)
    driver._hand.press("left")
    wait_until(lambda: not widget.interaction.engine.is_answering, "the model is done")


def release(driver: Driver, point_yx: tuple[int, int]) -> None:
    driver._hand.release("left")
    process_events()


def test_a_click_finds_what_was_decoded_while_the_button_was_down(
    driver: Driver, widget: SegmentWidget, decodes: Decodes
) -> None:
    for number, point in enumerate([A, (A[0] + 5, A[1] - 4), (A[0] - 6, A[1] + 3)], start=1):
        if number == 3:
            widget.interaction.session.flip_sign()
        press(driver, widget, point)
        assert decodes.count == number
        assert len(widget.interaction.session.prompts.points) == number - 1
        release(driver, point)
        wait_until(lambda n=number: len(widget.interaction.session.prompts.points) == n)
        wait_for_mask_of(widget)
        assert decodes.count == number
        assert mask_of(widget)[A]
    assert [point.is_positive for point in widget.interaction.session.prompts.points] == [
        True,
        True,
        False,
    ]


def test_the_mask_is_the_one_that_the_prompt_gives_by_itself(
    driver: Driver, widget: SegmentWidget
) -> None:
    press(driver, widget, B)
    release(driver, B)
    wait_for_mask_of(widget)
    mask = mask_of(widget)
    placed = widget.interaction.session.prompts
    widget.interaction.session.clear_prompts()
    widget.interaction.engine.predictor._decoder.clear()
    widget.interaction.session.set_prompts(placed)
    wait_for_mask_of(widget)
    np.testing.assert_array_equal(mask_of(widget), mask)


def test_a_press_that_becomes_a_drag_shows_nothing(
    driver: Driver, widget: SegmentWidget, decodes: Decodes
) -> None:
    press(driver, widget, A)
    assert decodes.count == 1
    driver.move(B, widget.interaction.image)
    release(driver, B)
    assert widget.interaction.session.prompts.is_empty
    assert widget.interaction.session.request() is None
    assert not preview_of(widget).any()


def test_a_press_does_not_displace_a_click_that_is_answered(
    driver: Driver, widget: SegmentWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = hold(monkeypatch, "predict")
    click(widget, A)
    gate.wait_until_reached()
    click(widget, (A[0] + 4, A[1]))  # waits behind the first
    driver.move(C, widget.interaction.image)
    driver._hand.press("left")
    driver.move(B, widget.interaction.image)
    release(driver, B)
    gate.open()
    wait_for_mask_of(widget)
    assert len(widget.interaction.session.candidates[0].prompts.points) == 2


@pytest.mark.parametrize("mode", ["select", "pan_zoom"])
def test_only_the_tool_for_points_asks(
    driver: Driver, widget: SegmentWidget, decodes: Decodes, mode: str
) -> None:
    widget.interaction.prompts.points.mode = mode
    press(driver, widget, A)
    release(driver, A)
    assert decodes.count == 0


def test_a_press_beside_the_image_asks_nothing(
    driver: Driver, widget: SegmentWidget, decodes: Decodes
) -> None:
    driver.look_at(widget.interaction.image.data_to_world((0, 0)), zoom=8)
    press(driver, widget, (-20, -20))
    release(driver, (-20, -20))
    assert decodes.count == 0
    assert widget.interaction.session.prompts.is_empty
