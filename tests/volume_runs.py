"""Runs over small volumes with everything on them that tiles can do to objects."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from scipy import ndimage

from napari_sam.io.label_layout import LabelLayout
from napari_sam.pipeline import SegmentConfig
from napari_sam.pipeline.segmenters import TileObjects

if TYPE_CHECKING:
    import pytest
    from numpy.typing import NDArray

__all__ = ["CONFIG", "Blobs", "bytes_of", "output_of", "small_and_quick", "write_stack"]

CONFIG = SegmentConfig(axes="ZYX", tile=40, halo=12, min_size=4, contrast_limits=(0, 255))
SHAPE = 171, 149
"""Five rows and four columns of tiles, the last ones smaller."""


@dataclasses.dataclass(frozen=True)
class Blobs:
    """Finds what is bright, and scores it by its pixels.

    Where it draws outlines depends on the whole tile, as with a network: so tiles disagree, objects
    collide, and which of them wins depends on their scores.
    """

    digest: str = "blobs"
    window, keeps_8bit = 64, False

    def __call__(self, tile: NDArray[np.uint8]) -> TileObjects:
        gray = np.ascontiguousarray(tile[..., 0])
        level = 90 + int.from_bytes(hashlib.sha256(gray).digest()[:2]) % 60
        labels, count = ndimage.label(gray > level)
        scores = np.array([_hashed(gray[labels == i]) for i in range(1, count + 1)], np.float32)
        ious = 0.5 + scores / 2
        return TileObjects(labels.astype(np.int32), scores, ious, scores / np.maximum(ious, 0.1))


def _hashed(values: NDArray[np.uint8]) -> float:
    return int.from_bytes(hashlib.sha256(values).digest()[:3]) / 2**24


def write_stack(path: Path, n_slices: int = 3, shape_yx: tuple[int, int] = SHAPE) -> Path:
    """Write blurred discs on seams, corners and elsewhere, and one wider than a tile."""
    rng = np.random.default_rng(1)
    rows, columns = np.indices(shape_yx)
    stack = np.zeros((n_slices, *shape_yx), np.uint8)
    for number in range(n_slices):
        places = [(y, x) for y in range(20, shape_yx[0], 20) for x in range(20, shape_yx[1], 20)]
        discs = np.zeros(shape_yx)
        for y, x in places:
            radius = rng.uniform(3, 9)
            dy, dx = rng.integers(-3, 4, 2)
            discs[np.hypot(rows - y - dy, columns - x - dx) < radius] = rng.uniform(150, 255)
        discs[np.hypot(rows - 90 - 4 * number, (columns - 70) / 2) < 20] = 230
        stack[number] = ndimage.gaussian_filter(discs, 1.5)
    tifffile.imwrite(path, stack, photometric="minisblack")
    return path


def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write labels in chunks of 48 pixels, with a pyramid, so that a small slice has several.

    Nothing waits until files are on the disk: that matters when power is lost, and never here.
    """
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    layout: Any = functools.partial(LabelLayout, chunk=48)
    monkeypatch.setattr("napari_sam.pipeline.segment_target.LabelLayout", layout)
    monkeypatch.setattr("napari_sam.io.label_layout.COARSEST", 50)


def output_of(folder: Path, **options: Any) -> tuple[Path, SegmentConfig]:
    """Name a store, two tables and a TIFF in a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = (str(folder / "objects.csv"), str(folder / "objects.parquet"))
    extras = {"tables": tables, "tiff": str(folder / "labels.tif")}
    return folder / "labels.zarr", dataclasses.replace(CONFIG, **extras | options)


def bytes_of(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file in a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
