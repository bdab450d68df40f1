import dataclasses
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from rich.progress import Progress
from skimage.measure import label

from napari_sam.cli import main
from napari_sam.cli.segment import _duration, _View
from napari_sam.pipeline import (
    PRESETS,
    AutomaticOptions,
    Completing,
    FunctionSegmenter,
    Planned,
    Resumed,
    Stitching,
    TileDone,
    Working,
)


def threshold(tile):
    return label(tile[..., 0] > 127, connectivity=1)


@pytest.fixture
def with_oracle(monkeypatch):
    """The command with a segmenter that needs no model; the configurations it was asked for."""
    configs = []

    def load(config):
        configs.append(config)
        return FunctionSegmenter(threshold, digest="threshold 1", window=48)

    monkeypatch.setattr("napari_sam.pipeline.segment.load_segmenter", load)
    monkeypatch.setattr("napari_sam.pipeline.estimate.load_segmenter", load)
    return configs


@pytest.fixture
def picture(tmp_path):
    image = np.zeros((100, 90), dtype=np.uint8)
    for y in range(10, 90, 20):
        for x in range(10, 80, 20):
            image[y : y + 9, x : x + 9] = 200
    Image.fromarray(image).save(tmp_path / "cells.png")
    return tmp_path / "cells.png"


def napari_sam(*words):
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return caught.value.code


def test_labels_are_written_and_counted(picture, tmp_path, with_oracle, capsys):
    target = tmp_path / "out.zarr"
    assert napari_sam("segment", picture, target, "--halo", 12) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("16 objects in 1 slices")
    assert str(target) in captured.out
    assert "windows of up to 48 x 48 pixels" in captured.err
    assert zarr.open_array(target / "0", mode="r")[...].max() == 16


def test_options_reach_the_configuration(picture, tmp_path, with_oracle):
    words = "--model vit_b --axes YX --channel 0 --device cpu --tile 30 --halo 9 --min-size 4"
    words += " --points-per-side 8 --pred-iou-thresh 0.5 --stability-score-thresh 0.6"
    words += " --box-nms-thresh 0.7 --contrast-percentiles 2 98 --ngff-version 0.4"
    assert napari_sam("segment", picture, tmp_path / "out.zarr", *words.split()) == 0
    (config,) = with_oracle
    assert (config.model, config.axes, config.channels) == ("vit_b", "YX", (0,))
    assert (config.device, config.tile, config.halo, config.min_size) == ("cpu", 30, 9, 4)
    assert config.contrast_percentiles == (2.0, 98.0)
    assert config.ngff_version == "0.4"
    assert config.automatic.given() == {
        "points_per_side": 8,
        "pred_iou_thresh": 0.5,
        "stability_score_thresh": 0.6,
        "box_nms_thresh": 0.7,
    }
    assert (tmp_path / "out.zarr" / ".zattrs").exists()


def test_all_options_of_the_mask_generator_can_be_given(picture, tmp_path, with_oracle):
    values = {
        "points_per_side": 8,
        "points_per_batch": 4,
        "pred_iou_thresh": 0.5,
        "stability_score_thresh": 0.6,
        "stability_score_offset": 2.0,
        "box_nms_thresh": 0.7,
        "crop_n_layers": 2,
        "crop_nms_thresh": 0.4,
        "crop_overlap_ratio": 0.3,
        "crop_n_points_downscale_factor": 3,
        "min_mask_region_area": 30,
        "mode": "grid",
        "foreground_thresh": 0.4,
        "diameter": 30.0,
    }
    flags = {"skip_covered": True, "foreground_only": True}
    assert set(values | flags) == {field.name for field in dataclasses.fields(AutomaticOptions)}
    words = [
        word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", value)
    ]
    words += [f"--{name.replace('_', '-')}" for name in flags]
    assert napari_sam("segment", picture, tmp_path / "out.zarr", *words) == 0
    assert with_oracle[0].automatic == AutomaticOptions(**values, **flags)


def test_half_precision_reaches_the_configuration_and_leaves_the_fingerprint(
    picture, tmp_path, with_oracle
):
    assert napari_sam("segment", picture, tmp_path / "out.zarr", "--precision", "half") == 0
    (config,) = with_oracle
    assert config.precision == "half"
    exact = dataclasses.replace(config, precision="float32")
    assert config.fingerprint() == exact.fingerprint()


def test_what_is_given_beside_a_preset_wins(picture, tmp_path, with_oracle):
    words = ["--preset", "small-objects", "--points-per-side", 9]
    assert napari_sam("segment", picture, tmp_path / "out.zarr", *words) == 0
    preset = PRESETS["small-objects"].options
    assert with_oracle[0].automatic == dataclasses.replace(preset, points_per_side=9)


def test_contrast_limits_may_be_repeated(tmp_path, with_oracle, capsys):
    data = np.zeros((2, 50, 60), np.uint16)
    data[0, 10:20, 10:20], data[1, 30:40, 30:40] = 900, 90
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "CYX"})
    command = ["segment", tmp_path / "a.tif", tmp_path / "out.zarr", "--channel", 0]
    one, two = ("--contrast-limits", 0, 1000), ("--contrast-limits", 5, 100)
    assert napari_sam(*command, *one, *two) == 2
    assert "2 pairs of contrast limits" in capsys.readouterr().err
    assert napari_sam(*command, "--channel", 1, *one, *two) == 0
    assert with_oracle[-1].limit_pairs == ((0.0, 1000.0), (5.0, 100.0))
    assert "Contrast: 0 to 1000, 5 to 100" in capsys.readouterr().err
    assert napari_sam(*command, *one, "--overwrite") == 0
    assert with_oracle[-1].contrast_limits == (0.0, 1000.0)


def test_a_dry_run_tells_the_cost_and_writes_nothing(picture, tmp_path, with_oracle, capsys):
    command = ["segment", picture, tmp_path / "out.zarr", "--halo", 12, "--dry-run"]
    assert napari_sam(*command) == 0
    captured = capsys.readouterr()
    shown = dict(line.split(maxsplit=1) for line in captured.out.splitlines())
    assert (shown["slices"].strip(), shown["tiles"].strip()) == ("1", "20")
    assert shown["time"].startswith("about ")
    assert "kB for images" in shown["memory"]
    assert shown["disk"].startswith("at most ")
    assert "Nothing was written" in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["cells.png"]


def test_a_dry_run_refuses_what_the_run_would(picture, tmp_path, with_oracle, capsys):
    target = tmp_path / "out.zarr"
    assert napari_sam("segment", picture, target, "--halo", 12) == 0
    before = sorted(tmp_path.rglob("*"))
    assert napari_sam("segment", picture, target, "--dry-run") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert napari_sam("segment", picture, target, "--dry-run", "--overwrite") == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_can_be_interrupted(picture, tmp_path, monkeypatch, capsys):
    def interrupt(config):
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_sam.pipeline.estimate.load_segmenter", interrupt)
    assert napari_sam("segment", picture, tmp_path / "out.zarr", "--dry-run") == 130
    assert "Stopped. Nothing was written." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0001, "under 0.01 s"),
        (0.123, "0.12 s"),
        (42.4, "42 s"),
        (61, "1 min 1 s"),
        (7300, "2 h 1 min"),
    ],
)
def test_times_are_written_as_people_say_them(seconds, text):
    assert _duration(seconds) == text


def test_the_bar_moves_within_a_tile():
    progress = Progress(disable=True)
    view = _View(progress)
    view.show(Planned("ZYX", (2, 9, 9), 2, 3, (9, 9)))
    completed = []
    view.show(Resumed(n_slices=1, n_tiles=1))
    for event in (Working(1, 1, 0, 4), Working(1, 1, 3, 4), TileDone(1, 1, 5, 0.1)):
        view.show(event)
        completed.append(progress.tasks[0].completed)
    assert completed == [4, 4.75, 5]


def test_stitching_has_a_bar_of_its_own_while_it_lasts():
    progress = Progress(disable=True)
    view = _View(progress)
    view.show(Planned("ZYX", (2, 9, 9), 2, 3, (9, 9)))
    shown = []
    for event in (
        Stitching(0, 1, 2),
        Stitching(0, 2, 2),
        Completing("Linking slices", 1, 2),
        Completing("Writing a.tif", 1, 2),
    ):
        view.show(event)
        shown.append([(task.description, task.completed) for task in progress.tasks[1:]])
    assert shown == [
        [("Stitching slice 1", 1)],
        [],
        [("Linking slices", 1)],
        [("Writing a.tif", 1)],
    ]


def test_chosen_slices_are_shown_one_by_one(tmp_path, with_oracle, capsys):
    stack = np.zeros((6, 40, 40), dtype=np.float32)
    stack[:, 5:15, 5:15] = 1
    stack[3, 20:30, 20:30] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    words = ("--axes", "ZYX", "--slices", "1:6:2")
    assert napari_sam("segment", tmp_path / "a.tif", tmp_path / "out.zarr", *words) == 0
    captured = capsys.readouterr()
    assert "Slice 3 (2 of 3): 1 objects" in captured.err
    assert "Contrast: 0 to 1" in captured.err
    assert "Warning: Slice (3,) holds 100 pixels" in captured.err
    assert captured.out.startswith("3 objects in 3 slices")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--slices", "x"], "--slices"),
        (["--overwrite", "--resume"], "only one"),
        (["--resume"], "cannot be resumed"),
        (["--channel", "4"], "Channel 4"),
        (["--axes", "ZYX"], "name 3 axes"),
        (["--halo", "0", "--tile", "20"], "--halo"),
        (["--preset", "medium-objects"], "small-objects"),
        (["--mode", "magic"], "--mode grid"),
        (["--foreground-thresh", "0.01"], "--foreground-thresh"),
        (["--diameter", "0"], "--diameter 30"),
        (["--diameter", "small"], "--diameter 30"),
        (["--crop-n-layers", "9"], "--crop-n-layers"),
        (["--dry-run", "--channel", "4"], "Channel 4"),
    ],
)
def test_wrong_options_are_one_message_and_nothing_is_written(
    picture, tmp_path, with_oracle, capsys, words, message
):
    assert napari_sam("segment", picture, tmp_path / "out.zarr", *words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Error: " in captured.err
    assert "Traceback" not in captured.err
    assert message in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["cells.png"]


def test_a_missing_input_is_one_message(tmp_path, capsys):
    assert napari_sam("segment", tmp_path / "nothing.tif", tmp_path / "out.zarr") == 2
    assert "does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--model", "no_such_model"], ["--device", "toaster"]])
def test_an_unknown_model_or_device_is_one_message(picture, tmp_path, capsys, words):
    assert napari_sam("segment", picture, tmp_path / "out.zarr", *words) == 2
    assert words[1] in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cells.png"]


def test_existing_output_is_refused_replaced_or_resumed(tmp_path, picture, with_oracle, capsys):
    target = tmp_path / "out.zarr"
    assert napari_sam("segment", picture, target) == 0
    assert napari_sam("segment", picture, target) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert napari_sam("segment", picture, target, "--overwrite") == 0
    assert napari_sam("segment", picture, target, "--resume") == 2


def test_an_interrupted_stack_is_resumed(tmp_path, monkeypatch, capsys):
    stack = np.zeros((5, 40, 40), dtype=np.uint8)
    stack[:, 5:15, 5:15] = 1
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    slices = []

    def stop_once(tile):
        slices.append(1)
        if len(slices) == 3:
            raise KeyboardInterrupt
        return threshold(tile)

    segmenter = FunctionSegmenter(stop_once, digest="stop once")
    monkeypatch.setattr("napari_sam.pipeline.segment.load_segmenter", lambda config: segmenter)
    command = ("segment", tmp_path / "a.tif", tmp_path / "out.zarr", "--axes", "ZYX")
    assert napari_sam(*command) == 130
    assert "2 finished slices are kept" in capsys.readouterr().err
    assert napari_sam(*command, "--halo", 63, "--resume") == 2
    assert "options.halo was 64 and is now 63" in capsys.readouterr().err
    assert napari_sam(*command, "--resume") == 0
    captured = capsys.readouterr()
    assert "Going on after 2 finished slices" in captured.err
    assert captured.out.startswith("5 objects in 5 slices")
    slices[:] = [1, 1]
    assert napari_sam(*command, "--overwrite") == 130
    assert "nothing was written" in capsys.readouterr().err
    assert zarr.open_array(tmp_path / "out.zarr" / "0", mode="r")[...].max() == 5


INTERRUPTED = """
    import sys, time
    import numpy as np
    from napari_sam.cli import main
    from napari_sam.pipeline import FunctionSegmenter, segment  # the module of the pipeline

    tiles = []

    def slow(tile):
        tiles.append(1)
        if len(tiles) > int(sys.argv[1]):
            print("waiting", flush=True)
            time.sleep(60)
        return (tile[..., 0] > 127).astype(int)

    segment.load_segmenter = lambda config: FunctionSegmenter(slow, digest="slow")
    main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("n_slices", "number"), [(0, signal.SIGINT), (2, signal.SIGINT), (2, signal.SIGTERM)]
)
def test_ctrl_c_keeps_and_says_what_is_done(tmp_path, n_slices, number):
    stack = np.zeros((4, 40, 40), dtype=np.float32)
    stack[:, 5:15, 5:15] = 1
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    script = tmp_path / "slow.py"
    script.write_text(textwrap.dedent(INTERRUPTED))
    target = tmp_path / "out.zarr"
    command = [sys.executable, script, str(n_slices), "segment", tmp_path / "a.tif", target]
    with subprocess.Popen(
        [*command, "--axes", "ZYX"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    if n_slices == 0:
        assert "nothing was written" in said
        assert not target.exists()
    else:
        assert "2 finished slices are kept" in said
        assert "--resume" in said
        labels = zarr.open_array(target / "0", mode="r")[...]
        assert [plane.any() for plane in labels] == [True, True, False, False]


def test_help_is_complete_and_cheap():
    code = (
        "import sys, napari_sam.cli.segment as s, click; "
        "s.segment.main(['--help'], standalone_mode=False); "
        "assert not {'numpy', 'zarr', 'torch', 'rich', 'tifffile'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    options = ["axes", "slices", "resume", "overwrite", "min-size", "dry-run", "contrast-limits"]
    options += [field.name.replace("_", "-") for field in dataclasses.fields(AutomaticOptions)]
    for option in options:
        assert f"--{option}" in result.stdout
    for preset in PRESETS:
        assert preset in result.stdout
