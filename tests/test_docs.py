"""The documentation builds without a warning, and its error messages are those of the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from napari_sam._napari.keys import KEYS

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "images"
PICTURE_BYTES = 250_000
SHEET, SHEET_BYTES = "synthetic", 600_000  # noise takes room


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


def plugin_pages() -> list[str]:
    folder = ROOT / "docs" / "tasks"
    return [
        (folder / name).read_text(encoding="utf-8")
        for name in ("plugin.md", "everything_in_napari.md")
    ]


def test_the_page_lists_all_keys_with_what_they_do() -> None:
    listed = plugin_pages()[0].partition("\n## Keys\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", listed, re.M)
    assert rows == [(key.shown, key.does) for key in KEYS]


def test_buttons_and_choices_that_the_pages_name_are_there() -> None:
    folders = (ROOT / "src" / "napari_sam" / name for name in ("_napari", "pipeline"))
    paths = [path for folder in folders for path in folder.glob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in paths)
    words = source.replace("&", "").lower()
    named = {
        name
        for page in plugin_pages()
        for name in re.findall(r"(?<!\*)\*([A-Z][^*>\n]+)\*(?!\*)", page)
    }
    assert len(named) > 40
    # a number stands for any other
    assert {name for name in named if re.sub(r" \d+$", "", name).lower() not in words} == set()


def test_every_picture_is_taken_by_the_tool_shown_on_a_page_and_small() -> None:
    tool = (ROOT / "tools" / "make_screenshots.py").read_text(encoding="utf-8")
    taken = {*re.findall(r'yield "(\w+)"', tool), SHEET}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = {
        name
        for page in pages
        for name in re.findall(r"images/(\w+)\.png", page.read_text(encoding="utf-8"))
    }
    there = {path.stem: path.stat().st_size for path in PICTURES.glob("*.png")}
    assert there.keys() == taken == shown
    assert there.pop(SHEET) < SHEET_BYTES
    assert max(there.values()) < PICTURE_BYTES
