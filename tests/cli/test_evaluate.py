"""What ``napari-sam evaluate`` passes on, and what it refuses before the first image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_sam import model
from napari_sam.cli import main
from napari_sam.evaluation import report
from tiny_models import tiny_sam


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one labelled image."""
    labels = np.zeros((64, 64), np.uint8)
    labels[10:30, 10:30] = 1
    for kind, pixels in (("images", 200 * labels), ("labels", labels)):
        (tmp_path / kind).mkdir()
        Image.fromarray(pixels).save(tmp_path / kind / "cells.png")
    return tmp_path


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Options of each evaluation, by models that are tiny."""
    options: list[dict[str, Any]] = []
    run = report.evaluate

    def note(*args: Any, **given: Any) -> Any:
        options.append(given)
        return run(*args, **given)

    monkeypatch.setattr(report, "evaluate", note)
    monkeypatch.setattr(model, "load_model", lambda name, **_: tiny_sam(name))
    return options


def evaluate(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, words), "--no-interactive"])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("mode", ["proposals", "watershed", "grid"])
def test_the_mode_is_passed_on(mode: str, data: Path, seen: list[dict[str, Any]]) -> None:
    words = ("--mode", mode, *(("--points-per-side", "4") if mode == "grid" else ()))
    assert evaluate("compact", data, *words, "--output", data / "report") == 0
    assert [options["mode"] for options in seen] == [mode]
    assert "SA50" in (data / "report" / "images.csv").read_text()


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (["compact", "--mode", "magic"], "proposals, watershed, grid"),
        (["vit", "--mode", "watershed"], "--mode grid"),
        (["compact", "--mode", "watershed", "--points-per-side", "4"], "--mode grid"),
    ],
)
def test_a_mode_that_does_not_fit_is_one_message(
    words: list[str],
    cure: str,
    data: Path,
    seen: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate(words[0], data, *words[1:]) == 2
    assert cure in capsys.readouterr().err
    assert not seen


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--diameter", "30"], [30.0]),
        (["--diameter", "auto"], ["auto"]),
        (["--diameter", "native"], ["native"]),
        ([], [None, "auto"]),  # for clicks, then for everything
    ],
)
def test_the_diameter_is_passed_on(
    given: list[str], expected: list[Any], data: Path, monkeypatch: Any, seen: Any
) -> None:
    asked: list[Any] = []
    encode, scale_steps = report.SamPredictor.encode, report.scale_steps

    def note(self: Any, image: Any, diameter: Any) -> Any:
        asked.append(diameter)
        return encode(self, image, diameter=diameter)

    def note_scale(sam: Any, pixels: Any, diameter: Any, embedding: Any) -> Any:
        asked.append(diameter)
        assert embedding is not None  # the image is not encoded again at its own scale
        return scale_steps(sam, pixels, diameter, embedding)

    monkeypatch.setattr(report.SamPredictor, "encode", note)
    monkeypatch.setattr(report, "scale_steps", note_scale)
    assert evaluate("compact", data, *given) == 0
    assert asked == expected


def test_models_that_resize_refuse_a_diameter(data: Path, seen: Any, capsys: Any) -> None:
    assert evaluate("vit", data, "--diameter", "30") != 0
    assert "one size" in capsys.readouterr().err
    assert not seen
