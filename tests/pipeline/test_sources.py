import dataclasses
import io
import os
import threading
import tracemalloc
from collections import Counter
from itertools import product
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from skimage.measure import label
from zarr.codecs import ZstdCodec
from zarr.codecs._v2 import V2Codec

from napari_sam.core.errors import InputError, OutputError
from napari_sam.core.region import Region
from napari_sam.io import ArrayVolume, open_volume
from napari_sam.pipeline import (
    FunctionSegmenter,
    Resumed,
    SegmentConfig,
    SliceDone,
    TileDone,
    Warned,
    contrast_sample,
    segment_volume,
)
from napari_sam.pipeline import source as source_module
from napari_sam.pipeline.plan import file_signature, is_on_disk
from napari_sam.pipeline.source import SliceSource
from napari_sam.tiling import Contrast, tile_grid

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


CHUNK = 48
TEXTURED = planes(3) + np.random.default_rng(0).integers(0, 50, (3, 80, 90)).astype(np.uint16)
"""No chunk of it is empty, so that all are stored."""
AS_THEY_ARE = dataclasses.replace(CONFIG, contrast_limits=((100, 1000),), axes="ZYX")
UNSTATED = dataclasses.replace(AS_THEY_ARE, axes=None)


def write_zarr(path, **options):
    zarr.create_array(path, data=TEXTURED, chunks=(1, CHUNK, CHUNK), **options)


def write_ngff(path, version):
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=TEXTURED, chunks=(1, CHUNK, CHUNK))
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * 3}]}]
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    multiscales = [{"version": version, "axes": axes, "datasets": datasets}]
    attributes = {"multiscales": multiscales}
    group.attrs.update(
        attributes if version == "0.4" else {"ome": {"version": version, **attributes}}
    )


def write_series(path):
    path.mkdir()
    for number, plane in enumerate(TEXTURED):
        tifffile.imwrite(path / f"{number}.tif", plane, compression="zlib", tile=(CHUNK, CHUNK))


def write_tiff(path, **options):
    tifffile.imwrite(path, TEXTURED, photometric="minisblack", compression="zlib", **options)


SOURCES = {
    "Zarr v2": (lambda path: write_zarr(path, zarr_format=2), 3 * 4),
    "Zarr v3": (lambda path: write_zarr(path, zarr_format=3), 3 * 4),
    "sharded": (lambda path: write_zarr(path, shards=(1, 2 * CHUNK, 2 * CHUNK)), 3 * 4),
    "NGFF 0.4": (lambda path: write_ngff(path, "0.4"), 3 * 4),
    "NGFF 0.5": (lambda path: write_ngff(path, "0.5"), 3 * 4),
    "one strip": (lambda path: write_tiff(path, rowsperstrip=80), 3),
    "strips": (lambda path: write_tiff(path, rowsperstrip=30), 3 * 3),
    "tiles": (lambda path: write_tiff(path, tile=(CHUNK, CHUNK)), 3 * 4),
    "series": (write_series, 3 * 4),
}
"""How each is written, and its chunks."""


@pytest.fixture
def decoded(monkeypatch):
    """Count the chunks of the image that are decoded: all of Zarr pass one of these two."""
    counts = Counter()

    def count(kind):
        decode = kind._decode_single

        async def counted(self, chunk, spec):
            counts[kind.__name__] += spec.dtype.to_native_dtype() == TEXTURED.dtype
            return await decode(self, chunk, spec)

        monkeypatch.setattr(kind, "_decode_single", counted)

    count(ZstdCodec)
    count(V2Codec)
    return counts


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    tifffile.imwrite(folder / "raw.tif", TEXTURED, photometric="minisblack")
    run(folder / "raw.tif", folder / "labels.zarr", AS_THEY_ARE)
    labels = labels_of(folder / "labels.zarr")
    assert labels.max() == 6
    return labels


@pytest.mark.parametrize("kind", SOURCES)
def test_a_run_decodes_each_chunk_once(tmp_path, decoded, expected, kind):
    write, n_chunks = SOURCES[kind]
    write(tmp_path / "image")
    run(tmp_path / "image", tmp_path / "labels.zarr", AS_THEY_ARE)
    assert decoded.total() == n_chunks
    np.testing.assert_array_equal(labels_of(tmp_path / "labels.zarr"), expected)


class Blocks:
    """Pixels that are made when they are asked for, and counted by the chunks they lie in."""

    def __init__(self, shape, chunks, dtype=np.uint16):
        self.shape, self.chunks, self.dtype = shape, chunks, np.dtype(dtype)
        self.read = Counter()

    def __getitem__(self, index):
        spans = [slice(*span.indices(n)[:2]) for span, n in zip(index, self.shape, strict=True)]
        chunks = [
            range(span.start // chunk, -(-span.stop // chunk))
            for span, chunk in zip(spans, self.chunks, strict=True)
        ]
        self.read.update(product(*chunks))
        return sum(grid * (7 * i + 3) for i, grid in enumerate(np.ogrid[tuple(spans)])).astype(
            self.dtype
        )


def read_all(volume, config=CONFIG, tile=64, halo=16):
    source = SliceSource(volume, config)
    contrast = Contrast((0.0,) * source.n_maps, (9000.0,) * source.n_maps)
    return [
        source.read_tile(position, each.read, contrast).rgb
        for position in source.positions
        for each in tile_grid(source.shape_yx, tile, halo)
    ]


@pytest.mark.parametrize("channels", [(0, 2), (2, 1, 0), (3,)])
def test_channels_of_one_chunk_are_decoded_together(channels):
    blocks = Blocks((4, 200, 150), (4, 64, 64))
    config = dataclasses.replace(CONFIG, channels=channels)
    pixels = read_all(ArrayVolume(Path("a"), [blocks], "CYX"), config)
    assert set(blocks.read.values()) == {1}
    whole = blocks[:, :, :]
    for got, wanted in zip(
        pixels, read_all(ArrayVolume(Path("a"), [whole], "CYX"), config), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


def test_channels_of_several_chunks_are_not_read_for_each_other():
    blocks = Blocks((6, 100, 100), (2, 50, 50))
    config = dataclasses.replace(CONFIG, channels=(5, 0))
    read_all(ArrayVolume(Path("a"), [blocks], "CYX"), config)
    assert set(blocks.read.values()) == {1}
    assert {channel for channel, _, _ in blocks.read} == {0, 2}


def test_dask_with_chunks_of_all_lengths_is_computed_once():
    computed = Counter()

    def block(block_info):
        computed[tuple(block_info[None]["chunk-location"])] += 1
        return np.zeros(block_info[None]["chunk-shape"], np.uint8)

    chunks = ((1, 1), (30, 70, 50), (13, 80, 27))
    array = da.map_blocks(block, chunks=chunks, dtype=np.uint8, meta=np.zeros((0, 0, 0), np.uint8))
    computed.clear()
    read_all(ArrayVolume(Path("a"), [array], "ZYX"))
    assert len(computed) == 18
    assert set(computed.values()) == {1}


def test_an_array_without_chunks_is_read_slice_by_slice_while_slices_are_small(monkeypatch):
    windows = []

    class Silent:
        shape, dtype = (3, 100, 100), np.dtype(np.uint16)

        def __getitem__(self, index):
            windows.append(index)
            return np.zeros([span.stop - span.start for span in index], self.dtype)

    read_all(ArrayVolume(Path("a"), [Silent()], "ZYX"), tile=40)
    assert len(windows) == 3
    windows.clear()
    monkeypatch.setattr(source_module, "SLICE_CACHE_BYTES", 1000)
    read_all(ArrayVolume(Path("a"), [Silent()], "ZYX"), tile=40)
    assert len(windows) == 3 * 9


def peak_of_reading(shape, chunks):
    volume = ArrayVolume(Path("a"), [Blocks(shape, chunks)], "YX")
    source = SliceSource(volume, CONFIG)
    grid = tile_grid(source.shape_yx, 128, 32)
    tracemalloc.start()
    try:
        for tile in grid:
            source.read_tile((), tile.read, Contrast((0.0,), (9000.0,)))
        return tracemalloc.get_traced_memory()[1], source.cached_bytes(t.read for t in grid)
    finally:
        tracemalloc.stop()


def test_memory_grows_with_the_width_of_a_slice_and_not_with_its_height():
    peak, kept = peak_of_reading((512, 4096), (64, 64))
    of_tall, kept_of_tall = peak_of_reading((2048, 4096), (64, 64))
    of_wide, kept_of_wide = peak_of_reading((512, 8192), (64, 64))
    assert kept_of_tall == kept
    assert kept_of_wide == 2 * kept
    assert of_tall < 1.1 * peak
    assert of_wide < 2.1 * peak
    assert kept < of_tall < 2 * kept < 2048 * 4096 * 2


def test_what_looks_even_in_a_sample_is_searched_in_bands(monkeypatch):
    monkeypatch.setattr(source_module, "SCAN_SIDE", 64)
    values = np.full((300, 400), 7.0, np.float32)
    values[150, 391], values[0, 0] = 90.0, np.nan
    monkeypatch.setattr(contrast_sample, "SAMPLE_PIXELS", 100)
    monkeypatch.setattr(contrast_sample, "BLOCK", 8)
    array = da.from_array(values, chunks=(50, 50))
    source = SliceSource(ArrayVolume(Path("a"), [array], "YX"), CONFIG)
    assert source.measure_contrast(None) == Contrast((7.0,), (90.0,))


class Failing(ArrayVolume):
    """A volume of which one window of the second slice cannot be read for a time."""

    n_failures = 0

    def read(self, region, level=0):
        if region.start == (1, 0, 24) and self.n_failures:
            self.n_failures -= 1
            raise InputError("Not now", rule="It can be read", cure="Wait")
        return super().read(region, level)


def test_a_tile_that_could_not_be_read_ahead_is_read_again(tmp_path, expected):
    volume = Failing(Path("a"), [TEXTURED], "ZYX")
    events = []
    for event in segment_volume(volume, tmp_path / "a.zarr", UNSTATED, ORACLE):
        if isinstance(event, SliceDone) and event.slice_number == 0:
            volume.n_failures = 1
        events.append(event)
    assert volume.n_failures == 0
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert "Slice 1, tile 1 at (0, 40) failed, it is tried again: Not now" in warned.message
    np.testing.assert_array_equal(labels_of(tmp_path / "a.zarr"), expected)


def test_a_tile_that_cannot_be_read_leaves_the_others(tmp_path):
    volume = Failing(Path("a"), [TEXTURED], "ZYX")
    seen = []
    events = segment_volume(volume, tmp_path / "a.zarr", UNSTATED, ORACLE)

    def collect():
        for event in events:
            if isinstance(event, SliceDone):
                volume.n_failures = 2
            seen.append(event)

    with pytest.raises(OutputError, match="1 tiles"):
        collect()
    assert sum(isinstance(event, TileDone) for event in seen) == 3 * 6 - 1


def test_the_next_tile_is_read_while_the_model_works(tmp_path):
    """Each tile waits within the model until the next one, also of the next slice, is read."""
    read = [threading.Event() for _ in range(3 * 4)]
    config = dataclasses.replace(UNSTATED, tile=45, halo=10)
    windows = [tile.read for tile in tile_grid((80, 90), 45, 10)]
    assert len(windows) == 4
    worked = []

    class Watched(ArrayVolume):
        def read(self, region, level=0):
            block = super().read(region, level)
            window = Region(region.start[1:], region.stop[1:])
            if window in windows and threading.current_thread() is not threading.main_thread():
                read[4 * region.start[0] + windows.index(window)].set()
            return block

    def wait_for_next(tile):
        worked.append(tile.shape)
        if len(worked) < len(read):
            assert read[len(worked)].wait(30)
            assert not any(each.is_set() for each in read[len(worked) + 1 :])
        return threshold(tile)

    segmenter = FunctionSegmenter(wait_for_next, digest="waits", window=80)
    events = run(Watched(Path("a"), [TEXTURED], "ZYX"), tmp_path / "a.zarr", config, segmenter)
    assert len(worked) == 12
    assert sum(isinstance(event, SliceDone) for event in events) == 3
    assert not [t for t in threading.enumerate() if "read ahead" in t.name]


def test_a_run_that_is_stopped_leaves_no_thread(tmp_path):
    volume = ArrayVolume(Path("a"), [TEXTURED], "ZYX")
    events = segment_volume(volume, tmp_path / "a.zarr", UNSTATED, ORACLE)
    assert any(isinstance(event, TileDone) for event in events)
    events.close()
    assert not [t for t in threading.enumerate() if "read ahead" in t.name]
