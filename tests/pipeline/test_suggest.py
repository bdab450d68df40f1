"""Suggestions fit the objects, the segmenter and the machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psutil
import pytest

from map_model import map_sam
from napari_sam.core.steps import result_of
from napari_sam.pipeline import AutomaticOptions, FunctionSegmenter, ModelSegmenter, suggest
from napari_sam.pipeline.segmenters import TileObjects
from napari_sam.pipeline.suggest import suggest_batch, suggest_halo, suggest_workers


def with_objects(*sides: int) -> np.ndarray:
    labels = np.zeros((512, 512), np.int32)
    for number, side in enumerate(sides):
        labels[5 * number, :side] = number + 1
    return labels


def test_the_halo_holds_the_objects() -> None:
    assert suggest_halo(with_objects(20, 45, 50), 512) == (64, 50)
    assert suggest_halo(with_objects(64), 512) == (64, 64)
    assert suggest_halo(with_objects(65), 512) == (80, 65)
    assert suggest_halo(with_objects(3), 512) == (32, 3)


def test_a_clump_among_many_does_not_count_and_a_tile_is_left() -> None:
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((20, 20))).astype(np.int32)
    labels[:60, :60] = 1
    assert suggest_halo(labels, 512) == (32, 20)
    assert suggest_halo(with_objects(500), 512) == (192, 500)
    assert suggest_halo(with_objects(), 512) == (64, 0)
    assert suggest_halo(with_objects(), 40) == (15, 0)


class Batched:
    """Takes as long as its batch says, on a clock of its own."""

    window, keeps_8bit, digest, device = 64, False, "batched", "cpu"

    def __init__(self, seconds: Callable[[int], float], clock: list[float], batch: int) -> None:
        self._seconds, self._clock, self.batch = seconds, clock, batch

    def with_batch(self, batch: int) -> Batched:
        return Batched(self._seconds, self._clock, batch)

    def __call__(self, tile: np.ndarray) -> TileObjects:
        self._clock[0] += self._seconds(self.batch)
        return TileObjects(np.zeros(tile.shape[:2], np.int32), np.zeros(0, np.float32))


@pytest.mark.parametrize(
    ("seconds", "best"),
    [(lambda batch: batch, 8), (lambda batch: 64 / batch, 32), (lambda batch: 16 + batch / 99, 16)],
)
def test_the_quickest_batch_is_suggested(
    seconds: Callable[[int], float], best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("napari_sam.core.steps.time.monotonic", lambda: clock[0])
    segmenter = Batched(seconds, clock, 16)
    tile = np.zeros((8, 8, 3), np.uint8)
    assert result_of(suggest_batch(segmenter, tile, seconds(16))) == best


def test_what_has_no_batches_gets_no_suggestion() -> None:
    plain = FunctionSegmenter(lambda tile: tile[..., 0], digest="plain")
    flooding = ModelSegmenter(map_sam(), AutomaticOptions(mode="watershed"))
    for segmenter in (plain, flooding):
        assert result_of(suggest_batch(segmenter, np.zeros((8, 8, 3), np.uint8), 1.0)) is None


def test_workers_have_processors_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = psutil.virtual_memory()._replace(available=10_000 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 16 if logical else 8)
    used = psutil.Process().memory_info().rss
    assert suggest_workers("cpu", 0) == min(8, int(suggest.USABLE_MEMORY * memory.available / used))
    assert suggest_workers("cpu", 4_000 * 2**20 - used) == 2
    assert suggest_workers("cpu", 100_000 * 2**20) == 1
    assert suggest_workers("cuda", 0) == 1
