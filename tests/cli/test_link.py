import subprocess
import sys

import numpy as np
import pytest
import tifffile
import zarr
from rich.progress import Progress

from napari_sam.cli import main
from napari_sam.cli.link import _View
from napari_sam.pipeline import SliceDone
from napari_sam.pipeline.link import LinkPlanned, SliceLinked


def napari_sam(*words):
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return caught.value.code


@pytest.fixture
def labels(tmp_path):
    stack = np.zeros((4, 30, 40), dtype=np.uint16)
    for i, plane in enumerate(stack):
        plane[5:15, 5:15] = i + 1
        plane[20:28, 20 + 2 * i : 30 + 2 * i] = i + 11
    stack[2, 5:15, 5:15] = 0
    path = tmp_path / "slices.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})
    return path


def n_objects(target):
    return int(zarr.open_array(target / "0", mode="r")[...].max())


def test_labels_are_linked_and_counted(labels, tmp_path, capsys):
    target = tmp_path / "out.zarr"
    assert napari_sam("link", labels, target) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("3 objects in 4 slices")
    assert str(target) in captured.out
    assert "4 x 30 x 40 (ZYX): 4 slices, linked along Z" in captured.err
    assert "Slice 1 (2 of 4): 2 objects, 2 of them linked" in captured.err
    assert n_objects(target) == 3


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("--max-gap 1", 2),
        ("--min-extent 2", 2),
        ("--min-iou 0.8", 6),
        ("--max-shift 1.5", 6),
        ("--axes TYX --axis t", 3),
    ],
)
def test_options_have_their_effect(labels, tmp_path, words, count):
    target = tmp_path / "out.zarr"
    assert napari_sam("link", labels, target, *words.split()) == 0
    assert n_objects(target) == count


def test_the_version_can_be_chosen(labels, tmp_path):
    assert napari_sam("link", labels, tmp_path / "out.zarr", "--ngff-version", "0.4") == 0
    assert (tmp_path / "out.zarr" / ".zattrs").exists()


def test_an_existing_output_is_refused_or_replaced(labels, tmp_path, capsys):
    target = tmp_path / "out.zarr"
    assert napari_sam("link", labels, target) == 0
    assert napari_sam("link", labels, target) == 2
    message = capsys.readouterr().err
    assert "--overwrite" in message
    assert "--resume" not in message
    assert napari_sam("link", labels, target, "--overwrite") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--min-iou", "1"], "--min-iou"),
        (["--max-gap", "-1"], "--max-gap"),
        (["--max-shift", "0"], "--max-shift"),
        (["--min-extent", "0"], "--min-extent"),
        (["--axis", "T"], "T is not among them"),
        (["--axis", "Q"], "--axis Z"),
        (["--axes", "YX"], "name 2 axes"),
    ],
)
def test_wrong_options_are_one_message_and_nothing_is_written(
    labels, tmp_path, capsys, words, message
):
    assert napari_sam("link", labels, tmp_path / "out.zarr", *words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Error: " in captured.err
    assert "Traceback" not in captured.err
    assert message in captured.err
    assert [path.name for path in tmp_path.iterdir()] == [labels.name]


def test_a_missing_input_is_one_message(tmp_path, capsys):
    assert napari_sam("link", tmp_path / "nothing.tif", tmp_path / "out.zarr") == 2
    assert "does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["relabel_slice", "number_chains"])
def test_an_interrupted_run_leaves_nothing(labels, tmp_path, monkeypatch, capsys, stage):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"napari_sam.pipeline.link_stack.{stage}", interrupt)
    assert napari_sam("link", labels, tmp_path / "out.zarr") == 130
    assert "Stopped. Nothing was written." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [labels.name]


def test_each_pass_has_a_bar():
    progress = Progress(disable=True)
    view = _View(progress)
    view.show(LinkPlanned("ZYX", (4, 9, 9), "Z", 4))
    for event in (SliceLinked(2, (2,), 5, 4), SliceDone(0, (0,), 5)):
        view.show(event)
    bars = [(task.description, task.completed, task.total) for task in progress.tasks]
    assert bars == [("Linking", 3, 4), ("Writing", 1, 4)]


def test_help_is_complete_and_cheap():
    code = (
        "import sys, napari_sam.cli.link as s; "
        "s.link.main(['--help'], standalone_mode=False); "
        "assert not {'numpy', 'zarr', 'torch', 'rich', 'tifffile'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for option in ("axis", "min-iou", "max-gap", "max-shift", "min-extent", "axes", "overwrite"):
        assert f"--{option}" in result.stdout
