"""Images come whole into the model's frame, and batches depend on seed and step alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from napari_sam.core.errors import InputError
from napari_sam.predict import SamPredictor
from napari_sam.training import DistillConfig
from napari_sam.training.distill_data import (
    DistillImage,
    DistillSource,
    frame_pixels,
    load_distill_images,
)
from tiny_models import tiny_sam

SPEC = tiny_sam("vit").input_spec
CONFIG = DistillConfig(data="", output="", teacher="", images_per_batch=2, objects_per_image=3)


def _save(folder: Path, name: str, image: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / name, image)


def test_images_and_stacks_need_no_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    _save(tmp_path / "images", "plane.tif", rng.integers(0, 4000, (64, 32), np.uint16))
    _save(tmp_path / "images", "stack.tif", rng.integers(0, 4000, (5, 40, 48), np.uint16))
    colour = rng.integers(0, 255, (32, 32, 4), np.uint8)
    Image.fromarray(colour).save(tmp_path / "images" / "colour.png")
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    images = load_distill_images(tmp_path, SPEC, with_labels=False)
    shapes = [image.pixels.shape for image in images]
    assert shapes == [(128, 128, 3), (128, 64, 1), *[(107, 128, 1)] * 5]
    assert all(image.labels is None for image in images)


def test_frames_are_what_the_predictor_encodes(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 80), np.uint8)
    image.flat[:100], image.flat[100:200] = 0, 255  # the stretch leaves such an image as it is
    _save(tmp_path / "images", "a.tif", image)
    sam = tiny_sam("vit")
    (framed,) = load_distill_images(tmp_path, SPEC, with_labels=False)
    with torch.no_grad():
        features = sam.encode(frame_pixels([framed], sam))
    embedding = SamPredictor(sam).encode(image)
    torch.testing.assert_close(features.embedding, embedding.features, rtol=1e-4, atol=1e-4)


def test_native_images_are_cut_into_windows_that_cover_them(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 4000, (300, 100), np.uint16)
    _save(tmp_path / "images", "a.tif", image)
    _save(tmp_path / "labels", "a.tif", np.arange(30000, dtype=np.uint16).reshape(300, 100))
    spec = tiny_sam("compact").input_spec
    images = load_distill_images(tmp_path, spec, with_labels=True)
    assert [image.pixels.shape for image in images] == [(128, 100, 1), (128, 100, 1), (108, 100, 1)]
    covered = np.unique(np.concatenate([image.labels.ravel() for image in images]))
    assert np.array_equal(covered, np.arange(30000))
    assert frame_pixels(images, tiny_sam("compact")).shape == (3, 3, 128, 128)


def test_labels_follow_the_pixels(tmp_path: Path) -> None:
    labels = np.zeros((32, 64), np.uint16)
    labels[8:16, 20:40] = 7
    _save(tmp_path / "images", "a.tif", labels * 100)
    _save(tmp_path / "labels", "a.tif", labels)
    ((pixels, resized),) = load_distill_images(tmp_path, SPEC, with_labels=True)
    assert resized.shape == (64, 128)
    assert np.array_equal(resized == 7, pixels[..., 0] > 127)


def test_every_image_comes_once_before_any_comes_again() -> None:
    blank = DistillImage(np.zeros((4, 4, 1), np.uint8), None)
    source, again = DistillSource([blank] * 5, CONFIG), DistillSource([blank] * 5, CONFIG)
    drawn = [index for step in range(5) for index in source.indices(step)]
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == [0, 1, 2, 3, 4]
    assert drawn[:5] != drawn[5:]
    assert [again.indices(step) for step in (4, 1)] == [drawn[8:], drawn[2:4]]


def test_prompts_lie_in_objects_and_depend_on_the_step_alone() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[10:30, 35:50] = 3
    labels[0, 0] = 5  # too small to be asked for
    image = DistillImage(np.zeros((40, 60, 1), np.uint8), labels)
    source = DistillSource([image], CONFIG)
    kinds = set()
    for step in range(8):
        batch, again = source.batch(step), source.batch(step)
        for prompts, same in zip(batch.prompts, again.prompts, strict=True):
            if prompts.clicks_xy is not None:
                assert np.array_equal(prompts.clicks_xy, same.clicks_xy)
                x, y = prompts.clicks_xy[:, 0].astype(int).T
                assert (labels[y, x] == 3).all()
                kinds.add("clicks")
            else:
                assert np.array_equal(prompts.boxes_xyxy, same.boxes_xyxy)
                assert np.abs(prompts.boxes_xyxy - [35, 10, 50, 30]).max() <= 2
                kinds.add("boxes")
    assert kinds == {"clicks", "boxes"}


def test_an_image_without_objects_has_no_prompts() -> None:
    image = DistillImage(np.zeros((8, 8, 1), np.uint8), np.zeros((8, 8), np.int32))
    assert DistillSource([image], CONFIG).batch(0).prompts == [None, None]


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        load_distill_images(tmp_path, SPEC, with_labels=False)
    _save(tmp_path / "images", "a.tif", np.zeros((2, 5, 8, 9), np.uint8))
    with pytest.raises(InputError, match="stack"):
        load_distill_images(tmp_path, SPEC, with_labels=False)
    with pytest.raises(InputError, match="labelled"):
        load_distill_images(tmp_path, SPEC, with_labels=True)
