"""Segment by clicks when something fails, beside other widgets and viewers, and at its end."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from gui.hands import process_events, wait_until
from gui.segmenting import (
    A,
    B,
    C,
    D,
    Gate,
    cells,
    click,
    commit,
    hold,
    mask_of,
    open_another,
    open_widget,
    preview_of,
    wait_for_mask,
    works,
)
from napari_sam.core.errors import OutOfMemoryError

if TYPE_CHECKING:
    import napari

    from napari_sam._napari.segment_widget import SegmentWidget


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No embedding is on the disk yet."""
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path))


@pytest.fixture
def short_lived(screen: None, nothing_left_behind: None) -> Iterator[napari.Viewer]:
    """A viewer whose window the test itself may close."""
    import napari

    shown = napari.Viewer(show=True)
    process_events()
    yield shown
    with suppress(RuntimeError):  # the window is destroyed
        shown.close()


# failures

ERRORS = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("cuDNN"), MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", ["encode", "decode"])
def test_errors_are_told_once_with_their_cure(
    viewer: napari.Viewer, notes: list[str], step: str, error: BaseException
) -> None:
    from napari_sam.model.mask_decoder import MaskDecoder
    from napari_sam.model.sam import Sam

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    viewer.add_image(cells())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*((Sam, "encode") if step == "encode" else (MaskDecoder, "forward")), fail)
        widget = open_widget(viewer, is_ready=step == "decode")
        click(widget, A)
        widget.action("commit")()  # waits for the mask, and is forgotten with it
        wait_until(lambda: bool(notes))
        process_events(0.1)
    assert len(notes) == 1
    assert "device 'cpu'" in notes[0]
    assert not widget.interaction.engine.is_busy
    assert not widget.progress.isVisible()
    click(widget, (28, 24))
    wait_for_mask(widget)
    process_events(0.05)
    assert widget.actions_on_objects.layer is None  # nothing was committed behind the user's back
    works(widget, B)
    assert len(notes) == 1


def test_prepare_after_an_error_answers_what_was_asked(
    viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch, notes: list[str]
) -> None:
    from napari_sam.model.sam import Sam

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("not now")

    viewer.add_image(cells())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sam, "encode", fail)
        widget = open_widget(viewer, is_ready=False)
        click(widget, A)
        wait_until(lambda: bool(notes))
    assert widget.cancel.text() == "Prepare"
    widget.cancel.click()
    wait_for_mask(widget)
    assert mask_of(widget)[A]
    assert preview_of(widget)[A]


def test_cancel_and_prepare(viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer.add_image(cells())
    gate = hold(monkeypatch, "prepare")
    widget = open_widget(viewer, is_ready=False)
    click(widget, A)
    gate.wait_until_reached()
    widget.cancel.click()
    gate.open()
    process_events(0.2)
    assert not widget.interaction.engine.is_busy
    assert not widget.interaction.session.candidates
    widget.cancel.click()
    wait_for_mask(widget)
    assert preview_of(widget)[A]


class FakeGpu:
    """A model that says to the window that it is on a GPU, and computes on the CPU."""

    def __init__(self, sam: Any) -> None:
        self._sam = sam

    @property
    def device(self) -> torch.device:
        in_window = threading.current_thread() is threading.main_thread()
        return torch.device("cuda" if in_window else "cpu")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sam, name)


@pytest.mark.parametrize("method", ["prepare", "predict"])
def test_a_gpu_without_memory_gives_way_to_the_cpu(
    viewer: napari.Viewer, monkeypatch: pytest.MonkeyPatch, notes: list[str], method: str
) -> None:
    from napari_sam._napari import engine
    from napari_sam.pipeline.interactive import InteractivePredictor

    load, work = engine.load_shared_model, getattr(InteractivePredictor, method)

    def load_on(name: str, device: str) -> Any:
        return load(name, "cpu") if device == "cpu" else FakeGpu(load(name, "cpu"))

    def work_on(self: InteractivePredictor, *arguments: Any, **options: Any) -> Any:
        if isinstance(self.sam, FakeGpu):
            raise OutOfMemoryError("no memory", rule="it has to fit", cure="less")
        return work(self, *arguments, **options)

    monkeypatch.setattr(engine, "load_shared_model", load_on)
    monkeypatch.setattr(InteractivePredictor, method, work_on)
    viewer.add_image(cells())
    widget = open_widget(viewer, is_ready=method == "predict")
    click(widget, A)
    wait_for_mask(widget)
    assert mask_of(widget)[A]
    assert widget.model_choice.device == "cpu"
    assert len(notes) == 1
    assert "CPU" in notes[0]
    works(widget, B)


# several


def test_two_viewers_with_a_widget_each(viewer: napari.Viewer) -> None:
    import napari

    viewer.add_image(cells())
    other = napari.Viewer(show=True)
    other.add_image(cells(centres_yx=[B, C], seed=1))
    first, second = open_widget(viewer), open_widget(other)
    click(first, A)
    click(second, B)
    wait_for_mask(first)
    wait_for_mask(second)
    assert mask_of(first)[A]
    assert mask_of(second)[B]
    commit(second)
    other.close()
    process_events()
    assert preview_of(first)[A]
    commit(first)
    works(first, D)


@pytest.mark.parametrize("closed_first", [0, 1])
def test_two_widgets_in_one_viewer(viewer: napari.Viewer, closed_first: int) -> None:
    viewer.add_image(cells())
    widgets = [open_widget(viewer), open_another(viewer)]
    for widget, at in zip(widgets, (A, B), strict=True):
        click(widget, at)
        wait_for_mask(widget)
        commit(widget)
    first, second = (widget.actions_on_objects.layer for widget in widgets)
    assert first is not second
    widgets[1].object_panel.target.choose(first)
    works(widgets[1], C)
    works(widgets[0], D)
    assert set(np.unique(first.data)) == {0, 1, 2, 3}
    assert list(first.features["index"]) == [1, 2, 3]  # neither forgets what the other made
    viewer.window.remove_dock_widget(widgets.pop(closed_first))
    process_events()
    names = [layer.name for layer in viewer.layers]
    assert len([name for name in names if name.startswith("SAM points")]) == 1
    click(widgets[0], B)
    wait_for_mask(widgets[0])
    assert preview_of(widgets[0])[B]
    viewer.window.remove_dock_widget(widgets.pop())
    process_events()
    assert {layer.name for layer in viewer.layers} == {"Image", "SAM labels", "SAM labels [1]"}


# the end


def traces(widget: SegmentWidget) -> list[weakref.ref[Any]]:
    """Refer weakly to what would hold memory."""
    interaction = widget.interaction
    return [
        weakref.ref(thing)
        for thing in (widget, interaction, interaction.session, interaction.engine.predictor)
    ]


def close_dock(viewer: napari.Viewer, widget: SegmentWidget) -> None:
    viewer.window.remove_dock_widget(widget)


def close_viewer(viewer: napari.Viewer, widget: SegmentWidget) -> None:
    viewer.close()


def close_window(viewer: napari.Viewer, widget: SegmentWidget) -> None:
    viewer.window._qt_window.close()


ENDS = [close_dock, close_viewer, close_window]


@pytest.mark.parametrize("close", ENDS)
@pytest.mark.parametrize("busy_with", ["nothing", "prepare", "predict"])
def test_nothing_is_left_at_the_end(
    short_lived: napari.Viewer,
    monkeypatch: pytest.MonkeyPatch,
    close: Callable[[napari.Viewer, SegmentWidget], None],
    busy_with: str,
) -> None:
    gate, viewer = Gate(), short_lived
    viewer.add_image(cells(3))
    widget = open_widget(viewer)
    click(widget, A)
    wait_for_mask(widget)
    commit(widget)
    widget.show_help()
    widget.interaction.set_hover(True)
    widget.interaction.use_tool("box")
    if busy_with != "nothing":
        gate = hold(monkeypatch, busy_with)
        if busy_with == "prepare":
            viewer.dims.set_point(0, 0)
        click(widget, B)
        gate.wait_until_reached()
    left = traces(widget)
    close(viewer, widget)
    del widget
    process_events()
    gate.open()

    def all_gone() -> bool:
        gc.collect()
        return not any(trace() is not None for trace in left)

    wait_until(all_gone, f"{[trace() for trace in left]} is garbage")
    if close is close_dock:
        process_events()
        assert {layer.name for layer in viewer.layers} == {"Image", "SAM labels"}
        works(open_widget(viewer), C)


def test_keys_are_given_back(viewer: napari.Viewer) -> None:
    viewer.add_image(cells())
    pressed: list[str] = []
    viewer.bind_key("T", lambda _: pressed.append("T"))
    before = dict(viewer.keymap)
    first, second = open_widget(viewer), open_another(viewer)
    image = first.interaction.image
    viewer.window.remove_dock_widget(first)
    viewer.window.remove_dock_widget(second)
    assert viewer.keymap == before
    assert not image.keymap
    assert not pressed
