"""`napari-sam train` and `napari-sam evaluate` from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import exit_code_of
from napari_sam.training import Measured, Offered, TrainConfig, fine_tuning
from napari_sam.training import loop as loop_module
from napari_sam.training.fine_tuning import FineTuneEvent
from napari_sam.training.start import Start
from tiny_models import tiny_sam
from training_data import write_images


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_images(tmp_path / "data", shape_yx=(80, 80))


@pytest.fixture
def config(tmp_path: Path, data: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(
        'data = "data"\noutput = "run"\niterations = 2\ncrop_size = 64\nimages_per_batch = 1\n'
        "objects_per_image = 1\nmax_rounds = 2\nvalidate_every = 2\n"
    )
    return path


def test_train_then_evaluate(
    config: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of("train", config, "--device", "cpu", "--threads", 1) == 0
    assert "model.safetensors (step 2)" in capsys.readouterr().out.replace("\n", "")
    model = tmp_path / "run" / "model.safetensors"
    arguments = ("--max-objects", 2, "--max-clicks", 5, "--points-per-side", 4)
    report = tmp_path / "report"
    assert (
        exit_code_of("evaluate", model, data, *arguments, "--device", "cpu", "--output", report)
        == 0
    )
    shown = capsys.readouterr().out
    assert "SA50" in shown
    assert "box_click" in shown
    assert "calibration_error" in shown
    assert (report / "summary.json").exists()
    assert (report / "reliability.png").exists()


def test_ctrl_c_keeps_theexit_code_of(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        loop_module, "build_start_model", lambda name: Start(tiny_sam("compact").train(), {})
    )
    real = loop_module.training_losses
    calls = []

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop_module, "training_losses", interrupted)
    assert exit_code_of("train", config, "--device", "cpu") == 130
    assert "goes on with it" in capsys.readouterr().out.replace("\n", " ")
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    monkeypatch.setattr(loop_module, "training_losses", real)
    assert exit_code_of("train", config, "--device", "cpu") == 0
    assert "step 1 of 2" in capsys.readouterr().out


def test_wrong_input_is_one_message(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of("train", tmp_path / "absent.toml") == 2
    assert "TOML" in capsys.readouterr().err
    assert exit_code_of("evaluate", "vit_bb", data) == 2
    assert "vit_b" in capsys.readouterr().err
    assert exit_code_of("evaluate", "compact", tmp_path / "absent") == 2
    assert "no labelled images" in capsys.readouterr().err


@pytest.mark.parametrize("gain", [0.1, -0.1])
def test_a_folder_is_fine_tuned_on(
    data: Path,
    tmp_path: Path,
    gain: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[TrainConfig] = []

    def fake(config: TrainConfig) -> Iterator[FineTuneEvent]:
        asked.append(config)
        yield Measured("before", {"click": 0.5, "box": 0.6}, 1)
        yield Measured("after", {"click": 0.5 + gain, "box": 0.6, "mSA": 0.25}, 1)
        yield Offered(tmp_path / "model.safetensors", {"click": gain, "box": 0.0})

    monkeypatch.setattr(fine_tuning, "fine_tune", fake)
    output = tmp_path / "mine"
    options = ("--parts", "decoder", "--iterations", 7, "--output", output, "--device", "cpu")
    assert exit_code_of("train", data, *options) == 0
    (config,) = asked
    assert (config.data, config.output) == (str(data), str(output))
    assert (config.train_parts, config.iterations) == ("decoder", 7)
    shown = capsys.readouterr().out
    assert f"{gain:+.3f}" in shown
    assert "0.250" in shown
    assert ("no better" in shown) == (gain < 0)


def test_data_and_a_folder_are_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("train", data, "--data", data) != 0
    assert "--data" in capsys.readouterr().err


def test_a_configuration_can_start_from_another_model(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrainConfig] = []
    monkeypatch.setattr("napari_sam.training.train", lambda given: asked.append(given) or iter(()))
    assert exit_code_of("train", config, "--from", "compact", "--iterations", 9) == 0
    assert asked[0].iterations == 9
    assert asked[0].model.endswith("compact.safetensors")
