"""``napari-sam models`` as a user types it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from local_models import FileServer, register, serve
from napari_sam.cli import models as models_module
from napari_sam.cli.models import models
from napari_sam.core.errors import CheckpointError, ConfigError
from napari_sam.model.registry import MODELS

CONTENT = b"weights" * 100_000


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server with one registered model, and an empty home."""
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    with serve(CONTENT) as server:
        register(monkeypatch, CONTENT, url=server.url)
        yield server


def _call(*arguments: str) -> Result:
    result = CliRunner().invoke(models, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _line(output: str, name: str) -> list[str]:
    [line] = [line for line in output.splitlines() if line.startswith(f"{name} ")]
    return line.split()


@pytest.mark.usefixtures("server")
def test_list_shows_every_model_on_one_line() -> None:
    output = _call("list").output
    for name in (*MODELS, "local"):
        assert _line(output, name)
    assert _line(output, "vit_b")[:5] == ["vit_b", "no", "375.0", "MB", "Apache-2.0"]
    assert _line(output, "vit_l_lm")[:5] == ["vit_l_lm", "no", "~1.25", "GB", "CC-BY-4.0"]


@pytest.mark.usefixtures("server")
def test_list_follows_what_is_there(tmp_path: Path) -> None:
    directory = tmp_path / "home" / "models"
    directory.mkdir(parents=True)
    (directory / "local.pt.part").write_bytes(CONTENT[: len(CONTENT) // 4])
    assert _line(_call("list").output, "local")[1:3] == ["25", "%"]
    (directory / "local.pt").write_bytes(CONTENT)
    assert _line(_call("list").output, "local")[1:4] == ["yes", "0.7", "MB"]


@pytest.mark.usefixtures("server")
def test_list_with_citations() -> None:
    output = _call("list", "--citations").output
    assert "source: part of this package" in output
    assert "sha256: ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912" in output
    assert output.count("cite:") == len(MODELS) + 1


def test_download_then_path_then_remove(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "home" / "models" / "local.pt"
    result = _call("download", "local")
    assert target.read_bytes() == CONTENT
    assert str(target) in result.output.replace("\n", "")
    assert "Please cite: Nobody" in result.output
    assert _call("path", "local").output.strip() == str(target)
    assert _call("path").output.strip() == str(target.parent)
    assert _call("remove", "local").output == "local: 0.7 MB freed\n"
    assert not target.exists()
    assert _call("remove", "local").output == "local: nothing to remove\n"


def test_interrupt_says_how_to_go_on(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt_at_the_second_event(_name: str, events: Iterator[object]) -> None:
        next(events)
        next(events)
        raise KeyboardInterrupt

    monkeypatch.setattr(models_module, "_show_progress", interrupt_at_the_second_event)
    result = CliRunner().invoke(models, ["download", "local"])
    assert result.exit_code == 1
    assert "napari-sam models download local goes on" in result.stderr
    # closed and flushed: the part can be gone on from
    part = tmp_path / "home" / "models" / "local.pt.part"
    assert 0 < part.stat().st_size < len(CONTENT)
    assert CONTENT.startswith(part.read_bytes())


def test_import(server: FileServer, tmp_path: Path) -> None:
    source = tmp_path / "stick.pt"
    source.write_bytes(CONTENT)
    _call("import", "local", str(source))
    assert (tmp_path / "home" / "models" / "local.pt").read_bytes() == CONTENT
    assert server.asked == []
    source.write_bytes(b"other")
    with pytest.raises(CheckpointError, match="published file"):
        _call("import", "local", str(source))


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("command", ["download", "remove", "path"])
def test_an_unknown_model(command: str) -> None:
    with pytest.raises(ConfigError, match="Did you mean local"):
        _call(command, "locall")


def test_listing_loads_neither_torch_nor_requests() -> None:
    code = (
        "import sys; from napari_sam.cli.models import models; "
        "models(['list'], standalone_mode=False); "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'requests', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
