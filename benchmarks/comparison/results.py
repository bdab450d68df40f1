"""What came of a run: the figures that are shown, drawn and written."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from comparison.ceilings import Ceilings
from comparison.contest import OURS, REFERENCE, Work
from comparison.equality import Check
from comparison.memory import Peak
from comparison.shares import Share


@dataclass(frozen=True)
class WorkResult:
    """The figures of one work.

    Parameters
    ----------
    work : Work
        What was measured.
    sides : tuple of str
        The reference, ours, peers.
    seconds : dict of str to list of float
        Of each side and each variant of ours, turn by turn.
    checks : dict of str to Check
        Ours against the reference and peers; without those that cannot be compared.
    flops : float
        Operations of the work.
    ceilings : Ceilings
        What the machine could do at best.
    figures : dict of str to float
        What else the work tells of itself.
    memory : dict of str to Peak
        Peak memory of each side; empty when not measured.
    """

    work: Work
    sides: tuple[str, ...]
    seconds: dict[str, list[float]]
    checks: dict[str, Check]
    flops: float
    ceilings: Ceilings
    figures: dict[str, float] = field(default_factory=dict)
    memory: dict[str, Peak] = field(default_factory=dict)

    @property
    def ours_s(self) -> float:
        return self.median_s(OURS)

    @property
    def others(self) -> list[str]:
        """The reference, where there is one, and peers."""
        return [side for side in self.sides if side != OURS]

    @property
    def variants(self) -> list[str]:
        return [name for name in self.seconds if name not in self.sides]

    @property
    def ratio(self) -> float | None:
        """How many times as long the reference takes."""
        return self.ratio_to(REFERENCE) if REFERENCE in self.sides else None

    @property
    def memory_ratio(self) -> float | None:
        """Memory that ours needs, as a part of what the reference needs."""
        if not {OURS, REFERENCE} <= self.memory.keys():
            return None
        needed = self.memory[REFERENCE].growth_mb
        return self.memory[OURS].growth_mb / needed if needed else None

    @property
    def ceiling_s(self) -> float:
        """Seconds that the operations take at the ceiling."""
        return self.flops * 1e-9 / self.ceilings.gflops(self.work.ceiling)

    @property
    def ceiling_share(self) -> float:
        """The part of ours's time that the operations would take at the ceiling."""
        return self.ceiling_s / self.ours_s

    @property
    def targets_met(self) -> dict[str, bool]:
        """Which targets were reached, of those that there are and that were measured."""
        target = self.work.target
        met: dict[str, bool] = {}
        if target.ratio is not None and self.ratio is not None:
            met["ratio"] = self.ratio >= target.ratio
        if target.milliseconds is not None:
            met["milliseconds"] = 1e3 * self.ours_s <= target.milliseconds
        if target.share is not None:
            met["share"] = self.ceiling_share >= target.share
        if target.memory is not None and self.memory_ratio is not None:
            met["memory"] = self.memory_ratio <= target.memory
        return met

    @property
    def is_equal(self) -> bool:
        return all(check.equal for check in self.checks.values())

    def median_s(self, side: str) -> float:
        return statistics.median(self.seconds[side])

    def ratio_to(self, side: str) -> float:
        return self.median_s(side) / self.ours_s

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        target = {key: v for key, v in asdict(self.work.target).items() if v is not None}
        return {
            "title": self.work.title,
            "against": self.work.against,
            "target": target,
            "targets_met": self.targets_met,
            "median_s": {side: self.median_s(side) for side in self.seconds},
            "ratio": {side: self.ratio_to(side) for side in self.others},
            "equal": {side: asdict(check) for side, check in self.checks.items()},
            "memory": {side: asdict(peak) for side, peak in self.memory.items()},
            "memory_ratio": self.memory_ratio,
            "gflop": self.flops * 1e-9,
            "ceiling": self.work.ceiling,
            "ceiling_share": self.ceiling_share,
            "figures": self.figures,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Run:
    """All that was measured.

    Parameters
    ----------
    machine, settings : dict
        Where, and how.
    ceilings : Ceilings
        What the machine could do at best.
    works : list of WorkResult
        The works, in order.
    shares : list of Share
        What each choice of execution brings; empty when not measured.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    ceilings: Ceilings
    works: list[WorkResult]
    shares: list[Share]

    @property
    def is_equal(self) -> bool:
        """No check has failed."""
        return all(result.is_equal for result in self.works)

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        return {
            "machine": self.machine,
            "settings": self.settings,
            "ceilings": asdict(self.ceilings),
            "works": {result.work.name: result.as_dict() for result in self.works},
            "shares": [asdict(share) | {"slowdown": share.slowdown} for share in self.shares],
        }
