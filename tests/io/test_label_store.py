import json

import numpy as np
import pytest
import zarr
from ome_zarr_models.v04.image_label import ImageLabel as ImageLabel04
from ome_zarr_models.v05.image_label import ImageLabel as ImageLabel05

from napari_sam.core.errors import InputError, OutputError
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_store import LABEL_KEY, LabelStore, columns_of, rows_of
from napari_sam.io.label_writer import LabelWriter

LAYOUT = LabelLayout(
    axes="ZYX",
    shape=(3, 700, 513),
    scale=(2.0, 0.5, 0.25),
    units=("micrometer", "micrometer", "micrometer"),
    translate=(0.0, 10.0, -3.5),
)
VALIDATORS = {"0.4": ImageLabel04, "0.5": ImageLabel05}


def layout(**changes):
    return LabelLayout(
        **{name: changes.get(name, getattr(LAYOUT, name)) for name in LAYOUT.__dataclass_fields__}
    )


def files_of(path):
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_new_store_is_valid_empty_and_editable(tmp_path, version):
    path = tmp_path / "deep" / "cells.ome.zarr"
    store = LabelStore.create(path, layout(ngff_version=version))
    assert store.is_writable
    assert store.is_finished
    assert [level.shape[1:] for level in store.levels] == [(700, 513), (350, 257), (175, 129)]
    assert store.factors_yx == ((1, 1), (2, 2), (4, 4))
    assert store.properties == []
    store.pyramid[1, 100:203, 7:90] = 5
    again = LabelStore.open(path)
    for level, step in zip(again.levels, (1, 2, 4), strict=True):
        np.testing.assert_array_equal(level[...], store.levels[0][:, ::step, ::step])
    assert int((again.levels[0][...] == 5).sum()) == 103 * 83
    image = VALIDATORS[version].from_zarr(zarr.open_group(path, mode="r"))
    attributes = image.attributes.ome if version == "0.5" else image.attributes
    transforms = attributes.multiscales[0].datasets[2].coordinateTransformations
    assert list(transforms[0].scale) == [2.0, 2.0, 1.0]
    assert list(transforms[1].translation) == [0.0, 10.0, -3.5]
    assert again.multiscale.translate == LAYOUT.translate
    assert again.multiscale.units == LAYOUT.units


def test_axes_may_have_names_of_their_own_and_ids_64_bits(tmp_path):
    names = ("frame", "row", "column")
    wanted = layout(axes="TYX", names=names, dtype="uint64", units=("second", None, None))
    store = LabelStore.create(tmp_path / "a.zarr", wanted)
    assert store.multiscale.names == names
    assert store.multiscale.types == ("time", "space", "space")
    assert store.levels[0].dtype == np.uint64
    assert store.levels[0].metadata.dimension_names == names
    ImageLabel05.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))


def test_the_number_of_levels_may_be_limited(tmp_path):
    assert len(LabelStore.create(tmp_path / "a.zarr", layout(max_levels=1)).levels) == 1


def test_a_large_store_costs_what_is_written(tmp_path):
    wide = LabelLayout("YX", (20_000, 20_000), (1.0, 1.0), (None, None))
    store = LabelStore.create(tmp_path / "a.zarr", wide)
    assert [name for name in files_of(tmp_path) if "/c/" in name] == []
    store.pyramid[10_250:10_450, 3_950:4_090] = 3
    chunks = [name for name in files_of(tmp_path / "a.zarr") if "/c/" in name]
    assert len(chunks) == len(store.levels)
    assert sum((tmp_path / "a.zarr" / name).stat().st_size for name in chunks) < 2**20
    assert store.levels[-1][...].max() == 3


def test_the_table_of_objects_is_written_and_read_back(tmp_path):
    store = LabelStore.create(tmp_path / "a.zarr", LAYOUT)
    store.pyramid[0, :50, :50] = 12
    store.write_properties(
        [
            {
                LABEL_KEY: np.uint32(12),
                "predicted_iou": np.float32(0.5),
                "stability_score": float("nan"),
                "is_seen": np.bool_(True),
                "prompts": {"points": ((1.5, 2.0),), "box": None},
                "box_xyxy": np.array([0, 1, 2, 3]),
            },
            {LABEL_KEY: 13.0, "note": tmp_path},
        ]
    )
    rows = LabelStore.open(tmp_path / "a.zarr").properties
    assert rows == [
        {
            LABEL_KEY: 12,
            "predicted_iou": 0.5,
            "stability_score": None,
            "is_seen": True,
            "prompts": {"points": [[1.5, 2.0]], "box": None},
            "box_xyxy": [0, 1, 2, 3],
        },
        {LABEL_KEY: 13, "note": str(tmp_path)},
    ]
    assert columns_of(rows) == {
        "index": [12, 13],
        "predicted_iou": [0.5, None],
        "stability_score": [None, None],
        "is_seen": [True, None],
        "note": [None, str(tmp_path)],
    }
    assert store.levels[0][0, 3, 3] == 12
    ImageLabel05.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    store.write_properties([])
    assert store.properties == []
    assert [name for name in files_of(tmp_path) if "partial" in name] == []


def test_columns_and_rows_are_the_same_table():
    rows = [{LABEL_KEY: 1, "area": 5}, {LABEL_KEY: 4, "area": 6}]
    assert rows_of(columns_of(rows)) == rows
    assert rows_of({"area": [1, 2]}) == []
    assert columns_of([]) == {}


@pytest.mark.parametrize("label", [None, "one", 1.5, True])
def test_rows_without_an_id_are_refused_and_the_old_table_stays(tmp_path, label):
    store = LabelStore.create(tmp_path / "a.zarr", LAYOUT)
    store.write_properties([{LABEL_KEY: 1}])
    with pytest.raises(InputError, match="index"):
        store.write_properties([{LABEL_KEY: label}])
    assert store.properties == [{LABEL_KEY: 1}]


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    store = LabelStore.create(tmp_path / "a.zarr", LAYOUT)
    store.write_properties([{LABEL_KEY: 1}])

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    with pytest.raises(OutputError, match="full"):
        store.write_properties([{LABEL_KEY: 2}])
    monkeypatch.undo()
    assert store.properties == [{LABEL_KEY: 1}]


def test_damaged_metadata_are_no_place_to_write_to(tmp_path):
    store = LabelStore.create(tmp_path / "a.zarr", LAYOUT)
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    with pytest.raises(OutputError, match="Restore"):
        store.write_properties([{LABEL_KEY: 1}])
    with pytest.raises(InputError, match="cannot be opened"):
        LabelStore.open(tmp_path / "a.zarr")


def test_what_is_there_is_never_replaced(tmp_path):
    LabelStore.create(tmp_path / "a.zarr", LAYOUT).pyramid[0, 0, 0] = 1
    with pytest.raises(OutputError, match="another name"):
        LabelStore.create(tmp_path / "a.zarr", LAYOUT)
    assert LabelStore.open(tmp_path / "a.zarr").levels[0][0, 0, 0] == 1


def test_an_unfinished_result_says_so(tmp_path):
    LabelWriter.create(tmp_path / "a.zarr", LAYOUT)
    assert not LabelStore.open(tmp_path / "a.zarr").is_finished


def test_labels_that_only_their_group_names_are_labels(tmp_path):
    group = zarr.open_group(tmp_path / "i.zarr" / "labels", mode="w", zarr_format=2)
    LabelStore.create(tmp_path / "i.zarr" / "labels" / "old", layout(ngff_version="0.4"))
    file = tmp_path / "i.zarr" / "labels" / "old" / ".zattrs"
    attributes = json.loads(file.read_text())
    del attributes["image-label"], attributes["napari_sam"]
    file.write_text(json.dumps(attributes))
    with pytest.raises(InputError, match="no label image"):
        LabelStore.open(tmp_path / "i.zarr" / "labels" / "old")
    group.attrs["labels"] = ["old"]
    assert LabelStore.open(tmp_path / "i.zarr" / "labels" / "old").is_finished


def test_floats_are_no_labels(tmp_path):
    LabelWriter.create(tmp_path / "a.zarr", layout(dtype="float32"))
    with pytest.raises(InputError, match="integers"):
        LabelStore.open(tmp_path / "a.zarr")
