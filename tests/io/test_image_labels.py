import json
import warnings

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

from napari_sam.core.errors import InputError, OutputError
from napari_sam.io.image_labels import label_group_name, save_into_image
from napari_sam.io.label_image import LabelImage
from napari_sam.io.label_store import LabelStore, listed_labels
from napari_sam.io.ome_zarr import read_multiscale

SHAPE = (2, 3, 300, 280)


def make_image(path, version="0.5", axes="czyx"):
    """Write an OME-Zarr image with two channels, a pixel size and an offset."""
    is_v2 = version != "0.5"
    group = zarr.open_group(path, mode="w", zarr_format=2 if is_v2 else 3)
    group.create_array("full", shape=SHAPE, chunks=(1, 1, 128, 128), dtype="uint16")
    kinds = {"c": "channel", "t": "time"}
    entries = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for entry in entries[1:]:
        entry["unit"] = "micrometer"
    transforms = [
        {"type": "scale", "scale": [1.0, 2.0, 0.5, 0.5]},
        {"type": "translation", "translation": [0.0, 0.0, 4.0, 8.0]},
    ]
    multiscale = {
        "axes": entries,
        "datasets": [{"path": "full", "coordinateTransformations": transforms}],
    }
    if is_v2:
        group.attrs["multiscales"] = [multiscale | {"version": version}]
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [multiscale]}
    return path


def labels(**changes):
    data = np.kron(np.arange(3 * 30 * 28).reshape(3, 30, 28), np.ones((1, 10, 10), int))
    return LabelImage(**({"data": data.astype("int32"), "axes": "ZYX"} | changes))


def save(*args, **kwargs):
    steps = save_into_image(*args, **kwargs)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_independent_reader_finds_the_labels_with_the_image(tmp_path, version):
    image = make_image(tmp_path / "i.zarr", version)
    assert save(image, "nuclei", labels()) == image / "labels" / "nuclei"
    save(image, "cells", labels())
    nodes = list(Reader(parse_url(str(image)))())
    found = {node.metadata.get("name"): node.data[0] for node in nodes if node.data}
    np.testing.assert_array_equal(np.asarray(found["nuclei"]), labels().data)
    assert listed_labels(image / "labels") == ["nuclei", "cells"]
    store = LabelStore.open(image / "labels" / "nuclei")
    assert store.multiscale.ngff_version == version
    assert store.multiscale.attributes["image-label"]["source"] == {"image": "../../"}


def test_the_group_of_labels_passes_an_independent_validator(tmp_path):
    image = make_image(tmp_path / "i.zarr")
    save(image, "nuclei", labels())
    assert Labels.from_zarr(zarr.open_group(image / "labels", mode="r")).attributes.ome.labels == [
        "nuclei"
    ]
    ImageLabel.from_zarr(zarr.open_group(image / "labels" / "nuclei", mode="r"))


def test_labels_without_a_pixel_size_take_that_of_the_image(tmp_path):
    image = make_image(tmp_path / "i.zarr")
    stored = read_multiscale(save(image, "plain", labels(scale=(1, 1, 1))))
    assert stored.scale == (2.0, 0.5, 0.5)
    assert stored.translate == (0.0, 4.0, 8.0)
    assert stored.units == ("micrometer",) * 3
    own = read_multiscale(save(image, "own", labels(scale=(1, 3, 3))))
    assert own.scale == (1.0, 3.0, 3.0)
    assert own.units == (None,) * 3
    part = read_multiscale(save(image, "part", labels(data=labels().data[:, :200])))
    assert part.scale == (1.0, 1.0, 1.0)


def test_a_taken_name_is_refused_unless_it_may_be_replaced(tmp_path):
    image = make_image(tmp_path / "i.zarr")
    path = save(image, "nuclei", labels())
    with pytest.raises(OutputError, match="labels named nuclei already"):
        save(image, "nuclei", labels())
    save(image, "nuclei", labels(data=np.ones((3, 300, 280), "uint8")), overwrite=True)
    assert LabelStore.open(path).levels[0][0, 0, 0] == 1
    assert listed_labels(image / "labels") == ["nuclei"]


def test_names_of_layers_become_names_of_groups(tmp_path):
    image = make_image(tmp_path / "i.zarr")
    path = save(image, "Kerne (DAPI) [1]", labels())
    assert path.name == "Kerne_DAPI_1"
    assert read_multiscale(path).name == "Kerne (DAPI) [1]"
    assert listed_labels(image / "labels") == ["Kerne_DAPI_1"]
    assert label_group_name("../..") == "labels"
    assert label_group_name("__a/b.c") == "a_b.c"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_collected_metadata_know_the_new_labels(tmp_path, version):
    image = make_image(tmp_path / "i.zarr", version)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(image)
    save(image, "nuclei", labels())
    group = zarr.open_group(image, mode="r", use_consolidated=True)
    assert group["labels/nuclei/0"].shape == (3, 300, 280)


def test_stopping_leaves_the_image_as_it_was(tmp_path):
    image = make_image(tmp_path / "i.zarr")
    before = sorted(path for path in image.rglob("*"))
    steps = save_into_image(image, "nuclei", labels())
    next(steps)
    next(steps)
    steps.close()
    assert sorted(path for path in image.rglob("*")) == before


def test_other_labels_of_the_group_stay(tmp_path):
    image = make_image(tmp_path / "i.zarr")
    group = zarr.open_group(image / "labels", mode="w", zarr_format=3)
    group.attrs.update({"ome": {"version": "0.5", "labels": ["old"]}, "note": "mine"})
    save(image, "new", labels())
    attributes = json.loads((image / "labels" / "zarr.json").read_text())["attributes"]
    assert attributes == {"ome": {"version": "0.5", "labels": ["old", "new"]}, "note": "mine"}


def test_only_images_take_labels(tmp_path):
    image = make_image(tmp_path / "i.zarr")
    path = save(image, "nuclei", labels())
    with pytest.raises(InputError, match="beside it"):
        save(path, "more", labels())
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    with pytest.raises(InputError, match="no OME-Zarr image"):
        save(tmp_path / "empty.zarr", "more", labels())
    with pytest.raises(InputError, match="cannot be opened"):
        save(tmp_path / "absent.zarr", "more", labels())
    group = zarr.open_group(image, mode="r+")
    group.attrs["ome"] = group.attrs["ome"] | {"version": "0.7"}
    with pytest.raises(InputError, match=r"0\.7"):
        save(image, "more", labels())
