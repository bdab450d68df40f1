import dataclasses
import io
import os

import fsspec
import numpy as np
import pytest
import tifffile
import zarr
from skimage.measure import label

from napari_sam.core.errors import OutputError
from napari_sam.io import open_volume
from napari_sam.pipeline import FunctionSegmenter, Resumed, SegmentConfig, SliceDone, segment_volume
from napari_sam.pipeline.plan import file_signature, is_on_disk

CONFIG = SegmentConfig(tile=40, halo=16, min_size=1)
RESUMED = dataclasses.replace(CONFIG, resume=True)


def threshold(tile):
    return label(tile[..., 0] > 127, connectivity=1)


ORACLE = FunctionSegmenter(threshold, digest="threshold 1", window=72)


def planes(count):
    """Slices with bright squares; each slice has one more than the slice before."""
    stack = np.full((count, 80, 90), 100, np.uint16)
    for number in range(count):
        for square in range(number + 1):
            row, column = divmod(square, 4)
            stack[number, 16 * row + 4 : 16 * row + 12, 20 * column + 4 : 20 * column + 12] = 1000
    return stack


def run(source, target, config=CONFIG, segmenter=ORACLE):
    return list(segment_volume(source, target, config, segmenter))


def labels_of(target):
    return zarr.open_array(target / "0", mode="r")[...]


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "scan"
    folder.mkdir()
    for number, plane in enumerate(planes(11)):
        tifffile.imwrite(folder / f"z{number}.tif", plane, compression="zlib")
    return folder


@pytest.mark.parametrize("pattern", ["", "*.tif"])
def test_a_series_gives_the_labels_of_the_same_stack(series, tmp_path, pattern):
    tifffile.imwrite(tmp_path / "stack.tif", planes(11), photometric="minisblack")
    run(tmp_path / "stack.tif", tmp_path / "a.zarr", dataclasses.replace(CONFIG, axes="ZYX"))
    events = run(str(series / pattern), tmp_path / "b.zarr")
    assert events[-1].n_objects == sum(range(1, 12))
    np.testing.assert_array_equal(labels_of(tmp_path / "b.zarr"), labels_of(tmp_path / "a.zarr"))


def test_a_series_is_decoded_once_per_slice(series, tmp_path, monkeypatch):
    opened = []

    class Recorded(tifffile.TiffFile):
        def __init__(self, path):
            super().__init__(path)
            opened.append(path)

    config = dataclasses.replace(CONFIG, contrast_limits=((100, 1000),))
    with_headers = open_volume(series)
    monkeypatch.setattr(tifffile, "TiffFile", Recorded)
    run(with_headers, tmp_path / "a.zarr", config)
    contrast, signature, slices = 11, 8, 11
    assert len(opened) <= contrast + signature + slices


def stop_after(source, target, n_slices, config=CONFIG):
    events = segment_volume(source, target, config, ORACLE)
    for event in events:
        if isinstance(event, SliceDone) and event.slice_number == n_slices - 1:
            break
    events.close()


def test_an_interrupted_series_is_resumed(series, tmp_path):
    run(series, tmp_path / "whole.zarr")
    target = tmp_path / "a.zarr"
    stop_after(series, target, 3)
    (resumed,) = [event for event in run(series, target, RESUMED) if isinstance(event, Resumed)]
    assert resumed.n_slices == 3
    np.testing.assert_array_equal(labels_of(target), labels_of(tmp_path / "whole.zarr"))


@pytest.mark.parametrize("change", ["time", "name", "size"])
def test_a_series_with_another_file_is_not_resumed(series, tmp_path, change):
    stop_after(series, tmp_path / "a.zarr", 3)
    if change == "time":
        os.utime(series / "z7.tif", (1, 1))
    elif change == "name":
        (series / "z7.tif").rename(series / "z07.tif")
    else:
        tifffile.imwrite(series / "z7.tif", planes(11)[7])
    with pytest.raises(OutputError, match=r"source\.digest was"):
        run(series, tmp_path / "a.zarr", RESUMED)


def test_the_signature_of_a_series_reads_no_pixels(series, monkeypatch):
    volume = open_volume(series)
    before = file_signature(volume)
    monkeypatch.setattr(tifffile, "TiffFile", None)
    assert file_signature(volume) == before
    assert before["files"] == 11
    assert before["bytes"] == sum(file.stat().st_size for file in series.iterdir())
    assert is_on_disk(volume)


@pytest.mark.parametrize("lend", [False, True])
def test_labels_are_not_written_over_files_of_a_series(series, lend):
    source = series / "*.tif"
    target = dataclasses.replace(CONFIG, overwrite=True)
    for place in (series, series / "z3.tif", series / "z3.tif" / "labels.zarr"):
        with pytest.raises(OutputError):
            run(open_volume(source) if lend else source, place, target)
    assert len(list(series.iterdir())) == 11
    run(open_volume(source) if lend else source, series / "labels.zarr")
    assert open_volume(source).shape[0] == 11


@pytest.fixture
def memory():
    """A storage that is a URL to everyone, empty before and after."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def write_ome_zarr(place, scale=0.5):
    group = zarr.open_group(place, mode="w")
    group.create_array("0", data=planes(4), chunks=(1, 40, 40))
    steps = [{"type": "scale", "scale": [2.0, scale, scale]}]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


def test_an_image_at_a_url_gives_the_labels_of_the_same_file(memory, tmp_path):
    write_ome_zarr(tmp_path / "image.zarr")
    write_ome_zarr("memory://bucket/image.zarr")
    run(tmp_path / "image.zarr", tmp_path / "a.zarr")
    run("memory://bucket/image.zarr", tmp_path / "b.zarr")
    np.testing.assert_array_equal(labels_of(tmp_path / "b.zarr"), labels_of(tmp_path / "a.zarr"))
    attributes = zarr.open_group(tmp_path / "b.zarr", mode="r").attrs["ome"]
    assert "source" not in attributes["image-label"]  # only a path can be relative to the labels


def test_a_run_on_a_url_is_resumed_while_its_metadata_stay(memory, tmp_path):
    url = "memory://bucket/image.zarr"
    write_ome_zarr(url)
    stop_after(url, tmp_path / "a.zarr", 2)
    write_ome_zarr(url, scale=0.25)
    with pytest.raises(OutputError, match=r"source\.metadata was"):
        run(url, tmp_path / "a.zarr", RESUMED)
    write_ome_zarr(url)
    assert run(url, tmp_path / "a.zarr", RESUMED)[-1].n_objects == 10


def test_a_run_on_a_file_at_a_url_is_not_resumed_with_another_file(memory, tmp_path):
    content = io.BytesIO()
    tifffile.imwrite(content, planes(4), photometric="minisblack")
    memory.pipe("/bucket/stack.tif", content.getvalue())
    url = "memory://bucket/stack.tif"
    config = dataclasses.replace(RESUMED, axes="ZYX")
    stop_after(url, tmp_path / "a.zarr", 2, dataclasses.replace(CONFIG, axes="ZYX"))
    memory.pipe("/bucket/stack.tif", content.getvalue())
    with pytest.raises(OutputError, match=r"source\.created was"):
        run(url, tmp_path / "a.zarr", config)


def test_an_open_volume_at_a_url_is_recognised_by_its_pixels(memory, tmp_path):
    write_ome_zarr("memory://bucket/image.zarr")
    volume = open_volume("memory://bucket/image.zarr")
    assert not is_on_disk(volume)
    assert run(volume, tmp_path / "a.zarr")[-1].n_objects == 10


def test_a_url_of_a_file_keeps_its_output_apart(tmp_path):
    write_ome_zarr(tmp_path / "image.zarr")
    with pytest.raises(OutputError, match="one in the other"):
        run((tmp_path / "image.zarr").as_uri(), tmp_path / "image.zarr" / "labels")


def test_nothing_is_written_to_a_url(series, memory):
    with pytest.raises(OutputError, match="is a URL"):
        run(series, "memory://bucket/labels.zarr")
    assert not memory.store
