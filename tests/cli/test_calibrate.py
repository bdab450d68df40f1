"""`napari-sam calibrate` from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam.cli import main
from napari_sam.evaluation import calibration
from napari_sam.model import load_model
from napari_sam.training import synthetic_image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    image, labels = synthetic_image((96, 96), np.random.default_rng(0), "nuclei")
    Image.fromarray((image // 16).astype(np.uint8)).save(folder / "images" / "a.png")
    Image.fromarray(labels.astype(np.uint16)).save(folder / "labels" / "a.png")
    return folder


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", *(str(argument) for argument in arguments), "--device", "cpu"])
    return int(ended.value.code or 0)


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
