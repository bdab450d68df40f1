"""Uncompressed TIFF: any window is read by itself, whatever the pages look like."""

import io
from contextlib import closing

import fsspec
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.io import open_volume
from napari_sam.io.raw_tiff import RawPages, raw_pages

PIXELS = np.random.default_rng(0).integers(0, 60000, (4, 3, 50, 300)).astype(np.uint16)


def write_separate(path, stack):
    """Pages with something between them, so that each begins where it likes."""
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(stack.reshape(-1, *stack.shape[-2:])):
            writer.write(page, metadata=None, description=f"page {'x' * number}", contiguous=False)


WRITERS = {
    "one after the other": lambda path: tifffile.imwrite(path, PIXELS, photometric="minisblack"),
    "big-endian": lambda path: tifffile.imwrite(
        path, PIXELS, photometric="minisblack", byteorder=">"
    ),
    "strips": lambda path: tifffile.imwrite(path, PIXELS, photometric="minisblack", rowsperstrip=7),
    "ImageJ": lambda path: tifffile.imwrite(path, PIXELS, imagej=True, metadata={"axes": "ZCYX"}),
    "OME": lambda path: tifffile.imwrite(path, PIXELS, ome=True, metadata={"axes": "ZCYX"}),
    "BigTIFF": lambda path: tifffile.imwrite(path, PIXELS, photometric="minisblack", bigtiff=True),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_windows_of_all_kinds_of_pages(tmp_path, writer):
    WRITERS[writer](tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        pages = raw_pages(file.series[0], is_local=True)
        assert pages.shape == PIXELS.shape
        assert pages.dtype == PIXELS.dtype
        assert pages.chunks == (1, 1, 1, 1)
        for window in (np.s_[1:3, 2:3, 5:20, 30:200], np.s_[0:4, 0:3, 0:50, 0:300]):
            block = pages[window]
            assert block.dtype == PIXELS.dtype
            np.testing.assert_array_equal(block, PIXELS[window])


def test_pages_that_lie_apart(tmp_path):
    write_separate(tmp_path / "a.tif", PIXELS[0])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.series[0].dataoffset is None
        pages = raw_pages(file.series[0], is_local=True)
        np.testing.assert_array_equal(pages[1:3, 4:9, 2:250], PIXELS[0, 1:3, 4:9, 2:250])
        np.testing.assert_array_equal(pages[0:3, 0:50, 0:300], PIXELS[0])


@pytest.mark.parametrize(
    "options", [{"compression": "zlib"}, {"tile": (16, 16)}, {"predictor": True, "compression": 8}]
)
def test_what_has_to_be_decoded_is_left_to_the_decoder(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0], photometric="minisblack", **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert raw_pages(file.series[0], is_local=True) is None
    with closing(open_volume(tmp_path / "a.tif", "ZYX")) as volume:
        block = volume.read(Region((1, 3, 4), (2, 30, 40)))
    np.testing.assert_array_equal(block, PIXELS[0, 1:2, 3:30, 4:40])


class Counted(io.BytesIO):
    """A file that counts the reads and their bytes."""

    def __init__(self, content):
        super().__init__(content)
        self.sizes = []

    def readinto(self, buffer):
        self.sizes.append(len(buffer))
        return super().readinto(buffer)


def counted_pages(pixels, *, is_local, **options):
    content = io.BytesIO()
    tifffile.imwrite(content, pixels, **options)
    stream = Counted(content.getvalue())
    pages = raw_pages(tifffile.TiffFile(stream).series[0], is_local=is_local)
    stream.sizes.clear()
    return pages, stream


def test_a_window_reads_its_own_pixels_only():
    pages, stream = counted_pages(np.zeros((40, 9000), np.uint16), is_local=True)
    pages[5:20, 30:230]
    assert stream.sizes == [400] * 15


def test_whole_rows_are_read_at_once():
    pages, stream = counted_pages(np.zeros((40, 9000), np.uint16), is_local=True)
    pages[5:20, 0:9000]
    assert stream.sizes == [15 * 18000]


def test_short_rows_are_read_whole_and_what_is_not_wanted_is_let_go():
    pages, stream = counted_pages(PIXELS[0, 0], is_local=True)
    block = pages[5:20, 30:230]
    assert stream.sizes == [15 * 600]
    assert block.base is None


def test_channels_side_by_side_are_not_picked_pixel_by_pixel():
    pixels = np.resize(PIXELS, (30, 3000, 3))
    pages, stream = counted_pages(pixels, is_local=True, photometric="rgb")
    assert pages.chunks == (1, 1, 3)
    np.testing.assert_array_equal(pages[5:20, 30:230, 1:2], pixels[5:20, 30:230, 1:2])
    assert stream.sizes == [200 * 6] * 15


def test_from_afar_pages_are_read_in_strips():
    pages, _ = counted_pages(np.zeros((400, 3000), np.uint16), is_local=False)
    rows, columns = pages.chunks
    assert columns == 3000
    assert 2**18 <= rows * columns * 2 < 2**18 + 6000


def test_a_file_at_a_url_gives_the_same_pixels():
    system = fsspec.filesystem("memory")
    content = io.BytesIO()
    tifffile.imwrite(content, PIXELS[0], photometric="minisblack")
    system.pipe("/raw/a.tif", content.getvalue())
    volume = open_volume("memory://raw/a.tif", "ZYX")
    try:
        assert volume.chunks[1:] == ((50,), (300,))
        np.testing.assert_array_equal(
            volume.read(Region((1, 3, 4), (2, 30, 40))), PIXELS[0, 1:2, 3:30, 4:40]
        )
    finally:
        volume.close()
        system.store.clear()


def test_a_file_that_shrinks_while_it_is_open_is_said(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS[0], photometric="minisblack")
    volume = open_volume(path, "ZYX")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - PIXELS[0, 0].nbytes)
    with pytest.raises(InputError, match="ends before its pixels"):
        volume.read(Region((2, 0, 0), (3, 50, 300)))
    volume.close()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_window_of_any_shape(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=4)))
    shape = (*shape[:-1], data.draw(st.sampled_from([3, 40, 150])))
    pixels = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    pages, _ = counted_pages(
        pixels, is_local=data.draw(st.booleans()), photometric="minisblack", metadata=None
    )
    assert isinstance(pages, RawPages)
    spans = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in pages.shape]
    window = tuple(slice(a, b) for a, b in spans)
    np.testing.assert_array_equal(pages[window], pixels.reshape(pages.shape)[window])
