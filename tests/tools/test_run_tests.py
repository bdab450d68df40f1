from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import run_tests
import system_libraries


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Take the place of all programs; hold the command lines that would have run."""
    ran: list[list[str]] = []

    def run(command: list[str], **_options: object) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return ran


def without_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def none() -> Iterator[None]:
        yield None

    monkeypatch.setattr(run_tests, "screen", none)


def test_without_a_screen_window_tests_are_left_out_loudly(
    monkeypatch: pytest.MonkeyPatch, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    without_screen(monkeypatch)
    monkeypatch.delenv("CI", raising=False)
    assert run_tests.main(["tests"]) == 0
    assert commands == [[sys.executable, "-m", "pytest", "tests", "-m", "not gui"]]
    assert capsys.readouterr().err.count("NOT TESTED: the napari plugin") == 2


def test_without_a_screen_continuous_integration_fails(
    monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    without_screen(monkeypatch)
    monkeypatch.setenv("CI", "true")
    assert run_tests.main([]) == 1
    assert commands == []


class Part:
    """A run of a part of the suite that ends at once."""

    started: ClassVar[list[Part]] = []
    codes: ClassVar[dict[str, int]] = {}

    def __init__(self, command: list[str], **options: Any) -> None:
        self.mark = command[command.index("-m", 3) + 1]
        self.coverage = options["env"].get("COVERAGE_FILE")
        self.is_measured = "--cov" in command
        self.started.append(self)
        if options["stdout"]:
            options["stdout"].write(b"windows were opened")

    def wait(self) -> int:
        return self.codes.get(self.mark, 0)


@pytest.mark.parametrize(("codes", "expected"), [({}, 0), ({"gui": 1}, 1), ({"not gui": 3}, 3)])
@pytest.mark.parametrize("measures", [False, True])
def test_windows_are_tested_beside_the_rest_and_covered_together(
    monkeypatch: pytest.MonkeyPatch,
    commands: list[list[str]],
    capsys: pytest.CaptureFixture[str],
    codes: dict[str, int],
    expected: int,
    measures: bool,
) -> None:
    @contextmanager
    def some() -> Iterator[dict[str, str]]:
        yield {"DISPLAY": ":9"}

    monkeypatch.setattr(run_tests, "screen", some)
    monkeypatch.setattr(subprocess, "Popen", Part)
    monkeypatch.setattr(Part, "started", [])
    monkeypatch.setattr(Part, "codes", codes)
    monkeypatch.delenv("COVERAGE_FILE", raising=False)
    assert run_tests.main(["--coverage"] if measures else []) == expected
    assert [part.mark for part in Part.started] == ["not gui", "gui"]
    assert all(part.is_measured is measures for part in Part.started)
    assert len({part.coverage for part in Part.started} - {None}) == 2 * measures
    assert "windows were opened" in capsys.readouterr().out
    assert [command[3] for command in commands] == ["combine", "report"] * measures


@pytest.mark.gui
def test_the_screen_is_a_working_x_server_that_ends_with_the_tests() -> None:
    with run_tests._xvfb() as display:
        socket = f"/tmp/.X11-unix/X{display[1:]}"
        assert os.path.exists(socket)
    assert not os.path.exists(socket)


def missing(
    monkeypatch: pytest.MonkeyPatch, libraries: list[list[str]], programs: list[str]
) -> None:
    """Let libraries be missing as listed, look for look, and programs always."""
    answers = iter(libraries)
    monkeypatch.setattr(system_libraries, "_missing_libraries", lambda: next(answers))
    monkeypatch.setattr(system_libraries, "_missing_programs", lambda: programs)


def test_what_is_missing_is_installed_as_root(
    monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    missing(monkeypatch, [["libegl1"], []], ["xvfb", "xdotool"])
    monkeypatch.setattr(system_libraries, "_privilege", list)
    monkeypatch.setattr(system_libraries.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert system_libraries.install_missing()
    assert [command[0] for command in commands] == ["apt-get", "apt-get"]
    assert commands[1][-3:] == ["libegl1", "xvfb", "xdotool"]


@pytest.mark.parametrize(("libraries", "can_open"), [(["libegl1"], False), ([], True)])
def test_what_may_not_be_installed_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
    commands: list[list[str]],
    capsys: pytest.CaptureFixture[str],
    libraries: list[str],
    can_open: bool,
) -> None:
    missing(monkeypatch, [libraries, libraries], ["xdotool"])
    monkeypatch.setattr(system_libraries, "_privilege", lambda: None)
    assert system_libraries.install_missing() is can_open
    assert commands == []
    expected = " ".join(["sudo apt-get install", *libraries, "xdotool"])
    assert expected in capsys.readouterr().err


def test_a_failing_installation_is_told_with_its_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing(monkeypatch, [["libegl1"], ["libegl1"]], [])
    monkeypatch.setattr(system_libraries, "_privilege", list)
    monkeypatch.setattr(system_libraries.shutil, "which", lambda name: f"/usr/bin/{name}")
    failed = SimpleNamespace(returncode=100, stdout="", stderr="no network")
    monkeypatch.setattr(subprocess, "run", lambda *_words, **_options: failed)
    assert not system_libraries.install_missing()
    told = capsys.readouterr().err
    assert "no network" in told
    assert "sudo apt-get install libegl1" in told


def test_a_missing_library_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(system_libraries._LIBRARIES, "libabsent.so.99", "libabsent99")
    assert "libabsent99" in system_libraries._missing_libraries()


def test_a_missing_program_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(system_libraries._PROGRAMS, "absent-program", "absent")
    assert "absent" in system_libraries._missing_programs()
