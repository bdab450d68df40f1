"""Peak memory of one side of a work, in a process of its own.

Two figures are reported, both for one call with the weights loaded and nothing run before. `growth`
is the peak of the resident memory during the call, less the resident memory right before it: what
the call needs. `peak` is the peak itself, with Python, torch and the weights. On Linux the peak is
VmHWM of /proc/self/status, set back right before the call; elsewhere it is `ru_maxrss` of
`resource.getrusage`, the highest since the process began, so growth can come out too small. On
CUDA, both count what torch has allocated on the device.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from comparison.contest import Setting, Work
from comparison.timing import finish
from napari_sam.core.memory import give_back_free_memory

COMPARE = Path(__file__).resolve().parent.parent / "compare.py"
_PROC = Path("/proc/self")


@dataclass(frozen=True)
class Peak:
    """Megabytes (10**6 bytes) that a call needed, and that its process had at most."""

    growth_mb: float
    peak_mb: float


def measure_apart(work: str, side: str, arguments: Sequence[str]) -> Peak:
    """Measure one side in a fresh process, which is given the same setting by its arguments."""
    command = [sys.executable, str(COMPARE), "--memory-of", work, side, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def measure_here(work: Work, side: str, setting: Setting) -> Peak:
    """Measure one side in this process, of which the peak must not have been higher before."""
    contest = work.prepare(setting)
    call = contest.sides[side]
    del contest  # the other sides' weights go
    gc.collect()
    give_back_free_memory()
    if setting.device.type == "cuda":
        return _on_cuda(call, setting.device)
    return _in_ram(call)


def _in_ram(call: Callable[[], Any]) -> Peak:
    forget_peak()
    before = psutil.Process().memory_info().rss
    output = call()
    peak = peak_bytes()
    del output
    return Peak(max(peak - before, 0) / 1e6, peak / 1e6)


def _on_cuda(call: Callable[[], Any], device: torch.device) -> Peak:
    finish(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    output = call()
    finish(device)
    peak = torch.cuda.max_memory_allocated(device)
    del output
    return Peak((peak - before) / 1e6, peak / 1e6)


def forget_peak() -> None:
    """Let the peak begin anew, where the system can."""
    if sys.platform.startswith("linux"):
        try:
            (_PROC / "clear_refs").write_text("5")
        except OSError:  # some containers forbid it: the peak is that of the whole process
            return


def peak_bytes() -> int:
    """Return the highest resident memory of this process since :func:`forget_peak`."""
    if sys.platform.startswith("linux"):
        lines = (_PROC / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
