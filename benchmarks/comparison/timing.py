"""Seconds of several calls that run in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch


class Turns(NamedTuple):
    """What came of calls in turns.

    Attributes
    ----------
    seconds : dict of str to list of float
        Of each call, turn by turn.
    outputs : dict of str to Any
        Of each call in the last turn.
    """

    seconds: dict[str, list[float]]
    outputs: dict[str, Any]


def run_in_turns(
    calls: Mapping[str, Callable[[], Any]], repeats: int, warm_ups: int, device: torch.device
) -> Turns:
    """Run calls one after the other, again and again, so that all see the same machine."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    outputs: dict[str, Any] = {}
    for turn in range(warm_ups + repeats):
        for name, call in calls.items():
            outputs.pop(name, None)  # never two outputs of one call at a time
            outputs[name], elapsed = timed(call, device)
            if turn >= warm_ups:
                seconds[name].append(elapsed)
    return Turns(seconds, outputs)


def timed(call: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """Run a call once; return its output and the seconds until the device was done with it."""
    finish(device)
    begun = time.perf_counter()
    output = call()
    finish(device)
    return output, time.perf_counter() - begun


def finish(device: torch.device) -> None:
    """Wait for all that was given to the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
