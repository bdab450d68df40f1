"""What is measured: a work has sides that do the same, and a check whether they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from comparison.equality import Check
from comparison.scales import Scale

Call = Callable[[], Any]
Ceiling = Literal["matmul", "convolution"]

OURS = "ours"
REFERENCE = "reference"


@dataclass(frozen=True)
class Setting:
    """What holds for all works of a run.

    Parameters
    ----------
    scale : Scale
        How large models and images are.
    device : torch.device
        Where both sides compute.
    seed : int
        Of weights, images and prompts.
    masks : {"regions", "noise"}
        What masks of random weights look like; see `random_models.resemble_trained`.
    peers : bool
        Also measure other implementations, where they are installed.
    """

    scale: Scale
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    masks: Literal["regions", "noise"] = "regions"
    peers: bool = True


@dataclass(frozen=True)
class Target:
    """What a work should reach; None where nothing is asked."""

    ratio: float | None = None
    milliseconds: float | None = None
    share: float | None = None
    memory: float | None = None

    def __str__(self) -> str:
        parts = [
            text.format(value)
            for text, value in (
                ("{:g}x", self.ratio),
                ("{:g} ms", self.milliseconds),
                ("{:.0%} of the ceiling", self.share),
                ("memory {:g}x", self.memory),
            )
            if value is not None
        ]
        return ", ".join(parts)


@dataclass(frozen=True)
class Contest:
    """The sides of a work, ready to run.

    Parameters
    ----------
    sides : mapping of str to callable
        The reference first, where there is one, then ours, then peers.
    check : callable or None
        Compares our output with that of another side.
    flops : callable
        Counts the floating-point operations, a multiplication and an addition as two.
    variants : mapping of str to callable
        Other ways to call ours, timed in the same turns but not compared.
    figures : callable
        Reads further figures from our output.
    """

    sides: Mapping[str, Call]
    check: Callable[[Any, Any], Check] | None
    flops: Callable[[], float]
    variants: Mapping[str, Call] = field(default_factory=dict)
    figures: Callable[[Any], dict[str, float]] = lambda _output: {}

    @property
    def ours(self) -> Call:
        return self.sides[OURS]


@dataclass(frozen=True)
class Work:
    """Something that users wait for.

    Parameters
    ----------
    name, title : str
        Its name on the command line, and what it is.
    target : Target
        What it should reach.
    against : str
        What the reference side is; empty where there is none.
    repeats, warm_ups : int
        Turns that are timed, and turns before them that are not.
    prepare : callable
        Builds the sides.
    ceiling : {"matmul", "convolution"}
        What bounds it, if arithmetic does.
    """

    name: str
    title: str
    target: Target
    against: str
    repeats: int
    prepare: Callable[[Setting], Contest]
    warm_ups: int = 1
    ceiling: Ceiling = "matmul"
