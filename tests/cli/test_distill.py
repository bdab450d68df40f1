"""`napari-sam distill` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import exit_code_of
from napari_sam.model import load_model
from napari_sam.training import distillation
from tiny_models import build_small, tiny_sam
from training_data import write_images


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration for small models with random weights."""
    build_small(monkeypatch)
    monkeypatch.setattr(distillation, "load_model", lambda name, device: tiny_sam("vit"))
    write_images(tmp_path / "data", shape_yx=(80, 80))
    path = tmp_path / "run.toml"
    path.write_text(
        'data = "data"\noutput = "run"\nteacher = "vit_b"\niterations = 2\nimages_per_batch = 1\n'
        "objects_per_image = 1\nmask_weight = 0.1\n"
    )
    return path


def test_distill_writes_a_model(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of("distill", config, "--device", "cpu", "--threads", 1) == 0
    shown = capsys.readouterr().out.replace("\n", "")
    assert "1 images, step 0 of 2" in shown
    assert "mask" in shown
    model = tmp_path / "run" / "model.safetensors"
    assert str(model) in shown
    arguments = ("--max-objects", 1, "--no-automatic", "--max-clicks", 5, "--device", "cpu")
    assert exit_code_of("evaluate", model, tmp_path / "data", *arguments) == 0
    assert load_model(model, device="cpu").name == "model"


def test_ctrl_c_keeps_theexit_code_of(
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
    assert exit_code_of("distill", config, "--device", "cpu") == 130
    assert "goes on with it" in capsys.readouterr().out.replace("\n", " ")
    monkeypatch.setattr(distillation, "descend", real)
    assert exit_code_of("distill", config, "--device", "cpu") == 0
    assert "step 1 of 2" in capsys.readouterr().out


def test_a_teacher_that_is_not_there_is_one_message(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "load_model", load_model)
    assert exit_code_of("distill", config, "--device", "cpu") == 2
    assert "napari-sam models download vit_b" in capsys.readouterr().err
