import numpy as np
import pytest
import tifffile
import zarr
from skimage.measure import label

from napari_sam.cli import main
from napari_sam.pipeline import FunctionSegmenter

PLANES = np.zeros((3, 60, 70), np.uint8)
PLANES[:, 10:20, 10:20] = 200
PLANES[1:, 30:40, 30:40] = 200


def threshold(tile):
    return label(tile[..., 0] > 127, connectivity=1)


@pytest.fixture(autouse=True)
def _oracle(monkeypatch):
    """The command with a segmenter that needs no model."""

    def load(config):
        return FunctionSegmenter(threshold, digest="threshold 1", window=48)

    monkeypatch.setattr("napari_sam.pipeline.segment.load_segmenter", load)
    monkeypatch.setattr("napari_sam.pipeline.estimate.load_segmenter", load)


def napari_sam(*words):
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return caught.value.code


def n_labels(target):
    return int(zarr.open_array(target / "0", mode="r")[...].max())


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "scan"
    folder.mkdir()
    for number, plane in enumerate(PLANES):
        tifffile.imwrite(folder / f"t{number}.tif", plane)
    return folder


@pytest.mark.parametrize("pattern", ["", "t*.tif"])
def test_a_series_of_files_is_segmented(series, tmp_path, pattern, capsys):
    words = ["--halo", 12, "--axes", "TYX"]
    assert napari_sam("segment", series / pattern, tmp_path / "a.zarr", *words) == 0
    assert "3 x 60 x 70 (TYX)" in capsys.readouterr().err
    assert n_labels(tmp_path / "a.zarr") == 5


def test_the_cost_of_a_series_is_estimated(series, tmp_path, capsys):
    assert napari_sam("segment", series, tmp_path / "a.zarr", "--halo", 12, "--dry-run") == 0
    assert "slices" in capsys.readouterr().out
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_url_is_segmented(memory, tmp_path, words):
    zarr.create_array("memory://bucket/a.zarr", data=PLANES, dimension_names=("z", "y", "x"))
    words = ["memory://bucket/a.zarr", tmp_path / "a.zarr", "--halo", 12, *words]
    assert napari_sam("segment", *words) == 0
    assert "--dry-run" in words or n_labels(tmp_path / "a.zarr") == 5


@pytest.mark.parametrize("words", [[], ["--dry-run"], ["--overwrite"]])
def test_nothing_is_written_to_a_url(series, memory, words, capsys):
    assert napari_sam("segment", series, "memory://bucket/a.zarr", *words) != 0
    assert "is a URL" in capsys.readouterr().err
    assert not memory.store
