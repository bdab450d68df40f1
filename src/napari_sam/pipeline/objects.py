"""The objects of a label image: where they came from, and how sure the model was."""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from napari_sam.core.errors import InputError, NapariSamError
from napari_sam.core.plane import Plane
from napari_sam.core.prompts import PromptSet
from napari_sam.core.region import Box, Region
from napari_sam.pipeline.candidates import Preference, check_preference

__all__ = ["ObjectRecord", "ObjectTable"]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ObjectRecord:
    """One object of a label image, and all that is needed to make its mask again.

    Parameters
    ----------
    label : int
        Its id in the label image.
    plane : Plane
        The plane of the image that it was segmented on.
    prompts : PromptSet
        The prompts that led to it; empty if it was found without.
    predicted_iou : float
        The model's own guess of the intersection over union with the truth.
    stability_score : float
        How little the mask changes when its threshold moves, 0 to 1.
    area : int
        Pixels it was written with, less those that other objects have taken since.
    box_xyxy : tuple of int
        Left, top, right and bottom when it was written; right and bottom are exclusive.
    mask_index : int
        Which of the masks that the model offered was taken.
    threshold : float
        Threshold of the mask logits.
    preference : {"best", "whole", "part", "sub-part"}
        Which mask of an ambiguous first point the later ones went on from, where none was chosen.
    """

    label: int
    plane: Plane
    prompts: PromptSet
    predicted_iou: float
    stability_score: float
    area: int
    box_xyxy: tuple[int, int, int, int]
    mask_index: int = 0
    threshold: float = 0.0
    preference: Preference = "best"

    @property
    def region_yx(self) -> Region:
        """Its box as rows and columns."""
        return Box(*self.box_xyxy).region_yx

    def to_json(self) -> dict[str, Any]:
        """Turn the record into values that JSON knows.

        Returns
        -------
        dict
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["plane"] = self.plane.to_json()
        values["prompts"] = self.prompts.to_json()
        values["box_xyxy"] = list(self.box_xyxy)
        for name in ("predicted_iou", "stability_score"):  # JSON has no NaN
            values[name] = None if math.isnan(values[name]) else values[name]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ObjectRecord:
        """Take back what :meth:`to_json` gave.

        Parameters
        ----------
        values : mapping

        Returns
        -------
        ObjectRecord

        Raises
        ------
        InputError
            When the values are not those of an object.
        """
        try:
            left, top, right, bottom = map(int, values["box_xyxy"])
            record = cls(
                label=int(values["label"]),
                plane=Plane.from_json(values["plane"]),
                prompts=PromptSet.from_json(values["prompts"]),
                predicted_iou=_score(values["predicted_iou"]),
                stability_score=_score(values["stability_score"]),
                area=int(values["area"]),
                box_xyxy=(left, top, right, bottom),
                mask_index=int(values["mask_index"]),
                threshold=float(values["threshold"]),
                preference=values["preference"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _not_stored(values) from error
        check_preference(record.preference)
        return record


class ObjectTable:
    """The objects of a label image, in order of label.

    The columns are kept up to date one object at a time, so that a table of many thousands costs
    little per change.
    """

    def __init__(self) -> None:
        self._records: dict[int, ObjectRecord] = {}
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self.revision = 0
        """Counts the changes, so that a viewer knows when to read the columns again."""

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, label: object) -> bool:
        return label in self._records

    def __iter__(self) -> Iterator[ObjectRecord]:
        return (self._records[label] for label in self._labels)

    def get(self, label: int) -> ObjectRecord | None:
        """Look an object up.

        Parameters
        ----------
        label : int

        Returns
        -------
        ObjectRecord or None
        """
        return self._records.get(label)

    def put(self, record: ObjectRecord) -> None:
        """Add an object, or replace the one of the same label.

        Parameters
        ----------
        record : ObjectRecord
        """
        place = bisect_left(self._labels, record.label)
        self._remove_at(place, record.label)
        for name, value in _row(record).items():
            self._columns[name].insert(place, value)
        self._records[record.label] = record
        self.revision += 1

    def remove(self, label: int) -> None:
        """Take an object out, if it is there.

        Parameters
        ----------
        label : int
        """
        self._remove_at(bisect_left(self._labels, label), label)
        self.revision += 1

    def after(self, label: int | None) -> ObjectRecord | None:
        """Find the object of the next larger label.

        Parameters
        ----------
        label : int or None
            None for the first object.

        Returns
        -------
        ObjectRecord or None
            None after the last one.
        """
        place = 0 if label is None else bisect_right(self._labels, label)
        return self._records[self._labels[place]] if place < len(self) else None

    def before(self, label: int | None) -> ObjectRecord | None:
        """Find the object of the next smaller label.

        Parameters
        ----------
        label : int or None
            None for the last object.

        Returns
        -------
        ObjectRecord or None
            None before the first one.
        """
        place = len(self) if label is None else bisect_left(self._labels, label)
        return self._records[self._labels[place - 1]] if place > 0 else None

    def as_columns(self) -> dict[str, list[Any]]:
        """List the objects column by column, as the features of a labels layer want them.

        Returns
        -------
        dict
            From name to one value per object: index (the label), predicted_iou, stability_score,
            area, n_positive_points, n_negative_points, plane (its index along the axes that are
            not shown), plane_axes (rows and columns), x0, y0, x1, y1, mask_index, threshold,
            preference and prompts (as JSON).
        """
        return {name: list(values) for name, values in self._columns.items()}

    def to_json(self) -> dict[str, Any]:
        """Turn the table into values that JSON knows.

        Returns
        -------
        dict
        """
        return {"version": FORMAT_VERSION, "objects": [record.to_json() for record in self]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ObjectTable:
        """Take back what :meth:`to_json` gave.

        Parameters
        ----------
        values : mapping

        Returns
        -------
        ObjectTable

        Raises
        ------
        InputError
            When the values are not those of a table, or of a newer version.
        """
        if not isinstance(values, Mapping) or values.get("version") != FORMAT_VERSION:
            raise _not_stored(values)
        objects = values.get("objects")
        if not isinstance(objects, list):
            raise _not_stored(values)
        table = cls()
        for record in objects:
            table.put(ObjectRecord.from_json(record))
        return table

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any]]) -> ObjectTable:
        """Take back what :meth:`as_columns` gave, as from a file that was saved.

        Parameters
        ----------
        columns : mapping
            From name to one value per object. Rows of objects that were not made by prompts, and
            columns of others, are left out.

        Returns
        -------
        ObjectTable
        """
        table = cls()
        if not set(_COLUMNS) <= set(columns):
            return table
        for values in zip(*(columns[name] for name in _COLUMNS), strict=True):
            row = dict(zip(_COLUMNS, values, strict=True))
            with suppress(NapariSamError, ValueError, TypeError):
                table.put(_record(row))
        return table

    @property
    def _labels(self) -> list[int]:
        return self._columns["index"]

    def _remove_at(self, place: int, label: int) -> None:
        if self._records.pop(label, None) is not None:
            for column in self._columns.values():
                del column[place]


def _row(record: ObjectRecord) -> dict[str, Any]:
    signs = [point.is_positive for point in record.prompts.points]
    left, top, right, bottom = record.box_xyxy
    return {
        "index": record.label,
        "predicted_iou": record.predicted_iou,
        "stability_score": record.stability_score,
        "area": record.area,
        "n_positive_points": signs.count(True),
        "n_negative_points": signs.count(False),
        "plane": ", ".join(map(str, record.plane.position)),
        "plane_axes": ", ".join(map(str, record.plane.axes_yx)),
        "x0": left,
        "y0": top,
        "x1": right,
        "y1": bottom,
        "mask_index": record.mask_index,
        "threshold": record.threshold,
        "preference": record.preference,
        "prompts": json.dumps(record.prompts.to_json(), separators=(",", ":")),
    }


def _record(row: Mapping[str, Any]) -> ObjectRecord:
    """Make the record of a row of columns."""
    position = [int(index) for index in str(row["plane"]).split(",") if index.strip()]
    axes_yx = [int(axis) for axis in str(row["plane_axes"]).split(",")]
    return ObjectRecord.from_json(
        {
            **{name: row[name] for name in ("predicted_iou", "stability_score", "area")},
            **{name: row[name] for name in ("mask_index", "threshold", "preference")},
            "label": row["index"],
            "plane": {"axes_yx": axes_yx, "position": position},
            "prompts": json.loads(row["prompts"]),
            "box_xyxy": [row["x0"], row["y0"], row["x1"], row["y1"]],
        }
    )


_COLUMNS = (
    *("index", "predicted_iou", "stability_score", "area"),
    *("n_positive_points", "n_negative_points", "plane", "plane_axes", "x0", "y0", "x1", "y1"),
    *("mask_index", "threshold", "preference", "prompts"),
)


def _score(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _not_stored(values: object) -> InputError:
    return InputError(
        f"The objects {str(values)[:80]} were given",
        rule=f"Objects are stored as version {FORMAT_VERSION} of napari_sam's table of objects",
        cure="Use a table as napari_sam wrote it, or a newer napari_sam",
    )
