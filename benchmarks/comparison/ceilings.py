"""What this machine could do at best, in the same process with the same threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn

from comparison.timing import timed

MATMULS = ((4096, 768, 3072), (4096, 3072, 768), (4096, 768, 768), (1024, 1024, 1024))
"""Rows, inner size and columns: the linear layers of vit_b, and a square."""
CONVOLUTIONS = ((48, 128), (96, 64), (128, 64), (160, 32))
"""Channels and side of maps that the compact model convolves by 3 x 3."""
COPIED_BYTES = 2**28
TRIES = 5


@dataclass(frozen=True)
class Ceilings:
    """The best of several tries.

    Parameters
    ----------
    matmul_gflops, convolution_gflops : float
        Operations in a second, in single precision.
    copy_gbs : float
        Gigabytes in a second, read and written ones both counted.
    """

    matmul_gflops: float
    convolution_gflops: float
    copy_gbs: float

    def at_best(self, other: Ceilings) -> Ceilings:
        """Take the better of each; other programs on a machine only ever make it slower."""
        mine, theirs = asdict(self), asdict(other)
        return Ceilings(**{name: max(value, theirs[name]) for name, value in mine.items()})

    def gflops(self, kind: str) -> float:
        return self.matmul_gflops if kind == "matmul" else self.convolution_gflops


def measure_ceilings(device: torch.device, shrink: int = 1) -> Ceilings:
    """Measure all; `shrink` divides sizes, to try the tool."""
    with torch.inference_mode():
        return Ceilings(
            max(_matmul([size // shrink for size in sizes], device) for sizes in MATMULS),
            max(_convolution(dim, side // shrink, device) for dim, side in CONVOLUTIONS),
            _copy(COPIED_BYTES // shrink**2, device),
        )


def _best_seconds(call: Callable[[], object], device: torch.device) -> float:
    call()
    return min(timed(call, device)[1] for _ in range(TRIES))


def _matmul(sizes: Sequence[int], device: torch.device) -> float:
    rows, inner, columns = sizes
    a, b = torch.randn(rows, inner, device=device), torch.randn(inner, columns, device=device)
    out = torch.empty(rows, columns, device=device)
    seconds = _best_seconds(lambda: torch.mm(a, b, out=out), device)
    return 2e-9 * rows * inner * columns / seconds


def _convolution(dim: int, side: int, device: torch.device) -> float:
    layer = nn.Conv2d(dim, dim, 3, padding=1, bias=False).to(device)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(1, dim, side, side, device=device).to(memory_format=torch.channels_last)
    return 2e-9 * 9 * dim**2 * side**2 / _best_seconds(lambda: layer(x), device)


def _copy(n_bytes: int, device: torch.device) -> float:
    source = torch.ones(n_bytes // 4, device=device)
    target = torch.zeros_like(source)
    return 2e-9 * n_bytes / _best_seconds(lambda: target.copy_(source), device)
