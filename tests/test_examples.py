"""Every example runs as it stands, is short, and leaves what it promises where it was told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MAX_LINES = 40


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < MAX_LINES
    picture = tmp_path / "picture.png"
    command = [sys.executable, "-W", "error", str(path), str(picture)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert picture.stat().st_size > 1000


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} >= {
        "predict_from_click",
        "segment_everything",
        "segment_volume",
    }
