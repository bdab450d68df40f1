from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from napari_sam.cli import demo as demo_module
from napari_sam.cli.demo import demo
from napari_sam.core.errors import OutputError
from napari_sam.core.region import Region
from napari_sam.io import open_volume


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(demo, ["--output", str(folder), *words], catch_exceptions=False)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("demo") / "not" / "there yet"
    return folder, run(folder, "--no-viewer")


@pytest.fixture
def windows_opened(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Take the place of the viewer's process; hold the command lines that would have started it."""
    started: list[list[str]] = []

    def start(command: list[str], *, check: bool) -> SimpleNamespace:
        started.append(command)
        return SimpleNamespace(returncode=-6)

    monkeypatch.setattr(demo_module, "subprocess", SimpleNamespace(run=start))
    return started


def test_the_demo_segments_the_sample_and_says_where(first_run: tuple[Path, Result]) -> None:
    folder, result = first_run
    assert result.exit_code == 0
    for path in (folder / "stack.ome.tif", folder / "labels.ome.zarr", folder / "overlay.png"):
        assert str(path.resolve()) in result.output
        assert path.exists()
    assert "objects in 5 slices" in result.output


def test_each_slice_has_objects_on_disk_as_printed(first_run: tuple[Path, Result]) -> None:
    folder, result = first_run
    volume = open_volume(folder / "labels.ome.zarr")
    labels = volume.read(Region.whole(volume.shape))
    volume.close()
    assert labels.shape == demo_module.SAMPLE_SHAPE_ZYX
    for number, labels_yx in enumerate(labels):
        count = np.unique(labels_yx[labels_yx > 0]).size
        assert count > 0
        assert f"slice {number}: {count} objects" in result.output


def test_the_picture_shows_colored_objects(first_run: tuple[Path, Result]) -> None:
    picture = np.asarray(Image.open(first_run[0] / "overlay.png")).astype(int)
    depth, height, width = demo_module.SAMPLE_SHAPE_ZYX
    assert picture.size >= 3 * depth * height * width
    assert (np.ptp(picture, axis=2) > 60).mean() > 0.01


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo make a stack that is segmented at once."""
    monkeypatch.setattr(demo_module, "SAMPLE_SHAPE_ZYX", (2, 64, 64))


def test_a_second_run_replaces_the_first(small_sample: None, tmp_path: Path) -> None:
    result = run(tmp_path, "--no-viewer")
    again = run(tmp_path, "--no-viewer")
    assert again.exit_code == 0
    assert again.output.count("slice ") == result.output.count("slice ") == 2


def test_a_window_opens_where_there_is_a_screen(
    monkeypatch: pytest.MonkeyPatch,
    windows_opened: list[list[str]],
    small_sample: None,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(demo_module, "_has_screen", lambda: True)
    result = run(tmp_path)
    ((*_, module, image, labels),) = windows_opened
    assert module == "napari_sam._napari.viewer"
    assert (image, labels) == (str(tmp_path / "stack.ome.tif"), str(tmp_path / "labels.ome.zarr"))
    assert result.exit_code == 0
    assert "could not show the result (exit status -6" in result.stderr


def test_no_window_opens_without_a_screen(
    monkeypatch: pytest.MonkeyPatch,
    windows_opened: list[list[str]],
    small_sample: None,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(demo_module, "_has_screen", lambda: False)
    assert run(tmp_path).exit_code == 0
    assert windows_opened == []


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("darwin", {}, True),
        ("win32", {}, True),
    ],
)
def test_where_there_is_a_screen(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], expected: bool
) -> None:
    monkeypatch.setattr(demo_module.sys, "platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert demo_module._has_screen() is expected


def test_a_folder_that_cannot_be_made_is_an_error_with_a_cure(
    small_sample: None, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="--output"):
        run(tmp_path / "file" / "folder", "--no-viewer")


def test_the_command_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "napari_sam", "demo", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--no-viewer" in done.stdout
