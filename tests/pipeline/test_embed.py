"""Embeddings of a stack are computed once, kept within the cache, and completed after a stop."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_sam.core.errors import ConfigError, InputError, OutputError
from napari_sam.io.embedding_budget import stored_budget
from napari_sam.io.embedding_cache import DEFAULT_BUDGET_BYTES, EmbeddingCache
from napari_sam.model.sam import Sam
from napari_sam.pipeline import ContrastMeasured, SliceRange, plane_embedder
from napari_sam.pipeline.embed import (
    EmbedConfig,
    EmbedFinished,
    EmbedPlanned,
    Encoding,
    SliceEmbedded,
    embed_volume,
    estimate_embedding,
)
from napari_sam.pipeline.plane_embedder import PlaneEmbedder
from tiny_models import tiny_sam

CONFIG = EmbedConfig(axes="ZYX")
N = 4


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test with an empty cache."""
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path / "home"))


@pytest.fixture
def sam() -> Sam:
    return tiny_sam("compact")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "stack.tif"
    stack = rng.integers(0, 4000, (N, 150, 200), dtype=np.uint16)
    tifffile.imwrite(path, stack, photometric="minisblack")
    return path


def files() -> list[Path]:
    return sorted(EmbeddingCache().directory.glob("*.zarr.zip"))


def origins(events: list[Any]) -> list[str]:
    return [event.origin for event in events if isinstance(event, SliceEmbedded)]


def plane_bytes(image: Path, sam: Sam) -> int:
    return estimate_embedding(image, CONFIG, sam).disk_bytes // N


def test_the_events_come_in_order(image: Path, sam: Sam) -> None:
    events = list(embed_volume(image, CONFIG, sam))
    plan, contrast, *between, last = events
    directory = EmbeddingCache().directory
    assert plan == EmbedPlanned("ZYX", (N, 150, 200), N, directory, DEFAULT_BUDGET_BYTES)
    assert isinstance(contrast, ContrastMeasured)
    done = [event for event in between if isinstance(event, SliceEmbedded)]
    assert [event.position for event in done] == [(0,), (1,), (2,), (3,)]
    assert {event.origin for event in done} == {"computed"}
    steps = [event for event in between if isinstance(event, Encoding)]
    assert {event.total for event in steps} == {4}  # windows of 128 pixels
    assert [event.done for event in steps if event.slice_number == 2] == [0, 1, 2, 3, 4]
    assert isinstance(last, EmbedFinished)
    assert (last.n_computed, last.n_found) == (N, 0)
    assert last.n_bytes == sum(event.n_bytes for event in done)
    assert len(files()) == N


def test_a_second_run_computes_nothing(
    image: Path, sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = list(embed_volume(image, CONFIG, sam))[-1]

    def refuse(*_args: object) -> None:
        raise AssertionError("it computed")

    monkeypatch.setattr("napari_sam.pipeline.embedding_store.encode_steps", refuse)
    *events, last = embed_volume(image, CONFIG, sam)
    assert origins(events) == ["disk"] * N
    assert (last.n_computed, last.n_found, last.n_bytes) == (0, N, first.n_bytes)


def test_what_is_computed_quickly_is_stored_too(
    image: Path, sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam.pipeline.embedding_store._LOAD_BYTES_PER_S", 1e-9)
    list(embed_volume(image, CONFIG, sam))
    assert len(files()) == N


def test_a_run_that_is_closed_goes_on_where_it_was(image: Path, sam: Sam) -> None:
    with closing(embed_volume(image, CONFIG, sam)) as events:
        for event in events:
            if isinstance(event, Encoding) and (event.slice_number, event.done) == (2, 1):
                break
    assert len(files()) == 2
    assert origins(list(embed_volume(image, CONFIG, sam))) == ["disk"] * 2 + ["computed"] * 2


RUNNER = """
import os, signal, sys
from napari_sam.pipeline.embed import EmbedConfig, SliceEmbedded, embed_volume

for event in embed_volume(sys.argv[1], EmbedConfig(axes="ZYX")):
    if isinstance(event, SliceEmbedded) and event.slice_number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_that_is_killed_goes_on_where_it_was(image: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", RUNNER, str(image)], check=False)
    assert killed.returncode == -9
    assert len(files()) == 2
    assert origins(list(embed_volume(image, CONFIG))) == ["disk"] * 2 + ["computed"] * 2


def test_a_damaged_file_is_computed_again(image: Path, sam: Sam) -> None:
    list(embed_volume(image, CONFIG, sam))
    before = {path: path.read_bytes() for path in files()}
    damaged = files()[1]
    content = bytearray(before[damaged])
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    damaged.write_bytes(content)
    assert sorted(origins(list(embed_volume(image, CONFIG, sam)))) == ["computed"] + ["disk"] * 3
    assert files() == sorted(before)
    assert sorted(origins(list(embed_volume(image, CONFIG, sam)))) == ["disk"] * N


def test_chosen_planes_alone(image: Path, sam: Sam) -> None:
    config = replace(CONFIG, slices=SliceRange(1, 4, 2))
    events = list(embed_volume(image, config, sam))
    assert [e.position for e in events if isinstance(e, SliceEmbedded)] == [(1,), (3,)]
    assert origins(list(embed_volume(image, CONFIG, sam))) == ["computed", "disk"] * 2


def test_a_cache_that_is_too_small_is_refused_before_anything_is_stored(
    image: Path, sam: Sam
) -> None:
    size = plane_bytes(image, sam)
    small = replace(CONFIG, cache_bytes=N * size - 1)
    with pytest.raises(ConfigError, match="--cache-size 1`"):
        list(embed_volume(image, small, sam))
    assert files() == []
    assert stored_budget() == DEFAULT_BUDGET_BYTES
    enough = replace(CONFIG, cache_bytes=N * size)
    assert origins(list(embed_volume(image, enough, sam))) == ["computed"] * N
    assert len(files()) == N


def test_a_cache_that_is_too_small_is_refused_where_planes_are_there_already(
    image: Path, sam: Sam
) -> None:
    list(embed_volume(image, CONFIG, sam))
    small = replace(CONFIG, cache_bytes=2 * plane_bytes(image, sam))
    with pytest.raises(ConfigError, match="push out"):
        list(embed_volume(image, small, sam))
    assert len(files()) == N


def test_the_size_of_the_cache_is_remembered_for_all(image: Path, sam: Sam) -> None:
    list(embed_volume(image, replace(CONFIG, cache_bytes=10**11), sam))
    assert stored_budget() == 10**11
    plan = next(embed_volume(image, CONFIG, sam))
    assert isinstance(plan, EmbedPlanned)
    assert plan.budget_bytes == 10**11


def test_embeddings_of_other_images_make_room(image: Path, sam: Sam) -> None:
    cache = EmbeddingCache()
    other = np.random.default_rng(1).normal(size=10**6).astype(np.float16)
    cache.put("other", {"features": other})
    list(embed_volume(image, replace(CONFIG, cache_bytes=N * plane_bytes(image, sam)), sam))
    assert len(files()) == N
    assert cache.get("other") is None


def test_a_disk_that_is_too_small_is_refused(
    image: Path, sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_embedder, "free_bytes", lambda _directory: 1000)
    with pytest.raises(OutputError, match="has room for 1e-06 GB"):
        list(embed_volume(image, CONFIG, sam))
    assert files() == []


def test_a_folder_that_cannot_be_written_is_refused(
    image: Path, sam: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be stored"):
        list(embed_volume(image, CONFIG, sam))


@pytest.mark.parametrize(("kind", "limit"), [("compact", "4194304 pixels"), ("vit", "192 pixels")])
def test_planes_that_are_not_encoded_whole_are_refused(
    tmp_path: Path, kind: Any, limit: str
) -> None:
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, np.zeros((2048, 2049), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match=f"planes of up to {limit}"):
        list(embed_volume(path, None, tiny_sam(kind)))


def test_an_even_image_is_refused(tmp_path: Path, sam: Sam) -> None:
    path = tmp_path / "even.tif"
    tifffile.imwrite(path, np.full((40, 50), 7, np.uint16))
    with pytest.raises(InputError, match="constant value 7"):
        list(embed_volume(path, None, sam))
    limits = EmbedConfig(contrast_limits=(0, 10))
    assert origins(list(embed_volume(path, limits, sam))) == ["computed"]


def test_a_model_without_a_digest_is_refused(sam: Sam) -> None:
    sam.digest = ""
    with pytest.raises(ConfigError, match="digest"):
        PlaneEmbedder(sam, 1, 10**6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_bytes": 0}, "--cache-size"),
        ({"contrast_limits": (9, 3)}, "low limit below"),
        ({"contrast_limits": (1, 3), "contrast_percentiles": (1, 99)}, "only one of"),
        ({"channels": (0, 1, 2, 3)}, "one to three"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EmbedConfig(**options)


def test_limits_that_do_not_fit_the_channels_are_refused(image: Path, sam: Sam) -> None:
    config = replace(CONFIG, contrast_limits=((1, 2), (3, 4)))
    with pytest.raises(ConfigError, match="as often as `--channel`"):
        list(embed_volume(image, config, sam))


def test_the_estimate_is_an_upper_one_and_stores_nothing(image: Path, sam: Sam) -> None:
    cost = estimate_embedding(image, CONFIG, sam)
    assert cost.n_slices == N
    assert cost.seconds >= N * cost.seconds_per_slice > 0
    assert cost.budget_bytes == DEFAULT_BUDGET_BYTES
    assert cost.directory == EmbeddingCache().directory
    assert not cost.directory.exists()
    assert cost.free_bytes <= shutil.disk_usage(image.parent).total
    done = list(embed_volume(image, CONFIG, sam))
    stored = sum(path.stat().st_size for path in files())
    assert (
        stored / 2
        < cost.disk_bytes
        == sum(event.n_bytes for event in done if isinstance(event, SliceEmbedded))
    )
    other = estimate_embedding(image, replace(CONFIG, cache_bytes=77), sam)
    assert other.budget_bytes == 77
    assert stored_budget() == DEFAULT_BUDGET_BYTES


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, napari_sam.pipeline.embed; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
