"""Labelled images from an index and from plain folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_sam.core.errors import InputError
from napari_sam.evaluation import iter_images, list_pairs
from napari_sam.evaluation.datasets import stretch

HEADER = "file,label_file,set,use,split,modality\n"


def _write_pair(folder: Path, name: str, shape: tuple[int, int] = (12, 16)) -> None:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(exist_ok=True)
    Image.fromarray(np.full(shape, 7, np.uint8)).save(folder / "images" / name)
    Image.fromarray(np.ones(shape, np.uint16)).save(folder / "labels" / name)


def test_folders_are_paired_by_name(tmp_path: Path) -> None:
    _write_pair(tmp_path, "a.png")
    _write_pair(tmp_path, "b.png")
    (tmp_path / "labels" / "b.png").unlink()
    pairs = list_pairs(tmp_path)
    assert [pair.image_path.name for pair in pairs] == ["a.png"]
    (item,) = iter_images(pairs)
    assert item.image.shape == (12, 16)
    assert item.labels.dtype == np.int32


def test_an_index_is_filtered_by_split_and_use(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        _write_pair(tmp_path, name)
    rows = [
        "images/a.png,labels/a.png,nuclei,train,train,fluorescence\n",
        "images/b.png,labels/b.png,nuclei,train,val,fluorescence\n",
        "images/c.png,labels/c.png,other,evaluate,,phase\n",
    ]
    (tmp_path / "index.csv").write_text(HEADER + "".join(rows))
    assert len(list_pairs(tmp_path)) == 3
    (pair,) = list_pairs(tmp_path, split="val", use="train")
    assert pair.group == "nuclei fluorescence"
    with pytest.raises(InputError, match="no labelled images"):
        list_pairs(tmp_path, split="test")


def test_a_stack_gives_its_slices_with_objects(tmp_path: Path) -> None:
    image = np.arange(3 * 8 * 9, dtype=np.uint16).reshape(3, 8, 9)
    labels = np.zeros((3, 8, 9), np.uint16)
    labels[1, 2:4, 2:4] = 5
    for kind, data in (("images", image), ("labels", labels)):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "s.tif", data, photometric="minisblack")
    (item,) = iter_images(list_pairs(tmp_path))
    assert item.name == "s.tif[1]"
    assert np.array_equal(item.image, image[1])


def test_an_incomplete_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("file,set\nimages/a.png,x\n")
    with pytest.raises(InputError, match="lacks the columns"):
        list_pairs(tmp_path)


def test_unequal_shapes_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    _write_pair(tmp_path, "a.png")
    Image.fromarray(np.ones((5, 5), np.uint16)).save(tmp_path / "labels" / "a.png")
    with pytest.raises(InputError, match="shape"):
        list(iter_images(list_pairs(tmp_path)))
    (tmp_path / "images" / "a.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="cannot be read"):
        list(iter_images(list_pairs(tmp_path)))


def test_a_colour_image_keeps_its_colours() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    image[..., 0] = np.arange(100).reshape(10, 10)
    stretched = stretch(image)
    assert stretched[..., 0].max() == 255
    assert not stretched[..., 1:].any()
