"""Runs with a segmenter that is always right: what is counted and drawn is what is there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

from napari_sam.io import ArrayVolume
from napari_sam.io.label_layout import LabelLayout
from napari_sam.pipeline import (
    Finished,
    FunctionSegmenter,
    LinkConfig,
    SegmentConfig,
    segment_volume,
)

# Other tests reach the same lines, and measuring coverage makes these half as long again.
pytestmark = pytest.mark.no_cover

Labels = NDArray[np.integer]


def by_name(tile: NDArray[np.uint8]) -> Labels:
    """Read the name of the object at each pixel from two colours; an object is one label."""
    names = tile[..., 0].astype(np.int64) + 256 * tile[..., 1].astype(np.int64)
    ids, labels = np.unique(names, return_inverse=True)
    return labels.reshape(names.shape) + (ids[0] != 0)


def by_pieces(tile: NDArray[np.uint8]) -> Labels:
    """See as objects what is connected within the tile."""
    return label(by_name(tile), connectivity=1)


@pytest.fixture(autouse=True, scope="module")
def small_and_quick() -> Iterator[None]:
    """Several chunks in a small slice; nothing waits until files are on the disk."""

    def layout(**given: Any) -> LabelLayout:
        return LabelLayout(**given, chunk=24)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_sam.pipeline.segment_target.LabelLayout", layout)
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


def segmented(
    truth: Labels,
    tile: int,
    halo: int,
    *,
    see: Any = by_name,
    noise: bool = True,
    link: LinkConfig | None = None,
) -> tuple[NDArray[Any], int]:
    """Draw the truth in colours, segment it in a whole run, and return the labels on the disk.

    A third colour is noise; without it tiles without objects are even, and are not looked at.
    """
    stack = truth if truth.ndim == 3 else truth[np.newaxis]
    colors = np.zeros((*stack.shape, 3), np.uint8)
    colors[..., 0], colors[..., 1] = stack % 256, stack // 256
    if noise:
        colors[..., 2] = np.random.default_rng(0).integers(0, 256, stack.shape)
    volume = ArrayVolume("truth", [colors], "ZYXS")
    config = SegmentConfig(tile=tile, halo=halo, min_size=1, contrast_limits=(0, 255), link=link)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "labels.zarr"
        events = list(segment_volume(volume, target, config, FunctionSegmenter(see, "truth")))
        labels = np.asarray(zarr.open_array(target / "0", mode="r"))
    assert isinstance(events[-1], Finished)
    return labels.reshape(truth.shape), events[-1].n_objects


def assert_is_truth(found: tuple[NDArray[Any], int], truth: Labels) -> None:
    """Equal up to the numbering: each object is one label, and each label one object."""
    labels, n_objects = found
    names = np.unique(truth[truth > 0])
    np.testing.assert_array_equal(labels > 0, truth > 0)
    pairs = np.unique(np.stack((labels[truth > 0], truth[truth > 0])), axis=1)
    assert pairs.shape[1] == len(names) == n_objects
    np.testing.assert_array_equal(pairs[0], np.arange(1, n_objects + 1))


def disc(shape: tuple[int, ...], center: tuple[float, ...], radius: float) -> NDArray[np.bool_]:
    """A disc, or a ball in three dimensions."""
    at = np.ogrid[tuple(slice(n) for n in shape)]
    return sum((a - c) ** 2 for a, c in zip(at, center, strict=True)) <= radius**2


# ---- objects that are seen whole


@st.composite
def blobs(draw: st.DrawFn) -> tuple[Labels, int, int]:
    """Connected objects no wider than the halo, touching or not, in a slice of odd shape."""
    shape = draw(st.integers(2, 75)), draw(st.integers(2, 75))
    halo, tile = draw(st.integers(2, 25)), draw(st.integers(6, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = np.zeros(shape, np.int32)
    for name in range(1, draw(st.integers(0, 30)) + 1):
        y, x = rng.integers(shape[0]), rng.integers(shape[1])
        side = int(rng.integers(1, halo + 1))
        window = truth[y : y + side, x : x + side]
        window[(rng.random(window.shape) < 0.8) & (window == 0)] = name
    return label(truth, connectivity=1).astype(np.int32), tile, halo


@settings(max_examples=40)
@given(blobs(), st.sampled_from([by_name, by_pieces]), st.booleans())
def test_objects_within_the_halo_come_out_as_untiled(
    case: tuple[Labels, int, int], see: Any, noise: bool
) -> None:
    truth, tile, halo = case
    if truth.any() or noise:
        assert_is_truth(segmented(truth, tile, halo, see=see, noise=noise), truth)


@pytest.mark.parametrize(
    ("shape", "tile", "halo"),
    [
        ((61, 41), 20, 6),  # the last tiles have one row, and one column
        ((61, 61), 12, 30),  # a halo of several tiles
        ((33, 200), 30, 10),  # one row of tiles: the slice is no higher than a window
        ((2, 90), 9, 7),
        ((9, 11), 1, 4),
        ((90, 2), 9, 7),
    ],
)
def test_shapes_that_do_not_fit(shape: tuple[int, int], tile: int, halo: int) -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros(shape, np.int32)
    for y in range(0, shape[0], 5):
        for x in range(0, shape[1], 5):
            if rng.random() < 0.7:
                truth[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = truth.max() + 1
    assert_is_truth(segmented(truth, tile, halo), truth)


def test_most_tiles_are_empty() -> None:
    truth = np.zeros((150, 130), np.int32)
    truth[37:44, 77:84], truth[149, 129], truth[0, 0] = 1, 2, 3
    assert_is_truth(segmented(truth, 20, 8, noise=False), truth)
    nothing = np.zeros_like(truth)
    assert_is_truth(segmented(nothing, 20, 8), nothing)


# ---- discs on each kind of seam, exactly counted


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("halo", [2, 4, 8])
def test_discs_at_every_offset_from_every_kind_of_seam(radius: int, halo: int) -> None:
    """Of 2r + 1 by 2r + 1 tiles each has a disc inside, on a seam of each kind, and on its corner.

    Each is shifted otherwise, by all steps from -r to r. With a halo of two pixels no tile sees the
    larger ones whole.
    """
    tile, steps = 28, range(-radius, radius + 1)
    shape = (len(steps) + 1) * tile + 5, (len(steps) + 1) * tile + 9
    truth, count = np.zeros(shape, np.int32), 0
    for i, dy in enumerate(steps):
        for j, dx in enumerate(steps):
            for in_y, in_x in ((0, 0), (0, 14), (14, 0), (14, 14)):  # corner, seams, inside
                center = (i + 1) * tile + in_y + dy, (j + 1) * tile + in_x + dx
                count += 1
                truth[disc(shape, center, radius)] = count
    found = segmented(truth, tile, halo)
    assert found[1] == count == 4 * len(steps) ** 2
    assert_is_truth(found, truth)


@pytest.mark.parametrize("see", [by_name, by_pieces])
def test_balls_over_slices_and_seams_are_counted_exactly(see: Any) -> None:
    """Balls inside tiles, on seams and corners, at different depths; some touch in one slice."""
    shape, radius, spots = (17, 75, 77), 4, range(9, 75, 11)
    truth, count = np.zeros(shape, np.int32), 0
    for y in spots:
        for x in spots:
            for z in (3, 13) if (y + x) % 2 else (8,):
                count += 1
                truth[disc(shape, (z, y, x), radius)] = count
    any_overlap = LinkConfig(axis="Z", min_iou=0.0)  # the first slice of a ball is one pixel
    found = segmented(truth, 22, 9, see=see, link=any_overlap)
    assert found[1] == count
    assert_is_truth(found, truth)


# ---- objects wider than a window


def bar(shape: tuple[int, int], at: int, width: int, *, along: int) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    where = (slice(at, at + width), slice(2, shape[1] - 3))
    mask[where if along else where[::-1]] = True
    return mask


def ring(shape: tuple[int, int], center: tuple[int, int], radius: int) -> NDArray[np.bool_]:
    return disc(shape, center, radius) & ~disc(shape, center, radius - 4)


def corner(shape: tuple[int, int], y: int, x: int, length: int) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    mask[y : y + length, x : x + 4] = True
    mask[y + length - 4 : y + length, x : x + length] = True
    return mask


WIDE = {
    "bars": [bar((90, 85), 10 * i, 4, along=1) for i in range(9)],
    "standing bars": [bar((90, 85), 10 * i + 3, 5, along=0) for i in range(8)],
    "rings": [ring((90, 85), (44, 41), radius) for radius in (40, 30, 20, 10)],
    "corners": [corner((90, 85), 8 * i, 8 * i + 2, 80 - 12 * i) for i in range(5)],
    "all of it": [np.ones((90, 85), np.bool_)],
    "a frame and what is in it": [
        ring((90, 85), (44, 41), 41),
        disc((90, 85), (44, 41), 33),
    ],
}


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize(
    ("see", "tile", "halo"),
    [(by_name, 12, 5), (by_name, 9, 14), (by_pieces, 16, 1), (by_pieces, 12, 7)],
)
def test_objects_wider_than_windows(name: str, see: Any, tile: int, halo: int) -> None:
    truth = np.zeros((90, 85), np.int32)
    for number, mask in enumerate(WIDE[name], start=1):
        truth[mask & (truth == 0)] = number
    assert_is_truth(segmented(truth, tile, halo, see=see), truth)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(8, 20), st.integers(1, 12), st.integers(2, 9))
def test_winding_objects_that_tile_the_slice(seed: int, tile: int, halo: int, count: int) -> None:
    """Objects of any width that touch each other everywhere."""
    rng = np.random.default_rng(seed)
    height = ndimage.gaussian_filter(rng.random((60, 55)), 5)
    bands = np.searchsorted(np.quantile(height, np.linspace(0, 1, count + 1)[1:-1]), height)
    truth = label(bands + 1, connectivity=1).astype(np.int32)
    assert_is_truth(segmented(truth, tile, halo), truth)
