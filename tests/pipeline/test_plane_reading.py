"""Frames read from any level are means of the plane's pixels, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.pipeline import plane_reading
from napari_sam.pipeline.plane_image import ArrayPlaneImage
from napari_sam.pipeline.plane_reading import pixels_to_read, read_frame
from napari_sam.predict.frames import Frame
from napari_sam.tiling.normalize import Contrast

CONTRAST = Contrast((10.0,), (3000.0,))


def shrink(array: np.ndarray, factor: int) -> np.ndarray:
    """Mean of blocks; those at the end are smaller."""
    rows, cols = (-(-length // factor) for length in array.shape[:2])
    return np.array(
        [
            [
                array[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor].mean((0, 1))
                for j in range(cols)
            ]
            for i in range(rows)
        ]
    )


class Recorder(ArrayPlaneImage):
    """Remembers what was read."""

    def __init__(self, levels: list[np.ndarray]) -> None:
        super().__init__(levels)
        self.reads: list[tuple[Region, int]] = []

    def read(self, region_yx: Region, level: int = 0) -> np.ndarray:
        self.reads.append((region_yx, level))
        return super().read(region_yx, level)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 3),
    st.sampled_from([(), (1,), (2,), (3,)]),
    st.sampled_from([np.uint8, np.uint16, np.float32, np.int32]),
    st.integers(1, 500),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_frames_are_means_whatever_the_levels(
    shape: tuple[int, int],
    factor: int,
    n_levels: int,
    channels: tuple[int, ...],
    dtype: type,
    room: int,
    corner: tuple[int, int],
) -> None:
    plane = np.random.default_rng(0).integers(0, 250, shape + channels).astype(dtype)
    levels = [plane, *(shrink(plane, 2**k).astype(np.float32) for k in range(1, n_levels + 1))]
    origin = tuple(
        min(c, (length - 1) // factor) * factor for c, length in zip(corner, shape, strict=True)
    )
    frame = Frame(origin, (shape[0] - origin[0], shape[1] - origin[1]), factor)
    contrast = Contrast((3.0,), (200.0,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plane_reading, "_PIXELS_PER_READ", room)
        pixels = read_frame(ArrayPlaneImage(levels), frame, contrast)
    means = shrink(plane[origin[0] :, origin[1] :].astype(float), factor)
    expected = contrast.apply(means).astype(int).reshape(*frame.size_yx, -1)
    shown = {1: [0, 0, 0], 2: [0, 1, 0], 3: [0, 1, 2]}[expected.shape[2]]
    assert pixels.shape == (*frame.size_yx, 3)
    at_end = [slice(0, -1 if length % factor else None) for length in shape]
    # a mean of means weighs the smaller blocks at the end otherwise
    difference = np.abs(pixels.astype(int) - expected[..., shown])[tuple(at_end)]
    assert difference.max(initial=0) <= 1


def test_full_resolution_is_the_contrast_alone() -> None:
    plane = np.random.default_rng(0).integers(0, 4000, (40, 50)).astype(np.uint16)
    pixels = read_frame(ArrayPlaneImage([plane]), Frame((8, 16), (30, 20)), CONTRAST)
    np.testing.assert_array_equal(pixels[..., 1], CONTRAST.apply(plane[8:38, 16:36]))


def test_the_coarsest_level_that_fits_is_read() -> None:
    plane = np.zeros((400, 600), np.uint8)
    image = Recorder([plane, plane[::2, ::2], plane[::4, ::4], plane[::16, ::16]])
    for factor, level, read in [(1, 0, 120), (2, 1, 60), (8, 2, 30), (16, 3, 8)]:
        image.reads.clear()
        frame = Frame((16 * 5, 16 * 10), (120, 120), factor)
        read_frame(image, frame, CONTRAST)
        assert [(r.shape, at) for r, at in image.reads] == [((read, read), level)]
        assert pixels_to_read(image, frame) >= read**2


def test_levels_of_other_ratios_are_left_out() -> None:
    plane = np.zeros((300, 300), np.uint8)
    thirds, anisotropic, uneven = plane[::3, ::3], plane[::1, ::2], plane[:140, :140]
    image = Recorder([plane, anisotropic, uneven, thirds])
    read_frame(image, Frame((0, 0), (300, 300), 4), CONTRAST)
    assert {level for _, level in image.reads} == {1}


@pytest.mark.parametrize("length", [50, 51])
def test_levels_may_round_either_way(length: int) -> None:
    plane = np.arange(101 * 101, dtype=np.uint16).reshape(101, 101)
    level = plane[: 2 * length : 2, : 2 * length : 2][:length, :length]
    pixels = read_frame(ArrayPlaneImage([plane, level]), Frame((0, 0), (101, 101), 2), CONTRAST)
    assert pixels.shape == (51, 51, 3)
    np.testing.assert_array_equal(pixels[:50, :50, 0], CONTRAST.apply(level)[:50, :50])
    if length == 50:
        np.testing.assert_array_equal(pixels[50], pixels[49])


def test_large_frames_are_read_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane_reading, "_PIXELS_PER_READ", 4000)
    image = Recorder([np.ones((512, 256), np.uint8)])
    assert read_frame(image, Frame((0, 0), (512, 256), 4), CONTRAST).shape == (128, 64, 3)
    assert max(region.shape[0] * region.shape[1] for region, _ in image.reads) <= 4000
    assert sum(region.shape[0] for region, _ in image.reads) == 512


def test_what_is_not_finite_is_black() -> None:
    plane = np.full((8, 8), 5000, np.float32)
    plane[0, 0], plane[4, 4], plane[5, 5] = np.nan, np.inf, -np.inf
    pixels = read_frame(ArrayPlaneImage([plane]), Frame((0, 0), (8, 8), 4), CONTRAST)
    np.testing.assert_array_equal(pixels[..., 0], [[0, 255], [255, 0]])


def test_what_cannot_be_shown_is_refused() -> None:
    frame = Frame((0, 0), (8, 8))
    for dtype in (bool, complex):
        with pytest.raises(InputError):
            read_frame(ArrayPlaneImage([np.ones((8, 8), dtype)]), frame, CONTRAST)
    with pytest.raises(InputError):
        read_frame(ArrayPlaneImage([np.ones((8, 8, 2))]), frame, Contrast((0.0,) * 3, (1.0,) * 3))

    class Wrong(ArrayPlaneImage):
        def read(self, region_yx: Region, level: int = 0) -> np.ndarray:
            return super().read(region_yx, level)[:3]

    with pytest.raises(InputError, match="was read where"):
        read_frame(Wrong([np.ones((8, 8))]), frame, CONTRAST)
