"""`napari-sam calibrate` from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from command_line import exit_code_of
from napari_sam.evaluation import calibration
from napari_sam.model import load_model
from training_data import write_images


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_images(tmp_path / "data")


def _run(*arguments: object) -> int:
    return exit_code_of("calibrate", *arguments, "--device", "cpu")


def test_a_model_is_written_with_its_map(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "calibrated.safetensors"
    assert _run("compact", data, "--output", output, "--max-objects", 1) == 2
    assert "more images" in capsys.readouterr().err
    assert not output.exists()
    monkeypatch.setattr(calibration, "MIN_MASKS", 8)
    assert _run("compact", data, "--output", output, "--max-objects", 4) == 0
    assert output.name in capsys.readouterr().out.replace("\n", "")
    first = load_model(output, device="cpu").mask_decoder.iou_calibration
    assert first is not None
    # a map is fitted to what the model predicts by itself, whatever map it has
    assert _run(output, data, "--output", output, "--max-objects", 4) == 0
    again = load_model(output, device="cpu").mask_decoder.iou_calibration
    assert again is not None
    np.testing.assert_allclose(first.values, again.values, atol=1e-5)


def test_other_names_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("compact", data, "--output", tmp_path / "model.pt") == 2
    assert ".safetensors" in capsys.readouterr().err
