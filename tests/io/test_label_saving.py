import tracemalloc

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ome_zarr.io import parse_url
from ome_zarr.reader import Label, Reader
from ome_zarr_models.v05.image_label import ImageLabel

from napari_sam.core.errors import InputError, OutputError
from napari_sam.io import label_saving, open_volume
from napari_sam.io.label_image import LabelImage
from napari_sam.io.label_saving import SaveProgress, save_labels
from napari_sam.io.label_store import LABEL_KEY, LabelStore


def run(steps):
    """Return what a generator yields, and what it returns."""
    events = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as stop:
            return events, stop.value


def volume(dtype="uint16"):
    blocks = np.random.default_rng(0).integers(0, 250, (4, 60, 70))
    return np.kron(blocks, np.ones((1, 10, 10), int)).astype(dtype)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_come_back_as_they_were(tmp_path, version):
    target = tmp_path / "new" / "cells.ome.zarr"
    labels = LabelImage(
        volume(),
        "zyx",
        scale=(2, 0.5, 0.5),
        translate=(0, 7, 8.5),
        units=("micrometer",) * 3,
        properties=[{LABEL_KEY: 3, "area": 100}],
    )
    events, path = run(save_labels(target, labels, ngff_version=version))
    assert path == target
    store = LabelStore.open(target)
    assert store.is_finished
    np.testing.assert_array_equal(store.levels[0][...], volume())
    np.testing.assert_array_equal(store.levels[1][...], volume()[:, ::2, ::2])
    np.testing.assert_array_equal(store.levels[2][...], volume()[:, ::4, ::4])
    assert store.levels[0].dtype == np.uint32
    assert store.multiscale.scale == (2, 0.5, 0.5)
    assert store.multiscale.translate == (0, 7, 8.5)
    assert store.properties == [{LABEL_KEY: 3, "area": 100}]
    assert store.multiscale.name == "cells"
    assert names_in(target.parent) == ["cells.ome.zarr"]
    (node,) = Reader(parse_url(str(target)))()
    assert Label in {type(spec) for spec in node.specs}
    np.testing.assert_array_equal(np.asarray(node.data[0]), volume())
    writing = [event for event in events if event.stage == "writing"]
    assert [event.done for event in writing] == list(range(writing[-1].total + 1))
    assert events[-1] == SaveProgress("verifying", events[-1].total, events[-1].total)


@given(
    data=st.sampled_from(["bool", "int8", "uint8", "int16", "int32", "uint32", "int64"]).flatmap(
        lambda dtype: arrays(
            dtype, (2, 9, 5), elements=st.booleans() if dtype == "bool" else st.integers(0, 127)
        )
    ),
    axes=st.sampled_from(["ZYX", "TYX", "YXZ", "XCY", "YTX"]),
)
def test_every_integer_type_and_order_of_axes(tmp_path_factory, data, axes):
    target = tmp_path_factory.mktemp("any") / "a.zarr"
    scale = {"T": 3.0, "C": 1.0, "Z": 2.0, "Y": 0.5, "X": 0.25}
    run(save_labels(target, LabelImage(data, axes, scale=[scale[axis] for axis in axes])))
    stored = LabelStore.open(target).multiscale
    letters = "".join(stored.names).upper()
    assert letters == "".join(axis for axis in "TCZYX" if axis in axes)
    expected = data.transpose([axes.index(axis) for axis in letters])
    np.testing.assert_array_equal(stored.levels[0][...], expected)
    assert stored.scale == tuple(scale[axis] for axis in letters)


@pytest.mark.parametrize("chunks", [(1, 600, 700), (4, 100, 100), (2, 64, 300)])
def test_lazy_arrays_are_read_block_by_block(tmp_path, monkeypatch, chunks):
    monkeypatch.setattr(label_saving, "BLOCK_PIXELS", 300_000)
    for name, lazy in {
        "zarr": zarr.array(volume(), chunks=chunks),
        "dask": dask.array.from_array(volume(), chunks=chunks),
    }.items():
        read = []

        class Watched:
            shape, dtype, chunks = lazy.shape, lazy.dtype, lazy.chunks

            def __getitem__(self, key, lazy=lazy, read=read):
                block = np.asarray(lazy[key])
                read.append(block.size)
                return block

        run(save_labels(tmp_path / f"{name}.zarr", LabelImage(Watched(), "ZYX")))
        stored = LabelStore.open(tmp_path / f"{name}.zarr").levels[0]
        np.testing.assert_array_equal(stored[...], volume())
        assert max(read) <= 300_000
        assert sum(read) == volume().size  # nothing is read twice
        assert len(read) > 4


def test_ids_of_64_bits_are_narrowed_where_they_fit(tmp_path):
    small = np.array([[0, 2**32 - 1]], np.int64)
    events, _ = run(save_labels(tmp_path / "small.zarr", LabelImage(small, "YX")))
    assert events[0].stage == "checking"
    run(save_labels(tmp_path / "large.zarr", LabelImage(small.astype("uint64") + 1, "YX")))
    levels = [LabelStore.open(tmp_path / name).levels[0] for name in ("small.zarr", "large.zarr")]
    assert [level.dtype.name for level in levels] == ["uint32", "uint64"]
    np.testing.assert_array_equal(levels[0][...], small)
    np.testing.assert_array_equal(levels[1][...], small.astype("uint64") + 1)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_negative_ids_are_refused_and_leave_nothing(tmp_path, dtype):
    data = volume(dtype)
    data[3, 500, 600] = -2
    with pytest.raises(InputError, match="-2"):
        run(save_labels(tmp_path / "a.zarr", LabelImage(data, "ZYX")))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": np.zeros((4, 4), "float32")}, "astype"),
        ({"data": np.zeros((4, 0), "uint8")}, "at least one pixel"),
        ({"data": np.zeros((4, 4, 3), "uint8"), "axes": "YXS"}, "colours"),
        ({"axes": "ZYX"}, "2"),
        ({"scale": (1, 1, 1)}, "3 values"),
        ({"units": (None,)}, "1 values"),
    ],
)
def test_what_are_no_labels_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        LabelImage(**({"data": np.zeros((4, 4), int), "axes": "YX"} | changes))


def test_existing_labels_are_replaced_only_when_asked(tmp_path):
    target = tmp_path / "a.zarr"
    run(save_labels(target, LabelImage(volume(), "ZYX")))
    with pytest.raises(OutputError, match="allow that the old labels"):
        run(save_labels(target, LabelImage(volume(), "TYX")))
    run(save_labels(target, LabelImage(volume()[:2], "TYX"), overwrite=True))
    assert open_volume(target).axes == "TYX"
    assert names_in(tmp_path) == ["a.zarr"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").touch()
    with pytest.raises(OutputError, match="no Zarr store"):
        run(save_labels(tmp_path / "photos", LabelImage(volume(), "ZYX"), overwrite=True))


def test_labels_may_be_saved_onto_the_store_that_they_are_read_from(tmp_path):
    target = tmp_path / "a.zarr"
    run(save_labels(target, LabelImage(volume(), "ZYX")))
    own = LabelStore.open(target).levels[0]
    run(save_labels(target, LabelImage(own, "ZYX", scale=(3, 1, 1)), overwrite=True))
    again = LabelStore.open(target)
    np.testing.assert_array_equal(again.levels[0][...], volume())
    assert again.multiscale.scale == (3, 1, 1)


@pytest.mark.parametrize("n_steps", [1, 2, 4, 8])
def test_a_closed_generator_leaves_what_was_there(tmp_path, monkeypatch, n_steps):
    monkeypatch.setattr(label_saving, "BLOCK_PIXELS", 300_000)
    target = tmp_path / "a.zarr"
    run(save_labels(target, LabelImage(volume()[:1], "ZYX")))
    steps = save_labels(target, LabelImage(volume(), "ZYX"), overwrite=True)
    for _ in range(n_steps):
        next(steps)
    steps.close()
    np.testing.assert_array_equal(LabelStore.open(target).levels[0][...], volume()[:1])
    assert names_in(tmp_path) == ["a.zarr"]


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
    (tmp_path / ".a.zarr.partial" / "0").mkdir(parents=True)
    run(save_labels(tmp_path / "a.zarr", LabelImage(volume(), "ZYX")))
    assert names_in(tmp_path) == ["a.zarr"]


def test_a_disk_that_lies_is_noticed(tmp_path):
    steps = save_labels(tmp_path / "a.zarr", LabelImage(volume(), "ZYX"))
    while next(steps).stage != "verifying":
        pass
    level = zarr.open_array(tmp_path / ".a.zarr.partial" / "1", mode="r+")
    level[2, 40, 50] = level[2, 40, 50] + 1
    with pytest.raises(OutputError, match="not read back"):
        run(steps)
    assert names_in(tmp_path) == []


def test_names_of_axes_are_kept(tmp_path):
    labels = LabelImage(volume(), "TYX", names=("frame", "row", "column"))
    run(save_labels(tmp_path / "a.zarr", labels))
    assert LabelStore.open(tmp_path / "a.zarr").multiscale.names == ("frame", "row", "column")
    ImageLabel.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))


def test_memory_stays_flat(tmp_path):
    class Wide:
        """Labels of 1.6 GB that stand nowhere."""

        shape, dtype = (20_000, 20_000), np.dtype("uint32")

        def __getitem__(self, key):
            rows, columns = (len(range(*span.indices(20_000))) for span in key)
            block = np.zeros((rows, columns), np.uint32)
            block[:100, :100] = 7
            return block

    tracemalloc.start()
    try:
        run(save_labels(tmp_path / "a.zarr", LabelImage(Wide(), "YX")))
        store = LabelStore.open(tmp_path / "a.zarr")
        store.pyramid[5_000:5_100, 5_000:5_100] = 9
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()
    assert store.levels[0][0, 0] == 7
    assert store.levels[2][1_260, 1_260] == 9
