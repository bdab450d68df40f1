"""The packages that the references come from, made importable."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = {"segment_anything": "segment-anything-py", "timm": "timm"}
"""Modules that are needed, and the packages that bring them."""


class MissingReferenceError(Exception):
    """A reference implementation is not installed."""


def require_references() -> None:
    """Make the references and the helpers of the tests importable.

    Raises
    ------
    MissingReferenceError
        When a package is missing; the message says how to get it.
    """
    missing = [name for module, name in PACKAGES.items() if not is_installed(module)]
    if missing:
        raise MissingReferenceError(
            f"Not installed: {', '.join(missing)}. The comparison needs the reference "
            "implementations, which the extra `test` brings: pip install --editable '.[test]'"
        )
    if (tests := str(ROOT / "tests")) not in sys.path:
        sys.path.append(tests)  # the models of the tests, and the reference with our weights
    _provide_torchvision()


def is_installed(module: str) -> bool:
    return module in sys.modules or importlib.util.find_spec(module) is not None


def torchvision_version() -> str:
    """Return the version in use: 0 is the stand-in, whose slower NMS takes under a second."""
    return str(getattr(sys.modules.get("torchvision"), "__version__", "none"))


def _provide_torchvision() -> None:
    """Import torchvision, or put the tests' stand-in in its place where it does not work."""
    try:
        importlib.import_module("torchvision.ops.boxes")
    except (ImportError, OSError, RuntimeError):  # not there, or built for another torch
        import torchvision_stand_in

        torchvision_stand_in.install()
