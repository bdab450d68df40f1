"""Measure what a run of `segment_volume` costs around the model, and compute where growth ends.

    python benchmarks/scaling.py [--part plan queue dask files cluster] [--tiles 10000 ...]

`plan` makes up what tiles have found, and lets the functions of a run make objects, parts and ids
of it: as a stack of slices of 1000 tiles, one after the other, and as a single slice of all tiles.
Each size runs in a process of its own. The number of objects is compared with the truth, ids must
follow each other, and the order of the matches must not matter. `queue` gives jobs to processes
that do nothing, `dask` does so with a real scheduler and two workers, and `files` counts what a
real run of a few tiles asks of the file system. `cluster` computes from these what many workers
would mean. The plan needs Linux, to forget the peak of memory between its stages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import resource
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from volume import discs, write_volume

from napari_sam.labels import (
    MEASURE,
    PIECE,
    BlockParts,
    Paintings,
    Visibility,
    choose_kept,
    group_pieces,
    merge_measures,
    plan_paintings,
)
from napari_sam.pipeline import FunctionSegmenter, SegmentConfig, segment, segment_volume
from napari_sam.pipeline.object_notes import object_notes
from napari_sam.pipeline.segment import DASK_JOB_SIZE
from napari_sam.pipeline.segmenters import TileObjects
from napari_sam.pipeline.stitch_jobs import StitchingTools
from napari_sam.pipeline.tile_queue import TileQueue
from napari_sam.pipeline.tile_results import TileResults, tile_folder
from napari_sam.pipeline.tile_run import SavedTile
from napari_sam.pipeline.worker import SegmentTile, WorkOrder, leave_token
from napari_sam.tiling import Contrast, TileGrid, tile_grid

PARTS = ("plan", "queue", "dask", "files", "cluster")
TILE, HALO, CHUNK = 384, 64, 512
IN_SLICE = 1000
IN_TILE = {"stack": 100, "slice": 56}
"""Objects that a tile owns. With 56 of them it sees about 100, those in its halo included."""
TASK_MS = (0.2, 1.0)
"""What Dask's documentation says that its scheduler takes for a task ("Best practices")."""
WORKERS = (10, 100, 1000)
SLICES = (1_000, 10_000)
TILE_SECONDS = (8.0, 1.0, 0.1)


# --- plan: synthetic pieces and matches ---------------------------------------------------------


def free_mb() -> float:
    """Return the memory that this machine has left, in MB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("MemAvailable"))


def peak_mb() -> float:
    """Return the peak of this process's resident memory since the last :func:`forget_peak`."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@dataclass
class Stages:
    """Seconds and peak memory of each stage."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    peaks: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        forget_peak()
        begun = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - begun
        self.peaks[name] = max(self.peaks[name], peak_mb())


def made_up(grid: TileGrid, in_tile: int, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return pieces and matches of objects at random places, and how many are to be found.

    An object is in all windows that hold a pixel of it. One in 100, if at most one other tile sees
    it, is missed by the tile that owns its centroid, and so is no object. One in 100 is seen whole
    by no tile.
    """
    rng = np.random.default_rng(seed)
    columns = grid.counts_yx[1]
    owner = np.repeat(np.arange(len(grid), dtype=np.int32), in_tile)
    radius = rng.integers(4, 12, len(owner), dtype=np.int32)
    at = [rng.integers(12, TILE - 12, len(owner), dtype=np.int32) for _ in range(2)]
    towards = []  # -1, 0, 1: the neighbour that sees an object too, along each axis
    for place, number, count in zip(at, divmod(owner, columns), grid.counts_yx, strict=True):
        before = (place - radius < HALO) & (number > 0)
        after = (place + radius > TILE - HALO) & (number < count - 1)
        towards.append(after.astype(np.int32) - before)
    down, across = towards
    is_missed, is_long = rng.integers(0, 100, (2, len(owner)), dtype=np.int8) == 0
    seen = [
        ~is_missed | ((down != 0) & (across != 0)),
        down != 0,
        across != 0,
        (down != 0) & (across != 0),
    ]
    found = int(np.count_nonzero(seen[0]))
    tile = np.concatenate(
        [
            (owner + step)[one]
            for one, step in zip(
                seen, (0, down * columns, across, down * columns + across), strict=True
            )
        ]
    )
    order = np.argsort(tile, kind="stable")
    tile = tile[order]
    label = np.arange(len(tile), dtype=np.int64)
    label -= np.searchsorted(tile, np.arange(len(grid)))[tile] - 1
    object_of = np.concatenate([np.flatnonzero(one).astype(np.int32) for one in seen])[order]
    pieces = np.zeros(len(tile), dtype=PIECE)
    pieces["gid"] = tile.astype(np.int64) << 32 | label
    gid_of = np.zeros((4, len(owner)), dtype=np.uint64)
    starts = np.cumsum([0, *(np.count_nonzero(one) for one in seen)])
    view = np.searchsorted(starts, order, side="right") - 1
    del order, label
    gid_of[view, object_of] = pieces["gid"]
    pieces["score"] = rng.random(len(tile), dtype=np.float32)
    pieces["predicted_iou"] = pieces["stability"] = 0.9
    pieces["owns_centroid"] = view == 0
    pieces["is_truncated"] = is_long[object_of]
    del view
    for axis, place in enumerate(at):
        number = divmod(tile, columns)[axis]
        low = (divmod(owner, columns)[axis] * TILE + place - radius)[object_of]
        high = low + 2 * radius[object_of]
        length = grid.shape_yx[axis]
        window = np.maximum(number * TILE - HALO, 0), np.minimum((number + 1) * TILE + HALO, length)
        pieces["is_truncated"] |= (low < window[0]) | (high > window[1])
        pieces["box"][:, axis] = np.maximum(low, window[0])
        pieces["box"][:, axis + 2] = np.minimum(high, window[1])
    del low, high, window, number, object_of
    matches = np.concatenate(
        [
            gid_of[[i, j]][:, seen[i] & seen[j]].T
            for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
        ]
    )
    return pieces, matches, found


def digest(paintings: Paintings) -> str:
    whole = hashlib.sha256(paintings.gid.view(np.uint8))
    whole.update(paintings.parts.view(np.uint8))
    return whole.hexdigest()


def do_slice(
    grid: TileGrid, in_tile: int, seed: int, offset: int, stages: Stages, check: bool
) -> int:
    """Make ids of one slice; return how many."""
    pieces, matches, n_true = made_up(grid, in_tile, seed)
    stages.seconds["pieces"] += len(pieces)
    stages.seconds["matches"] += len(matches)
    with stages.stage("group"):
        roots = group_pieces(pieces["gid"], matches)
    del roots
    with stages.stage("plan"):
        planned = plan_paintings(pieces, matches, grid.owned)
    if check:
        before = digest(planned)
        del planned
        order = np.random.default_rng(seed).permutation(len(matches))
        planned = plan_paintings(pieces, matches[order][:, ::-1], grid.owned)
        if digest(planned) != before:
            raise SystemExit("The order of the matches changed the objects.")
        del order
    if len(planned) != n_true:
        raise SystemExit(f"{len(planned)} objects were found instead of {n_true}.")
    del pieces, matches  # as in a run
    with stages.stage("blocks"):
        blocks = BlockParts(planned.parts, grid.shape_yx, (CHUNK, CHUNK))
    with stages.stage("choose"):
        counted = []
        for number in range(len(blocks)):
            numbers = np.unique(blocks[number][1]["painting"])
            # every fiftieth is hidden by others
            counted.append(Visibility(numbers, np.where(numbers % 50, 9, 0), numbers * 0 + 9))
        del blocks
        kept = planned.select(choose_kept(counted, len(planned), 1))
    n_hidden = -(-n_true // 50)
    del planned
    if len(kept) != n_true - n_hidden:
        raise SystemExit(f"{len(kept)} objects are left instead of {n_true - n_hidden}.")
    needed = 400 * len(kept) / 1e6
    if needed > free_mb():
        print(f"  notes: left out, they need some {needed:.0f} MB", file=sys.stderr)
        return len(kept)
    with stages.stage("notes"):
        painted = []
        for visible in counted:
            here = np.zeros(len(visible.numbers), dtype=MEASURE)
            here["number"], here["area"] = visible.numbers, visible.visible
            here = here[here["area"] > 0]
            here["number"] -= here["number"] // 50 + 1  # counted among the kept
            painted.append(here)
        del counted, here, visible
        measures = merge_measures(np.concatenate(painted))
        notes = object_notes(kept, measures, offset, grid)
    if not np.array_equal(notes["id"], np.arange(offset + 1, offset + 1 + len(kept))):
        raise SystemExit("Ids do not follow each other.")
    return len(kept)


def grid_of(n_tiles: int) -> TileGrid:
    """Return a grid of so many tiles that is nearly square."""
    rows = max(rows for rows in range(1, int(n_tiles**0.5) + 1) if n_tiles % rows == 0)
    return tile_grid((rows * TILE, n_tiles // rows * TILE), TILE, HALO)


def plan_one(shape: str, n_tiles: int) -> dict[str, Any]:
    """Make ids of all slices in this process."""
    base, stages, n_ids = peak_mb(), Stages(), 0
    grid = grid_of(n_tiles if shape == "slice" else IN_SLICE)
    n_slices = 1 if shape == "slice" else n_tiles // IN_SLICE
    for number in range(n_slices):
        is_checked = shape == "slice" or number < 3
        n_ids += do_slice(grid, IN_TILE[shape], number, n_ids, stages, is_checked)
    counts = {name: int(stages.seconds.pop(name)) for name in ("pieces", "matches")}
    return {
        "tiles": n_slices * len(grid),
        **counts,
        "ids": n_ids,
        "base": base,
        "seconds": stages.seconds,
        "peaks": stages.peaks,
        "pieces at once": counts["pieces"] // n_slices,
    }


def in_process(*arguments: str) -> dict[str, Any]:
    """Run a part of this script in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def part_plan(sizes: list[int]) -> None:
    for shape, title in (("stack", "a stack of slices of 1000 tiles"), ("slice", "one slice")):
        print(f"plan: {title}; each owns {IN_TILE[shape]} objects")
        names = ("group", "plan", "blocks", "choose", "notes")
        print(f"{'tiles':>9s}{'pieces':>11s}{'matches':>11s}{'ids':>11s}", end="")
        print("".join(f"{name + ' s':>10s}" for name in names), end="")
        print("".join(f"{name + ' B':>10s}" for name in names) + f"{'peak MB':>9s}")
        for n_tiles in sizes:
            found = in_process("--one", shape, str(n_tiles))
            line = "".join(
                f"{found[k]:{w}d}" for k, w in zip(COUNTED, (9, 11, 11, 11), strict=True)
            )
            line += "".join(f"{found['seconds'].get(n, np.nan):10.2f}" for n in names)
            for name in names:
                more = found["peaks"].get(name, np.nan) - found["base"]
                line += f"{1e6 * more / found['pieces at once']:10.0f}"
            print(line + f"{max(found['peaks'].values()):9.0f}", flush=True)
    print(
        "B is peak memory over that of Python and its libraries, in bytes for each piece of a slice"
    )


COUNTED = {"tiles": 9, "pieces": 11, "matches": 11, "ids": 11}


# --- queue and dask: jobs of no work -------------------------------------------------------------


class DoneFuture:
    def __init__(self, result: Any) -> None:
        self.result = result

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        callback(self)


@dataclass
class IdleWorkers:
    """Processes that have done everything at once."""

    count: int

    def n_processes(self) -> int:
        return self.count

    def submit(self, job: Any) -> DoneFuture:
        done = SavedTile(job.tile, 0, 0, 0.0) if isinstance(job, SegmentTile) else None
        return DoneFuture(done)

    def result(self, future: DoneFuture) -> Any:
        return future.result

    def problem(self) -> None:
        return None

    def close(self) -> None:
        pass


class NoTiles(TileResults):
    """Tiles of which none is done, without a look at the disk."""

    def known(self) -> dict[int, int | None]:
        return dict.fromkeys(range(len(self._grid)))


def queue_one(n_tiles: int, n_workers: int) -> dict[str, float]:
    grid = grid_of(IN_SLICE)
    queue = TileQueue(IdleWorkers(n_workers))
    numbers = range(n_tiles // len(grid))
    forget_peak()
    before, begun = peak_mb(), time.process_time()
    queue.begin((number, (number,), NoTiles(Path("x"), grid)) for number in numbers)
    n_done = sum(1 for number in numbers for _ in queue.outcomes(number))
    seconds = time.process_time() - begun
    return {"jobs": n_done, "us": 1e6 * seconds / n_done, "MB": peak_mb() - before}


def part_queue(sizes: list[int]) -> None:
    print("queue: jobs given out and taken back by our own code, which no worker does")
    print(f"{'tiles':>9s}{'workers':>9s}{'us a job':>10s}{'jobs/s':>10s}{'more MB':>9s}")
    for n_tiles in sizes:
        for n_workers in (10, 1000):
            row = in_process("--one", "queue", str(n_tiles), str(n_workers))
            print(f"{n_tiles:9d}{n_workers:9d}{row['us']:10.1f}", end="")
            print(f"{1e6 / row['us']:10.0f}{row['MB']:9.1f}", flush=True)


@dataclass(frozen=True)
class Nothing:
    """Finds nothing, in no time."""

    digest: str = "nothing"
    window, keeps_8bit = 48, True

    def __call__(self, tile: np.ndarray) -> TileObjects:
        return TileObjects(np.zeros(tile.shape[:2], np.int32), np.zeros(0, np.float32))


@dataclass(frozen=True)
class NoWork:
    """A job of stitching that is none."""

    def do(self, tools: StitchingTools) -> None:
        return None


def cpu_seconds(pid: int) -> float:
    """Return the processor time that another process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def dask_cluster(folder: Path) -> Iterator[tuple[Path, int]]:
    """Start a scheduler and two workers; give the scheduler's file and process id."""
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "dask"]
    options = ["--scheduler-file", str(file), "--no-dashboard"]
    with ExitStack() as started:

        def start(*arguments: str) -> int:
            process = subprocess.Popen(
                [*command, *arguments, *options], stderr=subprocess.DEVNULL, cwd=folder
            )
            started.callback(process.wait)
            started.callback(process.kill)
            return process.pid

        scheduler = start("scheduler", "--port", "0", "--host", "127.0.0.1")
        while not (file.exists() and file.read_text().endswith("}")):
            time.sleep(0.05)
        for _ in range(2):
            start("worker", "--nthreads", "1", "--no-nanny")
        yield file, scheduler


def dask_one(n_jobs: int) -> dict[str, float]:
    import cloudpickle

    from napari_sam.pipeline.dask_pool import DaskPool

    class WidePool(DaskPool):
        """Gets as many jobs at once as 1000 workers would."""

        def n_processes(self) -> int:
            return max(WORKERS) if is_wide else super().n_processes()

    row: dict[str, float] = {}
    with TemporaryDirectory() as name, dask_cluster(Path(name)) as (file, scheduler):
        source, target = Path(name) / "image.zarr", Path(name) / "labels.zarr"
        side = 32 * int(n_jobs**0.5)
        write_volume(source, (1, side, side))
        config = SegmentConfig(axes="ZYX", dask=str(file), tile=32, halo=8)
        grid = tile_grid((side, side), 32, 8)
        contrast = Contrast((0,), (255,))
        order = WorkOrder(source, target, config, Nothing(), "nothing", grid, contrast, "0" * 64)
        leave_token(target, order.token)
        results = TileResults(tile_folder(target) / "0", grid)
        is_wide = False
        with closing(TileQueue(WidePool(order))) as queue:
            list(queue.run([NoWork()] * 100))  # the workers import everything
            for what in ("nothing, 4 at once", "nothing, 2000 at once", "empty tiles"):
                is_wide = "2000" in what
                begun, busy = time.perf_counter(), (time.process_time(), cpu_seconds(scheduler))
                done: Iterable[Any] = queue.run([NoWork()] * n_jobs)
                if what == "empty tiles":
                    queue.begin([(0, (0,), results)])
                    done = queue.outcomes(0)
                count = sum(1 for _ in done)
                row[f"{what}: jobs/s"] = count / (time.perf_counter() - begun)
                row[f"{what}: client"] = 1e3 * (time.process_time() - busy[0]) / count
                row[f"{what}: scheduler"] = 1e3 * (cpu_seconds(scheduler) - busy[1]) / count
        # a run of a model that the workers load by name sends no segmenter
        named = replace(order, segmenter=None, digest="0" * 64)
        job = SegmentTile(999, (999,), 999, tile_folder(target) / "999")
        row["order"] = len(cloudpickle.dumps(named))
        row["job"] = len(pickle.dumps(job))
        row["answer"] = len(pickle.dumps(SavedTile(999, 100, 0, 8.0)))
    return row


def part_dask(n_jobs: int) -> dict[str, float]:
    row = in_process("--one", "dask", str(n_jobs))
    print("dask: a scheduler, two workers and this client, each a process of its own")
    print(
        f"{'':24s}{'jobs/s':>8s}{'client, ms':>12s}{'scheduler, ms':>15s} of processor time a job"
    )
    for what in [name.removesuffix(": jobs/s") for name in row if name.endswith(": jobs/s")]:
        print(f"{what:24s}{row[what + ': jobs/s']:8.0f}{row[what + ': client']:12.2f}", end="")
        print(f"{row[what + ': scheduler']:15.2f}")
    total = row["order"] + row["job"] + row["answer"]
    print(
        f"  bytes of a job: order {row['order']:.0f} + job {row['job']:.0f} + answer "
        f"{row['answer']:.0f} = {total:.0f}",
        flush=True,
    )
    return row


# --- files: a real run of a few tiles ------------------------------------------------------------


class Calls:
    """Counts what this process asks of the file system, stage by stage."""

    def __init__(self) -> None:
        self.stage = "other"
        self.seconds: Counter[str] = Counter()
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._stat, self._fsync = os.stat, os.fsync
        sys.addaudithook(self._heard)

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        before, self.stage = self.stage, stage
        begun = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - begun
        self.stage = before

    def inside(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            with self.at(stage):
                return function(*args, **options)

        return called

    def counted(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            self.counts[self.stage][what] += 1
            return function(*args, **options)

        return called

    def stop(self) -> dict[str, Counter[str]]:
        """Return what was counted so far, and count for nothing from now on."""
        counts, self.counts = self.counts, defaultdict(Counter)
        return counts

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith("/tmp"):
            flags = arguments[2] or 0
            is_new = flags & (os.O_CREAT | os.O_WRONLY) or "w" in str(arguments[1])
            self.counts[self.stage]["create" if is_new else "open"] += 1
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.scandir"):
            self.counts[self.stage][event[3:]] += 1


OPERATIONS = ("create", "rename", "fsync", "open", "stat", "remove", "scandir")
STAGES = {
    "tile": "read and segment",
    "save": "save the tile",
    "MatchTiles": "match",
    "load_pieces": "load notes",
    "CountVisible": "count",
    "PaintBlocks": "paint",
    "WritePyramid": "pyramid, sync",
    "known": "look for tiles",
    "remove": "remove tiles",
    "other": "all else",
}
SERIAL = ("load_pieces", "WritePyramid", "known", "remove", "other")
"""Stages that go on in one process, or in one job, whatever the number of workers."""


def files_one(side: int) -> dict[str, Any]:
    """Segment discs in two slices; count calls and seconds."""
    calls, sizes = Calls(), []
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "image.zarr", Path(folder) / "labels.zarr"
        write_volume(source, (3, side, side))
        real_save = TileResults.save

        def save(results: TileResults, number: int, *rest: Any) -> None:
            with calls.at("save"):
                real_save(results, number, *rest)
            sizes.append((results.folder / f"{number}.npz").stat().st_size)

        def timed_here(tools: StitchingTools) -> Any:
            def run(jobs: Iterable[Any]) -> Iterator[Any]:
                for job in jobs:
                    with calls.at(type(job).__name__):
                        result = job.do(tools)
                    yield result

            return run

        TileResults.save = save  # type: ignore[method-assign]
        segment.jobs_here = timed_here
        for name in ("known", "load_pieces", "remove"):
            setattr(TileResults, name, calls.inside(name, getattr(TileResults, name)))
        os.stat, os.fsync = calls.counted("stat", os.stat), calls.counted("fsync", os.fsync)
        config = SegmentConfig(axes="ZYX", contrast_limits=(0, 255), tile=TILE, halo=HALO)
        begun, n_tiles, segmenting = time.perf_counter(), 0, 0.0
        for event in segment_volume(source, target, config, FunctionSegmenter(discs, "discs")):
            if type(event).__name__ == "TileDone":
                n_tiles, segmenting = n_tiles + 1, segmenting + event.seconds
            if type(event).__name__ == "SliceDone" and event.slice_number == 0:
                # the first slice imports and makes things: it is not counted
                begun, n_tiles, segmenting = time.perf_counter(), 0, 0.0
                calls.counts.clear(), calls.seconds.clear()
        total, counts = time.perf_counter() - begun, calls.stop()
        files = [path for path in target.rglob("*") if path.is_file()]
        stored = sum(path.stat().st_size for path in files)
    calls.seconds["tile"] = segmenting
    calls.seconds["other"] = total - sum(calls.seconds.values())
    n_all = 3 * n_tiles // 2
    return {
        "tiles": n_all,
        "ms": {k: 1e3 * v / n_tiles for k, v in calls.seconds.items()},
        "calls": {k: {w: n / n_tiles for w, n in v.items()} for k, v in counts.items()},
        "tile bytes": float(np.mean(sizes)),
        "output files": len(files) / n_all,
        "output bytes": stored / n_all,
    }


def part_files(side: int) -> dict[str, Any]:
    found = in_process("--one", "files", str(side))
    print(f"files: a run of {found['tiles']} tiles of {TILE} + 2 x {HALO} pixels, one process")
    print(f"{'a tile':18s}{'ms':>8s}" + "".join(f"{name:>9s}" for name in OPERATIONS))
    for stage, title in STAGES.items():
        counts = found["calls"].get(stage, {})
        print(f"{title:18s}{found['ms'].get(stage, 0):8.2f}", end="")
        print("".join(f"{counts.get(name, 0):9.2f}" for name in OPERATIONS))
    print(f"{'in all':18s}{sum(found['ms'].values()):8.2f}", end="")
    print("".join(f"{calls_of(found, name):9.2f}" for name in OPERATIONS))
    print(
        f"  folder of tiles: 1 file, {found['tile bytes'] / 1e3:.1f} kB a tile; output: "
        f"{found['output files']:.2f} files, {found['output bytes'] / 1e3:.1f} kB a tile",
        flush=True,
    )
    return found


def calls_of(found: dict[str, Any], name: str) -> float:
    return float(sum(counts.get(name, 0) for counts in found["calls"].values()))


# --- cluster: what these figures mean for many workers -------------------------------------------


def part_cluster(dask: dict[str, float], files: dict[str, Any]) -> None:
    client, scheduler = (dask[f"nothing, 2000 at once: {who}"] for who in ("client", "scheduler"))
    ms = files["ms"]
    writes = sum(calls_of(files, name) for name in ("create", "rename", "fsync", "remove"))
    reads = sum(calls_of(files, name) for name in ("open", "stat", "scandir"))
    size = dask["order"] + dask["job"] + dask["answer"]
    print("cluster: computed from the above; how busy one processor of the client is, and of the")
    print(
        "scheduler as measured and as Dask says (0.2 to 1 ms a task); and calls to the file system"
    )
    print(
        f"{'s a tile':>9s}{'workers':>9s}{'tiles/s':>9s}{'client':>9s}{'scheduler':>11s}"
        f"{'Dask says':>13s}{'kB/s':>8s}{'writes/s':>10s}{'reads/s':>9s}{'1e6 tiles, h':>14s}"
    )
    for seconds in TILE_SECONDS:
        for n_workers in WORKERS:
            rate = n_workers / seconds
            says = " - ".join(f"{rate * each / 1e3:.0%}" for each in TASK_MS)
            print(
                f"{seconds:9g}{n_workers:9d}{rate:9.0f}{rate * client / 1e3:9.0%}"
                f"{rate * scheduler / 1e3:11.0%}{says:>13s}{rate * size / 1e3:8.0f}"
                f"{rate * writes:10.0f}{rate * reads:9.0f}{1e6 / rate / 3600:14.1f}"
            )
    print("workers that keep a part busy all the time")
    print(f"{'':9s}{'':8s}{'':13s}{'':14s}{'stitching, by tiles in a slice':>40s}")
    print(
        f"{'s a tile':>9s}{'client':>8s}{'scheduler':>11s}{'Dask says':>16s}"
        + "".join(f"{n:>9d}" for n in SLICES)
        + "".join(f"{f'({n})':>9s}" for n in SLICES)
    )
    stitched = sum(ms[name] for name in ("MatchTiles", "CountVisible", "PaintBlocks"))
    serial = sum(ms.get(name, 0) for name in SERIAL)
    for seconds in TILE_SECONDS:
        says = " - ".join(f"{1e3 * seconds / each:.0f}" for each in reversed(TASK_MS))
        print(f"{seconds:9g}{1e3 * seconds / client:8.0f}", end="")
        print(f"{1e3 * seconds / scheduler:11.0f}{says:>16s}", end="")
        for waits in (4, 0):
            for n_tiles in SLICES:
                busy = (DASK_JOB_SIZE * stitched + n_tiles * serial) / 1e3 + waits * seconds
                print(f"{n_tiles * seconds / busy:9.0f}", end="")
        print()
    print(
        f"  stitching a slice: {DASK_JOB_SIZE} tiles x {stitched:.1f} ms in jobs side by side, its "
        f"tiles x {serial:.1f} ms in one\n  process, and 4 waits for the tile that a worker is at; "
        "in brackets without these waits"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tiles", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--jobs", type=int, default=1_000, help="given to Dask's scheduler")
    parser.add_argument("--side", type=int, default=6 * TILE, help="of the slices for `files`")
    parser.add_argument("--one", nargs="+", help="used by the script itself")
    arguments = parser.parse_args()
    if arguments.one:
        what, *rest = arguments.one
        numbers = [int(number) for number in rest]
        parts = {"queue": queue_one, "dask": dask_one, "files": files_one}
        one: Any = parts[what](*numbers) if what in parts else plan_one(what, *numbers)
        print(json.dumps(one))
        return
    asked = set(arguments.part)
    if "plan" in asked:
        part_plan(arguments.tiles)
    if "queue" in asked:
        part_queue(arguments.tiles)
    if asked & {"dask", "cluster"}:
        dask = part_dask(arguments.jobs)
    if asked & {"files", "cluster"}:
        files = part_files(arguments.side)
    if "cluster" in asked:
        part_cluster(dask, files)


if __name__ == "__main__":
    main()
