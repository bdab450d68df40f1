"""Devices, and torch's errors on their way to a worker."""

from __future__ import annotations

import pytest
import torch

from napari_sam.core.errors import ConfigError, DeviceError, InputError, OutOfMemoryError
from napari_sam.model.devices import resolve_device, translate_torch_errors


def _pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_auto_takes_the_best_device(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, cuda=1, mps=True)
    assert resolve_device("auto") == torch.device("cuda")
    _pretend(monkeypatch, mps=True)
    assert resolve_device("auto") == torch.device("mps")
    _pretend(monkeypatch)
    assert resolve_device() == torch.device("cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps", torch.device("cpu")])
def test_a_present_device_is_taken(
    device: str | torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, cuda=2, mps=True)
    assert resolve_device(device) == torch.device(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_an_absent_device_is_an_error_not_another_device(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch)
    with pytest.raises(DeviceError, match="'cpu' or 'auto'"):
        resolve_device(device)


def test_a_gpu_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, cuda=2)
    with pytest.raises(DeviceError, match="cuda:0 to cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:x", ""])
def test_a_word_that_is_no_device(device: str) -> None:
    with pytest.raises(ConfigError, match=r"'auto', 'cpu', 'cuda'"):
        resolve_device(device)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError("Unable to allocate 8.00 TiB for an array"),
    ],
)
def test_out_of_memory_is_no_runtime_error(error: Exception) -> None:
    with pytest.raises(OutOfMemoryError, match="smaller tiles") as caught, translate_torch_errors():
        raise error
    assert not isinstance(caught.value, RuntimeError)
    assert caught.value.__cause__ is error


def test_a_real_allocation_that_cannot_succeed() -> None:
    with pytest.raises(OutOfMemoryError), translate_torch_errors():
        torch.empty(1 << 60, dtype=torch.uint8)


def test_any_other_torch_error_is_a_device_error() -> None:
    with pytest.raises(DeviceError, match="torch failed: mat1 and mat2"), translate_torch_errors():
        torch.zeros(2, 3) @ torch.zeros(2, 3)


def test_other_exceptions_pass() -> None:
    with pytest.raises(InputError), translate_torch_errors():
        raise InputError("a", rule="b", cure="c")


def test_an_error_without_words_still_says_something() -> None:
    with pytest.raises(DeviceError, match="RuntimeError"), translate_torch_errors():
        raise RuntimeError
