"""Embeddings on disk: exact, atomic, bounded, and never in the way of the work."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.errors import ConfigError, NapariSamWarning
from napari_sam.io import embedding_cache
from napari_sam.io.embedding_cache import EmbeddingCache, embedding_directory

KEY = "0123abcd"


def arrays(seed: int = 0, channels: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "features": rng.normal(size=(channels, 16, 24)).astype(np.float16),
        "skip0": rng.normal(size=(3, 64, 96)).astype(np.float16),
    }


def assert_equal(one: dict[str, np.ndarray] | None, other: dict[str, np.ndarray]) -> None:
    assert one is not None
    assert one.keys() == other.keys()
    for name, values in other.items():
        assert one[name].dtype == np.float16
        np.testing.assert_array_equal(one[name].view(np.uint16), values.view(np.uint16))


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "embeddings")


def only_file(cache: EmbeddingCache) -> Path:
    (path,) = cache.directory.iterdir()
    return path


def test_what_is_stored_comes_back_bit_by_bit(cache: EmbeddingCache) -> None:
    given = arrays()
    given["features"][0, 0, :4] = [np.inf, -0.0, 6e-8, 0]
    assert cache.get(KEY) is None
    assert cache.put(KEY, given)
    assert_equal(cache.get(KEY), given)
    assert cache.get("ffff") is None


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple), st.integers(1, 40))
def test_any_shape_is_cut_into_chunks_that_fit(shape: tuple[int, ...], room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding_cache, "_CHUNK_BYTES", 2 * room)
        chunks = embedding_cache._chunks(shape)
    assert len(chunks) == len(shape)
    assert all(1 <= chunk <= length for chunk, length in zip(chunks, shape, strict=True))
    assert np.prod(chunks) <= room


def test_several_chunks_come_back(cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_cache, "_CHUNK_BYTES", 2**10)
    cache.put(KEY, arrays())
    assert_equal(cache.get(KEY), arrays())


def test_files_are_ordinary_zarr_in_an_ordinary_zip(cache: EmbeddingCache) -> None:
    cache.put(KEY, arrays(), {"model": "compact"})
    with zipfile.ZipFile(only_file(cache)) as archive:
        assert archive.testzip() is None
    store = zarr.storage.ZipStore(only_file(cache), mode="r")
    group = zarr.open_group(store, mode="r")
    assert group.attrs["model"] == "compact"
    np.testing.assert_array_equal(group["skip0"][:], arrays()["skip0"])
    store.close()


@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "text", "renamed"])
def test_damaged_files_are_absent_and_removed(cache: EmbeddingCache, damage: str) -> None:
    cache.put("aaaa" if damage == "renamed" else KEY, arrays())
    path = only_file(cache)
    content = path.read_bytes()
    if damage == "renamed":
        path = path.rename(path.with_name(f"{KEY}.zarr.zip"))
    elif damage == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    else:
        path.write_bytes({"cut": content[:-400], "empty": b"", "text": b"no zip"}[damage])
    assert cache.get(KEY) is None
    assert not path.exists()
    assert cache.put(KEY, arrays())
    assert_equal(cache.get(KEY), arrays())


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put("0", arrays())
    one = cache.size_bytes()
    cache.budget_bytes = 3 * one + one // 2
    for age, key in enumerate(["1", "2"]):
        cache.put(key, arrays(age))
    for age, key in enumerate(["0", "1", "2"]):
        os.utime(tmp_path / f"{key}.zarr.zip", (1000 + age, 1000 + age))
    assert cache.get("0") is not None  # used now, so that 1 is the oldest
    cache.put("3", arrays(3))
    assert cache.size_bytes() <= cache.budget_bytes
    assert [key for key in "0123" if cache.get(key) is not None] == ["0", "2", "3"]


def test_what_is_larger_than_the_budget_is_not_stored(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, budget_bytes=100)
    assert not cache.put(KEY, arrays())
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError):
        EmbeddingCache(tmp_path, budget_bytes=-1)


def test_clear_leaves_files_of_others(cache: EmbeddingCache) -> None:
    cache.put(KEY, arrays())
    foreign = cache.directory / "notes.txt"
    foreign.write_text("mine")
    size = cache.size_bytes()
    assert size > 0
    assert cache.clear() == size
    assert cache.size_bytes() == 0
    assert cache.get(KEY) is None
    assert foreign.read_text() == "mine"


def test_what_dead_processes_left_goes_and_what_others_write_stays(cache: EmbeddingCache) -> None:
    cache.put(KEY, arrays())
    dead, alive = cache.directory / "a.zarr.zip.1.x.part", cache.directory / "b.zarr.zip.2.y.part"
    dead.write_bytes(b"half")
    alive.write_bytes(b"half")
    os.utime(dead, (1000, 1000))
    cache.put("eeee", arrays())
    assert not dead.exists()
    assert alive.exists()


def test_a_folder_that_cannot_be_written_is_announced_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = EmbeddingCache(tmp_path / "file" / "embeddings")
    with pytest.warns(NapariSamWarning, match="NAPARI_SAM_HOME"):
        assert not cache.put(KEY, arrays())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not cache.put(KEY, arrays())
        assert cache.get(KEY) is None
        assert cache.size_bytes() == cache.clear() == 0


FILLER = """
import resource
import sys
import warnings
import numpy as np
from napari_sam.io.embedding_cache import EmbeddingCache

# As on a full disk, no file can grow beyond some bytes.
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
given = np.random.default_rng(0).normal(size=(64, 16, 24)).astype(np.float16)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert not EmbeddingCache(sys.argv[1]).put("key", {"features": given})
print(*(f"{warning.category.__name__}: {warning.message}" for warning in caught))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of file sizes")
def test_a_full_disk_is_announced_and_leaves_nothing(tmp_path: Path) -> None:
    # In a process of its own: the limit would also hold for the output of this one.
    command = [sys.executable, "-c", FILLER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NapariSamWarning: ")
    assert "cannot be stored" in done.stdout
    assert not list(tmp_path.iterdir())


def test_after_clearing_a_full_folder_it_is_tried_again(
    cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
        with pytest.warns(NapariSamWarning, match="No space"):
            cache.put(KEY, arrays())
    assert not cache.put(KEY, arrays())
    cache.clear()
    assert cache.put(KEY, arrays())


def test_a_file_that_another_process_holds_is_stored(
    cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows an open file cannot be replaced."""
    cache.put(KEY, arrays())
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError()))
    assert cache.put(KEY, arrays())
    assert only_file(cache).name == f"{KEY}.zarr.zip"


def test_threads_share_a_cache(cache: EmbeddingCache) -> None:
    def work(number: int) -> bool:
        key = f"{number % 3}"
        cache.put(key, arrays(number % 3))
        got = cache.get(key)
        return got is None or all((got[n] == a).all() for n, a in arrays(number % 3).items())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(24)))


SHARER = """
import sys
import numpy as np
from napari_sam.io.embedding_cache import EmbeddingCache

cache = EmbeddingCache(sys.argv[1])
for round in range(3):
    for number in range(4):
        given = np.full((8, 64, 64), number, np.float16)
        assert cache.put(f"{number}", {"features": given})
        assert (cache.get(f"{number}")["features"] == given).all()
"""


def test_processes_share_a_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHARER, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.zarr.zip" for n in range(4)]


def test_the_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path))
    assert embedding_directory() == tmp_path / "embeddings"
    assert EmbeddingCache().directory == tmp_path / "embeddings"
    monkeypatch.delenv("NAPARI_SAM_HOME")
    assert embedding_directory().parts[-2:] == ("napari_sam", "embeddings")
