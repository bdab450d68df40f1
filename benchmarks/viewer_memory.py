"""Measure what Segment by clicks adds to napari's memory on images that are larger than it.

    python benchmarks/viewer_memory.py [--size 20480] [--slices 200] [--clicks 5] [--json FILE]

It opens a real napari window, on Linux under an Xvfb of its own, with a multiscale OME-Zarr of
`size` x `size` pixels on disk, and then a dask stack of `slices` slices of 1024 x 1024 pixels, each
in a process of its own. For both it takes the resident memory of the process with the image shown,
opens the widget, clicks on so many nuclei far apart and commits each, and takes the memory's peak.
Target: less than 1 GB more than the viewer alone, torch and the model included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from shown_viewer import (
    is_at_rest,
    machine,
    main_on_a_screen,
    nuclei,
    open_widget,
    run_for,
    run_until,
)

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

TILE = 1024
SAMPLING_MS = 10
SHIFT = 24
"""Columns from a slice to the next."""
LIMITS = (0, 4000)


class Peak:
    """The highest resident memory of this process, looked at by a timer."""

    def __init__(self) -> None:
        import psutil
        from qtpy.QtCore import QTimer

        self._process = psutil.Process()
        self._peak = 0
        self._timer = QTimer(interval=SAMPLING_MS)
        self._timer.timeout.connect(self._look)
        self._timer.start()

    def taken(self) -> int:
        """Return the peak in bytes since the last call."""
        self._look()
        peak, self._peak = self._peak, 0
        return peak

    def _look(self) -> None:
        self._peak = max(self._peak, self._process.memory_info().rss)


class MultiscaleZarr:
    """An OME-Zarr image on disk, one tile of nuclei again and again."""

    def __init__(self, folder: Path, size: int) -> None:
        self._path = folder / "image.zarr"
        self._sides = [size]
        while self._sides[-1] > TILE:
            self._sides.append(self._sides[-1] // 2)

    def make(self) -> None:
        """Write it."""
        import zarr

        tile, _ = nuclei(TILE)
        root = zarr.open_group(self._path, mode="w", zarr_format=2)
        datasets = []
        for level, side in enumerate(self._sides):
            shown = tile[:: 2**level, :: 2**level]
            chunks = (min(TILE, side),) * 2
            array = root.create_array(
                str(level), shape=(side,) * 2, chunks=chunks, dtype=tile.dtype
            )
            for row in range(0, side, TILE):
                count = min(TILE, side - row)
                repeats = (-(-count // len(shown)), -(-side // len(shown)))
                array[row : row + count] = np.tile(shown, repeats)[:count, :side]
            scale = {"type": "scale", "scale": [2.0**level] * 2}
            datasets.append({"path": str(level), "coordinateTransformations": [scale]})
        axes = [{"name": name, "type": "space"} for name in "yx"]
        root.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]

    def show(self, viewer: napari.Viewer) -> Image:
        """Show it lazily, level by level."""
        import zarr

        group = zarr.open_group(self._path, mode="r")
        levels = [group[str(level)] for level in range(len(self._sides))]
        return viewer.add_image(levels, multiscale=True, contrast_limits=LIMITS)

    def place(self, number: int, inside_yx: tuple[int, int]) -> tuple[int, ...]:
        """Row and column of a nucleus; each in another tile."""
        tiles = self._sides[0] // TILE
        row, col = inside_yx
        return row + TILE * (7 * number % tiles), col + TILE * (3 * number % tiles)


class DaskStack:
    """Slices that are computed when they are looked at."""

    def __init__(self, slices: int) -> None:
        self._slices = slices

    def make(self) -> None:
        """Do nothing: it is computed."""

    def show(self, viewer: napari.Viewer) -> Image:
        """Show it lazily."""
        import dask
        import dask.array as da

        tile, _ = nuclei(TILE)
        compute = dask.delayed(lambda number: np.roll(tile, SHIFT * number, axis=1))
        planes = [
            da.from_delayed(compute(number), tile.shape, tile.dtype)
            for number in range(self._slices)
        ]
        return viewer.add_image(da.stack(planes), contrast_limits=LIMITS)

    def place(self, number: int, inside_yx: tuple[int, int]) -> tuple[int, ...]:
        """Slice, row and column of a nucleus; each in another slice."""
        plane = 37 * number % self._slices
        return plane, inside_yx[0], (inside_yx[1] + SHIFT * plane) % TILE


def measure(source: MultiscaleZarr | DaskStack, clicks: int) -> dict[str, int]:
    """Return the memory in bytes with the image shown, and its peak with the widget."""
    import napari

    viewer = napari.Viewer(show=True)
    peak = Peak()
    layer = source.show(viewer)
    run_for(3)
    peak.taken()
    run_for(2)
    alone = peak.taken()
    objects = click_and_commit(viewer, layer, source, clicks)
    with_widget = peak.taken()
    viewer.close()
    return {"viewer alone": alone, "with the widget": with_widget, "objects": objects}


def click_and_commit(
    viewer: napari.Viewer, layer: Image, source: MultiscaleZarr | DaskStack, clicks: int
) -> int:
    """Click on nuclei and commit each; return how many became objects."""
    from gui.driver import Driver

    widget = open_widget(viewer)
    driver = Driver(viewer)
    for number in range(clicks):
        place = source.place(number, _nucleus())
        for axis, position in enumerate(place[:-2]):
            viewer.dims.set_point(axis, position)
        driver.look_at(place[-2:], zoom=2)
        run_until(lambda: is_at_rest(widget), "the plane is prepared")
        driver.click(place[-2:], layer)
        run_until(lambda: widget.interaction.session.is_current, "the mask is there")
        driver.key("c")
        run_until(lambda: widget.interaction.session.prompts.is_empty, "it is committed")
        run_for(1)
    return len(widget.actions_on_objects.layer.features)


def _nucleus() -> tuple[int, int]:
    """Row and column in the middle of a nucleus near the middle of the tile."""
    from scipy import ndimage

    _, labels = nuclei(TILE)
    depth = ndimage.distance_transform_edt(labels)
    middle = np.s_[TILE // 4 : -TILE // 4, TILE // 4 : -TILE // 4]
    row, col = np.unravel_index(np.argmax(depth[middle]), depth[middle].shape)
    return int(row) + TILE // 4, int(col) + TILE // 4


def run(home: Path) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=20480)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--clicks", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=["zarr", "dask"], help="only one, in this process")
    arguments = parser.parse_args()
    sources = {"zarr": MultiscaleZarr(home, arguments.size), "dask": DaskStack(arguments.slices)}
    if arguments.one:
        print(json.dumps(measure(sources[arguments.one], arguments.clicks)))
        return
    results = {}
    for name, source in sources.items():
        source.make()
        command = [sys.executable, *sys.argv, "--one", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
    show(results)
    if arguments.json:
        text = json.dumps({"machine": machine(), "results": results}, indent=2)
        arguments.json.write_text(text + "\n", encoding="utf-8")


def show(results: dict[str, dict[str, int]]) -> None:
    titles = f"{'viewer alone':>14s}{'with widget':>14s}{'more':>8s}{'objects':>9s}"
    print(f"{'resident memory in MB':24s}{titles}")
    for name, row in results.items():
        alone, with_widget = (row[key] / 1e6 for key in ("viewer alone", "with the widget"))
        more = with_widget - alone
        print(f"{name:24s}{alone:14.0f}{with_widget:14.0f}{more:8.0f}{row['objects']:9d}")


if __name__ == "__main__":
    main_on_a_screen(run)
