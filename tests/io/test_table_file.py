import errno
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from napari_sam.core.errors import ConfigError, InputError, OutputError
from napari_sam.io.table_file import check_table_path, whole_file, write_table

NAMES = ("cells.csv", "cells.parquet")
COLUMNS = {
    "id": np.uint64,
    "tile": "int32",
    "is_cut": bool,
    "score": np.float32,
    "area": float,
    "unit": str,
}


def part(start, stop):
    ids = np.arange(start, stop, dtype=np.uint64) + np.uint64(2**63 + 1)
    rng = np.random.default_rng(start)
    area = rng.random(ids.size) * 1e-9
    area[:1] = np.nan
    return {
        "unit": np.array(["µm²", 'a,"b"\nc'] * ids.size)[: ids.size],
        "area": area,
        "score": rng.random(ids.size, dtype=np.float32),
        "is_cut": ids % 3 == 0,
        "tile": np.arange(start, stop, dtype=np.int32) - 2,
        "id": ids,
    }


def read(path):
    if path.suffix.lower() == ".csv":
        return pd.read_csv(path)
    return pd.read_parquet(path)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", [*NAMES, "CELLS.CSV", "cells.Parquet"])
def test_a_table_of_several_parts_is_read_back_by_pandas(tmp_path, name):
    parts = [part(0, 5), part(5, 5), part(5, 12)]
    assert write_table(tmp_path / name, COLUMNS, iter(parts)) == 12
    table = read(tmp_path / name)
    assert list(table.columns) == list(COLUMNS)
    for column in COLUMNS:
        expected = np.concatenate([rows[column] for rows in parts])
        found = table[column].to_numpy()
        if name.lower().endswith("csv") and column == "score":
            found = found.astype(np.float32)  # a text does not say how many bits
        if column != "unit":
            assert found.dtype.kind == expected.dtype.kind
        np.testing.assert_array_equal(found, expected)
    if name == "cells.parquet":
        assert [table[column].dtype for column in list(COLUMNS)[:-1]] == [
            np.dtype(dtype) for dtype in list(COLUMNS.values())[:-1]
        ]
    assert names_in(tmp_path) == [name]


def test_parquet_has_a_row_group_per_part_and_is_compressed(tmp_path):
    path = tmp_path / "cells.parquet"
    write_table(path, COLUMNS, [part(0, 5), part(5, 5), part(5, 12)])
    metadata = parquet.read_metadata(path)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [5, 7]
    assert groups[0].column(0).compression == "ZSTD"


def test_what_is_no_number_is_a_null_or_an_empty_field(tmp_path):
    columns = {"a": np.float32, "b": str, "c": float}
    rows = {
        "a": np.array([np.nan, 0.1], np.float32),
        "b": np.array([None, "x"], object),
        "c": np.array([np.inf, np.nan]),
    }
    write_table(tmp_path / "a.csv", columns, [rows])
    assert (tmp_path / "a.csv").read_bytes() == b"a,b,c\n,,inf\n0.1,x,\n"
    write_table(tmp_path / "a.parquet", columns, [rows])
    table = parquet.read_table(tmp_path / "a.parquet")
    assert [table[name].null_count for name in "abc"] == [1, 1, 1]
    assert table["c"][0].as_py() == np.inf


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parts", [[], [part(3, 3)]])
def test_an_empty_table_has_all_columns(tmp_path, name, parts):
    assert write_table(tmp_path / "new" / name, COLUMNS, parts) == 0
    table = read(tmp_path / "new" / name)
    assert (list(table.columns), len(table)) == (list(COLUMNS), 0)
    if name.endswith("parquet"):
        assert table["id"].dtype == np.uint64


@pytest.mark.parametrize("name", NAMES)
def test_parts_are_not_kept(tmp_path, name):
    path, alive = tmp_path / name, []

    class Rows(dict):
        def __init__(self):
            super().__init__({"id": np.arange(10)})
            alive.append(1)

        def __del__(self):
            alive.pop()

    def parts():
        for _ in range(20):
            yield Rows()
            assert len(alive) <= 2

    assert write_table(path, {"id": np.int64}, parts()) == 200


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "the source is gone")])
def test_a_failure_of_the_rows_leaves_the_old_table(tmp_path, name, error):
    path = tmp_path / name
    write_table(path, COLUMNS, [part(0, 3)])
    before = path.read_bytes()

    def parts():
        yield part(3, 6)
        assert path.read_bytes() == before
        raise error

    with pytest.raises(type(error)) as caught:
        write_table(path, COLUMNS, parts())
    assert caught.value is error
    assert (names_in(tmp_path), path.read_bytes()) == ([name], before)
    assert write_table(path, COLUMNS, [part(0, 9)]) == 9
    assert len(read(path)) == 9


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_said_and_leaves_the_old_table(tmp_path, name, monkeypatch):
    path = tmp_path / name
    write_table(path, COLUMNS, [part(0, 3)])
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="disk or quota is full"):
            write_table(path, COLUMNS, [part(0, 9)])
    assert (names_in(tmp_path), path.read_bytes()) == ([name], before)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_fills_up_within_a_table_is_said(tmp_path, name):
    (tmp_path / f".{name}.partial").symlink_to("/dev/full")
    rows = {"id": np.random.default_rng(0).integers(0, 2**60, 100_000)}
    with pytest.raises(OutputError, match="disk or quota is full"):
        write_table(tmp_path / name, {"id": np.int64}, [rows, rows])
    assert names_in(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such thing for folders")
def test_the_file_and_its_folder_are_on_the_disk_at_the_end(tmp_path, monkeypatch):
    synced = []

    def note(descriptor):
        synced.append((os.path.isdir(f"/dev/fd/{descriptor}"), (tmp_path / "a.bin").exists()))

    monkeypatch.setattr(os, "fsync", note)
    with whole_file(tmp_path / "a.bin") as file:
        file.write(b"x")
        assert synced == []
    assert synced == [(False, False), (True, True)]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        write_table(tmp_path / "file" / "a.csv", COLUMNS, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"area": None}, "has the columns"),
        ({"more": np.zeros(3)}, "has the columns"),
        ({"area": np.zeros(2)}, "unequal lengths .*area: 2"),
        ({"area": np.zeros((3, 1))}, "'area'.*shape"),
        ({"id": np.zeros(3)}, "'id'.*float64.*uint64"),
        ({"tile": np.zeros(3, np.uint32)}, "'tile'.*uint32.*int32"),
        ({"unit": np.zeros(3)}, "'unit'.*text"),
        ({"unit": np.array(["a", 1, "b"], object)}, "'unit'.*text"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_rows_that_do_not_fit_are_refused(tmp_path, name, change, message):
    rows = {name: values for name, values in {**part(0, 3), **change}.items() if values is not None}
    with pytest.raises(InputError, match=message):
        write_table(tmp_path / name, COLUMNS, [part(0, 3), rows])
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("dtype", [complex, np.longdouble, "datetime64[s]"])
def test_types_that_not_both_formats_know_are_refused(tmp_path, dtype):
    with pytest.raises(InputError, match="'when'"):
        write_table(tmp_path / "a.csv", {"when": dtype}, [])


@pytest.mark.parametrize("name", ["cells", "cells.xlsx", "cells.csv.gz"])
def test_other_endings_are_refused(tmp_path, name):
    for refuse in (
        lambda path: check_table_path(path, True),
        lambda path: write_table(path, COLUMNS, []),
    ):
        with pytest.raises(ConfigError, match=r"`\.csv` or `\.parquet`"):
            refuse(tmp_path / name)
    assert names_in(tmp_path) == []


def test_existing_tables_are_replaced_only_when_asked(tmp_path):
    path = tmp_path / "a.csv"
    check_table_path(path, False)
    path.write_text("x")
    with pytest.raises(OutputError, match=r"already exists.*--overwrite"):
        check_table_path(path, False)
    check_table_path(path, True)
    (tmp_path / "b.csv").mkdir()
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is a folder"):
            check_table_path(tmp_path / "b.csv", overwrite)


def test_the_import_is_light():
    code = "import sys, napari_sam.io.table_file; print({'pandas', 'pyarrow'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr
