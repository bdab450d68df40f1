"""What the README and the documentation tell people to type exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from napari_sam import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGE_IDS = [str(page.relative_to(ROOT)) for page in PAGES]

every_page = pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)


def code_blocks(page: Path, language: str = r"\w+") -> str:
    """Return the fenced code blocks of a page, one after the other."""
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.findall(rf"^ *```(?:{language})\n(.*?)^ *```", text, re.M | re.S))


def pip_installs(page: Path) -> list[str]:
    return re.findall(r"pip install +(.+)", page.read_text(encoding="utf-8"))


@every_page
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    named = set(re.findall(r"\bmake (?:-C \S+ )?([a-z]+)", code_blocks(page)))
    assert named <= targets


def test_the_readme_names_the_two_commands() -> None:
    commands = code_blocks(ROOT / "README.md")
    assert "make demo" in commands
    assert "make test" in commands


@every_page
def test_subcommands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"\bnapari-sam ([a-z]+)\b(?= |`|$)", text, re.M)) - {"in"}
    assert named <= set(cli._SUBCOMMANDS)


@every_page
def test_nothing_installs_the_foreign_project_of_the_same_name(page: Path) -> None:
    for words in pip_installs(page):
        assert not re.search(r"(?<![\w/])napari[-_]sam", words), words


@every_page
def test_extras_exist(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for words in pip_installs(page):
        for extras in re.findall(r"\.\[([\w,]+)\]", words):
            assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_links_to_files_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^):]+)\)", text):
        assert (ROOT / target).exists(), target


@every_page
def test_python_snippets_name_public_things(page: Path) -> None:
    import napari_sam

    for name in re.findall(r"\bnapari_sam\.([A-Za-z]\w*)\(", code_blocks(page, "python")):
        assert name in napari_sam.__all__


def test_constraints_name_every_direct_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    names = {re.match(r"[\w-]+", line).group().lower() for group in groups for line in group}
    assert names <= pinned
