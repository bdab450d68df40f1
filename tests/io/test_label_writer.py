import errno
import json

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Label, Multiscales, Reader
from ome_zarr_models.v05.image_label import ImageLabel

from napari_sam.core.errors import ConfigError, OutputError
from napari_sam.io import open_volume
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_writer import LabelWriter
from napari_sam.io.output_files import check_target, set_aside
from slice_writing import write_slice

LAYOUT = LabelLayout(
    axes="TZYX",
    shape=(2, 3, 700, 513),
    scale=(1.0, 2.0, 0.5, 0.25),
    units=(None, "micrometer", "micrometer", "micrometer"),
)


def labels_of(seed):
    blocks = np.random.default_rng(seed).integers(0, 90000, (70, 52))
    return np.kron(blocks, np.ones((10, 10), int))[:700, :513]


def layout(**changes):
    return LabelLayout(
        **{name: changes.get(name, getattr(LAYOUT, name)) for name in LAYOUT.__dataclass_fields__}
    )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_independent_reader_finds_the_labels_and_their_pyramid(tmp_path, version):
    path = tmp_path / "cells.ome.zarr"
    writer = LabelWriter.create(path, layout(ngff_version=version))
    write_slice(writer, (1, 2), labels_of(1))
    writer.finish()
    nodes = list(Reader(parse_url(str(path)))())
    assert len(nodes) == 1
    assert {type(spec) for spec in nodes[0].specs} >= {Multiscales, Label}
    levels = [np.asarray(level) for level in nodes[0].data]
    assert [level.shape[-2:] for level in levels] == [(700, 513), (350, 257), (175, 129)]
    for step, level in zip((1, 2, 4), levels, strict=True):
        assert level.dtype == np.uint32
        np.testing.assert_array_equal(level[1, 2], labels_of(1)[::step, ::step])
        assert not level[0].any()
    assert nodes[0].metadata["axes"][1] == {"name": "z", "type": "space", "unit": "micrometer"}
    scales = [entry[0]["scale"] for entry in nodes[0].metadata["coordinateTransformations"]]
    assert scales[1] == [1.0, 2.0, 1.0, 0.5]


def test_the_metadata_pass_an_independent_validator(tmp_path):
    path = tmp_path / "cells.zarr"
    LabelWriter.create(path, LAYOUT, source_image="../../").finish()
    image = ImageLabel.from_zarr(zarr.open_group(path, mode="r"))
    assert image.attributes.ome.image_label.source.image == "../../"


def test_labels_are_read_back_by_our_own_reader(tmp_path):
    LabelWriter.create(tmp_path / "a.zarr", LAYOUT).finish()
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.axes, volume.shape, volume.scale) == ("TZYX", LAYOUT.shape, LAYOUT.scale)


def test_the_source_image_is_found_by_the_reader(tmp_path):
    image = tmp_path / "image.zarr"
    LabelWriter.create(image, LAYOUT).finish()
    LabelWriter.create(tmp_path / "cells.zarr", LAYOUT, source_image="../image.zarr").finish()
    nodes = list(Reader(parse_url(str(tmp_path / "cells.zarr")))())
    assert len(nodes) == 2


def test_small_images_have_one_level():
    assert layout(axes="YX", shape=(1, 5000)).level_shapes == ((1, 5000),)
    assert layout(axes="YX", shape=(256, 256)).level_shapes == ((256, 256),)


def test_the_store_says_that_it_is_unfinished_until_the_end(tmp_path):
    writer = LabelWriter.create(tmp_path / "a.zarr", LAYOUT)
    write_slice(writer, (0, 0), labels_of(0))
    again = LabelWriter.reopen(tmp_path / "a.zarr")
    write_slice(again, (0, 1), labels_of(1))
    again.finish()
    attributes = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["attributes"]
    assert attributes["napari_sam"] == {"state": "finished"}
    array = zarr.open_array(tmp_path / "a.zarr" / "0", mode="r")
    np.testing.assert_array_equal(array[0, :2], np.stack([labels_of(0), labels_of(1)]))
    with pytest.raises(OutputError, match="is finished"):
        LabelWriter.reopen(tmp_path / "a.zarr")


def test_foreign_stores_are_not_resumed(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    with pytest.raises(OutputError, match="not written by napari_sam"):
        LabelWriter.reopen(tmp_path / "a.zarr")
    with pytest.raises(OutputError, match="cannot be resumed"):
        LabelWriter.reopen(tmp_path / "b.zarr")


def test_existing_output_is_refused(tmp_path):
    target = tmp_path / "a.zarr"
    check_target(target, overwrite=False, resume=False)
    with pytest.raises(OutputError, match="nothing"):
        check_target(target, overwrite=False, resume=True)
    LabelWriter.create(target, LAYOUT)
    with pytest.raises(OutputError, match="--overwrite"):
        check_target(target, overwrite=False, resume=False)
    check_target(target, overwrite=True, resume=False)
    check_target(target, overwrite=False, resume=True)


def test_folders_that_are_no_store_are_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_text("x")
    (tmp_path / "file.txt").write_text("x")
    for name in ("photos", "file.txt"):
        with pytest.raises(OutputError, match="no Zarr store"):
            check_target(tmp_path / name, overwrite=True, resume=False)


def test_the_folder_of_a_writer_that_was_killed_at_once_is_replaced(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    check_target(tmp_path / "a.zarr", overwrite=True, resume=False)
    (tmp_path / "a.zarr" / "zarr.json.12ab.partial").write_text("{")
    check_target(tmp_path / "a.zarr", overwrite=True, resume=False)
    with pytest.raises(OutputError, match="already exists"):
        check_target(tmp_path / "a.zarr", overwrite=False, resume=False)


def test_a_replaced_store_comes_back_when_its_successor_fails(tmp_path):
    target = tmp_path / "a.zarr"
    write_slice(LabelWriter.create(target, LAYOUT), (0, 0), labels_of(0))

    def fail():
        with set_aside(target):
            LabelWriter.create(target, LAYOUT)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    np.testing.assert_array_equal(zarr.open_array(target / "0", mode="r")[0, 0], labels_of(0))
    (tmp_path / ".a.zarr.replaced" / "left").mkdir(parents=True)  # by a run that was killed
    with set_aside(target):
        LabelWriter.create(target, LAYOUT)
    assert not zarr.open_array(target / "0", mode="r")[0, 0].any()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_file_in_place_of_a_folder_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        LabelWriter.create(tmp_path / "file" / "a.zarr", LAYOUT)


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "--resume"), (errno.EACCES, "permissions")]
)
def test_a_full_or_forbidden_disk_is_an_output_error(tmp_path, monkeypatch, number, message):
    writer = LabelWriter.create(tmp_path / "a.zarr", LAYOUT)

    def refuse(*args, **kwargs):
        raise OSError(number, "no")

    monkeypatch.setattr("zarr.storage._local._put", refuse)
    with pytest.raises(OutputError, match=message):
        write_slice(writer, (0, 0), labels_of(0))


def test_impossible_layouts_are_refused():
    with pytest.raises(ConfigError, match=r"0\.5"):
        layout(ngff_version="0.3")
    with pytest.raises(ConfigError, match="chunks"):
        layout(chunk=0)
