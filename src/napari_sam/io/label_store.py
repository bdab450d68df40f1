"""A label image on disk that is edited in place: NGFF image-label, pyramid, table of objects."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast
from uuid import uuid4

import numpy as np
import zarr

from napari_sam.core.errors import InputError, OutputError
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_pyramid import LabelPyramid
from napari_sam.io.label_writer import LabelWriter
from napari_sam.io.ome_zarr import Multiscale, read_multiscale
from napari_sam.io.output_files import check_target, output_errors

__all__ = ["LABEL_KEY", "LabelStore", "columns_of", "is_label_image", "rows_of"]

LABEL_KEY = "label-value"
"""The key of NGFF for the id that a row of the table belongs to."""
INDEX_COLUMN = "index"
"""The column in which napari looks for that id."""


class LabelStore:
    """A multiscale label image on disk.

    Use :meth:`create` or :meth:`open`. No pixels are held in memory: `levels` and `pyramid` read
    and write the chunks that are indexed.

    Parameters
    ----------
    multiscale : Multiscale
        What its metadata say.
    """

    def __init__(self, multiscale: Multiscale) -> None:
        self.multiscale = multiscale
        self.path = multiscale.path

    @classmethod
    def create(
        cls,
        path: str | Path,
        layout: LabelLayout,
        *,
        source_image: str | None = None,
        name: str | None = None,
    ) -> LabelStore:
        """Create a store in which every pixel is background.

        Parameters
        ----------
        path : str or Path
            Must not exist yet; missing parent folders are created.
        layout : LabelLayout
        source_image : str, optional
            Path of the OME-Zarr image that the labels belong to, relative to `path`.
        name : str, optional
            Name of the label image; by default that of the directory.

        Returns
        -------
        LabelStore

        Raises
        ------
        OutputError
            When something is there already, or the store cannot be written there.
        """
        path = Path(path)
        check_target(path, overwrite=False, cure="Choose another name")
        LabelWriter.create(path, layout, source_image=source_image, name=name).finish()
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> LabelStore:
        """Open a label image, of this or another program; to be edited where that is allowed.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        LabelStore

        Raises
        ------
        InputError
            When there is no label image, its metadata are damaged, or its ids are no integers.
        """
        path = Path(path)
        mode: Literal["r", "r+"] = "r+" if os.access(path, os.W_OK) else "r"
        multiscale = read_multiscale(path, mode)
        if not is_label_image(multiscale):
            raise InputError(
                f"The OME-Zarr image {path} is no label image",
                rule="Label images have `image-label` metadata or stand in a group of labels",
                cure="Open it as an image, or give the path of one of its labels",
            )
        if multiscale.levels[0].dtype.kind not in "uib":
            raise InputError(
                f"The label image {path} holds numbers of type {multiscale.levels[0].dtype}",
                rule="Label ids are integers",
                cure="Open it as an image, or convert it to integers",
            )
        return cls(multiscale)

    @property
    def levels(self) -> tuple[zarr.Array[Any], ...]:
        """One array per level, the full resolution first."""
        return self.multiscale.levels

    @property
    def pyramid(self) -> LabelPyramid:
        """The levels as one array of full resolution; writing keeps the others in step."""
        return LabelPyramid(self.levels)

    @property
    def factors_yx(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of the full resolution per row and column of each level."""
        return self.pyramid.factors_yx

    @property
    def is_writable(self) -> bool:
        """Whether pixels and properties can be written."""
        return not self.levels[0].read_only

    @property
    def is_finished(self) -> bool:
        """Whether the program that writes it has said that it is complete."""
        return self.multiscale.state != "unfinished"

    @property
    def properties(self) -> list[dict[str, Any]]:
        """One row per object, as they are on disk now; each has a ``label-value``.

        Raises
        ------
        InputError
            When the metadata were damaged or removed since.
        """
        attributes = read_multiscale(self.path).attributes
        rows = attributes.get("image-label", {}).get("properties") or []
        return [dict(row) for row in rows if isinstance(row, Mapping) and LABEL_KEY in row]

    def write_properties(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace the table of objects, at once: a reader sees the old one or the new one.

        Parameters
        ----------
        rows : iterable of mapping
            One per object, each with its id as ``"label-value"``. Values of numpy are turned into
            those of JSON, and what is not a number (NaN) into null.

        Raises
        ------
        InputError
            When a row has no id.
        OutputError
            When the store cannot be written.
        """
        table = [_checked(row) for row in rows]

        def change(attributes: dict[str, Any]) -> None:
            owner = attributes.get("ome", attributes)
            owner.setdefault("image-label", {})["properties"] = table

        update_attributes(self.path, change)


def is_label_image(multiscale: Multiscale) -> bool:
    """Tell a label image from an image.

    Parameters
    ----------
    multiscale : Multiscale

    Returns
    -------
    bool
        True when the metadata say so, or a group of labels around it lists it.
    """
    path = multiscale.path.absolute()
    return "image-label" in multiscale.attributes or path.name in listed_labels(path.parent)


def listed_labels(group: Path) -> list[str]:
    """Read the names in a group of labels, such as ``image.zarr/labels``.

    Parameters
    ----------
    group : Path

    Returns
    -------
    list of str
        Empty when there is no such group.
    """
    try:
        attributes = read_attributes(group)
    except (OSError, ValueError):
        return []
    names = attributes.get("ome", attributes).get("labels", [])
    return [str(name) for name in names] if isinstance(names, list) else []


def read_attributes(group: Path) -> dict[str, Any]:
    """Read the attributes of a Zarr group, of version 2 or 3, as they are on disk now.

    Parameters
    ----------
    group : Path

    Returns
    -------
    dict
        Empty where none were written.
    """
    is_v3 = (group / "zarr.json").exists()
    file = group / ("zarr.json" if is_v3 else ".zattrs")
    if not file.exists():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    attributes = content.get("attributes", {}) if is_v3 else content
    return cast("dict[str, Any]", attributes)


def update_attributes(group: Path, change: Any) -> None:
    """Change the attributes of a Zarr group in one step.

    Parameters
    ----------
    group : Path
    change : callable
        Called with the dictionary of attributes, which it changes.

    Raises
    ------
    OutputError
        When they cannot be written.
    """
    is_v3 = (group / "zarr.json").exists()
    file = group / ("zarr.json" if is_v3 else ".zattrs")
    with output_errors(group):
        try:
            content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        except ValueError as error:
            raise OutputError(
                f"The metadata in {file} cannot be read: {error}",
                rule="Metadata are changed only where they are whole",
                cure="Restore the file, or save the labels under another name",
            ) from error
        change(content.setdefault("attributes", {}) if is_v3 else content)
        partial = file.with_name(f"{file.name}.{uuid4().hex}.partial")
        try:
            partial.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


def columns_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn the rows of a table into columns, as napari wants them.

    Values that are tables or lists themselves, such as prompts, are left out.

    Parameters
    ----------
    rows : iterable of mapping
        As in :attr:`LabelStore.properties`.

    Returns
    -------
    dict of str to list
        ``index`` holds the ids; a missing value is None. Empty when there are no rows.
    """
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row if name != LABEL_KEY)
    nested = {name for row in rows for name in row if isinstance(row[name], dict | list)}
    columns = {INDEX_COLUMN: [row[LABEL_KEY] for row in rows]} if rows else {}
    return columns | {
        name: [row.get(name) for row in rows]
        for name in names
        if name not in nested and name != INDEX_COLUMN
    }


def rows_of(columns: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """Turn columns, one of which is ``index``, into rows.

    Parameters
    ----------
    columns : mapping of str to iterable

    Returns
    -------
    list of dict
        Empty when no column says which id a row belongs to.
    """
    if INDEX_COLUMN not in columns:
        return []
    names = [LABEL_KEY if name == INDEX_COLUMN else str(name) for name in columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _checked(row: Mapping[str, Any]) -> dict[str, Any]:
    value = _as_json(row.get(LABEL_KEY))
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a table with gaps makes floats of whole columns
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(
            f"A row of the table of objects has the label {row.get(LABEL_KEY)!r}",
            rule=f"Each row names the id of its object, a whole number, as `{LABEL_KEY}`",
            cure="Give the ids in a column `index`, or leave the row out",
        )
    return {LABEL_KEY: value} | {
        str(name): _as_json(entry) for name, entry in row.items() if name != LABEL_KEY
    }


def _as_json(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _as_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_json(entry) for entry in value]
    return str(value)
