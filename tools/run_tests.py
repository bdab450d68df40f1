"""Run the whole test suite, also the tests that open a window: what `make test` runs.

The tests that open windows run beside the others, in a process of their own: they wait a lot.
On Linux it starts an Xvfb of its own, so that no window appears and nothing depends on the desktop.
Where no screen can be had, the tests that need one are left out, loudly; under CI (the variable
``CI`` is set) that is a failure instead. With ``--coverage`` it is measured which lines the suite
runs, which takes half as long again: what `make coverage` does. Other words go to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import system_libraries

ROOT = Path(__file__).resolve().parent.parent
SCREEN = "1600x1200x24"
COVERAGE = "--coverage"


def main(arguments: Sequence[str]) -> int:
    with screen() as environment:
        if environment is None:
            print(_NO_SCREEN, file=sys.stderr, flush=True)
            if os.environ.get("CI"):
                return 1
        is_whole = list(arguments) in ([], [COVERAGE])
        code = (
            _run_all(environment, measures=COVERAGE in arguments)
            if is_whole
            else _run_part(arguments, environment)
        )
    if environment is None:
        print(_NO_SCREEN, file=sys.stderr)
    return code


def _run_part(arguments: Sequence[str], environment: dict[str, str] | None) -> int:
    words = [*arguments, *([] if environment else ["-m", "not gui"])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env=environment or os.environ,
        check=False,
    )
    return done.returncode


def _run_all(environment: dict[str, str] | None, *, measures: bool) -> int:
    """Run the tests that open windows beside the others, and measure coverage over both.

    Coverage of a part of the suite says nothing, so it is measured over the whole only.
    """
    marks = {"engine": "not gui"} | ({"windows": "gui"} if environment else {})
    with TemporaryDirectory() as folder:
        running = {
            name: _begin(name, mark, Path(folder), environment or dict(os.environ), measures)
            for name, mark in marks.items()
        }
        try:
            codes = [process.wait() for process in running.values()]
        except BaseException:
            for process in running.values():
                process.terminate()
            raise
        if environment:
            print((Path(folder) / "windows.txt").read_text(encoding="utf-8"), flush=True)
        if measures:
            for words in (
                ["combine", "--quiet", folder],
                ["report", *([] if environment else ["--fail-under=0"])],
            ):
                command = [sys.executable, "-m", "coverage", *words]
                codes.append(subprocess.run(command, cwd=ROOT, check=False).returncode)
    return max(codes)


def _begin(
    name: str, mark: str, folder: Path, environment: dict[str, str], measures: bool
) -> subprocess.Popen[bytes]:
    """Start the tests with a mark; those of windows write to a file, to be shown at the end."""
    environment = {**environment}
    environment.setdefault("OMP_NUM_THREADS", "1")  # each has a processor
    words = ["-m", mark]
    if measures:
        environment["COVERAGE_FILE"] = str(folder / f".coverage.{name}")
        words += ["--cov", "--cov-report=", "--cov-fail-under=0"]
    with ExitStack() as opened:
        output = None
        if name == "windows":
            output = opened.enter_context((folder / "windows.txt").open("wb"))
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *words],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        )


_NO_SCREEN = (
    "=" * 78 + "\n"
    "NOT TESTED: the napari plugin. No screen can be had for the tests that open a\n"
    "window. Install Xvfb and the libraries named above, or run this on a desktop.\n" + "=" * 78
)


@contextmanager
def screen() -> Iterator[dict[str, str] | None]:
    """Yield the environment in which windows can be opened, or None where they cannot."""
    environment = dict(os.environ)
    if not sys.platform.startswith("linux"):
        yield environment  # macOS and Windows always have a screen
        return
    libraries_are_there = system_libraries.install_missing()
    if libraries_are_there and shutil.which("Xvfb"):
        with _xvfb() as display:
            environment.update(DISPLAY=display, QT_QPA_PLATFORM="xcb")
            environment.pop("WAYLAND_DISPLAY", None)
            yield environment
    elif libraries_are_there and environment.get("DISPLAY"):
        yield environment
    else:
        yield None


@contextmanager
def _xvfb() -> Iterator[str]:
    """Run an Xvfb on a free display number of its own choice; yield the number as ':N'."""
    read_end, write_end = os.pipe()
    command = ["Xvfb", "-displayfd", str(write_end), "-screen", "0", SCREEN, "-nolisten", "tcp"]
    with subprocess.Popen(
        command, pass_fds=[write_end], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        os.close(write_end)
        try:
            with os.fdopen(read_end) as pipe:
                number = pipe.readline().strip()  # empty when Xvfb ends before it is ready
            if not number:
                raise SystemExit("Xvfb ended before it was ready; run it by hand to see why.")
            yield f":{number}"
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
