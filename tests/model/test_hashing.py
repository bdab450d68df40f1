"""Hashes that are remembered while a file stays as it is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from napari_sam.model import hashing
from napari_sam.model.hashing import HashMemory, hash_file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once."""
    monkeypatch.setattr(hashing, "SETTLED_SECONDS", -1.0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read to be hashed."""
    done: list[Path] = []

    def read(path: Path, algorithms: set[hashing.HashAlgorithm]) -> dict[str, str]:
        done.append(path)
        return hash_file(path, algorithms)

    monkeypatch.setattr(hashing, "hash_file", read)
    return done


def test_an_unchanged_file_is_read_once(settled: None, file: Path, reads: list[Path]) -> None:
    memory = HashMemory()
    first = memory.hashes(file, {"sha256"})
    assert first == {"sha256": hashlib.sha256(b"weights").hexdigest()}
    assert memory.hashes(file, {"sha256"}) == first
    assert memory.hashes(Path(os.path.relpath(file)), {"sha256"}) == first
    assert len(reads) == 1


def test_what_is_remembered_cannot_be_changed_by_who_asks(settled: None, file: Path) -> None:
    memory = HashMemory()
    memory.hashes(file, {"sha256"})["sha256"] = "forged"
    assert memory.hashes(file, {"sha256"})["sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_another_algorithm_is_another_question(
    settled: None, file: Path, reads: list[Path]
) -> None:
    memory = HashMemory()
    memory.hashes(file, {"sha256"})
    assert memory.hashes(file, {"sha256", "xxh128"}).keys() == {"sha256", "xxh128"}
    memory.hashes(file, {"xxh128"})
    assert len(reads) == 2


def test_a_file_of_the_same_size_and_time_is_another(settled: None, file: Path) -> None:
    """Its inode differs where it was put in its place, the time of its status where it was not."""
    memory = HashMemory()
    memory.hashes(file, {"sha256"})
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    other = file.with_name("other")
    other.write_bytes(b"changed")
    os.utime(other, ns=times)
    os.replace(other, file)
    assert memory.hashes(file, {"sha256"})["sha256"] == hashlib.sha256(b"changed").hexdigest()


def test_a_file_that_has_just_changed_is_read_again(file: Path, reads: list[Path]) -> None:
    """It may change once more within the same tick of the file system's clock."""
    memory = HashMemory()
    memory.hashes(file, {"sha256"})
    memory.hashes(file, {"sha256"})
    assert len(reads) == 2


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    settled: None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = HashMemory()

    def read(path: Path, algorithms: set[hashing.HashAlgorithm]) -> dict[str, str]:
        found = hash_file(path, algorithms)
        path.write_bytes(b"longer than before")
        return found

    monkeypatch.setattr(hashing, "hash_file", read)
    memory.hashes(file, {"sha256"})
    file.write_bytes(b"weights")
    monkeypatch.setattr(hashing, "hash_file", lambda *_: {"sha256": "read again"})
    assert memory.hashes(file, {"sha256"}) == {"sha256": "read again"}


def test_a_file_that_is_gone_is_an_error(settled: None, file: Path) -> None:
    memory = HashMemory()
    memory.hashes(file, {"sha256"})
    file.unlink()
    with pytest.raises(FileNotFoundError):
        memory.hashes(file, {"sha256"})
