from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from types import ModuleType

import click
import pytest

from napari_sam import cli
from napari_sam.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SUBCOMMANDS = (
    "segment",
    "models",
    "train",
    "distill",
    "calibrate",
    "evaluate",
    "compare",
    "demo",
)


def install_subcommand(monkeypatch: pytest.MonkeyPatch, body: object) -> None:
    """Put a subcommand `probe` into the group; calling it calls `body`."""
    module = ModuleType("probe_module")
    module.probe = click.Command("probe", callback=body)
    monkeypatch.setitem(sys.modules, "probe_module", module)
    monkeypatch.setitem(
        cli._SUBCOMMANDS, "probe", cli._Subcommand("probe_module", "probe", "A probe.")
    )


def exit_status(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return ended.value.code


def test_help_lists_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(["--help"]) == 0
    text = capsys.readouterr().out
    for name in SUBCOMMANDS:
        assert f"\n  {name} " in text


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_subcommand_has_its_own_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: napari-sam {name}")


def test_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert exit_status(["--version"]) == 0
    assert capsys.readouterr().out == f"napari-sam {project['version']}\n"


def test_our_error_becomes_one_message_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise InputError("A given", rule="The rule", cure="The cure")

    install_subcommand(monkeypatch, fail)
    assert exit_status(["probe"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "Error: A given. The rule. The cure.\n"
    assert captured.out == ""


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    install_subcommand(monkeypatch, fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])


def test_ctrl_c_ends_with_the_status_that_shells_expect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    install_subcommand(monkeypatch, interrupt)
    assert exit_status(["probe"]) == 130
    assert capsys.readouterr().err.endswith("Interrupted.\n")


def test_a_subcommand_may_choose_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave() -> None:
        click.get_current_context().exit(3)

    install_subcommand(monkeypatch, leave)
    assert exit_status(["probe"]) == 3


def test_an_unknown_subcommand_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(["sgment"]) == 2
    assert "sgment" in capsys.readouterr().err


def test_the_installed_command_is_main() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="napari-sam")
    assert script.load() is cli.main
