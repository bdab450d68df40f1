"""Where labels go: a free name, and a question about what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr

from napari_sam.core.errors import OutputError

if TYPE_CHECKING:
    from qtpy.QtWidgets import QMessageBox, QWidget


@pytest.fixture
def window(screen: None, nothing_left_behind: None) -> Iterator[QWidget]:
    """A window that asks."""
    from napari.qt import get_qapp
    from qtpy.QtWidgets import QWidget

    application = get_qapp()
    window = QWidget()
    window.show()
    yield window
    window.close()
    window.deleteLater()
    application.processEvents()


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | None], None]:
    """Return a function that answers the file dialogs."""

    def answer(path: Path | None) -> None:
        text = "" if path is None else str(path)
        dialog = "napari_sam._napari.everything_output.QFileDialog"
        monkeypatch.setattr(f"{dialog}.getSaveFileName", lambda *_, **__: (text, ""))
        monkeypatch.setattr(f"{dialog}.getExistingDirectory", lambda *_, **__: text)

    return answer


def press(name: str) -> None:
    """Press a button of the question that is about to be asked."""
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    def find() -> None:
        box: QMessageBox = QApplication.activeModalWidget()
        if box is None:
            QTimer.singleShot(20, find)
            return
        buttons = {button.text().replace("&", ""): button for button in box.buttons()}
        buttons[name].click()

    QTimer.singleShot(0, find)


def leave_unfinished(path: Path) -> None:
    from contextlib import closing

    from napari_sam.io import ArrayVolume
    from napari_sam.pipeline.events import SliceDone
    from napari_sam.pipeline.segment import segment_volume
    from napari_sam.pipeline.segmenters import FunctionSegmenter

    pixels = np.random.default_rng(0).integers(0, 99, (3, 20, 20)).astype(np.uint8)
    segmenter = FunctionSegmenter(lambda tile: (tile[..., 0] > 128).astype(np.int32), "bright")
    run = segment_volume(ArrayVolume(Path("stack"), [pixels], "ZYX"), path, None, segmenter)
    with closing(run) as events:
        next(event for event in events if isinstance(event, SliceDone))


def ask(window: QWidget):
    from napari_sam._napari.everything_output import ask_for_output

    return ask_for_output(window, Path("unused"))


def test_nothing_is_asked_about_a_free_place(window, answer, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    from napari_sam._napari.everything_output import Output

    answer(tmp_path / "cells")
    assert ask(window) == Output(tmp_path / "cells.ome.zarr")
    answer(tmp_path / "cells.zarr")
    assert ask(window) == Output(tmp_path / "cells.zarr")
    answer(None)
    assert ask(window) is None


def test_what_is_no_store_is_never_replaced(window, answer, tmp_path) -> None:
    (tmp_path / "thesis.zarr").mkdir()
    (tmp_path / "thesis.zarr" / "chapter.tex").touch()
    answer(tmp_path / "thesis.zarr")
    with pytest.raises(OutputError, match="no Zarr store"):
        ask(window)


@pytest.mark.parametrize(
    ("button", "resume", "overwrite"),
    [("Resume", True, False), ("Replace", False, True), ("Cancel", None, None)],
)
def test_an_unfinished_store_can_be_resumed(
    window, answer, tmp_path, button, resume, overwrite
) -> None:
    path = tmp_path / "labels.zarr"
    leave_unfinished(path)
    answer(path)
    press(button)
    output = ask(window)
    if resume is None:
        assert output is None
    else:
        assert (output.path, output.resume, output.overwrite) == (path, resume, overwrite)


def test_a_finished_store_can_only_be_replaced(window, answer, tmp_path) -> None:
    path = tmp_path / "labels.zarr"
    zarr.open_group(path, mode="w")
    answer(path)
    press("Replace")
    assert ask(window).overwrite


def test_only_unfinished_stores_can_be_chosen_to_be_resumed(window, answer, tmp_path) -> None:
    from napari_sam._napari.everything_output import ask_for_unfinished

    leave_unfinished(tmp_path / "labels.zarr")
    answer(tmp_path / "labels.zarr")
    assert ask_for_unfinished(window, tmp_path) == tmp_path / "labels.zarr"
    answer(None)
    assert ask_for_unfinished(window, tmp_path) is None
    answer(tmp_path)
    with pytest.raises(OutputError, match="no unfinished result"):
        ask_for_unfinished(window, tmp_path)


def test_a_name_is_suggested_beside_the_file_or_in_the_users_data(
    window, tmp_path, monkeypatch
) -> None:
    import platformdirs
    from napari.layers import Image

    from napari_sam._napari.everything_output import suggested_path

    monkeypatch.setattr(platformdirs, "user_data_path", lambda *_, **__: tmp_path / "data")
    layer = Image(np.zeros((4, 4)), name="a/b: c?")
    assert suggested_path(layer) == tmp_path / "data" / "labels" / "a-b- c--labels.ome.zarr"

    def opened_from(path: Path) -> None:
        source = type("Source", (), {"path": str(path)})()
        monkeypatch.setattr(type(layer), "source", property(lambda _: source))

    (tmp_path / "plate.ome.zarr" / "A" / "1").mkdir(parents=True)
    opened_from(tmp_path / "plate.ome.zarr" / "A" / "1")
    assert suggested_path(layer) == tmp_path / "plate-labels.ome.zarr"
    (tmp_path / "cells.tif").touch()
    opened_from(tmp_path / "cells.tif")
    assert suggested_path(layer) == tmp_path / "cells-labels.ome.zarr"
    (tmp_path / "cells-labels.ome.zarr").mkdir()
    assert suggested_path(layer) == tmp_path / "cells-labels-2.ome.zarr"
