import subprocess
import sys

import numpy as np
import pytest
import tifffile
from rich.progress import Progress

from napari_sam.cli import main
from napari_sam.cli.embed import _duration, _View
from napari_sam.io.embedding_budget import stored_budget
from napari_sam.io.embedding_cache import EmbeddingCache
from napari_sam.pipeline.embed import EmbedPlanned, Encoding


def napari_sam(*words):
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return caught.value.code


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path / "home"))


@pytest.fixture
def image(tmp_path):
    stack = np.random.default_rng(0).integers(0, 4000, (3, 2, 60, 70), dtype=np.uint16)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZCYX"})
    return path


def files():
    return list(EmbeddingCache().directory.glob("*.zarr.zip"))


def test_planes_are_embedded_and_counted(image, capsys):
    assert napari_sam("embed", image, "--channel", 1) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("3 planes embedded, 0 in the cache already")
    assert str(EmbeddingCache().directory) in captured.out
    assert "3 x 60 x 70 (ZYX): 3 planes" in captured.err
    assert "Plane 1 (2 of 3): embedded" in captured.err
    assert len(files()) == 3
    assert napari_sam("embed", image, "--channel", 1) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("0 planes embedded, 3 in the cache already")
    assert "Plane 1 (2 of 3): in the cache already" in captured.err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--channel 0 --slices 1:3", "2 planes embedded"),
        ("--channel 0 --channel 1", "3 planes embedded"),
        ("--axes TZYX --slices 0 --times 1:", "2 planes embedded"),
        ("--channel 0 --contrast-limits 100 4000", "3 planes embedded"),
        ("--channel 0 --contrast-percentiles 0.5 99 --device cpu", "3 planes embedded"),
    ],
)
def test_options_have_their_effect(image, capsys, words, line):
    assert napari_sam("embed", image, *words.split()) == 0
    captured = capsys.readouterr()
    assert line in captured.out
    if "limits" in words:
        assert "Contrast: 100 to 4000" in captured.err


def test_the_size_of_the_cache_is_kept(image):
    assert napari_sam("embed", image, "--channel", 0, "--cache-size", "0.5") == 0
    assert stored_budget() == 5 * 10**8


def test_a_dry_run_tells_the_cost_and_stores_nothing(image, capsys):
    words = ("embed", image, "--channel", 0, "--dry-run")
    assert napari_sam(*words) == 0
    captured = capsys.readouterr()
    for what in ("planes  ", "one plane  ", "time  ", "disk  ", "cache  ", "folder  "):
        assert what in captured.out
    assert "too small" not in captured.out
    assert "Nothing was stored." in captured.err
    assert napari_sam(*words, "--cache-size", "0.000001") == 0
    assert "too small, give `--cache-size 1`" in capsys.readouterr().out
    assert files() == []
    assert not EmbeddingCache().directory.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--channel 0"),
        (["--channel", "5"], "from 0 to 1"),
        (["--channel", "0", "--cache-size", "0"], "--cache-size 20"),
        (["--channel", "0", "--cache-size", "0.000001"], "--cache-size 1"),
        (["--channel", "0", "--slices", "9:12"], "Choose slices inside the stack"),
        (["--channel", "0", "--slices", "a"], "--slices 10:20"),
        (["--channel", "0", "--model", "nothing"], "nothing"),
    ],
)
def test_wrong_options_are_one_message_and_nothing_is_stored(image, capsys, words, message):
    assert napari_sam("embed", image, *words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Error: " in captured.err
    assert "Traceback" not in captured.err
    assert message in captured.err
    assert files() == []


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_an_interrupted_run_says_what_is_kept(image, monkeypatch, capsys, words):
    from napari_sam.pipeline.embedding_store import EmbeddingStore

    real, calls = EmbeddingStore.steps, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == (1 if words else 3):
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(EmbeddingStore, "steps", interrupted)
    assert napari_sam("embed", image, "--channel", 0, *words) == 130
    message = capsys.readouterr().err
    assert ("Nothing was stored." if words else "2 planes are in the cache") in message
    assert len(files()) == (0 if words else 2)


def test_the_bar_counts_parts_of_planes():
    progress = Progress(disable=True)
    view = _View(progress)
    view.show(EmbedPlanned("ZYX", (4, 9, 9), 4, EmbeddingCache().directory, 10**9))
    view.show(Encoding(2, 1, 4))
    (task,) = progress.tasks
    assert (task.completed, task.total) == (2.25, 4)


def test_times_are_written_as_people_say_them():
    assert [_duration(s) for s in (0.034, 4.62, 75, 7384.4)] == [
        "0.034 s",
        "4.6 s",
        "0:01:15",
        "2:03:04",
    ]


def test_help_is_complete_and_cheap():
    code = (
        "import sys, napari_sam.cli.embed as s; "
        "s.embed.main(['--help'], standalone_mode=False); "
        "assert not {'numpy', 'zarr', 'torch', 'rich', 'tifffile'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for option in ("model", "device", "axes", "channel", "slices", "times", "cache-size"):
        assert f"--{option}" in result.stdout
    assert "--contrast-limits" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that can be handled")
def test_sigterm_stops_it_and_the_same_command_goes_on(tmp_path, capsys):
    path = tmp_path / "long.tif"
    stack = np.random.default_rng(0).integers(0, 4000, (24, 200, 200), dtype=np.uint16)
    tifffile.imwrite(path, stack, photometric="minisblack")
    words = ["embed", str(path), "--axes", "ZYX"]
    command = [sys.executable, "-m", "napari_sam", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("Plane 1 "):
                process.terminate()
                break
        rest = process.stderr.read()
        assert process.wait() == 130
    stopped = next(line for line in rest.splitlines() if line.startswith("Stopped. "))
    n_stored = len(files())
    assert 2 <= int(stopped.split()[1]) <= n_stored < 24
    assert napari_sam(*words) == 0
    line = f"{24 - n_stored} planes embedded, {n_stored} in the cache already"
    assert capsys.readouterr().out.startswith(line)
