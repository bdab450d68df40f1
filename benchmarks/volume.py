"""Measure how `segment_volume` grows with the volume: memory, time per tile, and what is overhead.

    python benchmarks/volume.py [--side 1920] [--slices 4] [--factors 1 8 64] [--json FILE]

For each factor it writes a Zarr volume of discs that many times as large, half of it by more rows
and columns and half by more slices, and segments it in a process of its own with a threshold, which
costs next to nothing: so the time per tile is what reading, stitching and writing cost. Besides it
times the compact model on one of these tiles. Peak memory is that of the process; what it takes
before the first tile, Python and its libraries, is reported apart.

Last it compares two workers with one on the smallest volume, with a segmenter that keeps a
processor busy for half a second a tile. The time is that of the whole run, with the start of the
workers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import zarr

from napari_sam.core.memory import keep_memory_together
from napari_sam.pipeline import (
    FunctionSegmenter,
    ModelSegmenter,
    SegmentConfig,
    TileDone,
    TileObjects,
    segment_volume,
)
from napari_sam.tiling import tile_grid

STEP = 48
TILE = 384
BUSY_SECONDS = 0.5
CONFIG = SegmentConfig(axes="ZYX", tile=TILE, contrast_limits=(0.0, 255.0))


def write_volume(path: Path, shape: tuple[int, int, int]) -> None:
    """Write discs whose places differ from slice to slice, chunk by chunk."""
    array = zarr.create_array(path, shape=shape, chunks=(1, 512, 512), dtype=np.uint8)
    rows, cols = np.indices((512, 512))
    for z in range(shape[0]):
        for y in range(0, shape[1], 512):
            for x in range(0, shape[2], 512):
                dy, dx = (rows + y + 7 * z) % STEP, (cols + x + 5 * z) % STEP
                disc = np.hypot(dy - STEP / 2, dx - STEP / 2) < STEP / 3
                block = np.where(disc, 200, 20).astype(np.uint8)
                array[z, y : y + 512, x : x + 512] = block[: shape[1] - y, : shape[2] - x]


def discs(tile: np.ndarray) -> np.ndarray:
    """Find the discs."""
    from scipy import ndimage

    labels: np.ndarray = ndimage.label(tile[..., 0] > 100)[0]
    return labels


def pixels_read(source: Path) -> int:
    """Count the pixels of all tiles with their halos: tiles at the border have less."""
    n_slices, *shape_yx = zarr.open_array(source, mode="r").shape
    grid = tile_grid(tuple(shape_yx), TILE, CONFIG.halo)
    return n_slices * sum(tile.read.shape[0] * tile.read.shape[1] for tile in grid)


def peak_mb() -> float:
    """Return the peak of this process's resident memory so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def run_one(source: Path, target: Path) -> dict[str, float]:
    """Segment a volume in this process."""
    keep_memory_together()  # as the command does
    segmenter = FunctionSegmenter(discs, digest="discs")
    before, begun, segmenting, n_tiles = 0.0, time.perf_counter(), 0.0, 0
    for event in segment_volume(source, target, CONFIG, segmenter):
        if isinstance(event, TileDone):
            before = before or peak_mb()
            segmenting += event.seconds
            n_tiles += 1
    seconds = time.perf_counter() - begun
    return {
        "tiles": n_tiles,
        "MB before": round(before),
        "MB at most": round(peak_mb()),
        "ms a tile": round(1e3 * seconds / n_tiles, 1),
        "ns a pixel": round(1e9 * seconds / pixels_read(source), 1),
        "ms to read a tile": round(1e3 * segmenting / n_tiles, 1),
    }


@dataclasses.dataclass(frozen=True)
class Busy:
    """Finds the discs, and takes as long for each tile."""

    window, keeps_8bit, digest = 512, False, "busy"

    def __call__(self, tile: np.ndarray) -> TileObjects:
        end = time.perf_counter() + BUSY_SECONDS
        labels = discs(tile).astype(np.int32)
        while time.perf_counter() < end:
            pass
        return TileObjects(labels, np.ones(labels.max(), np.float32))


def run_workers(source: Path, folder: Path) -> dict[int, float]:
    """Time runs with one and two workers."""
    seconds = {}
    for workers in (1, 2):
        config = dataclasses.replace(CONFIG, workers=workers)
        begun = time.perf_counter()
        for _ in segment_volume(source, folder / f"workers{workers}.zarr", config, Busy()):
            pass
        seconds[workers] = time.perf_counter() - begun
    return seconds


def model_seconds(tile: np.ndarray) -> float:
    """Time the compact model on a tile, the second time."""
    from napari_sam import load_model

    segmenter = ModelSegmenter(load_model("compact"), CONFIG.automatic)
    segmenter(tile)
    begun = time.perf_counter()
    segmenter(tile)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1920)
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=Path, nargs=2, help="volume and output, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run_one(*arguments.one)))
        return
    results = {}
    with TemporaryDirectory() as folder:
        for factor in arguments.factors:
            source, target = Path(folder) / f"{factor}.zarr", Path(folder) / f"out{factor}.zarr"
            side = TILE * round(arguments.side * factor**0.25 / TILE)  # no narrow tiles at the end
            shape = (round(arguments.slices * factor**0.5), side, side)
            write_volume(source, shape)
            command = [sys.executable, __file__, "--one", str(source), str(target)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[f"{factor} x: {' x '.join(map(str, shape))}"] = json.loads(done.stdout)
            print(done.stdout, end="", file=sys.stderr, flush=True)
        smallest = Path(folder) / f"{arguments.factors[0]}.zarr"
        workers = run_workers(smallest, Path(folder))
        tile = np.asarray(zarr.open_array(source, mode="r")[0, :512, :512])
    seconds = model_seconds(tile[..., None].repeat(3, 2))
    show(results, seconds)
    print(
        f"Tiles of {BUSY_SECONDS} s: {workers[1]:.1f} s with one worker, {workers[2]:.1f} s with "
        f"two, {workers[1] / workers[2]:.2f} times as fast."
    )
    if arguments.json:
        figures = {
            "results": results,
            "compact model, seconds a tile": seconds,
            "seconds by workers": workers,
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def show(results: dict[str, dict[str, float]], model: float) -> None:
    columns = list(next(iter(results.values())))
    print(f"{'volume':26s}" + "".join(f"{name:>20s}" for name in [*columns, "share"]))
    for name, row in results.items():
        share = row["ms a tile"] / (row["ms a tile"] + 1e3 * model)
        print(f"{name:26s}" + "".join(f"{row[key]:20g}" for key in columns) + f"{share:20.1%}")
    print(
        f"The compact model takes {1e3 * model:.0f} ms a tile; share is what the rest adds to it."
    )


if __name__ == "__main__":
    main()
