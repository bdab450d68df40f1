"""Labels are saved from napari's menu and opened again, as they were."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import dask
import dask.array
import numpy as np
import pandas as pd
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from napari_sam._napari import label_layers
from napari_sam._napari.label_layers import add_label_layer, label_target_of, refresh_after_write
from napari_sam._napari.reader import get_reader, read_ome_zarr
from napari_sam._napari.writer import save_steps, write_labels
from napari_sam.core.errors import InputError, NapariSamWarning, OutputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_pyramid import LabelPyramid
from napari_sam.io.label_store import LABEL_KEY, LabelStore, listed_labels
from napari_sam.io.label_writer import LabelWriter
from slice_writing import write_slice

if TYPE_CHECKING:
    import napari

Wait = Callable[[Callable[[], bool]], None]
PLUGIN = "napari-sam"
SIZE = 300


def blocks(*shape: int) -> np.ndarray:
    """Make labels of squares of ten pixels, each with an id of its own."""
    coarse = np.arange(np.prod([*shape, SIZE // 10, SIZE // 10]))
    coarse = coarse.reshape(*shape, SIZE // 10, SIZE // 10).astype(np.uint32)
    return np.kron(coarse, np.ones((1,) * len(shape) + (10, 10), np.uint32))


def make_image(path: Path, version: str = "0.5", omero: dict | None = None) -> Path:
    """Write an OME-Zarr image of two channels, three slices and two levels."""
    is_v2 = version == "0.4"
    group = zarr.open_group(path, mode="w", zarr_format=2 if is_v2 else 3)
    pixels = np.stack([blocks(3), blocks(3)[::-1]]).astype(np.uint16)
    datasets = []
    for level, step in enumerate((1, 2)):
        data = np.ascontiguousarray(pixels[..., ::step, ::step])
        group.create_array(str(level), data=data, chunks=(1, 1, 128, 128))
        transforms = [{"type": "scale", "scale": [1.0, 2.0, 0.5 * step, 0.5 * step]}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    multiscale = {"name": "embryo", "axes": axes, "datasets": datasets}
    attributes = {"multiscales": [multiscale | ({"version": "0.4"} if is_v2 else {})]}
    attributes |= {"omero": omero} if omero else {}
    group.attrs.update(attributes if is_v2 else {"ome": {"version": version} | attributes})
    return path


def level_zero(layer: object) -> np.ndarray:
    return np.asarray(layer.data[0] if layer.multiscale else layer.data)


def close(viewer: napari.Viewer) -> None:
    """Let napari forget the files, so that a test leaves nothing open."""
    viewer.layers.clear()


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_a_layer_that_was_saved_opens_as_it_was(
    viewer: napari.Viewer, tmp_path: Path, ndim: int
) -> None:
    data = blocks(*(2, 3)[4 - ndim :])
    layer = viewer.add_labels(
        data.astype(np.int32),
        name="nuclei",
        scale=(4.0, 2.0, 0.5, 0.25)[-ndim:],
        translate=(0.0, 1.0, 2.0, 3.0)[-ndim:],
        units=("second", "micrometer", "micrometer", "micrometer")[-ndim:],
        axis_labels=tuple("tzyx")[-ndim:],
        features=pd.DataFrame({"index": [1, 3], "area": [100, 90], "predicted_iou": [0.5, np.nan]}),
    )
    (path,) = viewer.layers.save(str(tmp_path / "saved.ome.zarr"), plugin=PLUGIN)
    assert path == str(tmp_path / "saved.ome.zarr")
    (again,) = viewer.open(path, plugin=PLUGIN)
    np.testing.assert_array_equal(level_zero(again), data)
    assert again.name == "nuclei [1]"  # napari tells the two apart
    np.testing.assert_allclose(again.scale, layer.scale)
    np.testing.assert_allclose(again.translate, layer.translate)
    assert again.units == layer.units
    assert again.axis_labels == layer.axis_labels
    assert again.features["index"].tolist() == [1, 3]
    assert again.features["area"].tolist() == [100, 90]
    np.testing.assert_equal(again.features["predicted_iou"].astype(float).tolist(), [0.5, np.nan])
    close(viewer)


def test_a_layer_without_an_extension_becomes_an_ome_zarr(
    viewer: napari.Viewer, tmp_path: Path
) -> None:
    layer = viewer.add_labels(blocks(), name="nuclei")
    assert layer.save(str(tmp_path / "a"), plugin=PLUGIN) == [str(tmp_path / "a.ome.zarr")]
    assert layer.save(str(tmp_path / "b.zarr")) == [str(tmp_path / "b.zarr")]
    assert read_ome_zarr(str(tmp_path / "b.zarr"))[0][1]["axis_labels"] == ["y", "x"]


def test_large_labels_are_shown_lazily_and_drawn_anew(
    viewer: napari.Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_layers, "SINGLE_LEVEL", 100)
    write_labels(str(tmp_path / "a.zarr"), blocks(2), {"name": "a"})
    (layer,) = viewer.open(tmp_path / "a.zarr", plugin=PLUGIN)
    assert layer.multiscale
    assert all(isinstance(level, zarr.Array) for level in layer.data)
    viewer.dims.set_point(0, 1)
    assert layer.get_value((1, 155, 155), world=True)[1] == 900 + 15 * 30 + 15
    LabelStore.open(tmp_path / "a.zarr").pyramid[1, 150:160, 150:160] = 77_000  # by someone else
    refresh_after_write(layer)
    assert layer.get_value((1, 155, 155), world=True)[1] == 77_000
    target = label_target_of(layer)
    target.write(Plane((1, 2), (1,)), Region((0, 0), (50, 50)), np.full((50, 50), 5))
    assert (LabelStore.open(tmp_path / "a.zarr").levels[1][1, :25, :25] == 5).all()
    close(viewer)


def test_small_labels_are_painted_on_the_disk(viewer: napari.Viewer, tmp_path: Path) -> None:
    write_labels(str(tmp_path / "a.zarr"), blocks(), {"name": "a"})
    (layer,) = viewer.open(tmp_path / "a.zarr", plugin=PLUGIN)
    assert isinstance(layer.data, LabelPyramid)
    layer.mode = "paint"
    layer.paint((200, 100), 7)
    stored = LabelStore.open(tmp_path / "a.zarr")
    assert stored.levels[0][200, 100] == 7
    assert stored.levels[1][100, 50] == 7
    close(viewer)


@pytest.mark.parametrize("size", [200, SIZE])
def test_labels_that_may_only_be_read_are_not_changed(
    viewer: napari.Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    write_labels(str(tmp_path / "a.zarr"), blocks()[:size, :size], {"name": "a"})
    monkeypatch.setattr("napari_sam.io.label_store.os.access", lambda path, mode: False)
    (layer,) = viewer.open(tmp_path / "a.zarr", plugin=PLUGIN)
    with pytest.raises(OutputError, match="permission"):
        layer.paint((100, 100), 7)
    with pytest.raises(InputError, match="read-only"):
        label_target_of(layer)
    assert LabelStore.open(tmp_path / "a.zarr").levels[0][100, 100] == 310
    close(viewer)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_opens_with_its_channels_and_labels(
    viewer: napari.Viewer, tmp_path: Path, version: str
) -> None:
    channels = [
        {"label": "DAPI", "color": "0000FF", "window": {"start": 5, "end": 900}, "active": True},
        {"label": "", "color": "FFFFFF", "window": {"start": 9, "end": 9}, "active": False},
    ]
    image = make_image(tmp_path / "i.zarr", version, {"channels": channels})
    viewer.open(image, plugin=PLUGIN)
    first, second = viewer.layers
    assert (first.name, second.name) == ("DAPI", "embryo [1]")
    assert first.contrast_limits == [5, 900]
    np.testing.assert_allclose(first.colormap.colors[-1], (0, 0, 1, 1))
    assert second.colormap.name == "gray"
    assert (first.visible, second.visible) == (True, False)
    assert first.multiscale
    np.testing.assert_array_equal(np.asarray(first.data[0]), blocks(3))
    np.testing.assert_array_equal(np.asarray(second.data[1]), blocks(3)[::-1, ::2, ::2])
    np.testing.assert_allclose(first.scale, (2, 0.5, 0.5))
    assert [str(unit) for unit in first.units] == ["micrometer"] * 3

    labels = add_label_layer(viewer, first, "nuclei (DAPI)")
    labels.data[:] = blocks(3)
    (path,) = labels.save(str(image), plugin=PLUGIN)
    assert path == str(image / "labels" / "nuclei_DAPI")
    assert len(list(Reader(parse_url(str(image)))())) == 3  # the image, its group, the labels
    close(viewer)
    viewer.open(image, plugin=PLUGIN)
    assert [layer.name for layer in viewer.layers] == ["DAPI", "embryo [1]", "nuclei (DAPI)"]
    again = viewer.layers[2]
    np.testing.assert_array_equal(level_zero(again), blocks(3))
    np.testing.assert_allclose(again.extent.world, viewer.layers[0].extent.world)
    close(viewer)


def test_channels_without_colors_get_napari_s(viewer: napari.Viewer, tmp_path: Path) -> None:
    layers = read_ome_zarr([str(make_image(tmp_path / "i.zarr"))])
    assert [meta["colormap"] for _, meta, _ in layers] == ["magenta", "green"]
    assert [meta["name"] for _, meta, _ in layers] == ["embryo [0]", "embryo [1]"]
    for data, meta, kind in layers:
        assert viewer._add_layer_from_data(data, meta, kind)[0].contrast_limits[1] > 0


@pytest.mark.parametrize(
    ("typed", "group"),
    [
        ("i.zarr", "my_cells"),
        ("i.zarr/labels", "my_cells"),
        ("i.zarr/nuclei.ome.zarr", "nuclei"),
        ("i.zarr/labels/nuclei.zarr", "nuclei"),
        ("i.zarr/labels/nuclei", "nuclei"),
    ],
)
def test_a_path_in_an_image_means_its_labels(tmp_path: Path, typed: str, group: str) -> None:
    image = make_image(tmp_path / "i.zarr")
    written = write_labels(str(tmp_path / typed), blocks(3), {"name": "my cells"})
    assert written == [str(image / "labels" / group)]
    assert listed_labels(image / "labels") == [group]
    with pytest.raises(OutputError, match="already"):
        write_labels(str(tmp_path / typed), blocks(3), {"name": "my cells"})
    *_, last = save_steps(blocks(3), {"name": "my cells"}, tmp_path / typed, True)
    assert last.done == last.total


def test_nothing_is_replaced_by_saving(viewer: napari.Viewer, tmp_path: Path) -> None:
    layer = viewer.add_labels(blocks())
    layer.save(str(tmp_path / "a.zarr"), plugin=PLUGIN)
    with pytest.raises(OutputError, match="Choose another name"):
        layer.save(str(tmp_path / "a.zarr"), plugin=PLUGIN)


@pytest.mark.parametrize("kind", ["dask", "zarr", "levels", "bool", "int64"])
def test_data_of_any_kind_are_saved(viewer: napari.Viewer, tmp_path: Path, kind: str) -> None:
    expected = blocks(2)
    data = {
        "dask": lambda: dask.array.from_array(expected, chunks=(2, 90, 300)),
        "zarr": lambda: zarr.array(expected, chunks=(2, 64, 64)),
        "levels": lambda: [expected, expected[:, ::2, ::2]],
        "bool": lambda: expected > 99,
        "int64": lambda: expected.astype(np.int64),
    }[kind]()
    with dask.config.set(scheduler="synchronous"):  # its threads would outlive the test
        layer = viewer.add_labels(data)
        (path,) = layer.save(str(tmp_path / "a.zarr"), plugin=PLUGIN)
    stored = LabelStore.open(path).levels[0]
    assert stored.dtype == np.uint32
    np.testing.assert_array_equal(stored[...], expected > 99 if kind == "bool" else expected)


def test_what_cannot_be_saved_is_refused_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data < 0"):
        write_labels(str(tmp_path / "a.zarr"), np.full((8, 8), -1), {})
    with pytest.raises(InputError, match="two to five axes"):
        write_labels(str(tmp_path / "a.zarr"), np.zeros((1,) * 4 + (8, 8), int), {})
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_is_turned_is_saved_with_a_warning(
    viewer: napari.Viewer, tmp_path: Path
) -> None:
    straight = viewer.add_labels(blocks(), scale=(2, 3), affine=np.diag([10.0, 1.0, 1.0]))
    straight.save(str(tmp_path / "straight.zarr"), plugin=PLUGIN)
    assert LabelStore.open(tmp_path / "straight.zarr").multiscale.scale == (20.0, 3.0)
    turned = viewer.add_labels(blocks(), scale=(2, 3), rotate=30)
    with pytest.warns(NapariSamWarning, match="rotation or shear"):
        turned.save(str(tmp_path / "turned.zarr"), plugin=PLUGIN)
    assert LabelStore.open(tmp_path / "turned.zarr").multiscale.scale == (2.0, 3.0)


def test_labels_of_all_channels_are_saved_once(viewer: napari.Viewer, tmp_path: Path) -> None:
    image = viewer.add_image(np.zeros((4, 3, SIZE, SIZE), np.uint8), axis_labels=tuple("zcyx"))
    layer = add_label_layer(viewer, image, "cells", channel_axis=1)
    layer.data[:, 0] = blocks(4)
    (path,) = layer.save(str(tmp_path / "a.zarr"), plugin=PLUGIN)
    stored = LabelStore.open(path)
    assert stored.multiscale.names == ("z", "y", "x")
    np.testing.assert_array_equal(stored.levels[0][...], blocks(4))


def test_axes_have_their_letters_their_names_or_the_usual_ones(tmp_path: Path) -> None:
    for number, (labels, stored) in enumerate(
        {
            ("z", "c", "y", "x"): ("c", "z", "y", "x"),  # the order that OME-Zarr knows
            ("-4", "-3", "-2", "-1"): ("t", "z", "y", "x"),
            ("frame", "depth", "row", "column"): ("frame", "depth", "row", "column"),
            ("a", "a", "b", "c"): ("t", "z", "y", "x"),
        }.items()
    ):
        (path,) = write_labels(
            str(tmp_path / f"{number}.zarr"), blocks(2, 3), {"axis_labels": labels}
        )
        assert LabelStore.open(path).multiscale.names == stored
    first = LabelStore.open(tmp_path / "0.zarr").levels[0]
    np.testing.assert_array_equal(first[...], blocks(2, 3).swapaxes(0, 1))


def test_the_table_of_objects_keeps_what_napari_cannot_show(
    viewer: napari.Viewer, tmp_path: Path
) -> None:
    rows = [
        {LABEL_KEY: 2, "area": 5, "prompts": {"points": [[1, 2]]}},
        {LABEL_KEY: 3, "area": 6, "prompts": {"points": []}},
    ]
    list(save_steps(blocks(), {"name": "a"}, tmp_path / "a.zarr", properties=rows))
    (layer,) = viewer.open(tmp_path / "a.zarr", plugin=PLUGIN)
    assert list(layer.features.columns) == ["index", "area"]
    layer.features = pd.DataFrame({"index": [0, 3, 4], "area": [0, 7, 8]})
    layer.save(str(tmp_path / "b.zarr"), plugin=PLUGIN)
    assert LabelStore.open(tmp_path / "b.zarr").properties == [
        {LABEL_KEY: 3, "area": 7, "prompts": {"points": []}},
        {LABEL_KEY: 4, "area": 8},
    ]
    close(viewer)


def test_features_without_ids_belong_to_the_labels_in_order(tmp_path: Path) -> None:
    features = pd.DataFrame({"area": [0, 11, 12], "kind": ["", "cell", pd.NA]})
    write_labels(str(tmp_path / "a.zarr"), blocks(), {"features": features})
    assert LabelStore.open(tmp_path / "a.zarr").properties == [
        {LABEL_KEY: 1, "area": 11, "kind": "cell"},
        {LABEL_KEY: 2, "area": 12, "kind": None},
    ]


def test_unfinished_labels_open_with_a_warning(viewer: napari.Viewer, tmp_path: Path) -> None:
    layout = LabelLayout("ZYX", (2, SIZE, SIZE), (1.0,) * 3, (None,) * 3)
    writer = LabelWriter.create(tmp_path / "a.zarr", layout)
    with pytest.warns(NapariSamWarning, match="unfinished"):
        (layer,) = viewer.open(tmp_path / "a.zarr", plugin=PLUGIN)
    viewer.dims.set_point(0, 0)
    assert layer.get_value((0, 105, 105)) == 0
    write_slice(writer, (0,), blocks())
    layer.refresh()
    assert layer.get_value((0, 105, 105)) == 310
    close(viewer)


def test_labels_with_channels_are_split_as_their_image_is(
    viewer: napari.Viewer, tmp_path: Path
) -> None:
    image = make_image(tmp_path / "i.zarr")
    for name, n_channels in {"one": 1, "two": 2}.items():
        write_labels(
            str(image / "labels" / name), blocks(n_channels, 3), {"axis_labels": tuple("czyx")}
        )
    viewer.open(image, plugin=PLUGIN)
    names = [layer.name for layer in viewer.layers[2:]]
    assert names == ["one", "two [0]", "two [1]"]
    np.testing.assert_array_equal(level_zero(viewer.layers["two [1]"]), blocks(2, 3)[1])
    (alone,) = viewer.open(image / "labels" / "two", plugin=PLUGIN)
    assert alone.ndim == 4
    close(viewer)
    assert len(viewer.open(image / "labels", plugin=PLUGIN)) == 3
    close(viewer)


def test_damaged_labels_are_left_out_and_the_image_opens(tmp_path: Path) -> None:
    image = make_image(tmp_path / "i.zarr")
    for name in ("good", "bad"):
        write_labels(str(image / "labels" / name), blocks(3), {})
    (image / "labels" / "bad" / "0" / "zarr.json").unlink()
    with pytest.warns(NapariSamWarning, match="left out"):
        layers = read_ome_zarr(str(image))
    assert [kind for _, _, kind in layers] == ["image", "image", "labels"]


def test_foreign_units_and_boolean_labels_are_no_obstacle(
    viewer: napari.Viewer, tmp_path: Path
) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=blocks() > 99, chunks=(100, 100))
    axes = [{"name": n, "type": "space", "unit": "furlongs of mars"} for n in "yx"]
    group.attrs.update(
        {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}], "image-label": {}}
    )
    (layer,) = viewer.open(tmp_path / "a.zarr", plugin=PLUGIN)
    np.testing.assert_array_equal(level_zero(layer), blocks() > 99)
    assert [str(unit) for unit in layer.units] == ["pixel", "pixel"]
    close(viewer)


def test_other_paths_are_left_to_other_readers(tmp_path: Path) -> None:
    zarr.save_array(tmp_path / "array.zarr", np.zeros((4, 4)))
    zarr.open_group(tmp_path / "plate.zarr", mode="w").attrs["ome"] = {"plate": {}}
    (tmp_path / "photos").mkdir()
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    for name in ("array.zarr", "plate.zarr", "photos", "broken.zarr", "absent.zarr"):
        assert get_reader(str(tmp_path / name)) is None
    image = str(make_image(tmp_path / "i.zarr"))
    assert get_reader(image) is get_reader([image]) is read_ome_zarr
    assert get_reader([image, image]) is None
    assert get_reader("https://example.org/i.zarr") is None


def test_the_manifest_is_valid() -> None:
    from npe2 import PluginManager, PluginManifest

    manifest = PluginManifest.from_distribution(PLUGIN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manifest.validate_imports()
    writers = PluginManager.instance().iter_compatible_writers(["labels"])
    assert [".ome.zarr", ".zarr"] in [writer.filename_extensions for writer in writers]
