"""The command line, called as the shell calls it."""

from __future__ import annotations

import pytest

from napari_sam.cli import main

__all__ = ["exit_code_of"]


def exit_code_of(*words: object) -> int:
    """Run ``napari-sam`` with these words, and return what it ends with."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)
