"""`napari-sam distill` from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam.cli import main
from napari_sam.model import load_model
from napari_sam.training import distillation, synthetic_image
from tiny_models import build_small, tiny_sam


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration for small models with random weights."""
    build_small(monkeypatch)
    monkeypatch.setattr(distillation, "load_model", lambda name, device: tiny_sam("vit"))
    for kind, values in zip(("images", "labels"), _image_and_labels(), strict=True):
        (tmp_path / "data" / kind).mkdir(parents=True)
        Image.fromarray(values).save(tmp_path / "data" / kind / "a.png")
    path = tmp_path / "run.toml"
    path.write_text(
        'data = "data"\noutput = "run"\nteacher = "vit_b"\niterations = 2\nimages_per_batch = 1\n'
        "objects_per_image = 1\nmask_weight = 0.1\n"
    )
    return path


def _image_and_labels() -> tuple[np.ndarray, np.ndarray]:
    image, labels = synthetic_image((80, 80), np.random.default_rng(0), "nuclei")
    return (image // 16).astype(np.uint8), labels.astype(np.uint16)


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_distill_writes_a_model(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("distill", config, "--device", "cpu", "--threads", 1) == 0
    shown = capsys.readouterr().out.replace("\n", "")
    assert "1 images, step 0 of 2" in shown
    assert "mask" in shown
    model = tmp_path / "run" / "model.safetensors"
    assert str(model) in shown
    arguments = ("--max-objects", 1, "--no-automatic", "--max-clicks", 5, "--device", "cpu")
    assert _run("evaluate", model, tmp_path / "data", *arguments) == 0
    assert load_model(model, device="cpu").name == "model"


def test_ctrl_c_keeps_the_run(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = distillation.descend
    calls = []

    def interrupted(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(distillation, "descend", interrupted)
    assert _run("distill", config, "--device", "cpu") == 130
    assert "goes on with it" in capsys.readouterr().out.replace("\n", " ")
    monkeypatch.setattr(distillation, "descend", real)
    assert _run("distill", config, "--device", "cpu") == 0
    assert "step 1 of 2" in capsys.readouterr().out


def test_a_teacher_that_is_not_there_is_one_message(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "load_model", load_model)
    assert _run("distill", config, "--device", "cpu") == 2
    assert "napari-sam models download vit_b" in capsys.readouterr().err
