"""The documentation builds without a warning, and its error messages are those of the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "reference" / "napari_sam" / "index.html").read_text(encoding="utf-8")
    assert "load_model" in reference


def test_troubleshooting_quotes_messages_that_the_code_gives() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r'^## "(.+)"$', page, re.M)
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "src" / "napari_sam").rglob("*.py")
    )
    joined = re.sub(r'"\s*f?"', "", source)  # a message may run over several lines
    assert len(quoted) > 10
    assert [message for message in quoted if message not in joined] == []


def test_the_figures_that_the_evaluation_page_explains_are_those_it_prints() -> None:
    page = (ROOT / "docs" / "tasks" / "evaluate.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+`) \|", page, re.M)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    folder = ROOT / "src" / "napari_sam" / "evaluation"
    source = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    assert len(explained) > 10
    for name in explained:
        assert re.search(rf'"{name}"|^    {name}: ', source, re.M), name
