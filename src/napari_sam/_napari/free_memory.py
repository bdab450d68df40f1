"""Memory that is free, given back to the system."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

__all__ = ["give_back_free_memory"]


def give_back_free_memory() -> None:
    """Let the system have what this process has freed.

    The GNU C library keeps freed memory apart for each thread that allocated it, and gives back
    only what lies at the end: encoding a few planes left some 400 MB with nobody. It takes some
    milliseconds, during which Python goes on. Other systems' allocators do it by themselves.
    """
    library = _gnu_c_library()
    if library is not None:
        library.malloc_trim(0)


@cache
def _gnu_c_library() -> Any | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None  # musl has none
