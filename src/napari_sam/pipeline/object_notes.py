"""What is known of each object of a run, kept on disk slice by slice until the run is complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import OutputError
from napari_sam.io.output_files import output_errors, sync_path
from napari_sam.labels import Paintings
from napari_sam.pipeline.tile_results import save_arrays
from napari_sam.tiling import TileGrid

__all__ = ["OBJECT_NOTE", "ObjectNotes", "object_notes", "table_columns", "table_parts"]

OBJECT_NOTE = np.dtype(
    [
        ("id", np.uint64),
        ("tile", np.int64),
        ("box", np.int32, (4,)),
        ("centroid", np.float64, (2,)),
        ("area_px", np.int64),
        ("score", np.float32),
        ("predicted_iou", np.float32),
        ("stability_score", np.float32),
        ("n_tiles", np.int32),
        ("crosses_seam", np.bool_),
        ("is_cut", np.bool_),
        ("touches_border", np.bool_),
    ]
)
"""Of one object: its id; the tile that it is painted from; its box as (top, left, bottom, right),
the last two not included, and its centroid, in pixels of the slice; its pixels; its scores; how
many tiles saw it; whether it reaches over the border between two tiles; whether no tile saw it
whole; and whether it touches the border of the slice."""


def object_notes(
    kept: Paintings, measures: NDArray[Any], offset: int, grid: TileGrid
) -> NDArray[Any]:
    """Put together what is known of the objects of a slice.

    Parameters
    ----------
    kept : Paintings
        The objects.
    measures : ndarray of MEASURE
        Of each of them as painted, numbered by its place in `kept`.
    offset : int
        Their ids follow this one.
    grid : TileGrid
        The tiles of the slice.

    Returns
    -------
    ndarray of OBJECT_NOTE
        By id.
    """
    at = measures["number"]
    box = measures["box"]
    notes = np.zeros(len(measures), dtype=OBJECT_NOTE)
    notes["id"] = at + offset + 1
    notes["tile"] = kept.tile[at]
    notes["box"] = box
    notes["centroid"] = measures["sum_yx"] / measures["area"][:, np.newaxis]
    notes["area_px"] = measures["area"]
    notes["score"], notes["predicted_iou"] = kept.score[at], kept.predicted_iou[at]
    notes["stability_score"] = kept.stability[at]
    notes["n_tiles"], notes["is_cut"] = kept.n_tiles[at], kept.is_cut[at]
    notes["crosses_seam"] = (box[:, :2] // grid.side_yx != (box[:, 2:] - 1) // grid.side_yx).any(1)
    notes["touches_border"] = (box[:, :2] == 0).any(1) | (box[:, 2:] == grid.shape_yx).any(1)
    return notes


class ObjectNotes:
    """The notes of a run, one file a slice.

    Parameters
    ----------
    folder : Path
        It is made with the first slice.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, slice_number: int, notes: NDArray[Any]) -> None:
        """Keep the notes of a slice; when this returns, they are on the disk.

        Parameters
        ----------
        slice_number : int
            Position of the slice in the run.
        notes : ndarray of OBJECT_NOTE

        Raises
        ------
        OutputError
            When the disk is full.
        """
        path = self._path(slice_number)
        with output_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            save_arrays(path, notes=notes)
            sync_path(self._folder)

    def load(self, slice_number: int) -> NDArray[Any]:
        """Read the notes of a slice.

        Parameters
        ----------
        slice_number : int
            Position of the slice in the run.

        Returns
        -------
        ndarray of OBJECT_NOTE

        Raises
        ------
        OutputError
            When they are missing or damaged.
        """
        path = self._path(slice_number)
        try:
            with np.load(path) as file:
                notes: NDArray[Any] = file["notes"]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise OutputError(
                f"The notes of objects {path} cannot be read: {error}",
                rule="They stay beside the output until its run is complete",
                cure="Start the run again with `--overwrite`",
            ) from error
        return notes

    def _path(self, slice_number: int) -> Path:
        return self._folder / f"{slice_number}.npz"


def table_columns(axes: str) -> dict[str, np.dtype[Any] | type]:
    """Name the columns of the table of objects.

    Parameters
    ----------
    axes : str
        Of the label image.

    Returns
    -------
    dict of str to dtype
        Each object's id and slice; tile; box and centroid in pixels; area in pixels and in physical
        units; scores; and what the seams between tiles did to it.
    """
    stack = {axis.lower(): np.dtype(np.int64) for axis in axes[:-2]}
    return {
        "id": np.dtype(np.uint64),
        **stack,
        "tile": np.dtype(np.int64),
        **dict.fromkeys(("y_min", "x_min", "y_max", "x_max"), np.dtype(np.int32)),
        **dict.fromkeys(("centroid_y", "centroid_x"), np.dtype(np.float64)),
        "area_px": np.dtype(np.int64),
        "area": np.dtype(np.float64),
        "area_unit": str,
        **dict.fromkeys(("score", "predicted_iou", "stability_score"), np.dtype(np.float32)),
        "n_tiles": np.dtype(np.int32),
        **dict.fromkeys(("crosses_seam", "is_cut", "touches_border"), np.dtype(np.bool_)),
    }


def table_parts(
    notes: ObjectNotes,
    axes: str,
    positions: Sequence[tuple[int, ...]],
    pixel_yx: tuple[float, float],
    units_yx: tuple[str | None, str | None],
) -> Iterator[dict[str, NDArray[Any]]]:
    """Read the table of objects, slice by slice.

    Parameters
    ----------
    notes : ObjectNotes
        Of all slices.
    axes : str
        Of the label image.
    positions : sequence of tuple of int
        Index of each slice along the axes before YX.
    pixel_yx : tuple of float
        Height and width of a pixel.
    units_yx : tuple of (str or None)
        Their units as NGFF spells them.

    Yields
    ------
    dict of str to ndarray
        As :func:`table_columns` names them.
    """
    unit = area_unit(units_yx)
    for number, position in enumerate(positions):
        found = notes.load(number)
        count = len(found)
        columns = {"id": found["id"]}
        columns |= {
            axis.lower(): np.full(count, i) for axis, i in zip(axes, position, strict=False)
        }
        columns["tile"] = found["tile"]
        columns |= dict(zip(("y_min", "x_min", "y_max", "x_max"), found["box"].T, strict=True))
        columns |= dict(zip(("centroid_y", "centroid_x"), found["centroid"].T, strict=True))
        columns["area_px"] = found["area_px"]
        columns["area"] = found["area_px"] * (pixel_yx[0] * pixel_yx[1])
        columns["area_unit"] = np.full(count, unit)
        columns |= {name: found[name] for name in table_columns(axes) if name not in columns}
        yield columns


def area_unit(units_yx: tuple[str | None, str | None]) -> str:
    """Name the unit of an area.

    Parameters
    ----------
    units_yx : tuple of (str or None)
        Units of a pixel's height and width.

    Returns
    -------
    str
        Such as ``"micrometer^2"``; ``"pixel^2"`` where the image has no pixel size.
    """
    height, width = (unit or "pixel" for unit in units_yx)
    return f"{height}^2" if height == width else f"{height}*{width}"
