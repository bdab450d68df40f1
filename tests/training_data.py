"""Folders of synthetic images with labels, to train on and to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from napari_sam.training import synthetic_image

__all__ = ["write_images"]


def write_images(
    folder: Path, names: Sequence[str] = ("a",), shape_yx: tuple[int, int] = (96, 96)
) -> Path:
    """Write 8-bit images of nuclei and their labels, each from a seed of its own."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for seed, name in enumerate(names):
        image, labels = synthetic_image(shape_yx, np.random.default_rng(seed), "nuclei")
        Image.fromarray((image // 16).astype(np.uint8)).save(folder / "images" / f"{name}.png")
        Image.fromarray(labels.astype(np.uint16)).save(folder / "labels" / f"{name}.png")
    return folder
