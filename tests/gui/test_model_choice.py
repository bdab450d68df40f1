"""Choosing a model and a device: what is not there is greyed, can be got, and says why."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from local_models import FileServer, register, serve
from napari_sam.core.errors import DeviceError

if TYPE_CHECKING:
    from qtpy.QtWidgets import QComboBox, QWidget

    from napari_sam._napari.model_choice import ModelChoice
    from napari_sam._napari.models_dialog import ModelsDialog

Wait = Callable[[Callable[[], bool]], None]

CONTENT = random.Random(0).randbytes(1_000_000)


class Place(NamedTuple):
    server: FileServer
    target: Path
    part: Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of napari_sam."""
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def place(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A server with one registered model."""
    with serve(CONTENT) as server:
        entry = register(monkeypatch, CONTENT, url=server.url)
        target = home / "models" / entry.file_name
        yield Place(server, target, target.with_name("local.pt.part"))


@pytest.fixture
def window(screen: None, nothing_left_behind: None) -> Iterator[QWidget]:
    """A window to put widgets into."""
    from napari.qt import get_qapp
    from qtpy.QtWidgets import QVBoxLayout, QWidget

    application = get_qapp()
    window = QWidget()
    QVBoxLayout(window)
    window.show()
    yield window
    window.close()
    window.deleteLater()
    assert application is not None


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that says what torch finds."""

    def find(*gpus: str, automatic: str = "cpu", problem: str = "No GPU") -> None:
        from napari_sam._napari import device_choice
        from napari_sam._napari.choice_box import Choice

        choices = [Choice(gpu, gpu.upper()) for gpu in gpus]
        for kind in ("cuda", "mps"):
            if not any(gpu.startswith(kind) for gpu in gpus):
                choices.append(Choice(kind, kind.upper(), problem, is_available=False))
        found = device_choice.FoundDevices(automatic, tuple(choices))
        monkeypatch.setattr(device_choice, "find_devices", lambda: found)

    find()
    return find


@pytest.fixture
def choose(window: QWidget, devices: Callable[..., None]) -> Callable[[], ModelChoice]:
    """Return a function that shows the widget in the window."""

    def show() -> ModelChoice:
        from napari_sam._napari.model_choice import ModelChoice

        choice = ModelChoice(window)
        window.layout().addWidget(choice)
        choice.show()
        return choice

    return show


def entries(box: QComboBox) -> dict[str, tuple[str, str, bool]]:
    """Return text, tooltip and availability of each key."""
    from qtpy.QtCore import Qt

    return {
        box.itemData(row): (
            box.itemText(row),
            box.itemData(row, Qt.ItemDataRole.ToolTipRole),
            box.model().item(row).isEnabled(),
        )
        for row in range(box.count())
    }


def press(widget: QWidget, *keys: str) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    for key in keys:
        QTest.keyClick(widget, getattr(Qt.Key, f"Key_{key}"))


# models


def test_models_that_are_not_here_are_greyed_with_the_reason(
    place: Place, choose: Callable[[], ModelChoice]
) -> None:
    from napari_sam.model import registry

    choice = choose()
    shown = entries(choice.models)
    assert list(shown) == list(registry.MODELS)
    assert shown["compact"] == ("compact", registry.MODELS["compact"].description, True)
    text, tip, is_available = shown["local"]
    assert text == "local – not on this computer: 1 MB"
    assert "A model for tests" in tip
    assert "Get models…" in tip
    assert not is_available
    assert choice.model == "compact"

    place.target.parent.mkdir(parents=True)
    place.part.write_bytes(CONTENT[:500_000])
    choice.refresh()
    assert entries(choice.models)["local"][0] == "local – partly downloaded, 0 MB of 1 MB"
    place.target.write_bytes(CONTENT)
    choice.refresh()
    assert entries(choice.models)["local"] == ("local", "A model for tests", True)


def test_arrow_keys_skip_what_cannot_be_chosen(
    place: Place, choose: Callable[[], ModelChoice]
) -> None:
    place.target.parent.mkdir(parents=True)
    place.target.write_bytes(CONTENT)
    choice = choose()
    changed: list[str] = []
    choice.model_changed.connect(changed.append)
    press(choice.models, "Down")
    assert choice.model == "local"
    press(choice.models, "Down")
    press(choice.models, "Up")
    assert choice.model == "compact"
    assert changed == ["local", "compact"]


def test_the_wheel_changes_nothing(place: Place, choose: Callable[[], ModelChoice]) -> None:
    from qtpy.QtCore import QPoint, QPointF, Qt
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication

    place.target.parent.mkdir(parents=True)
    place.target.write_bytes(CONTENT)
    choice = choose()
    event = QWheelEvent(
        QPointF(5, 5),
        QPointF(5, 5),
        QPoint(0, -120),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(choice.models, event)
    assert choice.model == "compact"


def test_a_file_of_ones_own(
    choose: Callable[[], ModelChoice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_sam._napari import model_choice
    from napari_sam._napari.settings import load_settings

    path = tmp_path / "mine.pt"
    path.write_bytes(b"weights")
    choice = choose()
    changed: list[str] = []
    choice.model_changed.connect(changed.append)
    monkeypatch.setattr(model_choice, "ask_for_weights", lambda parent, title: "")
    press(choice.file_button, "Space")
    assert (changed, choice.model) == ([], "compact")
    monkeypatch.setattr(model_choice, "ask_for_weights", lambda parent, title: str(path))
    press(choice.file_button, "Space")
    press(choice.file_button, "Space")
    assert (changed, choice.model) == ([str(path)], str(path))
    assert entries(choice.models)[str(path)] == ("mine.pt", str(path), True)
    choice.refresh()
    assert choice.model == str(path)
    assert load_settings().model == str(path)


def test_a_model_chosen_by_the_program_is_not_remembered(
    place: Place, choose: Callable[[], ModelChoice]
) -> None:
    from napari_sam._napari.settings import load_settings

    place.target.parent.mkdir(parents=True)
    place.target.write_bytes(CONTENT)
    choice = choose()
    assert choice.set_model("local")
    assert choice.model == "local"
    assert load_settings().model == "compact"
    assert not choice.set_model("vit_h")
    assert not choice.set_model("nobody")
    assert choice.model == "local"


def test_a_model_that_goes_away_is_left(place: Place, choose: Callable[[], ModelChoice]) -> None:
    place.target.parent.mkdir(parents=True)
    place.target.write_bytes(CONTENT)
    choice = choose()
    choice.set_model("local")
    changed: list[str] = []
    choice.model_changed.connect(changed.append)
    place.target.unlink()
    choice.refresh()
    assert changed == ["compact"]


def test_model_and_device_are_remembered(
    place: Place, choose: Callable[[], ModelChoice], wait_until: Wait
) -> None:
    place.target.parent.mkdir(parents=True)
    place.target.write_bytes(CONTENT)
    first = choose()
    press(first.models, "Down")
    press(first.devices, "End")
    assert (first.model, first.device) == ("local", "cpu")
    second = choose()
    assert (second.model, second.device) == ("local", "cpu")


def test_a_remembered_model_that_is_gone(
    place: Place, choose: Callable[[], ModelChoice], notes: list[str]
) -> None:
    from napari_sam._napari.settings import update_settings

    update_settings(model="/somewhere/mine.pt")
    assert choose().model == "compact"
    assert notes == ["The model /somewhere/mine.pt is not on this computer any more"]


# devices


def test_devices_are_looked_for_when_the_widget_is_shown(
    choose: Callable[[], ModelChoice],
    devices: Callable[..., None],
    wait_until: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_sam._napari import device_choice

    devices("cuda", automatic="cuda", problem="No Apple GPU")
    find, go_on = device_choice.find_devices, threading.Event()
    monkeypatch.setattr(device_choice, "find_devices", lambda: go_on.wait(20) and find())
    choice = choose()
    shown = entries(choice.devices)
    assert {key: is_available for key, (_, _, is_available) in shown.items()} == {
        "auto": True,
        "cuda": False,
        "mps": False,
        "cpu": True,
    }
    go_on.set()
    wait_until(lambda: entries(choice.devices)["cuda"][2])
    shown = entries(choice.devices)
    assert shown["auto"][0] == "Automatic (CUDA)"
    assert shown["mps"] == ("MPS", "No Apple GPU", False)
    changed: list[str] = []
    choice.device_changed.connect(changed.append)
    press(choice.devices, "Down")
    assert changed == ["cuda"]
    assert choice.set_device("cpu")
    assert choice.set_device("cpu")
    assert not choice.set_device("cuda:7")
    assert changed == ["cuda", "cpu"]


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_remembered_device_that_is_not_here_any_more(
    choose: Callable[[], ModelChoice], wait_until: Wait, notes: list[str], device: str
) -> None:
    from napari_sam._napari.settings import load_settings, update_settings

    update_settings(device=device)
    choice = choose()
    assert choice.device == device
    changed: list[str] = []
    choice.device_changed.connect(changed.append)
    wait_until(lambda: choice.device == "auto")
    assert changed == ["auto"]
    assert device in notes[0]
    assert load_settings().device == device


def test_a_remembered_device_that_is_here(
    choose: Callable[[], ModelChoice], devices: Callable[..., None], wait_until: Wait
) -> None:
    from napari_sam._napari.settings import update_settings

    update_settings(device="cuda:1")
    devices("cuda:0", "cuda:1", automatic="cuda")
    choice = choose()
    changed: list[str] = []
    choice.device_changed.connect(changed.append)
    wait_until(lambda: "cuda:0" in entries(choice.devices))
    assert (choice.device, changed) == ("cuda:1", [])


def test_a_search_that_fails_leaves_two_devices(
    choose: Callable[[], ModelChoice],
    wait_until: Wait,
    notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_sam._napari import device_choice

    def fail() -> None:
        raise OSError("libcudart.so is broken")

    monkeypatch.setattr(device_choice, "find_devices", fail)
    choice = choose()
    wait_until(lambda: bool(notes))
    shown = entries(choice.devices)
    assert [key for key, (_, _, is_available) in shown.items() if is_available] == ["auto", "cpu"]
    assert "libcudart.so is broken" in shown["cuda"][1]
    assert "libcudart.so is broken" in notes[0]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_what_torch_says_becomes_choices(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    import torch

    from napari_sam._napari.device_choice import find_devices

    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    found = find_devices()
    assert found.automatic == ("cuda" if count else "cpu")
    assert {gpu.key: gpu.text for gpu in found.gpus if gpu.is_available} == [
        {},
        {"cuda": "CUDA (GPU 0)"},
        {"cuda:0": "CUDA 0 (GPU 0)", "cuda:1": "CUDA 1 (GPU 1)"},
    ][count]
    mps = found.gpus[-1]
    assert mps.key == "mps"
    assert "Apple silicon" in mps.tip
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_devices().gpus[-1].is_available


def test_the_widget_opens_before_torch_is_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from napari_sam._napari import model_choice, loaded_models, workers; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# the dialog


@pytest.fixture
def dialog(place: Place, choose: Callable[[], ModelChoice]) -> ModelsDialog:
    dialog = choose().open_models_dialog()
    dialog.select("local")
    return dialog


def state(dialog: ModelsDialog, name: str) -> str:
    for row in range(dialog.table.rowCount()):
        if dialog.table.item(row, 0).text() == name:
            return dialog.table.item(row, 4).text()
    raise AssertionError(name)


def enabled(dialog: ModelsDialog) -> list[str]:
    buttons = {
        "download": dialog.download_button,
        "cancel": dialog.cancel_button,
        "import": dialog.import_button,
        "remove": dialog.remove_button,
    }
    return [name for name, button in buttons.items() if button.isEnabled()]


def held_download(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let downloads stop after the first piece until the event is set."""
    from napari_sam._napari import models_dialog
    from napari_sam.model.download import DownloadProgress, download_model

    go_on = threading.Event()

    def held(name: str) -> Generator[DownloadProgress, None, None]:
        for step in download_model(name):
            yield step
            if step.done_bytes > 0:
                go_on.wait(20)

    monkeypatch.setattr(models_dialog, "download_model", held)
    return go_on


def test_a_download_makes_the_model_selectable(
    dialog: ModelsDialog, place: Place, window: QWidget, wait_until: Wait
) -> None:
    from napari_sam._napari.model_choice import ModelChoice

    choice = dialog.parent()
    assert isinstance(choice, ModelChoice)
    assert choice.open_models_dialog() is dialog
    assert state(dialog, "local") == "not on this computer"
    assert enabled(dialog) == ["download", "import"]
    assert place.server.url in dialog.details.text()
    dialog.download_button.click()
    assert enabled(dialog) == ["cancel"]
    wait_until(lambda: state(dialog, "local") == "on this computer")
    assert place.target.read_bytes() == CONTENT
    assert dialog.message.text() == "local is on this computer now."
    assert enabled(dialog) == ["remove"]
    assert entries(choice.models)["local"][2]
    assert choice.model == "compact"


def test_a_cancelled_download_goes_on(
    dialog: ModelsDialog, place: Place, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = held_download(monkeypatch)
    dialog.download_button.click()
    wait_until(lambda: dialog.progress.maximum() > 0 and dialog.progress.value() > 0)
    share = dialog.progress.value() / dialog.progress.maximum()
    assert 0 < share < 1
    assert " of 1 MB" in dialog.message.text()
    dialog.cancel_button.click()
    assert dialog.message.text() == "Stopping …"
    go_on.set()
    wait_until(lambda: "partly downloaded" in state(dialog, "local"))
    assert dialog.message.text().startswith("Stopped.")
    assert enabled(dialog) == ["download", "import", "remove"]
    had = place.part.stat().st_size
    dialog.download_button.click()
    wait_until(lambda: state(dialog, "local") == "on this computer")
    assert place.server.asked == [None, f"bytes={had}-"]
    assert place.target.read_bytes() == CONTENT


def test_closing_the_dialog_breaks_the_download_off(
    dialog: ModelsDialog, place: Place, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = held_download(monkeypatch)
    choice = dialog.parent()
    dialog.download_button.click()
    wait_until(lambda: dialog.progress.value() > 0)
    press(dialog, "Escape")
    go_on.set()
    wait_until(lambda: not any("job" in thread.name for thread in threading.enumerate()))
    assert 0 < place.part.stat().st_size < len(CONTENT)
    assert not place.target.exists()
    again = choice.open_models_dialog()
    assert "partly downloaded" in state(again, "local")


def test_a_download_that_fails_says_so_in_place_and_as_a_notification(
    dialog: ModelsDialog, place: Place, wait_until: Wait, notes: list[str]
) -> None:
    place.server.status = 403
    dialog.download_button.click()
    wait_until(lambda: bool(notes))
    assert "403" in notes[0]
    assert "403" in dialog.message.text()
    assert "import" in enabled(dialog)
    place.server.status = 200
    dialog.download_button.click()
    wait_until(lambda: state(dialog, "local") == "on this computer")


def test_a_server_that_does_not_say_how_much_will_come(
    dialog: ModelsDialog, place: Place, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.server.announce = False
    go_on = held_download(monkeypatch)
    dialog.download_button.click()
    wait_until(lambda: "MB" in dialog.message.text())
    assert (dialog.progress.minimum(), dialog.progress.maximum()) == (0, 0)
    go_on.set()
    wait_until(lambda: state(dialog, "local") == "on this computer")


def test_a_model_is_imported_from_a_file(
    dialog: ModelsDialog,
    place: Place,
    tmp_path: Path,
    wait_until: Wait,
    notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_sam._napari import models_dialog

    path = tmp_path / "got elsewhere.pt"
    answers = ["", str(path), str(path)]
    monkeypatch.setattr(models_dialog, "ask_for_weights", lambda parent, title: answers.pop(0))
    dialog.import_button.click()
    assert enabled(dialog) == ["download", "import"]

    path.write_bytes(b"another file")
    dialog.import_button.click()
    assert enabled(dialog) == []
    wait_until(lambda: bool(notes))
    assert "sha256" in dialog.message.text()
    assert not place.target.exists()

    path.write_bytes(CONTENT)
    dialog.import_button.click()
    wait_until(lambda: state(dialog, "local") == "on this computer")
    assert place.target.read_bytes() == CONTENT
    assert place.server.asked == []


def test_a_model_is_removed_when_that_is_meant(
    dialog: ModelsDialog, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QMessageBox

    place.target.parent.mkdir(parents=True)
    place.target.write_bytes(CONTENT)
    dialog._refresh()
    asked: list[str] = []
    buttons = QMessageBox.StandardButton
    answers = [buttons.No, buttons.Yes]

    def question(parent: object, title: str, text: str) -> object:
        asked.append(text)
        return answers.pop(0)

    monkeypatch.setattr(QMessageBox, "question", question)
    dialog.remove_button.click()
    assert place.target.exists()
    dialog.remove_button.click()
    assert not place.target.exists()
    assert "local, 1 MB" in asked[0]
    assert dialog.message.text() == "local is removed, 1 MB are free."
    assert enabled(dialog) == ["download", "import"]


def test_the_packages_own_model_cannot_be_changed(dialog: ModelsDialog) -> None:
    dialog.select("compact")
    assert enabled(dialog) == []
    assert state(dialog, "compact") == "part of the package"


# what holds for all controls


def controls(widget: QWidget) -> list[QWidget]:
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QProgressBar, QTableWidget

    kinds = (QComboBox, QProgressBar, QTableWidget, QAbstractButton)
    found = [child for kind in kinds for child in widget.findChildren(kind)]
    # a table has a nameless button in its corner
    return [
        child
        for child in found
        if type(child).__name__ != "QTableCornerButton"
        and (not isinstance(child, QAbstractButton) or child.text())
    ]


def mnemonics(widget: QWidget) -> list[str]:
    from qtpy.QtWidgets import QAbstractButton, QLabel

    texts = [label.text() for label in widget.findChildren(QLabel) if label.buddy()]
    texts += [button.text() for button in widget.findChildren(QAbstractButton) if button.text()]
    return [text[text.index("&") + 1].upper() for text in texts]


def test_every_control_has_a_tooltip_a_name_and_a_key(
    dialog: ModelsDialog, choose: Callable[[], ModelChoice]
) -> None:
    choice = dialog.parent()
    assert len(controls(dialog)) == 7
    assert len(controls(choice)) == 4 + 7
    for control in controls(choice):
        assert control.toolTip(), control
        assert control.accessibleName(), control
    assert len(set(mnemonics(dialog))) == len(mnemonics(dialog)) == 6
    own = mnemonics(choice)[:]
    for key in mnemonics(dialog):
        own.remove(key)
    assert sorted(own) == ["E", "G", "I", "M"]
    assert not set(own) & set("FVLPWH")  # napari's menus


def tab_order(first: QWidget, among: list[QWidget]) -> list[QWidget]:
    found, widget = [first], first.nextInFocusChain()
    while widget is not first:
        found += [widget] if widget in among else []
        widget = widget.nextInFocusChain()
    return found


def test_the_tab_key_goes_from_top_to_bottom(dialog: ModelsDialog) -> None:
    choice = dialog.parent()
    order = [choice.models, choice.file_button, choice.devices, choice.get_button]
    assert tab_order(choice.models, order) == order
    order = [
        dialog.table,
        dialog.details,
        dialog.cancel_button,
        dialog.message,
        dialog.download_button,
        dialog.import_button,
        dialog.remove_button,
        dialog.close_button,
    ]
    assert tab_order(dialog.table, order) == order


def test_settings_keep_what_others_wrote(home: Path) -> None:
    from napari_sam._napari.settings import Settings, load_settings, update_settings

    assert load_settings() == Settings()
    assert not home.exists()
    update_settings()
    assert not home.exists()
    update_settings(model="vit_b")
    update_settings(preference="whole", overwrite_rule="only_empty")
    assert load_settings() == Settings(
        model="vit_b", preference="whole", overwrite_rule="only_empty"
    )
    assert [path.name for path in home.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00", "7"])
def test_a_damaged_settings_file_gives_defaults_and_a_warning(
    home: Path, notes: list[str], content: str
) -> None:
    from napari_sam._napari.settings import Settings, load_settings, update_settings

    home.mkdir()
    (home / "settings.json").write_text(content)
    assert load_settings() == Settings()
    assert len(notes) == 1
    assert "settings.json" in notes[0]
    update_settings(device="cpu")
    assert load_settings() == Settings(device="cpu")


def test_what_is_valid_in_a_settings_file_is_taken(home: Path, notes: list[str]) -> None:
    from napari_sam._napari.settings import Settings, load_settings

    home.mkdir()
    content = {"model": "vit_b", "preference": "largest", "device": 3, "of a later version": [1]}
    (home / "settings.json").write_text(json.dumps(content))
    assert load_settings() == Settings(model="vit_b")
    assert "device, preference" in notes[0]


def test_settings_that_cannot_be_written(home: Path, notes: list[str]) -> None:
    from napari_sam._napari.settings import Settings, load_settings, update_settings

    home.write_text("a file in the place of the directory")
    update_settings(model="vit_b")
    assert any("not remembered" in message for message in notes)
    assert load_settings() == Settings()
    assert [path.name for path in home.parent.iterdir()] == [home.name]


def test_settings_without_a_home_are_where_the_system_keeps_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_sam._napari.settings import settings_path

    monkeypatch.delenv("NAPARI_SAM_HOME")
    assert settings_path().name == "settings.json"
    assert settings_path().parent.name == "napari_sam"


def test_an_absent_device_is_told_in_the_words_of_the_engine() -> None:
    from napari_sam._napari.notices import error_text

    assert error_text(DeviceError("a", rule="b", cure="c")) == "a\nb\nc"
    assert error_text(ValueError()) == "ValueError"
