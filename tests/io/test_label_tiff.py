import errno
import os
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import tifffile
import zarr
from zarr.storage import LocalStore

from napari_sam.core.errors import ConfigError, InputError, OutputError
from napari_sam.core.region import Region
from napari_sam.io import open_volume
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_tiff import TiffProgress, check_tiff_path, write_label_tiff
from napari_sam.io.label_writer import LabelWriter
from slice_writing import write_slice

NAMES = ("cells.tif", "cells.ome.tif")
MICROMETER = "micrometer"


def ids_of(shape, top=70_000):
    return np.random.default_rng(0).integers(0, top + 1, shape)


def store(path, ids, axes="ZYX", scale=None, units=None, **options):
    n = ids.ndim
    layout = LabelLayout(
        axes=axes,
        shape=ids.shape,
        scale=scale or (1.0,) * n,
        units=units or (None,) * n,
        **options,
    )
    writer = LabelWriter.create(path, layout)
    for index in np.ndindex(ids.shape[:-2]):
        write_slice(writer, index, ids[index])
    writer.finish()
    return path


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    ids = ids_of((3, 700, 900))
    path = tmp_path_factory.mktemp("volume") / "cells.zarr"
    scale, units = (2.0, 250.0, 0.25), (MICROMETER, "nanometer", MICROMETER)
    return store(path, ids, scale=scale, units=units), ids


def write(source, target, **options):
    return list(write_label_tiff(source, target, **options))


def description_of(path):
    with tifffile.TiffFile(path) as file:
        return file.ome_metadata if file.is_ome else file.shaped_metadata[0]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd"])
@pytest.mark.parametrize("name", [*NAMES, "cells.TIFF", "cells.ome.tiff"])
def test_a_volume_becomes_a_tiled_compressed_bigtiff(tmp_path, volume, name, compression):
    source, ids = volume
    events = write(source, tmp_path / name, compression=compression)
    assert events == [TiffProgress(done, 3) for done in (1, 2, 3)]
    with tifffile.TiffFile(tmp_path / name) as file:
        assert file.is_bigtiff
        assert file.is_ome == (".ome." in name)
        assert len(file.series) == 1
        assert (file.series[0].axes, file.series[0].shape) == ("ZYX", (3, 700, 900))
        for page in map(file.pages.get, range(3)):
            assert page.is_tiled
            assert page.tile == (512, 512)
            assert page.compression == {"zlib": 8, "lzw": 5, "zstd": 50000}[compression]
            assert page.photometric == 1
        assert file.asarray().dtype == np.uint32
        np.testing.assert_array_equal(file.asarray(), ids)
    assert names_in(tmp_path) == [name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("axes", "shape"),
    [("TZYX", (2, 3, 70, 33)), ("CYX", (3, 20, 20)), ("YX", (530, 16)), ("TCYX", (2, 2, 9, 1))],
)
def test_our_own_reader_finds_axes_and_ids(tmp_path, name, axes, shape):
    ids = ids_of(shape)
    write(store(tmp_path / "a.zarr", ids, axes), tmp_path / name)
    found = open_volume(tmp_path / name)
    assert (found.axes, found.shape) == (axes, shape)
    np.testing.assert_array_equal(found.read(Region.whole(shape)), ids)
    found.close()


def test_axes_with_names_of_their_own_are_known_by_their_kind(tmp_path):
    names = ("when", "depth", "row", "column")
    source = store(tmp_path / "a.zarr", ids_of((2, 3, 20, 20)), "TZYX", names=names)
    write(source, tmp_path / "a.tif")
    assert description_of(tmp_path / "a.tif")["axes"] == "TZYX"


CALIBRATIONS = [
    ((30.0, 2.0, 250.0, 0.25), ("second", MICROMETER, "nanometer", MICROMETER)),
    ((0.5, 1.0, 1.0, 1.0), ("minute", "millimeter", "angstrom", "meter")),
    ((1.0, 3.0, 0.1, 0.7), (None, None, None, None)),
    ((1.0, 1.0, 1.0, 1.0), (None, None, None, None)),
]


@pytest.mark.parametrize(("scale", "units"), CALIBRATIONS)
def test_our_own_reader_finds_pixel_sizes_in_ome(tmp_path, scale, units):
    source = store(tmp_path / "a.zarr", ids_of((2, 3, 20, 20)), "TZYX", scale, units)
    write(source, tmp_path / "a.ome.tif")
    found = open_volume(tmp_path / "a.ome.tif")
    assert (found.axes, found.scale, found.units) == ("TZYX", scale, units)
    found.close()


def test_a_plain_tiff_says_pixel_sizes_as_json_and_in_its_tags(tmp_path, volume):
    write(volume[0], tmp_path / "a.tif")
    assert description_of(tmp_path / "a.tif") == {
        "shape": [3, 700, 900],
        "axes": "ZYX",
        "PhysicalSizeZ": 2.0,
        "PhysicalSizeZUnit": "µm",
        "PhysicalSizeY": 250.0,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeXUnit": "µm",
    }
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        for page in map(file.pages.get, range(3)):
            tags = page.aspage().tags
            assert tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
            assert tags["XResolution"].value == tags["YResolution"].value == (40_000, 1)


@pytest.mark.parametrize("size", [1e-13, 1e12])
def test_pixel_sizes_that_no_tag_can_hold_stand_in_the_description(tmp_path, size):
    source = store(tmp_path / "a.zarr", ids_of((20, 20)), "YX", (size, size), ("meter", "meter"))
    write(source, tmp_path / "a.tif")
    assert description_of(tmp_path / "a.tif")["PhysicalSizeX"] == size
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].tags["ResolutionUnit"].value == tifffile.RESUNIT.NONE


@pytest.mark.parametrize(
    ("max_id", "dtype"),
    [(0, "uint8"), (255, "uint8"), (256, "uint16"), (65_536, "uint32"), (2**32, "uint32")],
)
def test_the_largest_id_gives_the_type(tmp_path, max_id, dtype):
    ids = ids_of((20, 20), min(max_id, 2**32 - 1))
    write(store(tmp_path / "a.zarr", ids, "YX"), tmp_path / "a.tif", max_id=max_id)
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, ids)


def test_an_id_that_does_not_fit_is_refused(tmp_path):
    source = store(tmp_path / "a.zarr", ids_of((2, 20, 20)))
    with pytest.raises(InputError, match=r"uint16.*max_id"):
        write(source, tmp_path / "a.tif", max_id=300)
    assert names_in(tmp_path) == ["a.zarr"]


def test_ids_of_64_bits_go_into_a_plain_tiff_only(tmp_path):
    ids = ids_of((20, 20)).astype(np.uint64) + np.uint64(2**60)
    source = store(tmp_path / "a.zarr", ids, "YX", dtype="uint64")
    with pytest.raises(OutputError, match=r"32 bits.*`\.tif`"):
        write(source, tmp_path / "a.ome.tif")
    assert names_in(tmp_path) == ["a.zarr"]
    write(source, tmp_path / "a.tif")
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == np.uint64
    np.testing.assert_array_equal(found, ids)


def test_small_ids_of_64_bits_go_into_an_ome_tiff_when_the_largest_is_known(tmp_path):
    source = store(tmp_path / "a.zarr", ids_of((20, 20)), "YX", dtype="uint64")
    write(source, tmp_path / "a.ome.tif", max_id=70_000)
    assert tifffile.imread(tmp_path / "a.ome.tif").dtype == np.uint32


@pytest.mark.parametrize("kind", ["bool", "int16"])
def test_labels_of_other_programs_get_unsigned_ids(tmp_path, kind):
    source = store(tmp_path / "a.zarr", ids_of((20, 20), 1), "YX")
    group = zarr.open_group(source, mode="r+")
    values = ids_of((20, 20), 1).astype(kind)
    group.create_array("0", data=values, overwrite=True)
    write(source, tmp_path / "a.tif")
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == {"bool": np.uint8, "int16": np.uint16}[kind]
    np.testing.assert_array_equal(found, values)
    if kind == "int16":
        group["0"][3, 4] = -7
        with pytest.raises(InputError, match="the id -7"):
            write(source, tmp_path / "a.tif")


@pytest.mark.parametrize("chunk", [256, 512, 1024])
def test_each_chunk_is_read_once(tmp_path, monkeypatch, chunk):
    ids = ids_of((1100, 1300))
    source = store(tmp_path / "a.zarr", ids, "YX", chunk=chunk)
    reads = Counter()
    get = LocalStore.get

    async def counted(self, key, *args, **options):
        if key.startswith("0/c/"):
            reads[key] += 1
        return await get(self, key, *args, **options)

    monkeypatch.setattr(LocalStore, "get", counted)
    write(source, tmp_path / "a.tif")
    assert set(reads.values()) == {1}
    assert len(reads) == -(-1100 // chunk) * -(-1300 // chunk)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), ids)


def test_chunks_that_are_no_tiles_give_the_same_ids(tmp_path):
    ids = ids_of((1300, 1100))
    write(store(tmp_path / "a.zarr", ids, "YX", chunk=700), tmp_path / "a.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), ids)


@pytest.mark.parametrize("chunk", [512, 1024])
def test_memory_is_that_of_a_row_of_chunks(tmp_path, chunk):
    layout = LabelLayout("YX", (8192, 4096), (1.0, 1.0), (None, None), chunk=chunk, max_levels=1)
    writer = LabelWriter.create(tmp_path / "a.zarr", layout)
    corner = ids_of((100, 100))
    writer.write_block((), Region((8000, 4000), (8100, 4096)), corner[:, :96])
    writer.finish()
    write(tmp_path / "a.zarr", tmp_path / "a.tif", max_id=70_000)  # imports
    tracemalloc.start()
    try:
        write(tmp_path / "a.zarr", tmp_path / "a.tif", max_id=70_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    n_bytes = 8192 * 4096 * 4
    assert peak < n_bytes / 4  # two rows of the larger chunks
    found = tifffile.imread(tmp_path / "a.tif")
    np.testing.assert_array_equal(found[8000:8100, 4000:], corner[:, :96])
    assert np.count_nonzero(found) == np.count_nonzero(corner[:, :96])


@pytest.mark.parametrize("name", NAMES)
def test_closing_in_between_leaves_the_old_file(tmp_path, volume, name):
    target = tmp_path / "new" / name
    run = write_label_tiff(volume[0], target)
    assert not target.parent.exists()
    next(run)
    run.close()
    assert names_in(target.parent) == []
    target.write_text("old")
    run = write_label_tiff(volume[0], target)
    next(run)
    assert target.read_text() == "old"
    run.close()
    assert (names_in(target.parent), target.read_text()) == ([name], "old")
    write(volume[0], target)
    np.testing.assert_array_equal(tifffile.imread(target), volume[1])


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, volume, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk or quota is full"):
        write(volume[0], tmp_path / "a.tif")
    assert names_in(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_disk_that_fills_up_within_a_slice_is_said(tmp_path, volume):
    (tmp_path / ".a.tif.partial").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="disk or quota is full"):
        write(volume[0], tmp_path / "a.tif")
    assert names_in(tmp_path) == []


def test_labels_that_cannot_be_read_are_said_and_leave_nothing(tmp_path):
    source = store(tmp_path / "a.zarr", ids_of((2, 20, 20)))
    chunk = source / "0" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:9])
    with pytest.raises(InputError, match="cannot be read"):
        write(source, tmp_path / "a.tif")
    assert names_in(tmp_path) == ["a.zarr"]


def test_what_is_no_label_image_is_refused(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(20, 20), dtype=np.uint32)
    with pytest.raises(InputError, match=r"a\.zarr"):
        write(tmp_path / "a.zarr", tmp_path / "a.tif")


def test_the_bytes_of_a_plain_tiff_are_the_same_each_time(tmp_path, volume):
    for name in ("a.tif", "b.tif"):
        write(volume[0], tmp_path / name)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_other_compressions_are_refused(tmp_path, volume):
    with pytest.raises(ConfigError, match="'jpeg'"):
        write(volume[0], tmp_path / "a.tif", compression="jpeg")


@pytest.mark.parametrize("name", ["cells", "cells.png", "cells.ome.zarr"])
def test_other_endings_are_refused(tmp_path, volume, name):
    for refuse in (
        lambda path: check_tiff_path(path, True),
        lambda path: write(volume[0], path),
    ):
        with pytest.raises(ConfigError, match=r"`\.tif`"):
            refuse(tmp_path / name)
    assert names_in(tmp_path) == []


def test_existing_files_are_replaced_only_when_asked(tmp_path):
    path = tmp_path / "a.ome.tif"
    check_tiff_path(path, False)
    path.write_text("x")
    with pytest.raises(OutputError, match=r"already exists.*--overwrite"):
        check_tiff_path(path, False)
    check_tiff_path(path, True)
    path.unlink()
    path.mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_tiff_path(path, True)
