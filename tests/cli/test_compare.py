"""`napari-sam compare` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import exit_code_of
from napari_sam.evaluation import ImageScores, write_report


def _run(*arguments: object) -> int:
    return exit_code_of("compare", *arguments)


def test_differences_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, box in (("before", 0.5), ("after", 0.625)):
        results = [ImageScores("a", "nuclei", {"box": box}), ImageScores(name, "axons", {})]
        write_report(tmp_path / name, results)
    assert _run(tmp_path / "before", tmp_path / "after") == 0
    shown = capsys.readouterr().out
    assert "(+0.125 to +0.125)" in shown
    assert "1 images in both, 2 only in one" in shown
    assert _run(tmp_path / "before", tmp_path) == 2
    assert "evaluate --output" in capsys.readouterr().err
