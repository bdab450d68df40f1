"""Create the virtual environment that the Makefile installs into.

Runs with whatever Python 3 the machine has, so that one too old is told so in plain words.
"""

import subprocess
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 11)


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: create_environment.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    if sys.version_info < OLDEST_PYTHON:
        print(
            f"{sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]}. "
            "napari_sam needs CPython 3.11 or newer. "
            "Name one that is installed: make PYTHON=python3.12 ...",
            file=sys.stderr,
        )
        return 1
    # An environment left half made by an interrupted run is made anew.
    created = subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=False)
    if created.returncode != 0:
        print(
            f"{sys.executable} could not create a virtual environment in {folder}. "
            "On Debian and Ubuntu its parts are a package of their own: "
            "sudo apt-get install python3-venv",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
