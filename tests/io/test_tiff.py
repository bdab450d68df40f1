import tracemalloc

import numpy as np
import pytest
import tifffile

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.io import open_volume


@pytest.fixture
def stack():
    return np.random.default_rng(0).integers(0, 60000, (6, 50, 60)).astype(np.uint16)


def read_all(volume):
    return volume.read(Region.whole(volume.shape))


def test_a_gray_image_needs_no_axes(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack[0])
    volume = open_volume(tmp_path / "a.tif")
    assert (volume.axes, volume.shape, volume.dtype) == ("YX", (50, 60), np.uint16)
    np.testing.assert_array_equal(read_all(volume), stack[0])
    volume.close()


@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"bigtiff": True}, {"byteorder": ">"}])
def test_a_plain_stack_is_asked_for_its_axes(tmp_path, stack, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, compression="zlib", **options)
    with pytest.raises(InputError, match="--axes ZYX"):
        open_volume(path)
    volume = open_volume(path, axes="zyx")
    block = volume.read(Region((2, 10, 20), (3, 30, 25)))
    np.testing.assert_array_equal(block, stack[2:3, 10:30, 20:25])
    volume.close()


def test_imagej_stacks_say_their_axes_and_pixel_sizes(tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "a.tif",
        stack.reshape(3, 2, 50, 60),
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "ZCYX", "spacing": 1.5, "unit": "um", "finterval": 2.0},
    )
    volume = open_volume(tmp_path / "a.tif")
    assert volume.axes == "CZYX"
    assert volume.shape == (2, 3, 50, 60)
    assert volume.scale == (1.0, 1.5, 0.5, 0.25)
    assert volume.units == (None, "micrometer", "micrometer", "micrometer")
    np.testing.assert_array_equal(read_all(volume), stack.reshape(3, 2, 50, 60).swapaxes(0, 1))
    volume.close()


def test_imagej_numbers_without_a_unit_are_pixels(tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(4, 2), metadata={"axes": "ZYX"}
    )
    volume = open_volume(tmp_path / "a.tif")
    assert volume.scale == (1.0, 1.0, 1.0)
    volume.close()


def test_ome_tiff_says_its_axes_and_pixel_sizes(tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        stack.reshape(2, 3, 50, 60),
        metadata={
            "axes": "TZYX",
            "PhysicalSizeX": 0.25,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 250.0,
            "PhysicalSizeYUnit": "nm",
            "TimeIncrement": 30.0,
            "TimeIncrementUnit": "s",
        },
    )
    volume = open_volume(tmp_path / "a.ome.tif")
    assert volume.axes == "TZYX"
    assert volume.scale == (30.0, 1.0, 250.0, 0.25)
    assert volume.units == ("second", None, "nanometer", "micrometer")
    volume.close()


def test_pyramid_levels_are_read(tmp_path):
    image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(image, subifds=1, tile=(16, 16))
        writer.write(image[::2, ::2], subfiletype=1, tile=(16, 16))
    volume = open_volume(tmp_path / "a.ome.tif")
    assert volume.levels == ((64, 64), (32, 32))
    np.testing.assert_array_equal(
        volume.read(Region((0, 0), (8, 8)), level=1), image[::2, ::2][:8, :8]
    )
    volume.close()


def test_rgb_is_recognised(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb")
    volume = open_volume(tmp_path / "a.tif")
    assert volume.axes == "YXS"
    np.testing.assert_array_equal(read_all(volume), image)
    volume.close()


def test_rgb_in_planes_is_recognised(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (3, 20, 30)).astype(np.uint8)
    options = {"photometric": "rgb", "planarconfig": "separate", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.axes == "YXS"
    np.testing.assert_array_equal(read_all(volume), np.moveaxis(image, 0, -1))
    volume.close()


def test_planes_that_a_writer_may_have_taken_for_colours_are_asked_for(tmp_path):
    stack = np.zeros((4, 20, 30), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="rgb", planarconfig="separate")
    with pytest.raises(InputError, match="--axes ZYX"):
        open_volume(tmp_path / "a.tif")
    volume = open_volume(tmp_path / "a.tif", axes="ZYX")
    assert volume.shape == (4, 20, 30)
    volume.close()


def test_samples_that_are_no_colours_are_channels(tmp_path):
    image = np.zeros((20, 30, 5), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", planarconfig="contig")
    volume = open_volume(tmp_path / "a.tif")
    assert (volume.axes, volume.shape) == ("CYX", (5, 20, 30))
    volume.close()


def test_palettes_are_refused(tmp_path):
    colors = np.zeros((3, 256), dtype=np.uint16)
    image = np.zeros((8, 8), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="palette", colormap=colors)
    with pytest.raises(InputError, match="palette"):
        open_volume(tmp_path / "a.tif")


def test_only_what_is_asked_for_is_loaded(tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (60, 256, 256)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, compression="zlib", metadata={"axes": "ZYX"})
    open_volume(tmp_path / "a.tif", axes="ZYX").close()  # what is imported on first use is no data
    tracemalloc.start()
    volume = open_volume(tmp_path / "a.tif", axes="ZYX")
    block = volume.read(Region((30, 0, 0), (31, 256, 256)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(block[0], stack[30])
    assert peak < stack.nbytes / 2
    volume.close()


OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="60"
SizeY="50" SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="1"/>
<TiffData FirstZ="0" IFD="0" PlaneCount="1"><UUID FileName="a0.ome.tif">urn:uuid:{a}</UUID>
</TiffData><TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID FileName="a1.ome.tif">urn:uuid:{b}
</UUID></TiffData></Pixels></Image></OME>"""


def write_two_files(folder, stack):
    names = [f"00000000-0000-0000-0000-00000000000{i}" for i in range(2)]
    for i, own in enumerate(names):
        xml = OME.format(own=own, a=names[0], b=names[1])
        path = folder / f"a{i}.ome.tif"
        tifffile.imwrite(path, stack[i], description=xml, metadata=None, compression="zlib")


def test_an_ome_tiff_in_several_files_is_one_stack(tmp_path, stack):
    write_two_files(tmp_path, stack)
    volume = open_volume(tmp_path / "a0.ome.tif")
    assert volume.axes == "ZYX"
    np.testing.assert_array_equal(read_all(volume), stack[:2])
    volume.close()


def test_a_missing_file_of_several_is_refused(tmp_path, stack):
    write_two_files(tmp_path, stack)
    (tmp_path / "a1.ome.tif").unlink()
    with pytest.raises(InputError, match="1 of the 2 pages"):
        open_volume(tmp_path / "a0.ome.tif")


@pytest.mark.parametrize(
    "options",
    [
        {"metadata": {"axes": "ZYX"}},
        {"metadata": {"axes": "ZYX"}, "compression": "zlib"},
        {"metadata": {"axes": "ZYX"}, "imagej": True},
        {"metadata": {"axes": "ZYX"}, "ome": True},
        {"metadata": None, "compression": "zlib"},
        {"metadata": {"axes": "ZYX"}, "tile": (16, 16), "bigtiff": True},
    ],
)
@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.95, 0.999])
def test_truncated_files_are_refused_when_opened(tmp_path, stack, options, fraction):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(InputError, match=r"truncated|damaged|cannot be opened"):
        open_volume(path, axes="ZYX")
