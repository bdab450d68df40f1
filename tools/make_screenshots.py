"""Take the pictures of the documentation anew: what `make screenshots` runs.

    python tools/make_screenshots.py [NAME ...] [--into FOLDER]

It walks the tour of the tests (``tests/gui/tour.py``) in a window of fixed size, with real mouse
and key events, and writes ``docs/images/NAME.png``: all of them, or those that are named. On Linux
an Xvfb of its own is the screen. Nothing of the user's is read: settings, models and embeddings
are in a temporary folder.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from run_tests import ROOT, screen

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES = ROOT / "docs" / "images"
SIZE_XY = (1200, 800)
PICTURES = (
    "menu",
    "widget",
    "hover",
    "click",
    "candidates",
    "negative",
    "boxes",
    "objects",
    "edit",
    "refine",
    "model_view",
    "help",
    "models",
    "everything",
    "cost",
    "stack",
)
"""All pictures, in the order in which they are taken."""

PLACE_YX = (205.0, 285.0)
ZOOM = 2.8
"""Where the camera looks in most pictures: at some nuclei, two of which touch."""
AWAY_YX = (250.0, 320.0)
"""Where the mouse is out of the way."""
NUCLEUS, NEIGHBOUR, OTHERS = 24, 45, (53, 56, 61)
"""Labels of nuclei in view."""


def main(arguments: Sequence[str]) -> int:
    parser = _parser()
    words = parser.parse_args(arguments)
    wanted = set(words.names or PICTURES)
    if unknown := wanted.difference(PICTURES):
        parser.error(f"There is no picture {sorted(unknown)}, but {', '.join(PICTURES)}.")
    words.into.mkdir(parents=True, exist_ok=True)
    with screen() as environment, TemporaryDirectory() as home:
        if environment is None:
            print("There is no screen to open a window on.", file=sys.stderr)
            return 1
        os.environ.update(environment)
        os.environ["NAPARI_SAM_HOME"] = home
        os.environ["NAPARI_CONFIG"] = str(Path(home) / "napari.yaml")
        sys.path.insert(0, str(ROOT / "tests"))
        _take(wanted, words.into, Path(home))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Take the pictures of the documentation anew.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--into", type=Path, default=IMAGES, metavar="FOLDER")
    return parser


def _take(wanted: set[str], folder: Path, home: Path) -> None:
    """Walk, and stop where a picture is wanted, until there is none left."""
    import napari
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QApplication

    # in the window, as on the other systems; a dialog of the desktop could not be answered
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_DontUseNativeDialogs)
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.setGeometry(0, 0, *SIZE_XY)
    walk = _walk(viewer, home)
    try:
        for name in walk:
            if name in wanted:
                wanted.remove(name)
                path = folder / f"{name}.png"
                path.write_bytes(png_of(_pixels(viewer)))
                print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)
            if not wanted:
                break
    finally:
        walk.close()
        viewer.close()


def _walk(viewer: Any, home: Path) -> Generator[str, None, None]:
    """Go the way of a user, and yield the name of what there is to see."""
    from gui.tour import Tour  # type: ignore[import-not-found]  # it lies with the tests

    tour = Tour(viewer)
    tour.open_sample()
    tour.driver.open_menu("Layers", "Segment")
    yield "menu"
    tour.driver.close_menus()
    tour.open_widget()
    yield "widget"
    tour.driver.look_at(PLACE_YX, ZOOM)
    yield from _clicks(tour)
    yield from _boxes(tour)
    yield from _objects(tour)
    yield from _dialogs(tour)
    yield from _everything(tour, home)


def _clicks(tour: Any) -> Iterator[str]:
    tour.driver.key("h")
    tour.hover(NUCLEUS)
    yield "hover"
    tour.driver.key("h")
    tour.click(tour.centre(NUCLEUS))
    yield "click"
    tour.driver.move(AWAY_YX)
    tour.driver.key("Tab")
    tour.viewer.theme = "light"
    yield "candidates"
    tour.viewer.theme = "dark"
    tour.driver.key("shift+Tab")
    tour.take_away(tour.centre(NEIGHBOUR))
    tour.driver.move(AWAY_YX)
    yield "negative"
    tour.clear()


def _boxes(tour: Any) -> Iterator[str]:
    tour.draw_boxes([NUCLEUS, NEIGHBOUR, *OTHERS])
    yield "boxes"
    tour.clear()
    tour.take_points()


def _objects(tour: Any) -> Iterator[str]:
    from skimage.morphology import dilation, disk

    tour.commit([NUCLEUS, NEIGHBOUR, *OTHERS])
    yield "objects"
    tour.edit(NUCLEUS)
    yield "edit"
    tour.clear()
    swollen = dilation(np.where(tour.truth == NUCLEUS, 1, 0), disk(4))
    other = tour.viewer.add_labels(swollen, name="labels of another program")
    tour.viewer.layers.selection.active = tour.widget.interaction.prompts.points
    tour.labels().visible = False
    tour.refine(NUCLEUS, other)
    yield "refine"
    tour.clear()
    tour.labels().visible = True
    tour.viewer.layers.remove(other)
    tour.show_model_view()
    yield "model_view"
    tour.show_model_view(False)


def _dialogs(tour: Any) -> Iterator[str]:
    tour.driver.key("F1")
    yield "help"
    tour.close_dialogs()
    tour.driver.click_widget(tour.widget.model_choice.get_button)
    yield "models"
    tour.close_dialogs()


def _everything(tour: Any, home: Path) -> Iterator[str]:
    tour.close_widget()
    tour.driver.show_all()
    everything = tour.segment_everything()
    tour.find_objects(everything)
    yield "everything"
    tour.open_stack()
    tour.driver.show_all()
    tour.estimate_cost(everything)
    yield "cost"
    tour.write_stack(everything, home / "nuclei-labels.ome.zarr")
    yield "stack"


def _pixels(viewer: Any) -> NDArray[np.uint8]:
    """Return what the screen shows where the window is, (H, W, 3): with menus and dialogs."""
    from PIL import Image
    from qtpy.QtCore import QBuffer

    from gui.driver import process_events  # type: ignore[import-not-found]

    process_events(0.5)
    window = viewer.window._qt_window
    shown = window.screen().grabWindow(0, *window.geometry().getRect())
    buffer = QBuffer()
    buffer.open(QBuffer.OpenModeFlag.WriteOnly)
    shown.save(buffer, "PNG")
    return np.asarray(Image.open(io.BytesIO(bytes(buffer.data()))).convert("RGB"))


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    """Return a small PNG of a picture (H, W, 3), in a palette of its own."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    # unlike the other methods it keeps colours that only a few pixels have, as outlines
    few = picture.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    file = io.BytesIO()
    few.save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
