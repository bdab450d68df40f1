"""Reading one tile ahead: what comes out, in which order, and what becomes of errors."""

import threading
from itertools import pairwise

import pytest

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.pipeline import read_ahead
from napari_sam.pipeline.read_ahead import ReadAhead

WINDOWS = [Region((0, n), (1, n + 1)) for n in range(6)]
FIRST, SECOND, THIRD = WINDOWS[:3]
PATIENCE = 30


class Reader:
    """Returns what was asked for; notes order and threads, fails or waits where it is told to."""

    def __init__(self):
        self.read = []
        self.threads = []
        self.errors = {}
        self.gates = {}
        self.begun = {window: threading.Event() for window in WINDOWS}
        self.n_running = 0

    def __call__(self, position, window):
        assert self.n_running == 0  # never two at a time
        self.n_running += 1
        try:
            self.read.append((position, window))
            self.threads.append(threading.current_thread())
            self.begun[window].set()
            if window in self.gates:
                assert self.gates[window].wait(PATIENCE)
            if self.errors.get(window):
                raise self.errors[window].pop(0)
            return position, window
        finally:
            self.n_running -= 1


def unreadable():
    return InputError("damaged", rule="undamaged", cure="copy it again")


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def ahead(reader):
    with ReadAhead(reader) as ahead:
        yield ahead


def test_without_expectations_it_reads_at_once_and_here(reader, ahead):
    assert [ahead.get((0,), window) for window in WINDOWS] == reader.read
    assert set(reader.threads) == {threading.current_thread()}


def test_the_expected_window_is_read_in_the_background(reader, ahead):
    ahead.expect((0,), SECOND)
    assert ahead.get((0,), FIRST) == ((0,), FIRST)
    assert reader.begun[SECOND].wait(PATIENCE)  # while the caller works
    assert ahead.get((0,), SECOND) == ((0,), SECOND)
    assert reader.read == [((0,), FIRST), ((0,), SECOND)]
    assert reader.threads[1] is not threading.current_thread()


def test_nothing_is_read_further_ahead_than_one_window(reader, ahead):
    for here, following in pairwise(WINDOWS):
        ahead.expect((0,), following)
        ahead.get((0,), here)
        assert reader.begun[following].wait(PATIENCE)
        assert reader.read[-1] == ((0,), following)
        assert len(reader.read) == WINDOWS.index(following) + 1


def test_the_same_window_of_another_slice_is_another(reader, ahead):
    ahead.expect((1,), FIRST)
    ahead.get((0,), FIRST)
    assert ahead.get((0,), FIRST) == ((0,), FIRST)
    assert ahead.get((1,), FIRST) == ((1,), FIRST)


def test_an_error_comes_where_its_pixels_are_wanted(reader, ahead):
    error = unreadable()
    reader.errors[SECOND] = [error]
    ahead.expect((0,), SECOND)
    ahead.get((0,), FIRST)
    assert reader.begun[SECOND].wait(PATIENCE)
    with pytest.raises(InputError) as caught:
        ahead.get((0,), SECOND)
    assert caught.value is error
    assert ahead.get((0,), SECOND) == ((0,), SECOND)  # tried again, read again


@pytest.mark.parametrize("kind", [ValueError, MemoryError, KeyboardInterrupt])
def test_any_error_keeps_its_type(reader, ahead, kind):
    reader.errors[SECOND] = [kind("as it was")]
    ahead.expect((0,), SECOND)
    ahead.get((0,), FIRST)
    with pytest.raises(kind, match="as it was"):
        ahead.get((0,), SECOND)


def test_nothing_is_read_ahead_after_an_error(reader, ahead):
    reader.errors[FIRST] = [unreadable()]
    ahead.expect((0,), SECOND)
    with pytest.raises(InputError):
        ahead.get((0,), FIRST)
    assert reader.read == [((0,), FIRST)]


def test_a_tile_tried_again_keeps_what_was_read_ahead(reader, ahead):
    for _ in range(2):
        ahead.expect((0,), SECOND)
        assert ahead.get((0,), FIRST) == ((0,), FIRST)
    assert ahead.get((0,), SECOND) == ((0,), SECOND)
    assert reader.read == [((0,), FIRST), ((0,), SECOND), ((0,), FIRST)]


def test_what_is_not_wanted_after_all_is_dropped(reader, ahead):
    ahead.expect((0,), SECOND)
    ahead.get((0,), FIRST)
    ahead.expect((0,), FIRST)
    assert ahead.get((0,), THIRD) == ((0,), THIRD)
    ahead.get((0,), FIRST)
    assert reader.read == [((0,), window) for window in (FIRST, SECOND, THIRD, FIRST)]


def test_an_unreadable_window_that_nobody_wants_is_no_error(reader):
    reader.errors[SECOND] = [unreadable()]
    with ReadAhead(reader) as ahead:
        ahead.expect((0,), SECOND)
        ahead.get((0,), FIRST)
        assert ahead.get((0,), THIRD) == ((0,), THIRD)


def test_closing_says_what_else_went_wrong(reader):
    reader.errors[SECOND] = [ValueError("a defect")]
    ahead = ReadAhead(reader)
    ahead.expect((0,), SECOND)
    ahead.get((0,), FIRST)
    with pytest.raises(ValueError, match="a defect"):
        ahead.close()
    ahead.close()  # a second time there is nothing to say


def test_an_error_of_the_run_is_not_replaced(reader):
    reader.errors[SECOND] = [ValueError("a defect")]

    def stop():
        with ReadAhead(reader) as ahead:
            ahead.expect((0,), SECOND)
            ahead.get((0,), FIRST)
            raise OSError("of the run")

    with pytest.raises(OSError, match="of the run") as caught:
        stop()
    assert "a defect" in caught.value.__notes__[0]


def test_closing_waits_for_the_read_under_way(reader):
    ahead = ReadAhead(reader)
    reader.gates[SECOND] = threading.Event()
    ahead.expect((0,), SECOND)
    ahead.get((0,), FIRST)
    assert reader.begun[SECOND].wait(PATIENCE)
    opener = threading.Timer(0.05, reader.gates[SECOND].set)
    opener.start()
    ahead.close()
    assert not reader.threads[-1].is_alive()
    opener.join()


def test_closing_does_not_wait_for_a_read_that_hangs(reader, monkeypatch):
    monkeypatch.setattr(read_ahead, "CLOSE_SECONDS", 0.01)
    ahead = ReadAhead(reader)
    reader.gates[SECOND] = threading.Event()
    ahead.expect((0,), SECOND)
    ahead.get((0,), FIRST)
    assert reader.begun[SECOND].wait(PATIENCE)
    ahead.close()
    assert reader.threads[-1].is_alive()
    assert reader.threads[-1].daemon  # it cannot hold the process either
    reader.gates[SECOND].set()
    reader.threads[-1].join(PATIENCE)


def test_closing_before_anything_was_read(reader):
    ahead = ReadAhead(reader)
    ahead.expect((0,), FIRST)
    ahead.close()
    assert reader.read == []
