"""The tiles of a slice that are segmented, on disk until the slice is stitched.

One file a tile, written under another name and renamed when it is on the disk: a file that is there
is whole, and a run that was stopped in any way goes on behind the last one. The files lie beside
the output in a folder ``NAME.tiles``.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import OutputError
from napari_sam.io.output_files import output_errors, remove_store
from napari_sam.labels import PIECE, TileLabels, pieces_of
from napari_sam.pipeline.segmenters import TileObjects
from napari_sam.tiling import TileGrid

_DAMAGED = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)

__all__ = ["LOADED_TILES", "TileResults", "save_arrays", "tile_folder"]

LOADED_TILES = 12
"""Tiles that are kept in memory: enough for those around a place, and for a part of a row."""


def tile_folder(target: Path) -> Path:
    """Return the folder of the tiles of an output.

    Parameters
    ----------
    target : Path
        Directory of the label store.

    Returns
    -------
    Path
    """
    return target.with_name(f"{target.name}.tiles")


class TileResults:
    """The segmented tiles of one slice.

    Parameters
    ----------
    folder : Path
        Of this slice alone; it is made with the first tile.
    grid : TileGrid
        The tiles.
    """

    def __init__(self, folder: Path, grid: TileGrid) -> None:
        self.folder = folder
        self._grid = grid
        self._loaded: OrderedDict[int, TileLabels] = OrderedDict()

    def count(self) -> int:
        """Count the tiles that are done.

        Returns
        -------
        int
        """
        return sum(self._path(number).is_file() for number in range(len(self._grid)))

    def known(self) -> dict[int, int | None]:
        """Read what is known of each tile.

        Returns
        -------
        dict of int to (int or None)
            As :meth:`n_invalid` tells, by number.
        """
        return {number: self.n_invalid(number) for number in range(len(self._grid))}

    def n_invalid(self, number: int) -> int | None:
        """Count the pixels that a tile owns and that were not finite.

        Parameters
        ----------
        number : int
            Number of the tile.

        Returns
        -------
        int or None
            None for a tile that is not done, or whose file is damaged.
        """
        try:
            return self._read(number)
        except _DAMAGED:
            return None

    def save(self, number: int, objects: TileObjects, n_invalid: int) -> None:
        """Write a tile that is done; when this returns, it is on the disk.

        Parameters
        ----------
        number : int
            Number of the tile.
        objects : TileObjects
            What was found in it.
        n_invalid : int
            Pixels that the tile owns and that were not finite.

        Raises
        ------
        OutputError
            When the disk is full or the folder cannot be written.
        """
        tile = self._grid[number]
        pieces = pieces_of(number, TileLabels(tile.read, tile.write, *objects), self._grid.shape_yx)
        path = self._path(number)
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_arrays(
                path,
                labels=objects.labels,
                scores=objects.scores,
                pieces=pieces,
                n_invalid=np.array(n_invalid),
            )

    def load(self, number: int) -> TileLabels:
        """Read a tile that is done.

        Parameters
        ----------
        number : int
            Number of the tile.

        Returns
        -------
        TileLabels

        Raises
        ------
        OutputError
            When its file cannot be read.
        """
        if number not in self._loaded:
            try:
                self._read(number)
            except _DAMAGED as error:
                raise self._unreadable(number, error) from error
        self._loaded.move_to_end(number)
        return self._loaded[number]

    def load_pieces(self) -> NDArray[Any]:
        """Read what is known of the objects of all tiles, without their pixels.

        Returns
        -------
        ndarray of PIECE
            By global id.

        Raises
        ------
        OutputError
            When a file cannot be read.
        """
        pieces = [np.zeros(0, dtype=PIECE)]
        for number in range(len(self._grid)):
            try:
                with np.load(self._path(number)) as file:
                    pieces.append(file["pieces"])
            except _DAMAGED as error:
                raise self._unreadable(number, error) from error
        return np.concatenate(pieces)

    def remove(self) -> None:
        """Remove the files, which are no longer needed."""
        self._loaded.clear()
        remove_store(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.npz"

    def _read(self, number: int) -> int:
        """Read a tile into memory; return its number of pixels that were not finite."""
        tile = self._grid[number]
        with self._path(number).open("rb") as opened, np.load(opened) as file:
            labels, scores, n_invalid = (file[name] for name in ("labels", "scores", "n_invalid"))
        self._loaded[number] = TileLabels(tile.read, tile.write, labels, scores)
        while len(self._loaded) > LOADED_TILES:
            self._loaded.popitem(last=False)
        return int(n_invalid)

    def _unreadable(self, number: int, error: Exception) -> OutputError:
        return OutputError(
            f"The tile {self._path(number)} cannot be read: {error}",
            rule="The files of finished tiles stay as they are until their slice is done",
            cure="Repeat the command with `--resume`: what is missing is done again",
        )


def save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays to a file that is there whole or not at all, whatever happens.

    Parameters
    ----------
    path : Path
        Ends in ``.npz``; its folder exists.
    **arrays : ndarray
        By name.
    """
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **cast("dict[str, Any]", arrays))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
