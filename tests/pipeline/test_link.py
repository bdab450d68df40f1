"""Labels of slices on disk are linked into objects and tracks, with their metadata."""

import itertools
import os
import tracemalloc
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam.core.errors import ConfigError, InputError, OutputError
from napari_sam.io import LabelImage, LabelStore, save_into_image, save_labels
from napari_sam.io.ome_zarr import read_multiscale
from napari_sam.pipeline.events import Finished, SliceDone, Warned
from napari_sam.pipeline.link import LinkConfig, LinkPlanned, SliceLinked, link_volume
from napari_sam.pipeline.target_lock import locked


def save(path, data, axes, **metadata):
    for _ in save_labels(path, LabelImage(data, axes, **metadata)):
        pass
    return path


def stack(n_slices=4, shape=(40, 50), dtype=np.uint32):
    """Two objects through all slices, with ids of their own in each."""
    labels = np.zeros((n_slices, *shape), dtype=dtype)
    for i, plane in enumerate(labels):
        plane[5:15, 5 + i : 15 + i] = 2 * i + 2
        plane[20:35, 20:40] = 2 * i + 1
    return labels


def linked(source, target, **options):
    """Link and return the labels of full resolution."""
    list(link_volume(source, target, LinkConfig(**options)))
    return zarr.open_array(target / "0", mode="r")[...]


@pytest.fixture
def source(tmp_path):
    return save(tmp_path / "slices.zarr", stack(), "ZYX", scale=(2, 0.5, 0.5))


def test_objects_get_one_id_through_all_slices(source, tmp_path):
    result = linked(source, tmp_path / "out.zarr")
    assert result.dtype == np.uint32
    before = stack()
    np.testing.assert_array_equal(result, np.where(before > 0, 2 - before % 2, 0) % 3)


def test_events_tell_of_both_passes(source, tmp_path):
    target = tmp_path / "out.zarr"
    events = list(link_volume(source, target))
    assert events[0] == LinkPlanned("ZYX", (4, 40, 50), "Z", 4)
    assert events[1:5] == [SliceLinked(i, (i,), 2, 2 if i else 0) for i in range(4)]
    assert events[5:9] == [SliceDone(i, (i,), 2) for i in range(4)]
    assert isinstance(events[9], Finished)
    assert (events[9].path, events[9].n_objects, events[9].n_slices) == (target, 2, 4)
    assert len(events) == 10


def test_metadata_are_kept(tmp_path):
    metadata = {
        "scale": (10.0, 2.0, 0.5, 0.25),
        "units": ("second", "micrometer", "micrometer", "micrometer"),
        "translate": (0.0, 7.0, 1.0, 2.0),
    }
    source = save(tmp_path / "slices.zarr", stack(6).reshape(2, 3, 40, 50), "TZYX", **metadata)
    linked(source, tmp_path / "out.zarr")
    before, after = read_multiscale(source), read_multiscale(tmp_path / "out.zarr")
    for name in ("names", "types", "units", "scale", "translate", "ngff_version"):
        assert getattr(before, name) == getattr(after, name), name
    assert after.state == "finished"
    assert LabelStore.open(tmp_path / "out.zarr").is_finished


def test_all_levels_are_written_and_the_version_can_be_chosen(tmp_path):
    source = save(tmp_path / "slices.zarr", stack(2, (600, 50)), "ZYX")
    linked(source, tmp_path / "out.zarr", ngff_version="0.4")
    levels = read_multiscale(tmp_path / "out.zarr").levels
    assert len(levels) == 3
    assert levels[0].metadata.zarr_format == 2
    for finer, coarser in itertools.pairwise(levels):
        np.testing.assert_array_equal(finer[:, ::2, ::2], coarser[:])


@pytest.fixture
def image(tmp_path):
    """An OME-Zarr image that has labels `nuclei`."""
    path = save(tmp_path / "image.zarr", stack(), "ZYX")
    attributes = zarr.open_group(path, mode="r+").attrs
    ome = attributes["ome"]
    del ome["image-label"]
    attributes["ome"] = ome
    for _ in save_into_image(path, "nuclei", LabelImage(stack(), "ZYX")):
        pass
    return path


@pytest.mark.parametrize("is_stated", [True, False])
def test_the_image_that_the_labels_belong_to_is_named_from_the_output(image, tmp_path, is_stated):
    source = image / "labels" / "nuclei"
    if not is_stated:
        attributes = zarr.open_group(source, mode="r+").attrs
        attributes["ome"] = {**attributes["ome"], "image-label": {"version": "0.5"}}
    target = tmp_path / "deep" / "out.zarr"
    linked(source, target)
    named = read_multiscale(target).attributes["image-label"]["source"]["image"]
    assert os.path.normpath(target / named) == os.path.normpath(image)


def test_an_image_that_has_labels_is_refused(image, tmp_path):
    with pytest.raises(InputError, match="nuclei"):
        next(link_volume(image, tmp_path / "out.zarr"))


def test_a_foreign_address_of_the_image_is_kept(source, tmp_path):
    attributes = zarr.open_group(source, mode="r+").attrs
    foreign = {"version": "0.5", "source": {"image": "https://example.org/image.zarr"}}
    attributes["ome"] = {**attributes["ome"], "image-label": foreign}
    linked(source, tmp_path / "out.zarr")
    assert read_multiscale(tmp_path / "out.zarr").attributes["image-label"] == foreign


def test_labels_of_no_image_name_none(source, tmp_path):
    linked(source, tmp_path / "out.zarr")
    assert "source" not in read_multiscale(tmp_path / "out.zarr").attributes["image-label"]


def test_each_time_is_linked_along_z_by_itself(tmp_path):
    both = np.stack([stack(3), stack(3)])
    source = save(tmp_path / "slices.zarr", both, "TZYX")
    result = linked(source, tmp_path / "out.zarr")
    assert [np.unique(time).tolist() for time in result] == [[0, 1, 2], [0, 3, 4]]


def test_tracks_are_linked_along_t(tmp_path):
    both = np.stack([stack(3), stack(3)])
    both[1] += np.where(both[1] > 0, 100, 0).astype(np.uint32)
    source = save(tmp_path / "slices.zarr", both, "TZYX")
    events = list(link_volume(source, tmp_path / "out.zarr", LinkConfig(axis="T")))
    assert [e.position for e in events if isinstance(e, SliceLinked)][:3] == [
        (0, 0),
        (1, 0),
        (0, 1),
    ]
    result = zarr.open_array(tmp_path / "out.zarr" / "0", mode="r")[...]
    np.testing.assert_array_equal(result[0], result[1])
    assert [np.unique(plane).tolist() for plane in result[0]] == [[0, 1, 2], [0, 3, 4], [0, 5, 6]]


def test_without_z_times_are_linked(tmp_path):
    source = save(tmp_path / "slices.zarr", stack(), "TYX")
    assert linked(source, tmp_path / "out.zarr").max() == 2


def test_a_tiff_of_whole_numbers_is_linked(tmp_path):
    tifffile.imwrite(
        tmp_path / "slices.tif",
        stack(dtype=np.uint16)[:, np.newaxis],
        imagej=True,
        metadata={"axes": "ZCYX", "unit": "um", "spacing": 3.0},
        resolution=(2, 2),
    )
    result = linked(tmp_path / "slices.tif", tmp_path / "out.zarr")
    assert result.max() == 2
    written = read_multiscale(tmp_path / "out.zarr")
    by_axis = dict(zip(written.names, written.scale, strict=True))
    assert (by_axis["z"], by_axis["y"], by_axis["x"]) == (3.0, 0.5, 0.5)
    assert set(written.units) == {"micrometer", None} or set(written.units) == {"micrometer"}


def test_axes_can_be_stated(tmp_path):
    tifffile.imwrite(tmp_path / "slices.tif", stack(), photometric="minisblack")
    assert linked(tmp_path / "slices.tif", tmp_path / "a.zarr", axes="TYX").max() == 2
    named = save(tmp_path / "slices.zarr", stack(), "ZYX", translate=(1, 2, 3))
    linked(named, tmp_path / "b.zarr", axes="TYX")
    assert read_multiscale(tmp_path / "b.zarr").translate == (1, 2, 3)


def test_a_plain_array_is_linked(tmp_path):
    array = zarr.create_array(
        tmp_path / "plain.zarr", data=stack(), dimension_names=["z", "y", "x"]
    )
    assert linked(Path(array.store.root), tmp_path / "out.zarr").max() == 2


def test_ids_of_64_bits_become_small(tmp_path):
    large = stack(dtype=np.uint64)
    large[large > 0] += np.uint64(2**63)
    source = save(tmp_path / "slices.zarr", large, "ZYX")
    result = linked(source, tmp_path / "out.zarr")
    assert result.dtype == np.uint32
    assert result.max() == 2


def test_options_reach_the_linker(tmp_path):
    labels = stack(5)
    labels[2] = 0
    labels[0, 0:3, 40:50] = 77
    source = save(tmp_path / "slices.zarr", labels, "ZYX", scale=(1, 0.5, 0.5))
    target = tmp_path / "out.zarr"
    assert linked(source, target).max() == 5
    assert linked(source, target, overwrite=True, max_gap=1).max() == 3
    assert linked(source, target, overwrite=True, max_gap=1, min_extent=2).max() == 2
    # One object moves by a pixel of 0.5 from slice to slice
    assert linked(source, target, overwrite=True, max_shift=0.5).max() == 5
    assert linked(source, target, overwrite=True, max_shift=0.4).max() == 7
    assert linked(source, target, overwrite=True, min_iou=0.9).max() == 7


def test_warnings_say_why_there_is_nothing(tmp_path):
    def warning(labels, **options):
        source = save(tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr", labels, "ZYX")
        target = source.with_suffix(".out.zarr")
        events = list(link_volume(source, target, LinkConfig(**options)))
        return [event.message for event in events if isinstance(event, Warned)]

    assert warning(stack()) == []
    assert "no object" in warning(np.zeros_like(stack()))[0]
    assert "--min-extent" in warning(stack(), min_extent=5)[0]
    apart = np.zeros((2, 20, 20), dtype=np.uint8)
    apart[0, :5, :5] = apart[1, 10:, 10:] = 1
    assert "--min-iou" in warning(apart)[0]
    assert warning(apart[:1]) == []


def test_an_existing_output_is_refused_or_replaced(source, tmp_path):
    target = tmp_path / "out.zarr"
    linked(source, target)
    with pytest.raises(OutputError, match="--overwrite"):
        next(link_volume(source, target))
    linked(source, target, overwrite=True)
    other = tmp_path / "folder"
    other.mkdir()
    (other / "notes.txt").touch()
    with pytest.raises(OutputError, match="no Zarr store"):
        next(link_volume(source, other, LinkConfig(overwrite=True)))


def test_an_output_has_one_writer(source, tmp_path):
    target = tmp_path / "out.zarr"
    events = link_volume(source, target)
    next(events)
    with locked(target), pytest.raises(OutputError, match="one process at a time"):
        next(events)
    events = link_volume(source, target)
    next(events)
    before = linked(source, target, min_iou=0.95)
    with pytest.raises(OutputError, match="--overwrite"):
        next(events)
    np.testing.assert_array_equal(zarr.open_array(target / "0", mode="r")[...], before)


@pytest.mark.parametrize("place", ["slices.zarr", "slices.zarr/labels/out", "."])
def test_the_source_is_never_written_over(source, place):
    target = source.parent / place
    before = sorted(source.rglob("*"))
    with pytest.raises(OutputError):
        next(link_volume(source, target, LinkConfig(overwrite=True)))
    assert sorted(source.rglob("*")) == before


def test_an_unfinished_source_is_refused(source, tmp_path):
    zarr.open_group(source, mode="r+").attrs["napari_sam"] = {"state": "unfinished"}
    with pytest.raises(InputError, match="--resume"):
        next(link_volume(source, tmp_path / "out.zarr"))
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("dtype", [np.float32, bool])
def test_what_holds_no_ids_is_refused(tmp_path, dtype):
    zarr.create_array(
        tmp_path / "a.zarr", data=stack().astype(dtype), dimension_names=["z", "y", "x"]
    )
    with pytest.raises(InputError, match="whole numbers"):
        next(link_volume(tmp_path / "a.zarr", tmp_path / "out.zarr"))


def test_colours_and_negative_ids_are_refused(tmp_path):
    colours = np.zeros((2, 20, 20, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "rgb.tif", colours, photometric="rgb")
    with pytest.raises(InputError, match="colours"):
        next(link_volume(tmp_path / "rgb.tif", tmp_path / "out.zarr", LinkConfig(axes="ZYXS")))
    zarr.create_array(
        tmp_path / "a.zarr", data=-stack().astype(np.int32), dimension_names=["z", "y", "x"]
    )
    with pytest.raises(InputError, match="unsigned"):
        list(link_volume(tmp_path / "a.zarr", tmp_path / "out.zarr"))
    assert not (tmp_path / "out.zarr").exists()


def test_labels_without_the_axis_are_refused(tmp_path):
    flat = save(tmp_path / "flat.zarr", stack()[0], "YX")
    with pytest.raises(ConfigError, match="--axes"):
        next(link_volume(flat, tmp_path / "out.zarr"))
    times = save(tmp_path / "times.zarr", stack(), "TYX")
    with pytest.raises(ConfigError, match="Z is not among them"):
        next(link_volume(times, tmp_path / "out.zarr", LinkConfig(axis="Z")))


@pytest.mark.parametrize(
    "options",
    [{"axis": "Y"}, {"min_iou": 1.0}, {"max_gap": -1}, {"max_shift": -2}, {"min_extent": 0}],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match=f"--{next(iter(options)).replace('_', '-')}"):
        LinkConfig(**options)


@pytest.mark.parametrize("stage", [SliceLinked, SliceDone])
@pytest.mark.parametrize("had_output", [False, True])
def test_a_run_that_stops_leaves_what_was_there(source, tmp_path, stage, had_output):
    target = tmp_path / "out.zarr"
    before = linked(source, target, min_iou=0.95) if had_output else None
    with closing(link_volume(source, target, LinkConfig(overwrite=True))) as events:
        next(event for event in events if isinstance(event, stage))
        assert stage is SliceLinked or read_multiscale(target).state == "unfinished"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [source.name, *([target.name] if had_output else [])]
    )
    if had_output:
        assert read_multiscale(target).state == "finished"
        np.testing.assert_array_equal(zarr.open_array(target / "0", mode="r")[...], before)


def test_a_source_that_changes_meanwhile_is_noticed(source, tmp_path):
    events = link_volume(source, tmp_path / "out.zarr")
    next(event for event in events if isinstance(event, SliceLinked) and event.slice_number == 3)
    zarr.open_array(source / "0", mode="r+")[2, :3, :3] = 99
    with pytest.raises(InputError, match="held 2 before"):
        list(events)
    assert not (tmp_path / "out.zarr").exists()


def test_memory_does_not_grow_with_the_number_of_slices(tmp_path):
    peaks = []
    for n_slices in (6, 48):
        array = zarr.create_array(
            tmp_path / f"{n_slices}.zarr",
            shape=(n_slices, 512, 512),
            chunks=(1, 512, 512),
            dtype="uint32",
            dimension_names=["z", "y", "x"],
        )
        for i, plane in enumerate(stack(6, (512, 512))):
            for repeat in range(n_slices // 6):
                array[i + 6 * repeat] = plane
        events = link_volume(array.store.root, tmp_path / f"{n_slices}.out", LinkConfig(max_gap=1))
        tracemalloc.start()
        try:
            assert sum(isinstance(event, SliceDone) for event in events) == n_slices
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    plane_bytes = 512 * 512 * 4
    assert (
        peaks[1] - peaks[0] < 3 * plane_bytes
    )  # chunks that Zarr still holds; the input grew by 42
