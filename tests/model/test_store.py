"""The weight files on this computer."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import platformdirs
import pytest

from local_models import register
from napari_sam.core.errors import CheckpointError, ConfigError, OutputError
from napari_sam.model.registry import MODELS, find_model
from napari_sam.model.store import (
    import_model,
    model_directory,
    model_path,
    model_status,
    remove_model,
    verify_file,
)

CONTENT = b"the published weights"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory of its own, and one registered model."""
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path / "home"))
    register(monkeypatch, CONTENT)
    return tmp_path / "home" / "models"


def _state(name: str = "local") -> tuple[str, int]:
    [status] = [status for status in model_status() if status.entry.name == name]
    return status.state, status.bytes_on_disk


def test_where_the_weights_are(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_path(find_model("local")) == directory / "local.pt"
    bundled = model_path(find_model("compact"))
    assert bundled.parts[-3:] == ("napari_sam", "weights", "compact.safetensors")
    monkeypatch.delenv("NAPARI_SAM_HOME")
    assert model_directory() == Path(platformdirs.user_data_dir("napari_sam", False)) / "models"


def test_states_of_a_model(directory: Path) -> None:
    assert _state() == ("absent", 0)
    assert not directory.exists()  # looking makes nothing
    directory.mkdir(parents=True)
    (directory / "local.pt.part").write_bytes(b"123")
    assert _state() == ("partial", 3)
    (directory / "local.pt").write_bytes(CONTENT)
    assert _state() == ("installed", len(CONTENT))
    assert len(model_status()) == len(MODELS) + 1


def test_import_checks_and_copies(directory: Path, tmp_path: Path) -> None:
    source = tmp_path / "from_a_stick.pt"
    source.write_bytes(CONTENT)
    assert import_model("local", str(source)) == directory / "local.pt"
    assert [file.name for file in directory.iterdir()] == ["local.pt"]
    assert (directory / "local.pt").read_bytes() == CONTENT
    assert source.exists()


def test_import_of_another_file(directory: Path, tmp_path: Path) -> None:
    source = tmp_path / "other.pt"
    source.write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=r"published file of local.*load it by its path"):
        import_model("local", source)
    assert not directory.exists()


def test_import_of_no_file(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no file.*copy it here"):
        import_model("local", tmp_path / "nothing.pt")


def test_an_interrupted_import_leaves_nothing(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "from_a_stick.pt"
    source.write_bytes(CONTENT)

    def fill_the_disk(_source: Path, target: Path) -> None:
        target.write_bytes(CONTENT[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fill_the_disk)
    with pytest.raises(OutputError, match=r"No space left.*Free some space"):
        import_model("local", source)
    assert list(directory.iterdir()) == []


def test_remove_takes_file_and_part(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "local.pt").write_bytes(CONTENT)
    (directory / "local.pt.part").write_bytes(b"123")
    assert remove_model("local") == len(CONTENT) + 3
    assert list(directory.iterdir()) == []
    assert remove_model("local") == 0


def test_bundled_weights_stay(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be removed.*part of the package"):
        remove_model("compact")
    with pytest.raises(ConfigError, match="cannot be imported"):
        import_model("compact", tmp_path)


@pytest.mark.parametrize("action", [remove_model, lambda name: import_model(name, "x.pt")])
def test_unknown_models(action: object) -> None:
    with pytest.raises(ConfigError, match="No model is named 'nobody'"):
        action("nobody")


def test_verify_gives_the_sha256_of_any_file(tmp_path: Path) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")
    assert verify_file(file, None).startswith("ba7816bf8f01cfea")  # FIPS 180-2, example B.1
    with pytest.raises(CheckpointError, match="cannot be read"):
        verify_file(tmp_path / "nothing", None)
