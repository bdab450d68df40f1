"""Every kind draws what its labels say, in great variety, and the same for the same seed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from napari_sam.core.errors import InputError
from napari_sam.training.synthetic import KINDS, synthetic_image

SEEDS = range(10)
SIDE = 128

each_kind = pytest.mark.parametrize("kind", sorted(KINDS))


@cache
def drawn(kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    return [synthetic_image((SIDE, SIDE), np.random.default_rng(seed), kind) for seed in SEEDS]


def diameters(labels: np.ndarray) -> np.ndarray:
    return 2 * np.sqrt(np.bincount(labels.ravel())[1:] / np.pi)


def neighbours(labels: np.ndarray) -> int:
    """Pixels whose neighbour to the right or below belongs to another object."""
    pairs = ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]))
    return sum(int(((a > 0) & (b > 0) & (a != b)).sum()) for a, b in pairs)


@each_kind
def test_labels_are_whole_objects_numbered_without_gaps(kind: str) -> None:
    for image, labels in drawn(kind):
        assert image.shape[:2] == labels.shape == (SIDE, SIDE)
        assert image.dtype in (np.uint8, np.uint16)
        assert labels.dtype == np.int32
        sizes = np.bincount(labels.ravel())[1:]
        assert sizes.size >= 1
        assert sizes.min() >= 12
        for number, place in enumerate(ndimage.find_objects(labels), 1):
            assert ndimage.label(labels[place] == number)[1] == 1


@each_kind
def test_only_stains_have_colours(kind: str) -> None:
    for image, _ in drawn(kind):
        assert image.ndim == (3 if kind in ("histology", "smear") else 2)


@each_kind
def test_a_seed_fixes_image_and_labels(kind: str) -> None:
    image, labels = drawn(kind)[0]
    again, same = synthetic_image((SIDE, SIDE), np.random.default_rng(0), kind)
    assert np.array_equal(image, again)
    assert np.array_equal(labels, same)
    assert not np.array_equal(image, drawn(kind)[1][0])


@each_kind
def test_an_image_need_not_be_square(kind: str) -> None:
    image, labels = synthetic_image((72, 150), np.random.default_rng(2), kind)
    assert image.shape[:2] == labels.shape == (72, 150)


def test_without_a_kind_all_kinds_are_drawn() -> None:
    rng = np.random.default_rng(0)
    images = [synthetic_image((48, 48), rng)[0] for _ in range(30)]
    assert {(image.ndim, image.dtype) for image in images} == {
        (2, np.dtype(np.uint16)),  # cameras
        (2, np.dtype(np.uint8)),  # electron microscopes
        (3, np.dtype(np.uint8)),  # stains
    }


def test_sizes_run_from_small_to_large() -> None:
    rng = np.random.default_rng(1)
    labels = [synthetic_image((320, 320), rng, "nuclei")[1] for _ in range(10)]
    medians = [float(np.median(diameters(one))) for one in labels]
    assert min(medians) < 14
    assert max(medians) > 50
    assert max(float(diameters(one).max()) for one in labels) < 320


@each_kind
def test_densities_cover_a_range(kind: str) -> None:
    covered = [float((labels > 0).mean()) for _, labels in drawn(kind)]
    assert max(covered) - min(covered) > (0.1 if kind in ("axons", "neurites") else 0.2)
    assert max(covered) > (0.15 if kind == "axons" else 0.4)  # an axon's sheath is no part of it


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"axons", "neurites"}))
def test_objects_touch_each_other(kind: str) -> None:
    assert sum(neighbours(labels) > 20 for _, labels in drawn(kind)) >= 2


@each_kind
def test_objects_differ_from_the_ground(kind: str) -> None:
    contrasts = [contrast(image, labels) for image, labels in drawn(kind)]
    assert np.median(contrasts) > 0.6
    assert min(contrasts) > 0.3
    blank = np.random.default_rng(0).integers(100, 120, (SIDE, SIDE)).astype(np.uint16)
    assert np.median([contrast(blank, labels) for _, labels in drawn(kind)]) < 0.25


def contrast(image: np.ndarray, labels: np.ndarray) -> float:
    """How far objects, their borders and the ground differ, in brightness or in roughness."""
    gray = image.mean(axis=2) if image.ndim == 3 else image.astype(float)
    smooth = ndimage.gaussian_filter(gray, 1)
    rough = np.abs(smooth - ndimage.gaussian_filter(gray, 4))
    inside = labels > 0
    edges = ndimage.grey_erosion(labels, size=3) != ndimage.grey_dilation(labels, size=3)
    bands = [band for band in (inside & ~edges, ~inside & ~edges, edges) if band.sum() > 100]
    return max(
        float(np.ptp([plane[band].mean() for band in bands]) / plane[bands[0]].std())
        for plane in (smooth, rough)
    )


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="nuclei"):
        synthetic_image((64, 64), np.random.default_rng(0), "nucleus")


def test_an_image_too_small_for_objects_is_refused() -> None:
    with pytest.raises(InputError, match="32 rows"):
        synthetic_image((16, 64), np.random.default_rng(0))
