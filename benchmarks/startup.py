"""Measure what one waits for at the start: imports, help texts, the widgets, and models.

    python benchmarks/startup.py [--repeat 5] [--only import help widget model] [--json FILE]

Each figure is the median of several processes, each of which does one thing once. The files are in
the system's cache by then, so it is the processor that is measured and not the disk.

- import: `import napari_sam`, and what the first use of its parts imports.
- help: `napari-sam --help` and that of each command, with the start of Python.
- widget: in a shown viewer with an image, the import of each widget's module, its construction, and
  the longest time that the window then stood still within three seconds: torch is imported by a
  thread meanwhile. Where no window can be shown they are left out.
- model: `load_model` of the compact model and of random weights of vit_b in three kinds of files,
  the first time and the second in the same process, torch imported before; and by how much memory
  has grown at most. Of it, mapped files are shared by all processes that use them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = {
    "import napari_sam": "import napari_sam",
    "import torch": "import torch",
    "load_model's module": "from napari_sam import load_model",
    "segment_volume's module": "from napari_sam import segment_volume",
}
COMMANDS = ("", "segment", "embed", "link", "models", "train", "evaluate", "demo")
WIDGETS = {
    "Segment by clicks": "segment_widget",
    "Segment everything": "everything_widget",
}
FILES = ("vit_b.safetensors", "vit_b.pth", "vit_b_legacy.pth")
LOOKING_S = 3.0
Row = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts: Mapping[str, Callable[[int], dict[str, Row]]] = {
        "import": imports,
        "help": helps,
        "widget": widgets,
        "model": models,
    }
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # kind and name: this process
    arguments = parser.parse_args()
    if arguments.one:
        kind, name = arguments.one
        print(json.dumps({"widget": one_widget, "model": one_model}[kind](name)))
        return
    results = {}
    for part in arguments.only:
        results[part] = parts[part](arguments.repeat)
        show(part, results[part])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def imports(repeat: int) -> dict[str, Row]:
    """Time imports, each in a process of its own, without the start of Python."""
    code = "import time; t = time.perf_counter(); {}; print((time.perf_counter() - t) * 1e3)"
    return {
        name: medians(repeat, lambda s=statement: {"ms": float(python("-c", code.format(s)))})
        for name, statement in IMPORTS.items()
    }


def helps(repeat: int) -> dict[str, Row]:
    """Time help texts, with the start of Python."""

    def once(words: list[str]) -> Row:
        begun = time.perf_counter()
        python("-m", "napari_sam", *words, "--help")
        return {"ms": (time.perf_counter() - begun) * 1e3}

    return {
        f"napari-sam {command}".strip(): medians(repeat, lambda c=command: once(c.split()))
        for command in COMMANDS
    }


def widgets(repeat: int) -> dict[str, Row]:
    """Time the widgets in windows."""
    sys.path.insert(0, str(ROOT / "tools"))
    from run_tests import screen

    with screen() as environment, TemporaryDirectory() as home:
        if environment is None:
            print("There is no screen to show a window on.", file=sys.stderr)
            return {}
        own = {"NAPARI_SAM_HOME": home, "NAPARI_CONFIG": f"{home}/napari.yaml"}
        return {
            title: medians(repeat, lambda t=title: own_process("widget", t, {**environment, **own}))
            for title in WIDGETS
        }


def models(repeat: int) -> dict[str, Row]:
    """Time the loading of models."""
    with TemporaryDirectory() as folder:
        write_models(Path(folder))
        names = {"compact": "compact", **{name: str(Path(folder) / name) for name in FILES}}
        return {
            shown: medians(repeat, lambda n=name: own_process("model", n, dict(os.environ)))
            for shown, name in names.items()
        }


def write_models(folder: Path) -> None:
    """Save random weights of vit_b in all kinds of files."""
    import torch
    from safetensors.torch import save_file

    from napari_sam.model import build_sam

    torch.manual_seed(0)
    state = dict(build_sam("vit_b").state_dict())
    safetensors, archive, legacy = (folder / name for name in FILES)
    save_file(state, safetensors)
    torch.save(state, archive)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    long_ago = time.time() - 60  # as of files that one has had for a while
    for path in (safetensors, archive, legacy):
        os.utime(path, (long_ago, long_ago))


def one_model(name: str) -> Row:
    """Load a model twice in this process."""
    from napari_sam.model.checkpoints import load_model

    before = memory_mb()
    seconds, kept = [], []
    for _ in range(2):
        begun = time.perf_counter()
        kept.append(load_model(name, device="cpu"))
        seconds.append(time.perf_counter() - begun)
        if len(kept) == 1:
            after = memory_mb()
    return {
        "first ms": seconds[0] * 1e3,
        "second ms": seconds[1] * 1e3,
        "peak MB": after["VmHWM"] - before["VmHWM"],
        "own MB": after["RssAnon"] - before["RssAnon"],
    }


def memory_mb() -> Row:
    """Return the peak of resident memory and what is this process's alone; 0 but on Linux."""
    wanted = {"VmHWM": 0.0, "RssAnon": 0.0}
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    for name, _, rest in (line.partition(":") for line in lines):
        if name in wanted:
            wanted[name] = float(rest.split()[0]) * 1024 / 1e6
    return wanted


def one_widget(title: str) -> Row:
    """Open a widget in a viewer of this process."""
    import importlib
    import warnings

    warnings.simplefilter("ignore")
    import napari
    import numpy as np
    from qtpy.QtWidgets import QApplication

    def work_for(seconds: float) -> float:
        end, longest = time.perf_counter() + seconds, 0.0
        while (begun := time.perf_counter()) < end:
            QApplication.processEvents()
            longest = max(longest, time.perf_counter() - begun)
            time.sleep(0.002)
        return longest

    rng = np.random.default_rng(0)
    viewer = napari.Viewer(show=True)
    viewer.add_image(rng.integers(0, 4096, (512, 512)).astype(np.uint16))
    work_for(1.0)
    times = [time.perf_counter()]
    importlib.import_module(f"napari_sam._napari.{WIDGETS[title]}")
    times.append(time.perf_counter())
    viewer.window.add_plugin_dock_widget("napari-sam", title)
    times.append(time.perf_counter())
    longest = work_for(LOOKING_S)
    viewer.close()
    imported, built = np.diff(times) * 1e3
    return {"import ms": imported, "open ms": built, "still ms": longest * 1e3}


def own_process(kind: str, name: str, environment: Mapping[str, str]) -> Any:
    """Measure one thing in a process of its own."""
    return json.loads(python(__file__, "--one", kind, name, environment=environment))


def python(*words: str, environment: Mapping[str, str] | None = None) -> str:
    """Run Python, and return the last line that it wrote."""
    with ExitStack() as opened:
        quiet = opened.enter_context(Path(os.devnull).open("w"))
        command = [sys.executable, *words]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=quiet, text=True, env=environment
        )
    return done.stdout.strip().splitlines()[-1]


def medians(repeat: int, measure: Callable[[], Row]) -> Row:
    """Measure once to fill the system's cache, then several times; return medians."""
    measure()
    rows = [measure() for _ in range(repeat)]
    return {key: round(statistics.median(row[key] for row in rows), 1) for key in rows[0]}


def show(part: str, rows: dict[str, Row]) -> None:
    if not rows:
        return
    columns = list(next(iter(rows.values())))
    print(f"{part:26s}" + "".join(f"{name:>12s}" for name in columns))
    for name, row in rows.items():
        print(f"{name:26s}" + "".join(f"{row[key]:12g}" for key in columns))
    print(flush=True)


if __name__ == "__main__":
    main()
