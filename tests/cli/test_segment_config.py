"""Options of `napari-sam segment` that say where the work is done and what else is written."""

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from skimage.measure import label

from napari_sam.cli import main
from napari_sam.pipeline import FunctionSegmenter, LinkConfig


@pytest.fixture
def configs(monkeypatch):
    """The configurations that the command asked for; a threshold does the work."""
    asked = []

    def load(config):
        asked.append(config)
        return FunctionSegmenter(
            lambda tile: label(tile[..., 0] > 127, connectivity=1), digest="threshold", window=48
        )

    monkeypatch.setattr("napari_sam.pipeline.segment.load_segmenter", load)
    monkeypatch.setattr("napari_sam.pipeline.estimate.load_segmenter", load)
    return asked


@pytest.fixture
def stack(tmp_path):
    """Two rods along Z."""
    image = np.zeros((3, 60, 70), np.uint8)
    image[:, 10:20, 10:20] = image[:, 30:42, 40:52] = 200
    tifffile.imwrite(tmp_path / "stack.tif", image, photometric="minisblack")
    return tmp_path / "stack.tif"


def napari_sam(*words):
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return caught.value.code


def test_tables_tiff_and_links_from_one_command(configs, stack, capsys):
    folder = stack.parent
    code = napari_sam(
        "segment",
        stack,
        folder / "a.ome.zarr",
        *("--axes", "ZYX", "--link", "--link-min-iou", "0.6", "--link-max-gap", "1"),
        *("--table", folder / "a.csv", "--table", folder / "a.parquet", "--tiff", folder / "a.tif"),
    )
    assert code == 0
    assert configs[0].link == LinkConfig(min_iou=0.6, max_gap=1)
    assert "2 objects in 3 slices" in capsys.readouterr().out
    labels = zarr.open_array(folder / "a.ome.zarr" / "0")[...]
    np.testing.assert_array_equal(tifffile.imread(folder / "a.tif"), labels)
    for table in (pd.read_csv(folder / "a.csv"), pd.read_parquet(folder / "a.parquet")):
        assert sorted(table["id"]) == [1, 1, 1, 2, 2, 2]
        assert sorted(table["area_px"]) == [100] * 3 + [144] * 3


def test_a_table_that_exists_is_kept(configs, stack, capsys):
    (stack.parent / "a.csv").write_text("mine")
    words = ("segment", stack, stack.parent / "a.zarr", "--axes", "ZYX")
    assert napari_sam(*words, "--table", stack.parent / "a.csv") == 2
    assert "already exists" in capsys.readouterr().err
    assert napari_sam(*words, "--table", stack.parent / "a.csv", "--overwrite") == 0
    assert len(pd.read_csv(stack.parent / "a.csv")) == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--link-min-iou", "0.3"), "`--link-min-iou` was given without `--link`"),
        (("--dask", "local", "--dask-resource", "GPU"), "The resource 'GPU' was given"),
        (("--dask", "local", "--dask-resource", "=1"), "The resource '=1' was given"),
        (("--dask-resource", "GPU=1"), "without a Dask cluster"),
        (("--dask", "tcp://127.0.0.1:1", "--workers", "3"), "3 workers were asked for"),
        (("--table", "a.xlsx"), ".csv"),
        (("--tiff", "a.png"), ".tif"),
        (("--link", "--link-axis", "T"), "T is not among them"),
    ],
)
def test_what_does_not_fit_is_said_before_the_work(configs, stack, words, said, capsys):
    assert napari_sam("segment", stack, stack.parent / "a.zarr", "--axes", "ZYX", *words) == 2
    assert said in capsys.readouterr().err
    assert not (stack.parent / "a.zarr").exists()


def test_a_dry_run_suggests_options(configs, stack, capsys):
    code = napari_sam("segment", stack, stack.parent / "a.zarr", "--axes", "ZYX", "--dry-run")
    assert code == 0
    out = capsys.readouterr().out
    assert "--tile 12 --halo 18" in out
    assert "--workers " in out
    assert "objects are up to 12 pixels long" in out
