"""Free memory goes back to the system, where its allocator has to be asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from napari_sam.core import memory


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
    memory.give_back_free_memory()
    assert len(kept) == 20_000
    assert before - resident_bytes() > 20_000 * 4000 / 4


def test_other_systems_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    memory._gnu_c_library.cache_clear()
    monkeypatch.setattr(sys, "platform", "win32")
    memory.give_back_free_memory()
    memory.keep_memory_together()
    assert memory._gnu_c_library() is None
    memory._gnu_c_library.cache_clear()


HEAPS = """
import ctypes, sys, threading
from napari_sam.core.memory import keep_memory_together
if sys.argv[1] == "together":
    keep_memory_together()
library = ctypes.CDLL(None)
library.malloc.restype = library.fopen.restype = ctypes.c_void_p
library.malloc_info.argtypes = ctypes.c_int, ctypes.c_void_p
library.fclose.argtypes = (ctypes.c_void_p,)
barrier = threading.Barrier(5)
def allocate():
    barrier.wait()
    library.malloc(5000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
barrier.wait()
barrier.wait()
file = library.fopen(sys.argv[2].encode(), b"w")
library.malloc_info(0, file)
library.fclose(file)
for thread in threads:
    thread.join()
"""


@pytest.mark.skipif(memory._gnu_c_library() is None, reason="a setting of the GNU C library")
def test_threads_share_a_heap(tmp_path: Path) -> None:
    counts = []
    for name in ("apart", "together"):
        report = tmp_path / name
        subprocess.run([sys.executable, "-c", HEAPS, name, str(report)], check=True)
        counts.append(report.read_text().count("<heap nr="))
    assert counts[0] > counts[1] == 1
