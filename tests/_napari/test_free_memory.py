"""Free memory goes back to the system, where its allocator has to be asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from napari_sam._napari import free_memory


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_memory_goes_back() -> None:
    kept = []
    freed = []
    for _ in range(20_000):  # small pieces, with one that stays at the end
        freed.append(bytearray(4000))
        kept.append(bytearray(40))
    before = resident_bytes()
    freed.clear()
    free_memory.give_back_free_memory()
    assert len(kept) == 20_000
    assert before - resident_bytes() > 20_000 * 4000 / 4


def test_other_systems_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    free_memory._gnu_c_library.cache_clear()
    monkeypatch.setattr(sys, "platform", "win32")
    free_memory.give_back_free_memory()
    assert free_memory._gnu_c_library() is None
    free_memory._gnu_c_library.cache_clear()
