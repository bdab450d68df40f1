"""What threads leave to the window, which has to be drawn while they compute."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

__all__ = ["spare_a_processor", "stand_back"]

_NICENESS = 10
_this_thread = threading.local()


def stand_back() -> None:
    """Leave the processor to the window whenever it has something to do.

    Linux gives each thread a niceness of its own, and a thread that is started inherits it: so do
    torch's helpers, as each thread that computes starts its own. Elsewhere the niceness is that of
    the whole program, and nothing is done.
    """
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    with suppress(OSError):
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, niceness)


def spare_a_processor() -> None:
    """Let torch use all processors but one in this thread, once and for good.

    On the CPU, torch's helpers meet after each of hundreds of short operations. Where the window is
    drawn on a processor that one of them was given, all the others wait for it each time: on two
    processors, a click took longer with two than with one.
    """
    if getattr(_this_thread, "has_spared", False):
        return
    _this_thread.has_spared = True
    import torch

    everywhere = torch.get_num_threads()
    here = min(everywhere, max(_processor_count() - 1, 1))
    if here < everywhere:
        torch.set_num_threads(here)
        # this thread keeps its number, and those that start later take the one that was set last
        setter = threading.Thread(target=torch.set_num_threads, args=(everywhere,))
        setter.start()
        setter.join()


def _processor_count() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
