import dataclasses
import os

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


def stop_after(source, target, n_slices):
    events = segment_volume(source, target, CONFIG, ORACLE)
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
