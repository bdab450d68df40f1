import dataclasses
import errno
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from PIL import Image
from skimage.measure import label

from napari_sam.core.errors import ConfigError, DeviceError, InputError, OutputError
from napari_sam.io import ArrayVolume, open_volume
from napari_sam.pipeline import (
    AutomaticOptions,
    ContrastMeasured,
    Finished,
    FunctionSegmenter,
    Planned,
    Resumed,
    SegmentConfig,
    SliceDone,
    SliceRange,
    TileDone,
    TileObjects,
    Warned,
    Working,
    segment_volume,
)

SMALL = SegmentConfig(tile=40, halo=16, min_size=1)


def threshold(tile):
    return label(tile[..., 0] > 127, connectivity=1)


ORACLE = FunctionSegmenter(threshold, digest="threshold 1", window=72)


def cells(shape, seed=0):
    """Bright discs of 6 pixels radius that do not touch, and how many there are."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, dtype=np.uint16)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    count = 0
    for y in range(9, shape[0] - 8, 16):
        for x in range(9, shape[1] - 8, 16):
            if rng.random() < 0.7:
                image[(rows - y) ** 2 + (columns - x) ** 2 <= 36] = 1000
                count += 1
    return image + 100, count


def write(path, planes):
    """A plain stack; without `photometric` three planes would become the colours of one image."""
    tifffile.imwrite(path, planes, photometric="minisblack")


@pytest.fixture
def stack(tmp_path):
    planes = [cells((100, 90), seed) for seed in range(3)]
    path = tmp_path / "stack.tif"
    write(path, np.stack([plane for plane, _ in planes]))
    return path, [count for _, count in planes]


def run(source, target, config=SMALL, segmenter=ORACLE):
    return list(segment_volume(source, target, config, segmenter))


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def level(target, number=0):
    return zarr.open_array(target / str(number), mode="r")[...]


def with_axes(config=SMALL, **changes):
    return dataclasses.replace(config, **{"axes": "ZYX", **changes})


def test_a_stack_becomes_labels_counted_exactly(stack, tmp_path):
    source, counts = stack
    target = tmp_path / "out" / "cells.ome.zarr"
    events = run(source, target, with_axes())
    assert events[0] == Planned("ZYX", (3, 100, 90), 3, 9, (72, 66))
    assert isinstance(events[1], ContrastMeasured)
    assert [event.n_objects for event in of(SliceDone, events)] == counts
    assert len(of(TileDone, events)) == 27
    assert events[-1].n_objects == sum(counts)
    labels = level(target)
    assert np.unique(labels).tolist() == list(range(sum(counts) + 1))
    for z, count in enumerate(counts):
        assert len(np.unique(labels[z])) == count + 1
        np.testing.assert_array_equal(labels[z] > 0, tifffile.imread(source)[z] > 500)
    assert not target.with_name("cells.ome.zarr.journal").exists()


def test_the_output_opens_in_an_independent_reader(stack, tmp_path):
    run(stack[0], tmp_path / "cells.zarr", with_axes())
    (node,) = Reader(parse_url(str(tmp_path / "cells.zarr")))()
    np.testing.assert_array_equal(np.asarray(node.data[0]), level(tmp_path / "cells.zarr"))


def test_tiled_equals_untiled(stack, tmp_path):
    run(stack[0], tmp_path / "tiled.zarr", with_axes())
    events = run(stack[0], tmp_path / "whole.zarr", with_axes(tile=400))
    assert events[0].n_tiles_per_slice == 1
    tiled, whole = level(tmp_path / "tiled.zarr"), level(tmp_path / "whole.zarr")
    pairs = np.unique(np.stack([tiled.ravel(), whole.ravel()]), axis=1)
    assert pairs.shape[1] == whole.max() + 1 == tiled.max() + 1


def test_only_the_chosen_slices_are_segmented(stack, tmp_path):
    source, counts = stack
    events = run(source, tmp_path / "a.zarr", with_axes(slices=SliceRange(1, None)))
    assert [event.position for event in of(SliceDone, events)] == [(1,), (2,)]
    labels = level(tmp_path / "a.zarr")
    assert labels.shape == (3, 100, 90)
    assert not labels[0].any()
    assert labels.max() == counts[1] + counts[2]
    with pytest.raises(InputError, match="--slices"):
        run(source, tmp_path / "b.zarr", with_axes(slices=SliceRange(7, 9)))


def test_time_depth_and_channels(tmp_path):
    planes = {(t, z): cells((50, 60), 10 * t + z) for t in range(2) for z in range(3)}
    data = np.zeros((2, 2, 3, 50, 60), dtype=np.uint16)
    for (t, z), (plane, _) in planes.items():
        data[t, 1, z] = plane
    group = zarr.open_group(tmp_path / "image.zarr", mode="w")
    group.create_array("0", data=data)
    axes = [{"name": "t", "type": "time", "unit": "second"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    transform = {"type": "scale", "scale": [5.0, 1.0, 2.0, 0.5, 0.25]}
    dataset = {"path": "0", "coordinateTransformations": [transform]}
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": [dataset]}],
    }
    target = tmp_path / "cells.zarr"
    with pytest.raises(ConfigError, match="--channel"):
        run(tmp_path / "image.zarr", target)
    config = dataclasses.replace(SMALL, channels=(1,), times=SliceRange(1, 2))
    events = run(tmp_path / "image.zarr", target, config)
    assert events[0].axes == "TZYX"
    positions = {event.position: event.n_objects for event in of(SliceDone, events)}
    assert positions == {(1, z): planes[1, z][1] for z in range(3)}
    ome = zarr.open_group(target, mode="r").attrs["ome"]
    transforms = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert transforms == [{"type": "scale", "scale": [5.0, 2.0, 0.5, 0.25]}]
    assert ome["image-label"]["source"] == {"image": "../image.zarr"}
    assert [axis.get("unit") for axis in ome["multiscales"][0]["axes"]] == [
        "second",
        "micrometer",
        "micrometer",
        "micrometer",
    ]


def test_several_channels_reach_the_model_as_colours(tmp_path):
    data = np.stack([cells((60, 60), seed)[0] * (seed + 1) for seed in range(3)])
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "CYX"})
    seen = []

    def watch(tile):
        seen.append(tile)
        return np.zeros(tile.shape[:2], dtype=np.int32)

    segmenter = FunctionSegmenter(watch, digest="watch")
    config = dataclasses.replace(SMALL, channels=(2, 0), tile=100)
    run(tmp_path / "a.tif", tmp_path / "a.zarr", config, segmenter)
    expected = [data[i] > 500 for i in (2, 0, 2)]  # two channels: magenta and green
    for sample, bright in enumerate(expected):
        np.testing.assert_array_equal(seen[0][..., sample] > 127, bright)


def test_rgb_keeps_its_colours(tmp_path):
    picture = np.zeros((60, 60, 3), dtype=np.uint8)
    picture[..., 0], picture[10:20, 10:20] = 200, (100, 50, 25)
    Image.fromarray(picture).save(tmp_path / "a.png")
    seen = []

    def watch(tile):
        seen.append(tile)
        return threshold(tile)

    for keeps_8bit in (False, True):
        segmenter = FunctionSegmenter(watch, digest="watch", keeps_8bit=keeps_8bit)
        run(tmp_path / "a.png", tmp_path / f"{keeps_8bit}.zarr", SMALL, segmenter)
    np.testing.assert_array_equal(seen[1], picture)
    ratio = seen[0].astype(float)[0, 0, 0] / seen[0][10, 10, 0]
    assert ratio == pytest.approx(2.0, rel=0.02)


def test_only_one_channel_of_several_in_rgb_is_taken(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (2, 30, 30, 3)).astype(np.uint8)
    zarr.create_array(tmp_path / "a.zarr", data=data)
    config = with_axes(axes="CYXS", channels=(0, 1))
    with pytest.raises(ConfigError, match="RGB"):
        run(tmp_path / "a.zarr", tmp_path / "out.zarr", config)
    config = with_axes(axes="CYXS", channels=(1,))
    assert isinstance(run(tmp_path / "a.zarr", tmp_path / "out.zarr", config)[-1], Finished)


def test_contrast_limits_are_taken_as_given(stack, tmp_path):
    events = run(stack[0], tmp_path / "a.zarr", with_axes(contrast_limits=(0.0, 5000.0)))
    assert of(ContrastMeasured, events) == [ContrastMeasured((0.0,), (5000.0,))]
    assert events[-1].n_objects == 0
    assert "No object was found" in of(Warned, events)[0].message


def test_contrast_is_one_for_the_whole_volume(tmp_path):
    stack = np.full((4, 64, 64), 100, dtype=np.uint16)
    stack[2, 8:20, 8:20] = 1100
    stack[3, 8:20, 8:20] = 160  # alone this would be stretched to white
    write(tmp_path / "a.tif", stack)
    events = run(tmp_path / "a.tif", tmp_path / "a.zarr", with_axes())
    assert [event.n_objects for event in of(SliceDone, events)] == [0, 0, 1, 0]


def test_an_object_that_the_sample_missed_is_found(tmp_path):
    stack = np.zeros((40, 32, 32), dtype=np.uint8)
    stack[1, 4:9, 4:9] = 7
    write(tmp_path / "a.tif", stack)
    events = run(tmp_path / "a.tif", tmp_path / "a.zarr", with_axes())
    assert events[-1].n_objects == 1


def test_pixels_that_are_not_finite_are_said_and_masked(tmp_path):
    image = cells((100, 90))[0].astype(np.float32)
    image[20:60, 30:80] = np.nan
    image[0, 0] = np.inf
    tifffile.imwrite(tmp_path / "a.tif", image)
    white = FunctionSegmenter(lambda tile: np.ones(tile.shape[:2], int), digest="white")
    events = run(tmp_path / "a.tif", tmp_path / "a.zarr", SMALL, white)
    assert "2001 pixels that are NaN or infinite" in of(Warned, events)[0].message
    labels = level(tmp_path / "a.zarr")
    assert not labels[~np.isfinite(image)].any()
    assert labels[5, 5] > 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((1, 1), np.uint8), "two rows"),
        (np.zeros((1, 50), np.uint8), "two rows"),
        (np.full((50, 50), 7, np.uint16), "constant value 7"),
        (np.full((50, 50), np.nan, np.float32), "no finite value"),
        (np.ones((50, 50), bool), "bool"),
        (np.ones((50, 50), np.complex64), "complex64"),
        (np.ones((2, 50, 50), np.uint8), "--axes"),
    ],
)
def test_images_that_cannot_be_used_leave_nothing_behind(tmp_path, image, message):
    zarr.create_array(tmp_path / "a.zarr", data=image)
    with pytest.raises(InputError, match=message):
        run(tmp_path / "a.zarr", tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_colour_samples_must_be_colours(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((20, 30, 5), np.uint8))
    with pytest.raises(InputError, match="RGB or RGBA"):
        run(tmp_path / "a.zarr", tmp_path / "out.zarr", with_axes(axes="YXS"))


def test_existing_output_is_refused_and_replaced_on_request(stack, tmp_path):
    target = tmp_path / "a.zarr"
    run(stack[0], target, with_axes(slices=SliceRange(0, 1)))
    with pytest.raises(OutputError, match="--overwrite"):
        run(stack[0], target, with_axes())
    run(stack[0], target, with_axes(overwrite=True))
    assert level(target)[2].any()


def test_output_in_the_input_is_refused(stack, tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((20, 30), np.uint8))
    for target in (tmp_path / "a.zarr", tmp_path / "a.zarr" / "labels"):
        with pytest.raises(OutputError, match="another name"):
            run(tmp_path / "a.zarr", target, dataclasses.replace(SMALL, overwrite=True))


class Failing:
    """Segments like the oracle until its time has come."""

    window, keeps_8bit, digest = 72, False, "threshold 1"

    def __init__(self, n_tiles, error):
        self.left = n_tiles
        self.error = error

    def __call__(self, tile):
        if self.left == 0:
            raise self.error
        self.left -= 1
        labels = threshold(tile).astype(np.int32)
        return TileObjects(labels, np.ones(labels.max(), np.float32))


@pytest.mark.parametrize("n_tiles", [9, 10, 20])
def test_an_interrupted_run_is_resumed_to_the_same_labels(stack, tmp_path, n_tiles):
    run(stack[0], tmp_path / "whole.zarr", with_axes())
    target = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(stack[0], target, with_axes(), Failing(n_tiles, KeyboardInterrupt()))
    n_done = n_tiles // 9
    attributes = zarr.open_group(target, mode="r").attrs
    assert attributes["napari_sam"] == {"state": "unfinished"}
    np.testing.assert_array_equal(level(target)[:n_done], level(tmp_path / "whole.zarr")[:n_done])
    events = run(stack[0], target, with_axes(resume=True))
    (resumed,) = of(Resumed, events)
    assert resumed.n_slices == n_done
    assert resumed.n_tiles == n_tiles % 9 or n_tiles == 20  # an even tile is done unasked
    assert len(of(TileDone, events)) == 27 - 9 * n_done - resumed.n_tiles
    assert events[-1].n_objects == sum(stack[1])
    for number in range(2):
        np.testing.assert_array_equal(
            level(target)[..., :: 2**number, :: 2**number][0],
            level(tmp_path / "whole.zarr")[..., :: 2**number, :: 2**number][0],
        )
    np.testing.assert_array_equal(level(target), level(tmp_path / "whole.zarr"))
    assert zarr.open_group(target, mode="r").attrs["napari_sam"] == {"state": "finished"}


def test_closing_the_generator_stops_and_keeps_what_is_done(stack, tmp_path):
    events = segment_volume(stack[0], tmp_path / "a.zarr", with_axes(), ORACLE)
    for event in events:
        if isinstance(event, SliceDone):
            break
    events.close()
    resumed = run(stack[0], tmp_path / "a.zarr", with_axes(resume=True))
    assert of(Resumed, resumed) == [Resumed(1)]


def test_a_run_that_ends_before_its_first_tile_leaves_nothing(stack, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(stack[0], tmp_path / "a.zarr", with_axes(), Failing(0, KeyboardInterrupt()))
    assert [path.name for path in tmp_path.iterdir()] == ["stack.tif"]


def test_a_failed_replacement_leaves_the_old_output_resumable(stack, tmp_path):
    target = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(stack[0], target, with_axes(), Failing(12, KeyboardInterrupt()))
    with pytest.raises(InputError):
        run(
            stack[0],
            target,
            with_axes(overwrite=True),
            Failing(0, InputError("", rule="", cure="")),
        )
    assert of(Resumed, run(stack[0], target, with_axes(resume=True))) == [Resumed(1, 3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"halo": 15}, r"options\.halo was 16 and is now 15"),
        ({"min_size": 3}, "min_size"),
        (
            {"automatic": AutomaticOptions(skip_covered=True)},
            r"options\.automatic\.skip_covered was None and is now True",
        ),
        (
            {"automatic": AutomaticOptions(foreground_only=True)},
            r"options\.automatic\.foreground_only was None and is now True",
        ),
        (
            {"automatic": AutomaticOptions(mode="watershed")},
            r"options\.automatic\.mode was None and is now .?watershed",
        ),
    ],
)
def test_another_configuration_is_not_resumed(stack, tmp_path, changes, message):
    target = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(stack[0], target, with_axes(), Failing(12, KeyboardInterrupt()))
    with pytest.raises(OutputError, match=message):
        run(stack[0], target, with_axes(resume=True, **changes))


def test_another_input_or_model_is_not_resumed(stack, tmp_path):
    target = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(stack[0], target, with_axes(), Failing(12, KeyboardInterrupt()))
    other = dataclasses.replace(ORACLE, digest="threshold 2")
    with pytest.raises(OutputError, match="segmenter was threshold 1 and is now threshold 2"):
        run(stack[0], target, with_axes(resume=True), other)
    write(stack[0], tifffile.imread(stack[0]) + 1)
    with pytest.raises(OutputError, match=r"source\.modified|source\.bytes"):
        run(stack[0], target, with_axes(resume=True))


def test_a_full_disk_keeps_what_is_done(stack, tmp_path, monkeypatch):
    target = tmp_path / "a.zarr"
    events = segment_volume(stack[0], target, with_axes(), ORACLE)
    for event in events:
        if isinstance(event, SliceDone):
            break
    with monkeypatch.context() as patch:

        def refuse(*args, **kwargs):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr("zarr.storage._local._put", refuse)
        with pytest.raises(OutputError, match="No space left"):
            list(events)
    assert of(Resumed, run(stack[0], target, with_axes(resume=True))) == [Resumed(1, 9)]


def test_a_forbidden_folder_is_said_before_any_tile(stack, tmp_path):
    (tmp_path / "file").write_text("x")
    calls = Failing(0, AssertionError("a tile was segmented"))
    with pytest.raises(OutputError, match="cannot be written"):
        run(stack[0], tmp_path / "file" / "a.zarr", with_axes(), calls)


def test_slices_too_large_to_hold_are_read_tile_by_tile(stack, tmp_path, monkeypatch):
    run(stack[0], tmp_path / "a.zarr", with_axes())
    monkeypatch.setattr("napari_sam.pipeline.source.SLICE_CACHE_BYTES", 100)
    monkeypatch.setattr("napari_sam.pipeline.contrast_sample.SAMPLE_PIXELS", 100)
    monkeypatch.setattr("napari_sam.pipeline.contrast_sample.BLOCK", 40)
    run(stack[0], tmp_path / "b.zarr", with_axes())
    np.testing.assert_array_equal(level(tmp_path / "a.zarr"), level(tmp_path / "b.zarr"))


def test_small_objects_are_dropped(stack, tmp_path):
    events = run(stack[0], tmp_path / "a.zarr", with_axes(min_size=114))
    assert events[-1].n_objects == 0
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (((0.0, 2000.0), (100.0, 300.0)), ((0.0, 100.0), (2000.0, 300.0))),
        ((0.0, 2000.0), ((0.0,), (2000.0,))),
        (((0.0, 2000.0),), ((0.0,), (2000.0,))),
    ],
)
def test_each_channel_has_contrast_limits_of_its_own(tmp_path, limits, expected):
    data = np.stack([np.full((60, 60), 1000 if c == 2 else 200, np.uint16) for c in range(3)])
    data[:, 5:9, 5:9] = 0
    volume = ArrayVolume(Path("cells"), [data], "CYX")
    seen = []

    def watch(tile):
        seen.append(tile)
        return np.zeros(tile.shape[:2], dtype=np.int32)

    config = dataclasses.replace(SMALL, channels=(2, 0), tile=100, contrast_limits=limits)
    events = run(volume, tmp_path / "a.zarr", config, FunctionSegmenter(watch, digest="watch"))
    assert of(ContrastMeasured, events) == [ContrastMeasured(*expected)]
    second = 128 if len(expected[0]) == 2 else 26
    assert seen[0][30, 30].tolist() == [128, second, 128]  # two channels: magenta and green


@pytest.mark.parametrize("channels", [(0,), (0, 1, 2)])
def test_contrast_limits_that_do_not_fit_the_channels_are_refused(tmp_path, channels):
    volume = ArrayVolume(Path("cells"), [np.ones((3, 60, 60), np.uint16)], "CYX")
    config = dataclasses.replace(SMALL, channels=channels, contrast_limits=((0, 5), (0, 9)))
    with pytest.raises(ConfigError, match=f"for {len(channels)} channel"):
        run(volume, tmp_path / "a.zarr", config)
    assert list(tmp_path.iterdir()) == []


def volume_of(planes, **options):
    return ArrayVolume(Path("a layer, no file"), [planes], "ZYX", **options)


def test_an_open_volume_is_segmented_like_its_file_and_stays_open(stack, tmp_path):
    run(stack[0], tmp_path / "file.zarr", with_axes())
    closed = []
    planes = tifffile.imread(stack[0])
    volume = volume_of(planes, scale={"Z": 2.0, "X": 0.5}, close=lambda: closed.append(1))
    target = tmp_path / "array.zarr"
    run(volume, target, SMALL)
    np.testing.assert_array_equal(level(target), level(tmp_path / "file.zarr"))
    assert closed == []
    ome = zarr.open_group(target, mode="r").attrs["ome"]
    transforms = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert transforms == [{"type": "scale", "scale": [2.0, 1.0, 0.5]}]


def test_only_an_image_on_disk_is_named_as_the_source(stack, tmp_path):
    run(volume_of(tifffile.imread(stack[0]), is_ngff=True), tmp_path / "a.zarr", SMALL)
    assert "source" not in zarr.open_group(tmp_path / "a.zarr").attrs["ome"]["image-label"]
    run(tmp_path / "a.zarr", tmp_path / "b.zarr", SMALL)
    run(open_volume(tmp_path / "a.zarr"), tmp_path / "c.zarr", SMALL)
    for name in ("b.zarr", "c.zarr"):
        image_label = zarr.open_group(tmp_path / name).attrs["ome"]["image-label"]
        assert image_label["source"] == {"image": "../a.zarr"}


def test_an_open_volume_is_resumed_with_equal_pixels_only(stack, tmp_path):
    run(stack[0], tmp_path / "whole.zarr", with_axes())
    planes = tifffile.imread(stack[0])
    target = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(volume_of(planes), target, SMALL, Failing(12, KeyboardInterrupt()))
    resume = dataclasses.replace(SMALL, resume=True)
    with pytest.raises(OutputError, match=r"source\.sample"):
        run(volume_of(planes + 1), target, resume)
    with pytest.raises(OutputError, match=r"source\.shape"):
        run(volume_of(planes[:2]), target, resume)
    renamed = ArrayVolume(Path("the layer has another name now"), [planes.copy()], "ZYX")
    run(renamed, target, resume)
    np.testing.assert_array_equal(level(target), level(tmp_path / "whole.zarr"))


def test_axes_are_not_given_twice(stack, tmp_path):
    with pytest.raises(ConfigError, match="open volume"):
        run(volume_of(tifffile.imread(stack[0])), tmp_path / "a.zarr", with_axes())


def test_output_in_an_open_volume_is_refused(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((20, 30), np.uint8))
    with pytest.raises(OutputError, match="another name"):
        run(open_volume(tmp_path / "a.zarr"), tmp_path / "a.zarr" / "labels", SMALL)


class Stepping(Failing):
    """Segments like the oracle, in five steps of which it remembers how many it took."""

    def __init__(self):
        super().__init__(-1, None)
        self.n_steps = 0

    def steps(self, tile):
        for done in range(5):
            yield Working(0, 0, done, 4)  # whatever has `done` and `total`
            self.n_steps += 1
        return self(tile)


def test_steps_within_a_tile_are_events_and_change_nothing(stack, tmp_path):
    run(stack[0], tmp_path / "plain.zarr", with_axes())
    config = with_axes(slices=SliceRange(1, 3))
    events = run(stack[0], tmp_path / "steps.zarr", config, Stepping())
    np.testing.assert_array_equal(
        level(tmp_path / "steps.zarr")[1:] > 0, level(tmp_path / "plain.zarr")[1:] > 0
    )
    steps = of(Working, events)
    assert steps[5:11] == [Working(0, 1, i, 4) for i in range(5)] + [Working(0, 2, 0, 4)]
    assert len(steps) == 5 * (len(of(TileDone, events)) - 1)  # one tile is even
    assert steps[-1].slice_number == 1


@pytest.mark.parametrize(("n_slices", "n_tiles"), [(0, 0), (0, 4), (2, 4)])
def test_closing_within_a_tile_stops_there_and_is_resumed_to_the_same_labels(
    stack, tmp_path, n_slices, n_tiles
):
    run(stack[0], tmp_path / "whole.zarr", with_axes())
    target, segmenter = tmp_path / "a.zarr", Stepping()
    events = segment_volume(stack[0], target, with_axes(), segmenter)
    n_seen = 0
    for event in events:
        n_seen += isinstance(event, Working)
        if event == Working(n_slices, n_tiles, 2, 4):
            break
    events.close()
    assert segmenter.n_steps == n_seen - 1  # the step that was announced last was not taken
    names = ["stack.tif", "whole.zarr"]
    if n_slices == n_tiles == 0:
        assert sorted(path.name for path in tmp_path.iterdir()) == names
        return
    events = run(stack[0], target, with_axes(resume=True), Stepping())
    assert of(Resumed, events) == [Resumed(n_slices, n_tiles)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", *names]
    np.testing.assert_array_equal(level(target), level(tmp_path / "whole.zarr"))


def test_time_spent_paused_is_not_counted_as_work(stack, tmp_path):
    config = with_axes(tile=400, slices=SliceRange(0, 1))
    waited = 0.0
    for event in segment_volume(stack[0], tmp_path / "a.zarr", config, Stepping()):
        if isinstance(event, Working):
            begun = time.monotonic()
            time.sleep(0.2)
            waited += time.monotonic() - begun
        if isinstance(event, TileDone):
            assert event.seconds < waited


class Fragile:
    """Segments by threshold, but for some of its calls."""

    window, keeps_8bit, digest = 72, False, "threshold 1"

    def __init__(self, fails):
        self._fails = fails
        self.n_calls = 0

    def __call__(self, tile):
        self.n_calls += 1
        if self._fails(self.n_calls):
            raise DeviceError("The device was busy", rule="", cure="")
        return ORACLE(tile)


def test_a_tile_that_fails_once_is_tried_again(stack, tmp_path):
    run(stack[0], tmp_path / "whole.zarr", with_axes())
    events = run(stack[0], tmp_path / "a.zarr", with_axes(), Fragile(lambda n: n in (5, 12)))
    (first, second) = of(Warned, events)
    assert "tile 4" in first.message
    assert "tried again: The device was busy" in second.message
    np.testing.assert_array_equal(level(tmp_path / "a.zarr"), level(tmp_path / "whole.zarr"))


def test_tiles_that_fail_are_named_at_the_end_and_done_when_resumed(stack, tmp_path):
    run(stack[0], tmp_path / "whole.zarr", with_axes())
    target, seen = tmp_path / "a.zarr", []
    fragile = Fragile(lambda n: n in (12, 13, 15, 16))
    with pytest.raises(OutputError, match=r"2 tiles .* slice 1, tile 2 .*; slice 1, tile 4"):
        seen.extend(segment_volume(stack[0], target, with_axes(), fragile))
    assert [event.slice_number for event in of(SliceDone, seen)] == [0]
    assert zarr.open_group(target, mode="r").attrs["napari_sam"] == {"state": "unfinished"}
    again = Fragile(lambda _: False)
    events = run(stack[0], target, with_axes(resume=True), again)
    assert of(Resumed, events) == [Resumed(1, 16)]
    assert again.n_calls == len(of(TileDone, events)) == 2
    np.testing.assert_array_equal(level(target), level(tmp_path / "whole.zarr"))


@pytest.mark.parametrize(("first", "n_calls"), [(1, 2), (10, 15)])
def test_a_run_in_which_all_tiles_fail_ends(stack, tmp_path, first, n_calls):
    fragile = Fragile(lambda n: n >= first)
    with pytest.raises(DeviceError, match="busy"):
        run(stack[0], tmp_path / "a.zarr", with_axes(), fragile)
    assert fragile.n_calls == n_calls
    assert (tmp_path / "a.zarr").exists() == (first > 1)
