import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.io import open_volume
from napari_sam.io.tiff_series import find_tiff_files

STACK = np.random.default_rng(0).integers(0, 60000, (11, 50, 60)).astype(np.uint16)


def write_series(folder, stack=STACK, **options):
    """Write a file per slice: s0.tif, s1.tif ... s10.tif."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(stack):
        tifffile.imwrite(folder / f"s{number}.tif", image, **options)
    return folder


def read_all(volume):
    return volume.read(Region.whole(volume.shape))


@pytest.mark.parametrize("pattern", ["", "*.tif", "s*"])
def test_files_are_slices_in_natural_order(tmp_path, pattern):
    volume = open_volume(write_series(tmp_path / "scan") / pattern)
    assert (volume.axes, volume.shape, volume.dtype) == ("ZYX", (11, 50, 60), np.uint16)
    assert [file.stem for file in volume.files] == [f"s{n}" for n in range(11)]
    np.testing.assert_array_equal(read_all(volume), STACK)
    block = volume.read(Region((2, 10, 20), (4, 30, 25)))
    np.testing.assert_array_equal(block, STACK[2:4, 10:30, 20:25])


def test_a_pattern_leaves_files_out_and_goes_through_folders(tmp_path):
    write_series(tmp_path / "day10", STACK[:2])
    write_series(tmp_path / "day9", STACK[2:4])
    (tmp_path / "day9" / "notes.txt").write_text("a")
    volume = open_volume(str(tmp_path / "**" / "s?.tif"))
    np.testing.assert_array_equal(read_all(volume), STACK[[2, 3, 0, 1]])


def test_a_folder_is_searched_for_tiffs_only(tmp_path):
    folder = write_series(tmp_path, STACK[:2])
    (folder / "notes.txt").write_text("a")
    (folder / "._s0.tif").write_bytes(b"what an archive program left")
    (folder / "older.tif").mkdir()
    tifffile.imwrite(folder / "S2.TIFF", STACK[2])
    assert [file.name for file in find_tiff_files(folder)] == ["s0.tif", "s1.tif", "S2.TIFF"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    tifffile.imwrite(tmp_path / "a[1].tif", STACK[0])
    volume = open_volume(tmp_path / "a[1].tif")
    assert volume.axes == "YX"
    volume.close()


def test_axes_are_stated_for_the_whole(tmp_path):
    folder = write_series(tmp_path, STACK)
    assert open_volume(folder, axes="TYX").axes == "TYX"
    volume = open_volume(folder, axes="CXY")
    assert volume.axes == "CYX"
    np.testing.assert_array_equal(read_all(volume), STACK.swapaxes(1, 2))
    with pytest.raises(InputError, match="first axis is the one along which"):
        open_volume(folder, axes="YZX")
    with pytest.raises(InputError, match="name 2 axes, but the array has 3"):
        open_volume(folder, axes="YX")


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "minisblack"},
        {"ome": True, "metadata": {"axes": "ZYX"}, "photometric": "minisblack"},
        {"metadata": {"axes": "TYX"}, "imagej": True},
    ],
)
def test_files_that_are_stacks_are_asked_about(tmp_path, options):
    stacks = STACK[:6].reshape(2, 3, 50, 60)
    folder = write_series(tmp_path, stacks, **options)
    with pytest.raises(InputError, match=r"itself a stack.*--axes TZYX"):
        open_volume(folder)
    volume = open_volume(folder, axes="TZYX")
    assert volume.axes == "TZYX"
    np.testing.assert_array_equal(read_all(volume), stacks)


def test_channels_and_colours_of_a_slice_need_no_axes(tmp_path):
    images = STACK[:6].reshape(2, 3, 50, 60)
    options = {"imagej": True, "metadata": {"axes": "CYX"}}
    volume = open_volume(write_series(tmp_path / "channels", images, **options))
    assert volume.axes == "CZYX"
    np.testing.assert_array_equal(read_all(volume), images.swapaxes(0, 1))
    colors = np.ascontiguousarray(np.moveaxis(images, 1, -1))
    volume = open_volume(write_series(tmp_path / "colors", colors, photometric="rgb"))
    assert volume.axes == "ZYXS"
    np.testing.assert_array_equal(read_all(volume), colors)


@pytest.mark.parametrize(
    "other",
    [np.zeros((50, 61), np.uint16), np.zeros((50, 60), np.uint8), np.zeros((2, 50, 60), np.uint16)],
)
@pytest.mark.parametrize("axes", [None, "ZYX"])
def test_the_first_file_that_differs_is_named(tmp_path, other, axes):
    folder = write_series(tmp_path, STACK)
    tifffile.imwrite(folder / "s4.tif", other)
    tifffile.imwrite(folder / "s10.tif", other)
    with pytest.raises(InputError, match=r"s4\.tif has shape .*first one, .*s0\.tif"):
        open_volume(folder, axes=axes)


def test_files_that_name_other_axes_differ_unless_the_axes_are_stated(tmp_path):
    options = {"imagej": True}
    folder = write_series(
        tmp_path, STACK[:6].reshape(2, 3, 50, 60), metadata={"axes": "CYX"}, **options
    )
    tifffile.imwrite(folder / "s1.tif", STACK[3:6], metadata={"axes": "ZYX"}, **options)
    with pytest.raises(InputError, match=r"s1\.tif has shape \(3, 50, 60\) \(ZYX\)"):
        open_volume(folder)
    assert open_volume(folder, axes="TCYX").shape == (2, 3, 50, 60)


def test_pixel_sizes_are_those_of_the_first_file(tmp_path):
    options = {"imagej": True, "resolution": (4, 2), "metadata": {"unit": "um", "spacing": 1.5}}
    volume = open_volume(write_series(tmp_path, STACK[:2], **options))
    assert volume.scale == (1.5, 0.5, 0.25)
    assert volume.units == ("micrometer", "micrometer", "micrometer")


def test_foreign_byte_order_is_read(tmp_path):
    volume = open_volume(write_series(tmp_path, STACK[:3], byteorder=">"))
    assert volume.dtype.isnative
    np.testing.assert_array_equal(read_all(volume), STACK[:3])


def test_a_damaged_file_is_named(tmp_path):
    folder = write_series(tmp_path, STACK)
    content = (folder / "s3.tif").read_bytes()
    (folder / "s3.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"s3\.tif is truncated"):
        open_volume(folder)


def test_other_files_in_a_pattern_are_refused(tmp_path):
    folder = write_series(tmp_path, STACK[:2])
    (folder / "t.txt").write_text("hello")
    with pytest.raises(InputError, match=r"t\.txt is no TIFF"):
        open_volume(folder / "*")
    (folder / "a.zarr").mkdir()
    with pytest.raises(InputError, match=r"a\.zarr cannot be opened"):
        open_volume(folder / "*")


def test_a_pattern_without_files_is_refused(tmp_path):
    with pytest.raises(InputError, match="No file matches"):
        open_volume(tmp_path / "*.tif")


def test_a_part_of_a_larger_ome_tiff_is_refused(tmp_path):
    ome = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="60"
SizeY="50" SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="1"/>
<TiffData FirstZ="0" IFD="0" PlaneCount="1"><UUID FileName="s0.tif">urn:uuid:a</UUID></TiffData>
<TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID FileName="s1.tif">urn:uuid:b</UUID></TiffData>
</Pixels></Image></OME>"""
    for number, own in enumerate("ab"):
        options = {"description": ome.format(own=own), "metadata": None}
        tifffile.imwrite(tmp_path / f"s{number}.tif", STACK[number], **options)
    with pytest.raises(InputError, match=r"part of an OME-TIFF.*s0\.tif: it names the others"):
        open_volume(tmp_path)
    volume = open_volume(tmp_path / "s0.tif")
    np.testing.assert_array_equal(read_all(volume), STACK[:2])
    volume.close()


def test_files_are_opened_when_read_and_closed_again(tmp_path, monkeypatch):
    volume = open_volume(write_series(tmp_path, STACK, compression="zlib"))
    opened, closed = [], []

    class Recorded(tifffile.TiffFile):
        def __init__(self, path):
            super().__init__(path)
            opened.append(Path(path).name)

        def close(self):
            super().close()
            closed.append(self.filename)

    monkeypatch.setattr(tifffile, "TiffFile", Recorded)
    volume.read(Region((3, 0, 0), (5, 50, 60)))
    assert opened == closed == ["s3.tif", "s4.tif"]


def test_only_the_slices_that_are_asked_for_are_loaded(tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (40, 256, 256)).astype(np.uint8)
    open_volume(write_series(tmp_path, stack, compression="zlib"))  # what is imported is no data
    tracemalloc.start()
    block = open_volume(tmp_path).read(Region((30, 0, 0), (31, 256, 256)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(block[0], stack[30])
    assert peak < stack.nbytes / 2


@pytest.mark.parametrize("change", ["shape", "gone"])
def test_a_file_that_has_changed_is_noticed_when_read(tmp_path, change):
    volume = open_volume(write_series(tmp_path, STACK))
    (tmp_path / "s5.tif").unlink()
    if change == "shape":
        tifffile.imwrite(tmp_path / "s5.tif", STACK[5, :40])
    with pytest.raises(InputError, match=r"cannot be read.*s5\.tif"):
        read_all(volume)
