"""The command line, and the order in which things are measured."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from comparison import compact_works, decoder_works, encoder_works, everything_works, memory
from comparison.ceilings import Ceilings, measure_ceilings
from comparison.contest import Setting, Work
from comparison.plot import plot_ratios
from comparison.report import print_run, write_json, write_markdown
from comparison.requirements import (
    MissingReferenceError,
    require_references,
    torchvision_version,
)
from comparison.results import Run, WorkResult
from comparison.scales import FULL, QUICK, tiny_scale
from comparison.shares import Share, measure_shares
from comparison.timing import run_in_turns

WORKS: dict[str, Work] = {
    work.name: work
    for work in (
        decoder_works.CLICK,
        decoder_works.BOXES,
        everything_works.SPARSE,
        everything_works.ALL,
        encoder_works.VIT_B,
        encoder_works.VIT_T,
        compact_works.EMBEDDING,
        compact_works.CLICK,
    )
}
SHARE_REPEATS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        require_references()
    except MissingReferenceError as error:
        print(error, file=sys.stderr)
        return 2
    # Once, before anything is computed: oneDNN keeps the number that a convolution first had.
    torch.set_num_threads(options.threads)
    setting = _setting(options)
    if options.memory_of:
        work, side = options.memory_of
        print(json.dumps(asdict(memory.measure_here(WORKS[work], side, setting))))
        return 0
    run = measure(options, setting)
    print_run(run)
    for path, write in (
        (options.json, write_json),
        (options.markdown, write_markdown),
        (options.plot, plot_ratios),
    ):
        if path is not None:
            write(run, path)
    return 0 if run.is_equal else 1


def measure(options: argparse.Namespace, setting: Setting) -> Run:
    """Measure all that was asked for."""
    works = [WORKS[name] for name in options.only]
    shrink = 8 if setting.scale.is_test else 1
    ceilings = measure_ceilings(setting.device, shrink)
    results = [_measure_work(work, setting, options, ceilings) for work in works]
    shares: list[Share] = []
    for work in works if options.shares else ():
        _tell(f"{work.name}: with one choice switched off at a time")
        repeats = _repeats(options, work, setting, default=SHARE_REPEATS)
        shares += measure_shares(work, setting, repeats)
    ceilings = ceilings.at_best(measure_ceilings(setting.device, shrink))
    results = [dataclasses.replace(result, ceilings=ceilings) for result in results]
    return Run(_machine(options), _settings(options, setting), ceilings, results, shares)


def _measure_work(
    work: Work, setting: Setting, options: argparse.Namespace, ceilings: Ceilings
) -> WorkResult:
    repeats = _repeats(options, work, setting)
    _tell(f"{work.name}: {work.title}, {repeats} times")
    contest = work.prepare(setting)
    calls = {**contest.sides, **contest.variants}
    seconds, outputs = run_in_turns(calls, repeats, work.warm_ups, setting.device)
    mine = outputs["ours"]
    result = WorkResult(
        work=work,
        sides=tuple(contest.sides),
        seconds=seconds,
        checks={
            side: contest.check(mine, outputs[side])
            for side in contest.sides
            if contest.check and side != "ours" and outputs[side] is not None
        },
        flops=contest.flops(),
        ceilings=ceilings,
        figures=contest.figures(mine),
    )
    del contest, calls, outputs, mine  # make room for the processes that measure memory
    if options.memory:
        result.memory.update(_measure_memory(result, options))
    return result


def _measure_memory(result: WorkResult, options: argparse.Namespace) -> dict[str, memory.Peak]:
    peaks = {}
    for side in result.sides:
        _tell(f"{result.work.name}: memory of {side}")
        peaks[side] = memory.measure_apart(result.work.name, side, _same_setting(options))
    return peaks


def _repeats(
    options: argparse.Namespace, work: Work, setting: Setting, default: int | None = None
) -> int:
    """How often a work runs: as asked for, for this work before all works; else as it suits it."""
    usual = min(default or work.repeats, setting.scale.most_repeats)
    asked: dict[str, int] = dict(options.repeats)
    return asked.get(work.name, asked.get("", usual))


def _setting(options: argparse.Namespace) -> Setting:
    scale = {"full": FULL, "quick": QUICK}.get(options.scale) or tiny_scale()
    if options.points_per_side is not None:
        scale = dataclasses.replace(scale, points_per_side=options.points_per_side)
    device = torch.device(options.device)
    if device.type == "cuda":  # both sides in full single precision, or they could not be compared
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return Setting(scale, device, options.seed, options.masks, options.peers)


def _same_setting(options: argparse.Namespace) -> list[str]:
    """Return the arguments that give another process the same setting."""
    arguments = [f"--scale={options.scale}", f"--device={options.device}"]
    arguments += [f"--seed={options.seed}", f"--masks={options.masks}"]
    arguments += [f"--threads={options.threads}"]
    if options.points_per_side is not None:
        arguments.append(f"--points-per-side={options.points_per_side}")
    return arguments if options.peers else [*arguments, "--no-peers"]


def _machine(options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "on the CPU"
    return {
        "processor": _processor(),
        "device": name,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision_version(),
    }


def _processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _settings(options: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    return {
        "scale": asdict(setting.scale),
        "seed": options.seed,
        "masks": options.masks,
        "repeats": dict(options.repeats),
    }


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _number_of_repeats(text: str) -> tuple[str, int]:
    """Read ``5``, for all works, or ``click=5``."""
    name, _, number = text.rpartition("=")
    if (name and name not in WORKS) or not number.isdigit() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor WORK=number")
    return name, int(number)


def _parser() -> argparse.ArgumentParser:
    works = "\n".join(
        f"  {work.name:18s} {work.title}; target {work.target}" for work in WORKS.values()
    )
    parser = argparse.ArgumentParser(
        description="Measure napari_sam against the reference implementations.",
        epilog=f"works:\n{works}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=WORKS, default=list(WORKS), metavar="WORK")
    add(
        "--repeats",
        nargs="+",
        type=_number_of_repeats,
        default=[],
        metavar="[WORK=]N",
        help="turns of all works, or of one; without it as suits each work",
    )
    add("--points-per-side", type=int, metavar="N", help="of the grid; 32 unless --quick")
    add(
        "--scale",
        choices=("full", "quick", "tiny"),
        default="full",
        help="quick: a small grid, two turns; tiny: small models too, to try the command",
    )
    add("--quick", dest="scale", action="store_const", const="quick", help="--scale quick")
    add(
        "--masks",
        choices=("regions", "noise"),
        default="regions",
        help="what masks of random weights look like",
    )
    add("--threads", type=int, default=torch.get_num_threads(), metavar="N")
    add("--device", default="cpu", help="of all sides: cpu or cuda")
    add("--seed", type=int, default=0, metavar="N")
    add("--shares", action="store_true", help="also switch off one choice of execution at a time")
    add("--no-peers", dest="peers", action="store_false", help="without transformers")
    add(
        "--no-memory",
        dest="memory",
        action="store_false",
        help="without the processes that measure memory; they run each side once more",
    )
    for kind in ("json", "markdown", "plot"):
        add(f"--{kind}", type=Path, metavar="FILE")
    add("--memory-of", nargs=2, metavar=("WORK", "SIDE"), help=argparse.SUPPRESS)
    return parser
