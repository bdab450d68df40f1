"""A plane is read by rectangle and level, from any kind of array."""

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.pipeline.plane_image import ArrayPlaneImage, PlaneImage

FINE = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)
COARSE = FINE[::2, ::2]


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_rectangles_of_each_level(kind: str) -> None:
    make = {"numpy": np.asarray, "dask": lambda a: da.from_array(a, chunks=16), "zarr": in_zarr}
    image = ArrayPlaneImage([make[kind](FINE), make[kind](COARSE)])
    assert isinstance(image, PlaneImage)
    assert image.levels_yx == ((40, 60), (20, 30))
    block = image.read(Region((3, 10), (8, 31)))
    assert isinstance(block, np.ndarray)
    np.testing.assert_array_equal(block, FINE[3:8, 10:31])
    np.testing.assert_array_equal(image.read(Region((0, 5), (20, 6)), 1), COARSE[:, 5:6])


def in_zarr(array: np.ndarray) -> zarr.Array:
    return zarr.array(array, chunks=(16, 16))


def test_channels_stand_last() -> None:
    image = ArrayPlaneImage([np.zeros((10, 12, 3))])
    assert image.levels_yx == ((10, 12),)
    assert image.read(Region((2, 2), (4, 5))).shape == (2, 3, 3)


def test_keys_tell_images_apart_unless_given() -> None:
    assert ArrayPlaneImage([FINE]).key != ArrayPlaneImage([FINE]).key
    assert ArrayPlaneImage([FINE], key="a").key == ArrayPlaneImage([COARSE], key="a").key


@pytest.mark.parametrize(
    "levels",
    [[], [np.zeros(5)], [np.zeros((4, 4, 4))], [np.zeros((0, 4))], [COARSE, FINE]],
)
def test_what_is_no_plane_is_refused(levels: list[np.ndarray]) -> None:
    with pytest.raises(InputError):
        ArrayPlaneImage(levels)
