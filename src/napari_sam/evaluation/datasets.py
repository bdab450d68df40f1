"""Labelled images for training and evaluation, from an indexed collection or a plain folder."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.tiling import percentile_contrast

__all__ = [
    "LabelledImage",
    "PairEntry",
    "iter_images",
    "list_pairs",
    "read_image",
    "stretch",
    "thin",
]

MIN_OBJECT_PIXELS = 10
INDEX_COLUMNS = ("file", "label_file", "set", "use", "split", "modality")


@dataclass(frozen=True)
class PairEntry:
    """An image file with its label image.

    Attributes
    ----------
    image_path, label_path : Path
        The two files; a TIFF may hold a stack (Z, Y, X).
    group : str
        What figures are averaged over: set and modality.
    use : str
        ``train`` or ``evaluate``: what its licence allows.
    split : str
        ``train``, ``val`` or empty.
    """

    image_path: Path
    label_path: Path
    group: str
    use: str = "train"
    split: str = ""


@dataclass(frozen=True)
class LabelledImage:
    """An image with its objects.

    Attributes
    ----------
    name : str
        File name, with the slice for a stack.
    group : str
        Set and modality.
    image : ndarray
        (H, W) or (H, W, 3), as stored.
    labels : ndarray of int32
        (H, W); 0 is background.
    """

    name: str
    group: str
    image: NDArray[Any]
    labels: NDArray[np.int32]

    def true_masks(self, limit: int) -> NDArray[np.bool_]:
        """Return the masks (N, H, W) of ``limit`` objects at most, evenly spaced by their ids.

        Specks of fewer than ten pixels are left out.
        """
        areas = np.bincount(self.labels.ravel())
        present = np.flatnonzero(areas >= MIN_OBJECT_PIXELS)
        ids = np.array(thin(present[present > 0].tolist(), limit), dtype=np.int32)
        return np.asarray(self.labels == ids[:, None, None])


def list_pairs(
    folder: Path, *, split: str | None = None, use: str | None = None
) -> list[PairEntry]:
    """List the image and label pairs of a folder.

    Parameters
    ----------
    folder : Path
        A folder with ``index.csv`` (columns file, label_file, set, use, split, modality), or with
        ``images/`` and ``labels/`` that hold files of the same names.
    split, use : str, optional
        Keep only rows of the index with these values.

    Returns
    -------
    list of PairEntry

    Raises
    ------
    InputError
        If the folder holds no such pairs.
    """
    folder = Path(folder)
    pairs = _read_index(folder) if (folder / "index.csv").exists() else _match_folders(folder)
    kept = [
        pair
        for pair in pairs
        if (split is None or pair.split == split) and (use is None or pair.use == use)
    ]
    if not kept:
        raise InputError(
            f"The folder {folder} holds no labelled images (split {split!r}, use {use!r})",
            rule="It needs an index.csv, or images/ and labels/ with files of the same names",
            cure="Check the folder, and the split if one was asked for",
        )
    return kept


def iter_images(pairs: list[PairEntry]) -> Iterator[LabelledImage]:
    """Read the pairs one after the other; a stack gives an image for each slice with objects.

    Raises
    ------
    InputError
        If a file cannot be read, or the two shapes differ.
    """
    for pair in pairs:
        image, labels = read_image(pair.image_path), read_image(pair.label_path)
        is_stack = labels.ndim == 3
        if image.shape[: labels.ndim] != labels.shape:
            raise InputError(
                f"{pair.image_path.name} has shape {image.shape}, its labels {labels.shape}",
                rule="An image and its label image have the same rows and columns",
                cure="Correct the pair, or take it out of the index",
            )
        if not is_stack:
            yield LabelledImage(pair.image_path.name, pair.group, image, labels.astype(np.int32))
            continue
        for z in np.flatnonzero(labels.any(axis=(1, 2))):
            name = f"{pair.image_path.name}[{z}]"
            yield LabelledImage(name, pair.group, image[z], labels[z].astype(np.int32))


def stretch(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch an image (H, W) or (H, W, 3) to 0..255 between its percentiles 1 and 99.8.

    The three channels of a colour image share their limits, so that colours are kept.
    """
    return percentile_contrast(image.reshape(-1)).apply(image)


def _read_index(folder: Path) -> list[PairEntry]:
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = [name for name in INDEX_COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise InputError(
            f"{folder / 'index.csv'} lacks the columns {', '.join(missing)}",
            rule=f"An index has the columns {', '.join(INDEX_COLUMNS)}",
            cure="Add them, or take the index away to pair images/ and labels/ by name",
        )
    return [
        PairEntry(
            folder / row["file"],
            folder / row["label_file"],
            f"{row['set']} {row['modality']}",
            row["use"],
            row["split"],
        )
        for row in rows
    ]


def _match_folders(folder: Path) -> list[PairEntry]:
    by_stem = {path.stem: path for path in sorted(folder.glob("labels/*")) if path.is_file()}
    return [
        PairEntry(path, by_stem[path.stem], folder.name)
        for path in sorted(folder.glob("images/*"))
        if path.stem in by_stem
    ]


def read_image(path: Path) -> NDArray[Any]:
    """Read a PNG or TIFF file as it is stored.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        if path.suffix.lower() in {".tif", ".tiff"}:
            import tifffile

            return np.asarray(tifffile.imread(path))
        from PIL import Image

        with Image.open(path) as file:
            return np.asarray(file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error})",
            rule="Images and label images are PNG or TIFF files",
            cure="Check that the file is there and whole",
        ) from error


def thin(items: list[Any], limit: int | None) -> list[Any]:
    """Keep ``limit`` evenly spaced items of each group, or of a list without groups."""
    if limit is None:
        return items
    groups: dict[str, list[Any]] = {}
    for item in items:
        groups.setdefault(getattr(item, "group", ""), []).append(item)
    kept = []
    for members in groups.values():
        step = max(len(members) / limit, 1.0)
        kept += [members[int(index * step)] for index in range(min(limit, len(members)))]
    return kept
