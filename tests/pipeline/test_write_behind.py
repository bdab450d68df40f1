"""Writing in the background: in order, one at a time, and no error is lost."""

from __future__ import annotations

import threading

import pytest

from napari_sam.pipeline.write_behind import WriteBehind

WAIT_S = 30.0


def fail() -> str:
    raise OSError("disk full")


def test_it_writes_while_the_caller_goes_on() -> None:
    may_write = threading.Event()
    with WriteBehind[str]() as behind:
        behind.begin(lambda: str(may_write.wait(WAIT_S)))  # and does not wait
        may_write.set()
        assert list(behind.wait()) == ["True"]
        assert list(behind.wait()) == []


def test_no_result_waits_behind_another() -> None:
    with WriteBehind[int]() as behind:
        behind.begin(lambda: 1)
        with pytest.raises(RuntimeError, match="has not been taken"):
            behind.begin(lambda: 2)


def test_an_error_comes_out_once() -> None:
    with WriteBehind[str]() as behind:
        behind.begin(fail)
        with pytest.raises(OSError, match="disk full"):
            list(behind.wait())
        behind.begin(lambda: "written")
        assert list(behind.wait()) == ["written"]


def test_leaving_waits_for_the_disk() -> None:
    done = []
    may_write = threading.Event()
    with WriteBehind[None]() as behind:
        behind.begin(lambda: may_write.wait(WAIT_S) and done.append(1))  # type: ignore[arg-type, func-returns-value]
        may_write.set()
    assert done == [1]


def test_leaving_raises_what_nobody_took() -> None:
    with pytest.raises(OSError, match="disk full"), WriteBehind[str]() as behind:
        behind.begin(fail)


def test_leaving_by_an_error_keeps_both() -> None:
    def compute() -> None:
        with WriteBehind[str]() as behind:
            behind.begin(fail)
            raise ValueError("computing")

    with pytest.raises(ValueError, match="computing") as caught:
        compute()
    assert any("disk full" in note for note in caught.value.__notes__)
