"""Threads that compute leave something of the processor to the window."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from napari_sam._napari import thread_priority
from napari_sam._napari.thread_priority import spare_a_processor


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let torch use four threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def in_a_thread(work: Callable[[], int]) -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def spare_twice() -> int:
    spare_a_processor()
    spare_a_processor()
    return torch.get_num_threads()


@pytest.mark.parametrize(("processors", "used"), [(1, 1), (2, 1), (4, 3), (16, 4)])
def test_one_processor_is_spared_in_this_thread_alone(
    four_threads: None, monkeypatch: pytest.MonkeyPatch, processors: int, used: int
) -> None:
    monkeypatch.setattr(thread_priority, "_processor_count", lambda: processors)
    assert in_a_thread(spare_twice) == used
    assert torch.get_num_threads() == 4
    assert in_a_thread(torch.get_num_threads) == 4
