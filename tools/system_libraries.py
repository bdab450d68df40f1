"""The system libraries that a real Qt window on Linux needs, and the programs that tests use on it.

The Qt wheels bring Qt itself but not what lies below it. On Debian and Ubuntu this installs what is
missing, as root or through a sudo that asks for no password; elsewhere it says what is missing.
The programs are Xvfb, the screen without a screen, and xdotool, which moves a real mouse on it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["install_missing"]

# What is looked for -> the Debian package that brings it.
_LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-xinerama.so.0": "libxcb-xinerama0",
}
_PROGRAMS = {"Xvfb": "xvfb", "xdotool": "xdotool"}
_SOFTWARE_OPENGL = "libgl1-mesa-dri"
_DRIVER_FOLDERS = ("lib/*/dri", "lib64/dri", "lib/dri")


def install_missing() -> bool:
    """Make sure that the libraries and programs are there.

    Returns
    -------
    bool
        Whether a window can be opened on a screen that is there: all libraries are, though perhaps
        not the programs. If anything is missing, a message on stderr says what to install.
    """
    packages = _missing_libraries() + _missing_programs()
    if not packages:
        return True
    prefix = _privilege()
    if prefix is None or shutil.which("apt-get") is None:
        _explain(packages)
        return not _missing_libraries()
    print("Installing system libraries for the tests with windows:", *packages, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", *packages]):
        command = [*prefix, "apt-get", "-o", "Dpkg::Use-Pty=0", "-y", *words]
        done = subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, errors="replace"
        )
        if done.returncode != 0:
            print(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}", file=sys.stderr)
            _explain(packages)
            break
    return not _missing_libraries()


def _missing_libraries() -> list[str]:
    missing = [package for name, package in _LIBRARIES.items() if not _loads(name)]
    if not any(
        path.name.startswith(("swrast_dri", "libdril_dri", "kms_swrast_dri"))
        for folder in _DRIVER_FOLDERS
        for path in Path("/usr").glob(f"{folder}/*.so")
    ):
        missing.append(_SOFTWARE_OPENGL)
    return missing


def _missing_programs() -> list[str]:
    return [package for name, package in _PROGRAMS.items() if shutil.which(name) is None]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _privilege() -> list[str] | None:
    """Return the words before a command that make it run as root, or None where we may not."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    allowed = subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True)
    return ["sudo", "-n"] if allowed.returncode == 0 else None


def _explain(packages: list[str]) -> None:
    print(
        "The tests that open a window need system libraries or programs that are not installed, "
        "and this account may not install them.\n"
        f"Debian, Ubuntu:  sudo apt-get install {' '.join(packages)}\n"
        "Other systems:   the packages that bring Xvfb, xdotool, Mesa's software OpenGL, "
        "libxkbcommon-x11 and the xcb-util libraries.",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(0 if install_missing() else 1)
