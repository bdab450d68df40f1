import numpy as np
import pytest
import zarr

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.io import open_volume
from napari_sam.io.ome_zarr import read_multiscale

DATA = np.arange(2 * 4 * 6 * 8, dtype=np.uint16).reshape(2, 4, 6, 8)
AXES = [
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space", "unit": "micrometer"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]


def multiscale(version, axes=AXES):
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, 2.0, 0.5 * 2**level, 0.5 * 2**level]}
            ],
        }
        for level in range(2)
    ]
    entry = {"datasets": datasets, "axes": axes, "name": "image"}
    if version == "0.4":
        return {"multiscales": [{**entry, "version": "0.4"}]}
    return {"ome": {"version": "0.5", "multiscales": [entry]}}


def write_image(path, version, attributes=None):
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=DATA, chunks=(1, 1, 3, 4))
    group.create_array("1", data=np.ascontiguousarray(DATA[..., ::2, ::2]), chunks=(1, 1, 3, 4))
    group.attrs.update(multiscale(version) if attributes is None else attributes)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_multiscale_images(tmp_path, version):
    write_image(tmp_path / "a.zarr", version)
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.axes == "CZYX"
    assert volume.levels == ((2, 4, 6, 8), (2, 4, 3, 4))
    assert volume.scale == (1.0, 2.0, 0.5, 0.5)
    assert volume.units == (None, "micrometer", "micrometer", "micrometer")
    region = Region((1, 2, 1, 3), (2, 3, 5, 8))
    np.testing.assert_array_equal(volume.read(region), DATA[region.slices])
    np.testing.assert_array_equal(
        volume.read(Region((0, 0, 0, 0), (2, 4, 3, 4)), level=1), DATA[..., ::2, ::2]
    )
    volume.close()


def test_the_scale_of_the_whole_image_multiplies(tmp_path):
    attributes = multiscale("0.5")
    whole = {"type": "scale", "scale": [1.0, 1.0, 10.0, 10.0]}
    attributes["ome"]["multiscales"][0]["coordinateTransformations"] = [whole]
    write_image(tmp_path / "a.zarr", "0.5", attributes)
    assert open_volume(tmp_path / "a.zarr").scale == (1.0, 2.0, 5.0, 5.0)


def test_axes_of_version_03_are_strings(tmp_path):
    attributes = multiscale("0.4", axes=["t", "z", "y", "x"])
    write_image(tmp_path / "a.zarr", "0.4", attributes)
    assert open_volume(tmp_path / "a.zarr").axes == "TZYX"


def test_foreign_axis_names_are_asked_for(tmp_path):
    attributes = multiscale("0.5", axes=[{"name": "angle"}, *AXES[1:]])
    write_image(tmp_path / "a.zarr", "0.5", attributes)
    with pytest.raises(InputError, match="--axes"):
        open_volume(tmp_path / "a.zarr")
    assert open_volume(tmp_path / "a.zarr", axes="TZYX").axes == "TZYX"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_arrays(tmp_path, zarr_format):
    zarr.create_array(tmp_path / "a.zarr", data=DATA[0], zarr_format=zarr_format)
    with pytest.raises(InputError, match="--axes"):
        open_volume(tmp_path / "a.zarr")
    volume = open_volume(tmp_path / "a.zarr", axes="ZYX")
    np.testing.assert_array_equal(volume.read(Region.whole(volume.shape)), DATA[0])


def test_dimension_names_of_zarr_3_are_used(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=DATA[0], dimension_names=("t", "y", "x"))
    assert open_volume(tmp_path / "a.zarr").axes == "TYX"


def test_dimension_names_of_xarray_are_used(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", data=DATA[0], zarr_format=2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["z", "y", "x"]
    assert open_volume(tmp_path / "a.zarr").axes == "ZYX"


def test_a_level_of_an_image_opens_as_an_array(tmp_path):
    write_image(tmp_path / "a.zarr", "0.5")
    assert open_volume(tmp_path / "a.zarr" / "1", axes="CZYX").shape == (2, 4, 3, 4)


def test_a_group_without_an_image_names_what_it_holds(tmp_path):
    write_image(tmp_path / "a.zarr", "0.5", attributes={})
    with pytest.raises(InputError, match=r"it holds 0, 1\..*a\.zarr/0"):
        open_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize("broken", ["{", "{}", '{"zarr_format": 3, "node_type": "array"}'])
def test_damaged_metadata_are_refused(tmp_path, broken):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(broken)
    with pytest.raises(InputError, match=r"cannot be opened|holds nothing"):
        open_volume(tmp_path / "a.zarr")


def test_a_missing_level_is_refused(tmp_path):
    attributes = multiscale("0.5")
    attributes["ome"]["multiscales"][0]["datasets"][1]["path"] = "9"
    write_image(tmp_path / "a.zarr", "0.5", attributes)
    with pytest.raises(InputError, match="cannot be opened"):
        open_volume(tmp_path / "a.zarr")


def test_a_damaged_chunk_is_refused_when_read(tmp_path):
    write_image(tmp_path / "a.zarr", "0.5")
    (tmp_path / "a.zarr" / "0" / "c" / "0" / "0" / "0" / "0").write_bytes(b"nonsense")
    volume = open_volume(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="cannot be read"):
        volume.read(Region.whole(volume.shape))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_metadata_are_read_without_pixels(tmp_path, version):
    attributes = multiscale(version)
    entry = attributes.get("ome", attributes)["multiscales"][0]
    entry["datasets"][0]["coordinateTransformations"].append(
        {"type": "translation", "translation": [0.0, 1.0, 2.0, 3.0]}
    )
    entry["coordinateTransformations"] = [
        {"type": "scale", "scale": [1.0, 1.0, 10.0, 10.0]},
        {"type": "translation", "translation": [0.0, 0.0, 0.5, 0.0]},
    ]
    write_image(tmp_path / "a.zarr", version, attributes)
    found = read_multiscale(tmp_path / "a.zarr")
    assert found.names == ("c", "z", "y", "x")
    assert found.types == ("channel", "space", "space", "space")
    assert found.units == (None, "micrometer", "micrometer", "micrometer")
    assert found.scale == (1.0, 2.0, 5.0, 5.0)
    assert found.translate == (0.0, 1.0, 20.5, 30.0)
    assert (found.name, found.ngff_version, found.state) == ("image", version, None)
    assert [level.shape for level in found.levels] == [(2, 4, 6, 8), (2, 4, 3, 4)]


def test_an_image_without_a_name_has_that_of_its_directory(tmp_path):
    attributes = multiscale("0.4")
    attributes["multiscales"][0]["name"] = "/"
    write_image(tmp_path / "cells.ome.zarr", "0.4", attributes)
    assert read_multiscale(tmp_path / "cells.ome.zarr").name == "cells"


def test_axes_that_are_not_those_of_the_arrays_are_refused(tmp_path):
    attributes = multiscale("0.4")
    attributes["multiscales"][0]["axes"].pop(0)
    write_image(tmp_path / "a.zarr", "0.4", attributes)
    with pytest.raises(InputError, match="its axes"):
        read_multiscale(tmp_path / "a.zarr")
