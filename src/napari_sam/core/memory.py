"""Memory that is free, given back to the system; and kept in one place from the start."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

__all__ = ["give_back_free_memory", "keep_freed_memory", "keep_memory_together"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""As the GNU C library names these settings in ``malloc.h``."""

_LARGE = 2**30


def give_back_free_memory() -> None:
    """Let the system have what this process has freed.

    The GNU C library keeps freed memory apart for each thread that allocated it, and gives back
    only what lies at the end: encoding a few planes left some 400 MB with nobody. It takes some
    milliseconds, during which Python goes on. Other systems' allocators do it by themselves.
    """
    library = _gnu_c_library()
    if library is not None:
        library.malloc_trim(0)


def keep_memory_together() -> None:
    """Let all threads of this process allocate from one heap; for processes that are ours alone.

    Reading and writing chunks takes a dozen threads, and the GNU C library would give each a heap
    of its own, with gaps of its own: a fifth of the memory of a run. Must be called before these
    threads are started. Does nothing on other systems.
    """
    library = _gnu_c_library()
    if library is not None:
        library.mallopt(M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Keep what is freed for the next allocation; for processes that are ours alone.

    Training frees and asks for the same large tensors at each step, and the GNU C library would
    give each back to the system and have it cleared page by page: a fifth of a step's time. Does
    nothing on other systems.
    """
    library = _gnu_c_library()
    if library is not None:
        library.mallopt(M_MMAP_THRESHOLD, _LARGE)
        library.mallopt(M_TRIM_THRESHOLD, _LARGE)


@cache
def _gnu_c_library() -> Any | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None  # musl has none
