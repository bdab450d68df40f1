from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import make_screenshots
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_picture_stays_small_and_keeps_colors_of_few_pixels() -> None:
    noise = np.random.default_rng(0).integers(8, 40, (800, 1200, 1))
    picture = np.repeat(noise, 3, axis=2).astype(np.uint8)
    outline = np.array([204, 121, 167], np.uint8)
    picture[300, 300:320] = outline
    png = make_screenshots.png_of(picture)
    again = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert again.shape == picture.shape
    assert len(png) < 250_000
    assert np.abs(again[300, 300:320].astype(int) - outline).max() < 16
    assert np.abs(again.astype(int) - picture).max() < 32


def test_an_unknown_picture_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        make_screenshots.main(["wdiget", "--into", str(tmp_path)])
    assert ended.value.code == 2
    assert "widget" in capsys.readouterr().err


@pytest.mark.gui
def test_a_picture_is_taken_of_the_whole_window(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "tools" / "make_screenshots.py", "menu", "--into", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.iterdir()
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert path.name == "menu.png"
    assert picture.shape == (*make_screenshots.SIZE_XY[::-1], 3)
    image = picture[100:700, 650:1100]  # no menu is there
    assert image.max() > 150
    assert np.ptp(image, axis=2).mean() < 8  # napari shows the sample in gray
