"""The size of the cache is remembered beside the embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_sam.core.errors import ConfigError, OutputError
from napari_sam.io.embedding_budget import store_budget, stored_budget
from napari_sam.io.embedding_cache import DEFAULT_BUDGET_BYTES, EmbeddingCache


def test_the_default_holds_until_another_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "embeddings"
    assert stored_budget(folder) == DEFAULT_BUDGET_BYTES
    store_budget(7 * 10**10, folder)
    assert stored_budget(folder) == 7 * 10**10
    assert [path.name for path in folder.iterdir()] == ["budget_bytes.txt"]


def test_it_is_that_of_the_widget_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path))
    store_budget(123)
    assert stored_budget() == stored_budget(tmp_path / "embeddings") == 123


@pytest.mark.parametrize("content", [b"", b"many", b"-5", b"\xff\xfe"])
def test_a_damaged_file_means_the_default(tmp_path: Path, content: bytes) -> None:
    store_budget(1, tmp_path)
    next(tmp_path.iterdir()).write_bytes(content)
    assert stored_budget(tmp_path) == DEFAULT_BUDGET_BYTES


def test_the_cache_neither_counts_nor_removes_it(tmp_path: Path) -> None:
    store_budget(10**6, tmp_path)
    cache = EmbeddingCache(tmp_path, stored_budget(tmp_path))
    cache.put("key", {"features": np.zeros(8, np.float16)})
    assert cache.size_bytes() < 10**5
    cache.clear()
    assert cache.size_bytes() == 0
    assert stored_budget(tmp_path) == 10**6


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 bytes or more"):
        store_budget(-1, tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="NAPARI_SAM_HOME"):
        store_budget(1, tmp_path / "file" / "embeddings")
