"""Models in memory: shared, loaded once, freed, and on the CPU when the GPU fails."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_sam._napari import loaded_models
from napari_sam._napari.loaded_models import LoadedModels, load_shared_model
from napari_sam.core.errors import CheckpointError, ConfigError, DeviceError, NapariSamWarning
from napari_sam.model import checkpoints, devices


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of weights."""
    path = tmp_path / "mine.pt"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was loaded on which device; what is loaded is a small module."""
    done: list[tuple[str, str]] = []

    def load(name_or_path: str | Path, device: torch.device) -> torch.nn.Module:
        done.append((str(name_or_path), str(device)))
        time.sleep(0.05)
        return torch.nn.Linear(1, 1)

    monkeypatch.setattr(checkpoints, "load_model", load)
    return done


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch believes in a GPU, which computes on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(loaded_models, "_require_right_results", lambda device: None)


def test_one_object_for_all_who_ask(weights: Path, loads: list[Any]) -> None:
    models = LoadedModels()
    first = models.load(str(weights), "cpu")
    assert models.load(weights, "cpu") is first
    assert models.load(weights) is first
    assert models.load(weights.parent / "." / weights.name, "auto") is first
    assert loads == [(str(weights), "cpu")]


def test_two_who_ask_at_once_load_once(weights: Path, loads: list[Any]) -> None:
    models = LoadedModels()
    got: list[object] = []
    threads = [
        threading.Thread(target=lambda: got.append(models.load(weights, "cpu"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len({id(model) for model in got}) == 1


def test_a_model_that_nobody_uses_is_freed(weights: Path, loads: list[Any]) -> None:
    models = LoadedModels()
    gone = weakref.ref(models.load(weights, "cpu"))
    gc.collect()
    assert gone() is None
    models.load(weights, "cpu")
    assert len(loads) == 2


def test_a_file_that_has_changed_is_another_model(weights: Path, loads: list[Any]) -> None:
    models = LoadedModels()
    first = models.load(weights, "cpu")
    os.utime(weights, ns=(1, 1))
    assert models.load(weights, "cpu") is not first
    assert len(loads) == 2


def test_the_bundled_model_is_shared_by_the_process() -> None:
    first = load_shared_model("compact", "cpu")
    assert first.name == "compact"
    assert load_shared_model("compact", "cpu") is first


@pytest.mark.parametrize("name", ["nobody", "vit_h", "/absent/mine.pt"])
def test_a_model_that_is_not_here(name: str) -> None:
    with pytest.raises((ConfigError, CheckpointError)):
        LoadedModels().load(name, "cpu")


def test_a_gpu_with_and_without_number_is_one(gpu: None, weights: Path, loads: list[Any]) -> None:
    models = LoadedModels()
    first = models.load(weights, "cuda")
    assert models.load(weights, "cuda:0") is first
    assert models.load(weights, "auto") is first
    assert models.load(weights, "cpu") is not first


def _fail_on_gpu(name_or_path: object, device: torch.device) -> torch.nn.Module:
    with devices.translate_torch_errors():
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.nn.Linear(1, 1)


def test_automatic_goes_over_to_the_cpu_and_says_so(
    gpu: None, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "load_model", _fail_on_gpu)
    with pytest.warns(NapariSamWarning, match="on the CPU") as caught:
        sam = LoadedModels().load(weights, "auto")
    assert next(sam.parameters()).device.type == "cpu"
    assert "CUDA out of memory" in str(caught[0].message)


def test_a_gpu_that_was_asked_for_is_not_replaced(
    gpu: None, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "load_model", _fail_on_gpu)
    with pytest.raises(DeviceError, match="out of memory"):
        LoadedModels().load(weights, "cuda")


def test_a_failure_on_the_cpu_is_not_tried_again(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def fail(name_or_path: object, device: torch.device) -> None:
        tries.append(str(device))
        raise DeviceError("a", rule="b", cure="c")

    monkeypatch.setattr(checkpoints, "load_model", fail)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError):
        LoadedModels().load(weights, "auto")
    assert tries == ["cpu"]


class _WrongDevice:
    """Stands for a device: arrays that go there are changed on the way."""

    type = "mps"

    def __str__(self) -> str:
        return self.type


def test_a_gpu_that_torch_is_not_built_for_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: torch.Tensor, kernel: torch.Tensor) -> None:
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.nn.functional, "conv2d", fail)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor)
    with pytest.raises(DeviceError, match="torch failed"):
        loaded_models._require_right_results(_WrongDevice())


@pytest.mark.parametrize("factor", [1.0, 0.0, float("nan")])
def test_wrong_numbers_of_a_device_are_found_out(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    move = torch.Tensor.to

    def to(tensor: torch.Tensor, device: Any) -> torch.Tensor:
        return tensor * factor if isinstance(device, _WrongDevice) else move(tensor, device)

    monkeypatch.setattr(torch.Tensor, "to", to)
    if factor == 1.0:
        loaded_models._require_right_results(_WrongDevice())
    else:
        with pytest.raises(DeviceError, match="'mps' differs from the CPU"):
            loaded_models._require_right_results(_WrongDevice())
