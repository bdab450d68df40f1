"""What each choice of `napari_sam.model.execution` brings: works with one of them switched off."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from comparison.contest import Setting, Work
from comparison.timing import run_in_turns
from napari_sam.model.execution import Execution, execution_for, execution_override

_DECODER = ("click", "boxes", "everything-sparse", "everything-all", "compact-click")
_EVERYTHING = ("everything-sparse", "everything-all")
WORKS = {
    "shares_image": _DECODER,
    "folds_projections": _DECODER,
    "strip_tokens": _DECODER,
    "scores_first": _EVERYTHING,
    "upsamples_in_regions": _DECODER,
    "attention_queries": ("vit_b",),
    "mlp_tokens": ("vit_b", "vit_t"),
    "conv_rows": ("vit_t",),
    "folds_norms": ("vit_t", "compact-embedding"),
    "fuses_activations": ("vit_b", "vit_t"),
}
"""Works that a choice can change; a choice that is not here is tried with all."""
POINTS_PER_SIDE = 8
"""Points along a side when everything is segmented: a share is the same with more."""


@dataclass(frozen=True)
class Share:
    """How much slower a work is without one choice."""

    work: str
    switched_off: str
    with_it_s: float
    without_it_s: float

    @property
    def slowdown(self) -> float:
        return self.without_it_s / self.with_it_s


def switches(device: torch.device) -> dict[str, Any]:
    """Return the choices that a device has, with the values that switch them off.

    These are the boolean ones, and those that can be None.
    """
    usual = execution_for(device)
    off: dict[str, Any] = {}
    for field in dataclasses.fields(Execution):
        value, kind = getattr(usual, field.name), str(field.type)
        if value is True:
            off[field.name] = False
        elif value is not None and "None" in kind:
            off[field.name] = None
    return off


@contextmanager
def all_switched_off(device: torch.device) -> Iterator[None]:
    """Compute plainly inside the block."""
    with execution_override(**switches(device)):
        yield


def measure_shares(work: Work, setting: Setting, repeats: int) -> list[Share]:
    """Run ours with each choice switched off, in turns with all of them on."""
    scale = setting.scale
    points = min(scale.points_per_side, POINTS_PER_SIDE)
    smaller = dataclasses.replace(scale, points_per_side=points)
    setting = dataclasses.replace(setting, scale=smaller, peers=False)
    usual = work.prepare(setting).ours
    return [
        _measure(work, setting, usual, name, value, repeats)
        for name, value in switches(setting.device).items()
        if work.name in WORKS.get(name, (work.name,))
    ]


def _measure(
    work: Work, setting: Setting, usual: Any, name: str, value: Any, repeats: int
) -> Share:
    with execution_override(**{name: value}):  # some choices are made when a model is loaded
        prepared = work.prepare(setting).ours

    def without() -> Any:
        with execution_override(**{name: value}):
            return prepared()

    calls = {"with": usual, "without": without}
    seconds = run_in_turns(calls, repeats, 1, setting.device).seconds
    return Share(
        work.name, name, statistics.median(seconds["with"]), statistics.median(seconds["without"])
    )
