import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from napari_sam.io import ArrayVolume, open_volume
from napari_sam.io.chunks import chunk_lengths

PIXELS = np.random.default_rng(0).integers(0, 60000, (2, 50, 300)).astype(np.uint16)


def test_what_lies_in_memory_has_no_chunks():
    assert chunk_lengths(np.zeros((2, 3))) == ((1, 1), (1, 1, 1))


def test_what_does_not_say_is_not_known():
    class Silent:
        shape = (4, 4)

    class Contiguous(Silent):
        chunks = None  # as HDF5 says it

    assert chunk_lengths(Silent()) is None
    assert chunk_lengths(Contiguous()) is None


def test_one_length_stands_for_all():
    array = zarr.create_array(store={}, shape=(5, 64), chunks=(2, 32), dtype="u1")
    assert chunk_lengths(array) == ((2, 2, 1), (32, 32))


def test_shards_are_read_by_their_inner_chunks():
    array = zarr.create_array(
        store={}, shape=(64, 64), chunks=(16, 32), shards=(64, 64), dtype="u1"
    )
    assert chunk_lengths(array) == ((16,) * 4, (32, 32))


def test_chunks_of_dask_may_be_of_any_length():
    array = da.zeros((12, 9), chunks=(5, 4))[2:]
    assert chunk_lengths(array) == ((3, 5, 2), (4, 4, 1))


def test_the_axes_of_chunks_are_those_of_the_volume(tmp_path):
    array = da.zeros((6, 8, 10), chunks=(6, 4, 5))  # X, Y, Z in the file
    volume = ArrayVolume(tmp_path, [array], "XYZ")
    assert volume.chunks == ((5, 5), (4, 4), (6,))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"compression": "zlib", "rowsperstrip": 50}, ((50,), (300,))),
        ({"compression": "zlib", "rowsperstrip": 20}, ((20, 20, 10), (300,))),
        ({"compression": "zlib", "tile": (16, 128)}, ((16, 16, 16, 2), (128, 128, 44))),
        ({}, ((1,) * 50, (1,) * 300)),
    ],
    ids=["one strip", "strips", "tiles", "raw"],
)
def test_tiff_says_its_strips_and_tiles(tmp_path, options, expected):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="minisblack", **options)
    volume = open_volume(tmp_path / "a.tif", "ZYX")
    assert volume.chunks == ((1, 1), *expected)
    volume.close()
    folder = tmp_path / "series"
    folder.mkdir()
    for number, page in enumerate(PIXELS):
        tifffile.imwrite(folder / f"{number}.tif", page, **options)
    assert open_volume(folder).chunks == ((1, 1), *expected)
