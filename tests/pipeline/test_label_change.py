import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.errors import InputError, OutputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.pipeline import label_levels
from napari_sam.pipeline.label_change import LabelEdit, change_labels, count_overwritten
from napari_sam.pipeline.label_target import LabelTarget

FLAT = Plane((0, 1))
WHOLE = Region((0, 0), (12, 15))


def random_labels(seed, high=5):
    return np.random.default_rng(seed).integers(0, high, WHOLE.shape).astype(np.uint8)


@given(st.integers(0, 2**32 - 1), st.integers(10, 200))
def test_changes_are_taken_back_and_done_again(seed, block_pixels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_levels, "BLOCK_PIXELS", block_pixels)
        before, after = random_labels(seed), random_labels(seed + 1)
        array = before.copy()
        changes = change_labels(LabelTarget([array]), FLAT, WHOLE, after)
    np.testing.assert_array_equal(array, after)
    for change in reversed(changes):
        assert change.undo()
    np.testing.assert_array_equal(array, before)
    assert not any(change.undo() for change in changes)
    for change in changes:
        assert change.redo()
    np.testing.assert_array_equal(array, after)


@given(st.integers(0, 2**32 - 1))
def test_what_someone_else_changed_meanwhile_stays(seed):
    before, after, painted = (random_labels(seed + i) for i in range(3))
    is_painted = np.random.default_rng(seed).random(WHOLE.shape) < 0.3
    array = before.copy()
    changes = change_labels(LabelTarget([array]), FLAT, WHOLE, after)
    array[is_painted] = painted[is_painted]
    for change in reversed(changes):
        change.undo()
    foreign = is_painted & (painted != after)
    np.testing.assert_array_equal(array, np.where(foreign, painted, before))
    for change in changes:
        change.redo()
    # a painted pixel that equals what was there before cannot be told from it
    stays = foreign & (painted != before)
    np.testing.assert_array_equal(array, np.where(stays, painted, after))


def test_a_change_knows_who_lost_pixels():
    array = np.zeros(WHOLE.shape, np.uint8)
    array[:2], array[2:4] = 3, 4
    values = array.copy()
    values[1:3, :5] = 9
    changes = change_labels(LabelTarget([array]), FLAT, WHOLE, values)
    assert count_overwritten(changes) == {3: 5, 4: 5}
    assert max(change.maximum for change in changes) == 9
    assert changes[0].region_yx == Region((1, 0), (3, 5))


def test_no_change_writes_nothing():
    array = random_labels(0)
    target = LabelTarget([array])
    assert change_labels(target, FLAT, WHOLE, array.astype(np.int64)) == []
    assert target.revision == 0


def test_labels_that_the_type_cannot_hold_are_refused_and_nothing_is_written():
    array = random_labels(0)
    before = array.copy()
    with pytest.raises(InputError, match="up to 255"):
        change_labels(LabelTarget([array]), FLAT, WHOLE, np.full(WHOLE.shape, 256))
    np.testing.assert_array_equal(array, before)
    with pytest.raises(InputError, match="up to 255"), LabelEdit(LabelTarget([array])) as edit:
        edit.write(FLAT, Region((0, 0), (1, 1)), np.array([[256]]))
    np.testing.assert_array_equal(array, before)


class FullDisk(np.ndarray):
    """Takes some writes, and half of one more."""

    n_left = 2

    def __setitem__(self, index, values):
        FullDisk.n_left -= 1
        if FullDisk.n_left == -1:
            rows = self.view(np.ndarray)[index]
            rows[: len(rows) // 2] = values[: len(rows) // 2]
            raise OSError(28, "No space left on device")
        self.view(np.ndarray)[index] = values


def test_a_failed_edit_leaves_everything_as_it_was(monkeypatch):
    monkeypatch.setattr(label_levels, "BLOCK_PIXELS", 30)
    monkeypatch.setattr(FullDisk, "n_left", 2)
    before = random_labels(0)
    array = before.copy().view(FullDisk)
    with pytest.raises(OutputError, match="No space left"):
        change_labels(LabelTarget([array]), FLAT, WHOLE, np.full(WHOLE.shape, 77, np.uint8))
    assert FullDisk.n_left < -1  # the third write failed, the later ones took things back
    np.testing.assert_array_equal(array, before)


def test_an_edit_whose_undo_fails_says_so(monkeypatch):
    array = random_labels(0)
    target = LabelTarget([array])

    def fail(*_):
        raise OutputError("The disk is gone", rule="It stays", cure="Bring it back")

    def write_and_stop():
        with LabelEdit(target) as edit:
            edit.write(FLAT, WHOLE, array + 1)
            monkeypatch.setattr(target, "write", fail)
            raise KeyError("stop")

    with pytest.raises(KeyError) as caught:
        write_and_stop()
    assert "The disk is gone" in caught.value.__notes__[0]


def test_erasing_takes_one_label_from_one_plane():
    array = np.zeros((2, 12, 15), np.uint8)
    array[:, 2:6, 2:6], array[:, 4:9, 6:9] = 1, 2
    expected = array.copy()
    expected[1][expected[1] == 1] = 0
    with LabelEdit(LabelTarget([array])) as edit:
        assert edit.erase(1, Plane((1, 2), (1,)), Region((3, 3), (4, 4))) == 16
        assert edit.erase(7, Plane((1, 2), (1,))) == 0
    np.testing.assert_array_equal(array, expected)
    assert len(edit.changes) == 1
