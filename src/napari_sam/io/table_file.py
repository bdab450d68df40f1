"""Tables with a row per object, written part by part as CSV or Parquet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.core.errors import ConfigError, InputError, OutputError
from napari_sam.io.output_files import check_target, output_errors, sync_path

__all__ = ["check_file_target", "check_table_path", "whole_file", "write_table"]

REPLACE_CURE = "Choose another name, or use `--overwrite` to replace it"

_Columns = dict[str, NDArray[Any]]
_Write = Callable[[_Columns], None]


def write_table(
    path: str | Path,
    columns: Mapping[str, DTypeLike],
    parts: Iterable[Mapping[str, NDArray[Any]]],
) -> int:
    """Write a table in the memory of one of its parts.

    A reader sees the table that stood there before, the new one, or none: the new one takes its
    place in one step, when all of it is on the disk. Where a number is not a number (NaN), or a
    text is None, Parquet holds a null and CSV an empty field. Numbers in CSV have as many digits as
    it takes to read the same number again.

    Parameters
    ----------
    path : str or Path
        Ends in ``.csv`` or ``.parquet``, which decides what is written. What stands there is
        replaced; missing parent folders are created.
    columns : mapping of str to dtype
        Name and type of each column, in their order: booleans, integers, floating point up to 64
        bits, or text (`str`). An empty table has them too.
    parts : iterable of mapping of str to ndarray of shape (N,)
        The rows. Each part has all columns, and in each of them as many values. Parquet holds a
        row group per part that is not empty.

    Returns
    -------
    int
        The number of rows.

    Raises
    ------
    ConfigError
        When the name has another ending.
    InputError
        When a type is of another kind, or a part has other columns, unequal lengths, or values that
        do not fit the type of their column.
    OutputError
        When the disk is full or the table cannot be written.
    """
    path = Path(path)
    open_rows = _rows_writer(path)
    dtypes = {name: _checked_dtype(name, dtype) for name, dtype in columns.items()}
    n_rows = 0
    with whole_file(path) as file, open_rows(path, file, dtypes) as write:
        for part in parts:
            rows, count = _checked_part(part, dtypes)
            if count:
                write(rows)
            n_rows += count
    return n_rows


def check_table_path(path: str | Path, overwrite: bool) -> None:
    """Refuse a name for a table before anything is computed.

    Parameters
    ----------
    path : str or Path
        Where the table will be written.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    ConfigError
        When the name ends neither in ``.csv`` nor in ``.parquet``.
    OutputError
        When something is there and may not be replaced.
    """
    _rows_writer(Path(path))
    check_file_target(Path(path), overwrite=overwrite)


def check_file_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a file as target before anything is computed.

    Parameters
    ----------
    path : Path
        Where the file will be written.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    OutputError
        When something is there and may not be replaced.
    """
    if path.is_dir():
        raise OutputError(
            f"The output {path} exists and is a folder",
            rule="Only a file is replaced, never a folder",
            cure="Choose another name for the output",
        )
    if not overwrite:
        check_target(path, overwrite=False, cure=REPLACE_CURE)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file that stands under its name only when it is whole.

    Until the block ends it stands beside it under a hidden name. When the block fails, nothing is
    left, and what stood at `path` is still there.

    Parameters
    ----------
    path : Path
        What stands there is replaced; missing parent folders are created.

    Yields
    ------
    binary file
        Can be read, too.

    Raises
    ------
    OutputError
        When the disk is full or the file cannot be written.
    """
    part = path.with_name(f".{path.name}.partial")
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("w+b")  # one that is left by a run that was killed is written over
    try:
        yield file
        with output_errors(path):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(part, path)
            sync_path(path.parent)  # so that the new name survives a loss of power
    finally:
        with suppress(OSError):  # what is left to be written may not fit either
            file.close()
        part.unlink(missing_ok=True)


def _rows_writer(
    path: Path,
) -> Callable[[Path, BinaryIO, Mapping[str, np.dtype[Any]]], AbstractContextManager[_Write]]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _csv_writer
    if suffix == ".parquet":
        return _parquet_writer
    raise ConfigError(
        f"The name {path.name!r} was given for a table",
        rule="Tables are written as `.csv` or `.parquet`, and the name says which",
        cure="Let the name end in `.csv` or `.parquet`",
    )


@contextmanager
def _csv_writer(
    path: Path, file: BinaryIO, dtypes: Mapping[str, np.dtype[Any]]
) -> Iterator[_Write]:
    import pandas as pd

    def write(rows: _Columns, header: bool = False) -> None:
        text = pd.DataFrame(rows).to_csv(index=False, header=header, lineterminator="\n")
        with output_errors(path):
            file.write(text.encode())

    write({name: np.empty(0, dtype) for name, dtype in dtypes.items()}, header=True)
    yield write


@contextmanager
def _parquet_writer(
    path: Path, file: BinaryIO, dtypes: Mapping[str, np.dtype[Any]]
) -> Iterator[_Write]:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        name: pa.string() if dtype.kind == "O" else pa.from_numpy_dtype(dtype)
        for name, dtype in dtypes.items()
    }
    schema = pa.schema(list(types.items()))
    with output_errors(path):
        writer = parquet.ParquetWriter(file, schema, compression="zstd")

    def write(rows: _Columns) -> None:
        # from_pandas: what is not a number becomes null
        arrays = [pa.array(rows[name], kind, from_pandas=True) for name, kind in types.items()]
        table = pa.Table.from_arrays(arrays, schema=schema)
        with output_errors(path):
            writer.write_table(table, row_group_size=table.num_rows)

    try:
        yield write
    except BaseException:
        with suppress(OSError):  # its end goes where the rest of the file goes
            writer.close()
        raise
    with output_errors(path):
        writer.close()


def _checked_dtype(name: str, given: DTypeLike) -> np.dtype[Any]:
    """Return the type of a column, with that of texts as objects, which are not cut."""
    dtype = np.dtype(given).newbyteorder("=")
    if dtype.kind in "UO":
        return np.dtype(object)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(
            f"The column {name!r} of a table has the type {dtype}",
            rule="Columns hold booleans, integers, floating point up to 64 bits, or text",
            cure="Convert the column to one of these",
        )
    return dtype


def _checked_part(
    part: Mapping[str, NDArray[Any]], dtypes: Mapping[str, np.dtype[Any]]
) -> tuple[_Columns, int]:
    if set(part) != set(dtypes):
        raise InputError(
            f"A part of a table has the columns {', '.join(part) or '(none)'}",
            rule=f"Each part has the columns of the table: {', '.join(dtypes)}",
            cure="Give every part a value per row for each of these, and no others",
        )
    rows = {name: _checked_values(name, part[name], dtype) for name, dtype in dtypes.items()}
    lengths = {name: len(values) for name, values in rows.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise InputError(
            f"A part of a table has columns of unequal lengths ({listed})",
            rule="Each column has one value per row",
            cure="Give all columns of a part the same length",
        )
    return rows, max(lengths.values(), default=0)


def _checked_values(name: str, given: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    values = np.asarray(given)
    if dtype.kind == "O":
        kind, fits = "text", values.dtype.kind in "UO" and _are_texts(values)
    else:
        kind, fits = str(dtype), np.can_cast(values.dtype, dtype, "safe")
    fits = fits or values.size == 0  # an empty list is of no type
    if values.ndim != 1 or not fits:
        raise InputError(
            f"The column {name!r} of a table was given values of type {values.dtype} and shape "
            f"{values.shape}",
            rule=f"It holds one value of type {kind} per row, and no value is changed",
            cure="Convert the values first, or declare the column with a type that holds them all",
        )
    return values.astype(dtype)


def _are_texts(values: NDArray[Any]) -> bool:
    return all(value is None or isinstance(value, str) for value in values.flat)
