"""What the benchmarks of the viewer share: a screen, an image, and waiting as a program does."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import napari

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]

PLUGIN = "napari-sam"
TIMEOUT_S = 300.0
TILE = 512
_HOME = "NAPARI_SAM_BENCHMARK_HOME"


def main_on_a_screen(main: Callable[[Path], None]) -> None:
    """Call `main` where windows can be shown, with an empty home of napari_sam.

    It is called in a process of its own, which ends before its screen does. On Linux the screen is
    an Xvfb. Of the user's own settings and models nothing is used.
    """
    if _HOME in os.environ:
        main(Path(os.environ[_HOME]))
        return
    from run_tests import screen

    with screen() as environment, TemporaryDirectory() as home:
        if environment is None:
            raise SystemExit("There is no screen to show a window on.")
        own = {_HOME: home, "NAPARI_SAM_HOME": home, "NAPARI_CONFIG": f"{home}/napari.yaml"}
        command = [sys.executable, *sys.argv]
        done = subprocess.run(command, env={**environment, **own}, check=False)
    sys.exit(done.returncode)


def nuclei(size: int, seed: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Make a plane of synthetic nuclei and its labels, put together from smaller ones."""
    from napari_sam.training.synthetic import synthetic_stack

    tiles = -(-size // TILE)
    image = np.zeros((tiles * TILE, tiles * TILE), np.uint16)
    labels = np.zeros(image.shape, np.int32)
    for number in range(tiles**2):
        row, col = (int(i) * TILE for i in np.unravel_index(number, (tiles, tiles)))
        own, truth = synthetic_stack((1, TILE, TILE), seed=seed + number)
        where = np.s_[row : row + TILE, col : col + TILE]
        image[where] = own[0]
        labels[where] = np.where(truth[0] > 0, truth[0] + labels.max(), 0)
    return image[:size, :size], labels[:size, :size]


def run_until(condition: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Let Qt's event loop run as in a program until a condition holds, looked at every 20 ms."""
    from qtpy.QtCore import QEventLoop, QTimer

    if condition():
        return
    loop = QEventLoop()
    looking = QTimer(interval=20)
    looking.timeout.connect(lambda: loop.quit() if condition() else None)
    looking.start()
    QTimer.singleShot(round(timeout_s * 1000), loop.quit)
    loop.exec()
    looking.stop()
    if not condition():
        raise TimeoutError(f"Not so within {timeout_s:.0f} s: {what}")


def run_for(seconds: float) -> None:
    """Let Qt's event loop run for a while."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(round(seconds * 1000), loop.quit)
    loop.exec()


def open_widget(viewer: napari.Viewer) -> Any:
    """Open Segment by clicks, and wait until it is ready for a click."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment by clicks")
    run_until(lambda: is_at_rest(widget), "the widget is ready")
    return widget


def is_at_rest(widget: Any) -> bool:
    """Tell whether a click is answered at once, and nothing else is computed."""
    engine = widget.interaction.engine
    return bool(engine.is_ready and not engine.is_busy)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Sum up times."""
    p50, p95 = np.percentile(values, [50, 95])
    return {
        "median": round(float(p50), 1),
        "p95": round(float(p95), 1),
        "max": round(float(max(values)), 1),
        "n": len(values),
    }


def machine() -> dict[str, Any]:
    """Tell what the figures were measured on."""
    import napari
    import torch
    from qtpy.QtGui import QGuiApplication

    return {
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "napari": napari.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "display": QGuiApplication.platformName(),
    }
