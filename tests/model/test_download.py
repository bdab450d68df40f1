"""Downloads from a server on this machine that breaks off, refuses, and sends the wrong file."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from local_models import FileServer, register, serve
from napari_sam.core.errors import CheckpointError, ConfigError, OutputError
from napari_sam.model.download import DownloadProgress, download_model
from napari_sam.model.hashing import FileHash

CONTENT = random.Random(0).randbytes(1_000_000)


class Place(NamedTuple):
    server: FileServer
    target: Path
    part: Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A server with one registered model, and an empty home."""
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path))
    with serve(CONTENT) as server:
        entry = register(monkeypatch, CONTENT, url=server.url)
        target = tmp_path / "models" / entry.file_name
        yield Place(server, target, target.with_name("local.pt.part"))


def _run() -> list[DownloadProgress]:
    return list(download_model("local"))


def test_a_file_comes_whole_and_with_progress(place: Place) -> None:
    events = _run()
    assert place.target.read_bytes() == CONTENT
    assert not place.part.exists()
    done = [event.done_bytes for event in events]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, len(CONTENT))
    assert len(done) > 3
    assert {event.total_bytes for event in events} == {len(CONTENT)}


def test_nothing_happens_before_the_first_step(place: Place) -> None:
    download_model("local")
    assert place.server.asked == []
    assert not place.target.parent.exists()


def test_a_cancelled_download_goes_on(place: Place) -> None:
    download = download_model("local")
    while next(download).done_bytes == 0:
        pass
    download.close()
    had = place.part.stat().st_size
    assert 0 < had < len(CONTENT)
    assert not place.target.exists()

    events = _run()
    assert place.server.asked == [None, f"bytes={had}-"]
    assert events[0] == DownloadProgress(had, len(CONTENT))
    assert place.target.read_bytes() == CONTENT


def test_a_broken_connection_keeps_what_has_come(place: Place) -> None:
    place.server.break_after = 300_000
    with pytest.raises(CheckpointError, match=r"broke off.*Try again to go on from there"):
        _run()
    # what of the last piece had come is lost with it
    assert 0 < place.part.stat().st_size <= 300_000
    assert place.part.read_bytes() == CONTENT[: place.part.stat().st_size]
    assert not place.target.exists()
    place.server.break_after = None
    _run()
    assert place.target.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(place: Place) -> None:
    place.target.parent.mkdir()
    place.part.write_bytes(b"x" * 1000)
    place.server.ranges = False
    events = _run()
    assert events[0] == DownloadProgress(0, len(CONTENT))
    assert place.target.read_bytes() == CONTENT


def test_a_complete_part_needs_no_further_byte(place: Place) -> None:
    place.target.parent.mkdir()
    place.part.write_bytes(CONTENT)
    assert _run() == []
    assert place.server.asked == [f"bytes={len(CONTENT)}-"]
    assert place.target.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_starts_again(place: Place) -> None:
    place.target.parent.mkdir()
    place.part.write_bytes(CONTENT + b"more")
    _run()
    assert place.target.read_bytes() == CONTENT


def test_a_part_of_another_file_is_found_out_and_dropped(place: Place) -> None:
    place.target.parent.mkdir()
    place.part.write_bytes(b"x" * 1000)
    with pytest.raises(CheckpointError, match="sha256"):
        _run()
    assert not place.part.exists()
    assert not place.target.exists()
    _run()
    assert place.target.read_bytes() == CONTENT


def test_the_wrong_file_is_not_kept(place: Place) -> None:
    place.server.content = CONTENT[:-1] + b"?"
    expected = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(CheckpointError, match=f"{expected} and has 1000000 bytes.*get it again"):
        _run()
    assert list(place.target.parent.iterdir()) == []


def test_a_hash_of_micro_sam(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import xxhash

    digest = xxhash.xxh128_hexdigest(CONTENT)
    register(monkeypatch, CONTENT, url=place.server.url, file_hash=FileHash("xxh128", digest))
    _run()
    assert place.target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_refusal_names_the_other_way(place: Place, status: int) -> None:
    place.server.status = status
    with pytest.raises(CheckpointError, match=f"{status}.*models import local FILE"):
        _run()
    assert list(place.target.parent.iterdir()) == []


def test_no_server(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, CONTENT)  # a port where nobody listens
    with pytest.raises(CheckpointError, match=r"working connection.*models import"):
        _run()


def test_a_length_that_is_not_announced(place: Place) -> None:
    place.server.announce = False
    events = _run()
    assert {event.total_bytes for event in events} == {None}
    assert place.target.read_bytes() == CONTENT


def test_a_model_that_is_there_is_not_downloaded(place: Place) -> None:
    place.target.parent.mkdir()
    place.target.write_bytes(b"weights")
    assert _run() == [DownloadProgress(7, 7)]
    assert place.server.asked == []


def test_a_full_disk_is_seen_before_it_is_full(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(place.target.parent.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=999_999))
    with pytest.raises(OutputError, match=r"999999 bytes free.*1000000 bytes.*NAPARI_SAM_HOME"):
        _run()
    assert not place.part.exists()


def test_a_directory_that_cannot_be_made(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="NAPARI_SAM_HOME"):
        _run()


def test_models_without_a_download() -> None:
    with pytest.raises(ConfigError, match="part of the package"):
        next(download_model("compact"))
    with pytest.raises(ConfigError, match="No model is named"):
        next(download_model("nobody"))
