"""Embeddings are computed once, come back bit by bit, and stay within their budget."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sam.core.errors import OutOfMemoryError
from napari_sam.io.embedding_cache import EmbeddingCache
from napari_sam.model import half_precision
from napari_sam.model.sam import Sam
from napari_sam.pipeline import embedding_store
from napari_sam.pipeline.embedding_store import EmbeddingStore, EmbedProgress, embedding_key
from napari_sam.predict import ImageEmbedding, SamPredictor
from tiny_models import tiny_sam

LARGE = 2**30


def pixels_of(seed: int = 0, shape: tuple[int, int] = (200, 150)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*shape, 3), dtype=np.uint8)


@pytest.fixture
def sam() -> Sam:
    return tiny_sam("compact")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingCache:
    monkeypatch.setattr(embedding_store, "_LOAD_BYTES_PER_S", 1e15)  # tiny models are fast
    return EmbeddingCache(tmp_path)


def drain(steps: Generator[EmbedProgress, None, ImageEmbedding]) -> list[EmbedProgress]:
    seen = []
    for progress in steps:
        seen.append(progress)
    return seen


def assert_same(one: ImageEmbedding, other: ImageEmbedding) -> None:
    for a, b in zip((one.features, *one.skips), (other.features, *other.skips), strict=True):
        assert a.dtype == b.dtype == torch.float16
        assert torch.equal(a, b)
        assert a.stride() == b.stride()  # another order in memory is rounded otherwise
    assert one.transform == other.transform
    assert one.original_size_yx == other.original_size_yx
    assert one.model_digest == other.model_digest


@pytest.mark.parametrize("kind", ["compact", "vit"])
def test_memory_then_disk_give_the_same_bits(kind: str, cache: EmbeddingCache) -> None:
    sam = tiny_sam(kind)
    store = EmbeddingStore(sam, cache, LARGE)
    computed = store.get("a", pixels_of)
    exact = SamPredictor(sam).encode_pixels(pixels_of())
    assert torch.equal(computed.features, exact.features.half())
    assert store.get("a", pixels_of) is computed
    assert drain(store.steps("a", pixels_of)) == [EmbedProgress(1, 1, "memory")]
    store.flush()
    later = EmbeddingStore(sam, cache, LARGE)
    assert drain(later.steps("b", pixels_of)) == [EmbedProgress(1, 1, "disk")]
    assert_same(later.get("b", pixels_of), computed)
    store.release()
    assert not store.is_ready("a")


def test_progress_counts_windows_and_ends_with_the_embedding(sam: Sam) -> None:
    store = EmbeddingStore(sam, None, LARGE)
    for progress in store.steps("a", pixels_of):
        assert progress.origin == "computed"
        assert progress.total == 4
        assert store.is_ready("a") == (progress.done == progress.total)
    assert progress.done == 4


def test_the_key_is_all_that_counts(sam: Sam) -> None:
    keys = {
        embedding_key(sam, pixels_of()),
        embedding_key(sam, pixels_of(1)),
        embedding_key(sam, pixels_of().transpose(1, 0, 2)),
        embedding_key(sam, pixels_of().reshape(150, 200, 3)),
        embedding_key(tiny_sam("compact", seed=1), pixels_of()),
        embedding_key(tiny_sam("vit"), pixels_of()),
    }
    assert len(keys) == 6
    assert embedding_key(sam, pixels_of()) in keys


def test_precisions_have_keys_of_their_own(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    single = embedding_key(sam, pixels_of())
    monkeypatch.setattr(half_precision, "MIN_MEAN_IOU", 0.0)  # random weights draw ragged masks
    half_precision.use_half_precision(sam)
    assert sam.encoder_dtype == torch.bfloat16
    assert embedding_key(sam, pixels_of()) != single


def test_the_oldest_are_forgotten_and_the_newest_stay(sam: Sam) -> None:
    store = EmbeddingStore(sam, None, LARGE)
    one = store.get("a", pixels_of)
    size = sum(t.numel() * 2 for t in (one.features, *one.skips))
    store = EmbeddingStore(sam, None, 3 * size)
    for key in ("a", "b", "c", "a", "d"):
        store.get(key, pixels_of)
    assert [key for key in "abcd" if store.is_ready(key)] == ["a", "c", "d"]
    small = EmbeddingStore(sam, None, 0)
    for key in ("a", "b", "c"):
        small.get(key, pixels_of)
    assert [key for key in "abc" if small.is_ready(key)] == ["b", "c"]


def count_windows(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted: list[int] = []
    encode = Sam.encode

    def counting(self: Sam, pixels: torch.Tensor) -> object:
        counted.append(1)
        return encode(self, pixels)

    monkeypatch.setattr(Sam, "encode", counting)
    return counted


def test_many_threads_compute_it_once(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count_windows(sam, monkeypatch)
    store = EmbeddingStore(sam, None, LARGE)
    together = threading.Barrier(4)

    def ask(_: int) -> ImageEmbedding:
        together.wait()
        return store.get("a", pixels_of)

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(ask, range(4)))
    assert len(counted) == 4  # windows
    assert all(embedding is got[0] for embedding in got)


def test_a_paused_generator_holds_nobody_up(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count_windows(sam, monkeypatch)
    store = EmbeddingStore(sam, None, LARGE)
    paused = store.steps("a", pixels_of)
    next(paused)
    next(paused)
    assert len(counted) == 1
    embedding = store.get("a", pixels_of)  # same thread, and the rest of the same job
    assert len(counted) == 4
    with pytest.raises(StopIteration) as finished:
        next(paused)
    assert finished.value.value is embedding


def test_closing_stops_the_work(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count_windows(sam, monkeypatch)
    store = EmbeddingStore(sam, None, LARGE)
    steps = store.steps("a", pixels_of)
    next(steps)
    next(steps)
    steps.close()
    assert len(counted) == 1
    assert not store.is_ready("a")
    assert not store._jobs


def test_an_error_reaches_all_and_the_next_call_starts_anew(
    sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EmbeddingStore(sam, None, LARGE)
    first, second = store.steps("a", pixels_of), store.steps("a", pixels_of)
    next(first)
    next(second)

    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Sam, "encode", run_out)
        for steps in (first, second):
            with pytest.raises(OutOfMemoryError):
                next(steps)
    assert store.get("a", pixels_of).model_digest == sam.digest


def test_what_is_computed_fast_is_not_stored(
    sam: Sam, cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_store, "_LOAD_BYTES_PER_S", 1.0)
    store = EmbeddingStore(sam, cache, LARGE)
    store.get("a", pixels_of)
    store.flush()
    assert cache.size_bytes() == 0


def test_models_without_a_digest_store_nothing(sam: Sam, cache: EmbeddingCache) -> None:
    sam.digest = ""
    store = EmbeddingStore(sam, cache, LARGE)
    store.get("a", pixels_of)
    store.flush()
    assert cache.size_bytes() == 0
