import errno

import pytest

from napari_sam.core.errors import OutputError
from napari_sam.pipeline.journal import Journal

PLAN = {"source": {"shape": (3, 4)}, "options": {"halo": 64}}


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "cells.zarr")
    journal.start(PLAN)
    return journal


def test_finished_slices_are_remembered(journal):
    journal.record((0, 1), 5)
    journal.record((0, 2), 0)
    assert journal.resume(PLAN) == {(0, 1): 5, (0, 2): 0}
    assert journal.count_finished() == 2


def test_a_line_cut_off_by_a_crash_spoils_only_itself(journal):
    journal.record((0, 1), 5)
    with journal.path.open("a") as file:
        file.write('\n{"slice": [0, 2], "obj')
    journal.record((0, 3), 7)
    assert journal.resume(PLAN) == {(0, 1): 5, (0, 3): 7}


def test_another_plan_is_refused_with_what_changed(journal):
    changed = {"source": {"shape": (3, 4)}, "options": {"halo": 32}}
    with pytest.raises(OutputError, match=r"options\.halo was 64 and is now 32"):
        journal.resume(changed)


@pytest.mark.parametrize("content", [None, "", "{"])
def test_a_missing_or_unreadable_journal_is_refused(journal, content):
    journal.path.unlink()
    if content is not None:
        journal.path.write_text(content)
    with pytest.raises(OutputError, match="--overwrite"):
        journal.resume(PLAN)


def test_a_full_disk_is_an_output_error(journal, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OutputError, match="full"):
        journal.record((0, 0), 1)


def test_removing_twice_is_fine(journal):
    journal.remove()
    journal.remove()
    assert not journal.path.exists()
