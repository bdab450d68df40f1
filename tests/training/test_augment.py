"""Crops keep image and labels together, at the right size."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.training.augment import change_look, make_training_image, take_crop


def _bright_squares(
    side: int, shape: tuple[int, int] = (200, 300)
) -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros(shape, np.int32)
    count = 0
    for top in range(10, shape[0] - side, 2 * side):
        for left in range(10, shape[1] - side, 2 * side):
            count += 1
            labels[top : top + side, left : left + side] = count
    return np.where(labels > 0, 200, 10).astype(np.uint8), labels


@pytest.mark.parametrize("warp_fraction", [0.0, 1.0])
@pytest.mark.parametrize("colour", [False, True])
def test_the_image_moves_with_its_labels(colour: bool, warp_fraction: float) -> None:
    image, labels = _bright_squares(30, (400, 500))
    if colour:
        image = np.stack([image, image // 2, image // 4], axis=-1)
    source = make_training_image("squares", image, labels)
    rng = np.random.default_rng(0)
    for _ in range(20):
        crop = take_crop(source, 128, rng, warp_fraction)
        assert crop.image.shape == (128, 128, 3)
        assert crop.labels.shape == (128, 128)
        agree = (crop.image[..., 0] > 105) == (crop.labels > 0)
        assert agree.mean() > 0.97  # edges are interpolated


def test_warped_crops_are_turned_by_any_angle() -> None:
    labels = np.zeros((600, 600), np.int32)
    labels[:, 296:304] = 1  # an upright bar through the middle
    source = make_training_image("bar", np.where(labels, 200, 10).astype(np.uint8), labels)
    rng = np.random.default_rng(4)
    slants = []
    for _ in range(40):
        rows, cols = np.nonzero(take_crop(source, 128, rng, 1.0).labels)
        if len(rows) > 300:
            spread = np.cov(rows, cols)
            slants.append(abs(spread[0, 1]) / np.sqrt(spread[0, 0] * spread[1, 1]))
    assert len(slants) > 10
    assert np.median(slants) > 0.3  # upright or lying bars have no slant


@pytest.mark.parametrize("warp_fraction", [0.0, 1.0])
def test_small_images_are_padded(warp_fraction: float) -> None:
    image, labels = _bright_squares(12, (50, 40))
    source = make_training_image("x", image, labels)
    crop = take_crop(source, 256, np.random.default_rng(1), warp_fraction)
    assert crop.image.shape == (256, 256, 3)
    assert 0 < (crop.image > 0).mean() < 0.5


@pytest.mark.parametrize("side", [4, 30, 150])
def test_the_scale_brings_objects_into_the_range(side: int) -> None:
    image, labels = _bright_squares(side, (600, 600))
    source = make_training_image("x", image, labels)
    rng = np.random.default_rng(2)
    largest = 0.0
    for _ in range(12):
        areas = np.bincount(take_crop(source, 256, rng).labels.ravel())[1:]
        largest = max(largest, np.sqrt(4 * areas.max(initial=0) / np.pi))
    assert 8 <= largest <= 125


def test_the_look_changes_within_8_bit() -> None:
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    rng = np.random.default_rng(3)
    looks = [change_look(image, rng) for _ in range(20)]
    assert all(look.shape == image.shape and look.dtype == np.uint8 for look in looks)
    assert sum(not np.array_equal(look, image) for look in looks) > 10


def test_gray_stays_gray_under_noise() -> None:
    gray = np.repeat(np.random.default_rng(0).integers(0, 255, (32, 32, 1)), 3, 2).astype(np.uint8)
    for seed in range(20):
        look = change_look(gray, np.random.default_rng(seed))
        assert np.array_equal(look[..., 0], look[..., 2])
