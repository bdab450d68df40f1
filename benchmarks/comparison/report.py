"""A run as a table on the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from comparison.contest import OURS, REFERENCE
from comparison.results import Run, WorkResult

WORK_COLUMNS = ("work", "target", "reference", "ours", "ratio", "equal", "what bounds it")
MEMORY_COLUMNS = ("work", "side", "needed", "peak", "ours / side")
SHARE_COLUMNS = ("work", "switched off", "with it", "without it", "times as slow")
MIN_WIDTH = 150
"""Columns of output that goes to a file."""
Rows = list[tuple[str, ...]]


class _Table(NamedTuple):
    title: str
    columns: tuple[str, ...]
    rows: Rows


def print_run(run: Run) -> None:
    """Print all tables on the terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=MIN_WIDTH)
    console.print(machine_line(run), highlight=False)
    for title, columns, rows in _tables(run):
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in notes(run):
        console.print(line, highlight=False)


def write_json(run: Run, path: Path) -> None:
    path.write_text(json.dumps(run.as_dict(), indent=2) + "\n", encoding="utf-8")


def write_markdown(run: Run, path: Path) -> None:
    """Write tables as the documentation has them."""
    parts = [machine_line(run)]
    for _title, columns, rows in _tables(run):
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        parts.append("\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]))
    path.write_text("\n\n".join([*parts, *notes(run)]) + "\n", encoding="utf-8")


def _tables(run: Run) -> list[_Table]:
    tables = [
        _Table("Ours and the references", WORK_COLUMNS, work_rows(run)),
        _Table("Memory of a call", MEMORY_COLUMNS, memory_rows(run)),
        _Table("What each choice brings", SHARE_COLUMNS, share_rows(run)),
    ]
    return [table for table in tables if table.rows]


def machine_line(run: Run) -> str:
    """Tell in a sentence where this was measured."""
    machine, best = run.machine, run.ceilings
    return (
        f"{machine['processor']}, {machine['device']}, threads: {machine['threads']}, "
        f"torch {machine['torch']}. At best {best.matmul_gflops:.0f} GFLOP/s in matrix products, "
        f"{best.convolution_gflops:.0f} GFLOP/s in convolutions, {best.copy_gbs:.1f} GB/s copied."
    )


def work_rows(run: Run) -> Rows:
    """Return a row for each work, and one more for each peer that it was compared with."""
    rows: Rows = []
    for result in run.works:
        rows.append(_main_row(result))
        rows += [_peer_row(result, peer) for peer in result.others if peer != REFERENCE]
    return rows


def _main_row(result: WorkResult) -> tuple[str, ...]:
    work = result.work
    reference = f"{duration(result.median_s(REFERENCE))} ({work.against})" if work.against else "–"
    ratio = "–" if result.ratio is None else f"{result.ratio:.2f}x"
    return (
        f"{work.name}: {work.title}",
        str(work.target),
        reference,
        duration(result.ours_s) + _missed(result, "milliseconds"),
        ratio + _missed(result, "ratio"),
        _equality(result, REFERENCE),
        bound(result),
    )


def _peer_row(result: WorkResult, peer: str) -> tuple[str, ...]:
    return (
        f"{result.work.name}",
        "",
        f"{duration(result.median_s(peer))} ({peer})",
        duration(result.ours_s),
        f"{result.ratio_to(peer):.2f}x",
        _equality(result, peer),
        "",
    )


def _missed(result: WorkResult, target: str) -> str:
    return "" if result.targets_met.get(target, True) else " (missed)"


def _equality(result: WorkResult, side: str) -> str:
    if side not in result.checks:
        return "not compared" if side in result.sides else "–"
    check = result.checks[side]
    return f"yes, to {check.largest:.0e}" if check.equal else "NO"


def bound(result: WorkResult) -> str:
    """Tell how much of the time is arithmetic, at the ceiling of this machine."""
    gflop, kind = result.flops * 1e-9, result.work.ceiling
    return (
        f"{gflop:.3g} GFLOP, {duration(result.ceiling_s)} at the {kind} ceiling: "
        f"{result.ceiling_share:.0%} of the time{_missed(result, 'share')}"
    )


def memory_rows(run: Run) -> Rows:
    """Return a row for each work and side: what the call needs, and the process's peak."""
    rows: Rows = []
    for result in run.works:
        for side, peak in result.memory.items():
            ours = result.memory[OURS].growth_mb
            ratio = f"{ours / peak.growth_mb:.2f}x" if side != OURS and peak.growth_mb else ""
            ratio += _missed(result, "memory") if side == REFERENCE else ""
            needed, total = f"{peak.growth_mb:.0f} MB", f"{peak.peak_mb:.0f} MB"
            rows.append((result.work.name, side, needed, total, ratio))
    return rows


def notes(run: Run) -> list[str]:
    """Tell what has no column: variants of ours, figures of a work, too large differences."""
    lines = []
    for result in run.works:
        parts = [f"{name} {duration(result.median_s(name))}" for name in result.variants]
        parts += [f"{name} {value:.4g}" for name, value in result.figures.items()]
        for side, check in result.checks.items():
            if not check.equal:
                figures = ", ".join(f"{key} {value:.4g}" for key, value in check.figures.items())
                parts.append(f"NOT EQUAL to {side} ({figures or 'other shapes'})")
        if parts:
            lines.append(f"{result.work.name}: {'; '.join(parts)}.")
    return lines


def share_rows(run: Run) -> Rows:
    """Return a row for each work and choice."""
    return [
        (
            share.work,
            share.switched_off,
            duration(share.with_it_s),
            duration(share.without_it_s),
            f"{share.slowdown:.2f}x",
        )
        for share in run.shares
    ]


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
