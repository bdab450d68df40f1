"""What a run makes of its slices: linked labels, tables, a TIFF, labels inside their image."""

from __future__ import annotations

import dataclasses
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from napari_sam.core.errors import ConfigError, OutputError
from napari_sam.io import open_volume
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_store import listed_labels
from napari_sam.io.label_writer import LabelWriter
from napari_sam.io.ome_zarr import read_multiscale
from napari_sam.pipeline import (
    Completing,
    FunctionSegmenter,
    LinkConfig,
    SegmentConfig,
    link_volume,
    segment_volume,
)
from napari_sam.pipeline.segment_target import SegmentTarget
from slice_writing import write_slice

CONFIG = SegmentConfig(tile=24, halo=12, min_size=2, contrast_limits=(0, 255))


def threshold() -> FunctionSegmenter:
    from scipy import ndimage

    return FunctionSegmenter(
        lambda tile: ndimage.label(tile[..., 0] > 100)[0], digest="threshold", window=48
    )


def rods(n_slices: int = 4) -> np.ndarray:
    """Nine rods along Z; one of them ends after the first slice."""
    stack = np.zeros((n_slices, 60, 70), np.uint8)
    for row in (3, 21, 45):
        for column in (0, 22, 50):
            stack[:, row : row + 8, column : column + 9] = 200
    stack[1:, 45:53, 50:59] = 0
    return stack


def write_image(path: Path, version: str = "0.5", n_slices: int = 4) -> Path:
    """Write an OME-Zarr image, whose pixels are 0.5 x 0.25 micrometers."""
    stack = rods(n_slices)
    layout = LabelLayout(
        "ZYX",
        stack.shape,
        (2.0, 0.5, 0.25),
        ("micrometer",) * 3,
        ngff_version=version,
        dtype="uint8",
    )
    writer = LabelWriter.create(path, layout)
    for number, plane in enumerate(stack):
        write_slice(writer, (number,), plane)
    writer.finish()
    group = zarr.open_group(path, mode="r+")
    attributes = dict(group.attrs)
    attributes.pop("napari_sam")
    attributes.get("ome", attributes).pop("image-label")
    group.attrs.put(attributes)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "image.zarr")


def run(source: Path, target: Path, **options: object) -> list[object]:
    return list(segment_volume(source, target, dataclasses.replace(CONFIG, **options), threshold()))


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(path / "0", mode="r")[...])


def test_tables_say_where_each_object_is_and_how_large(image: Path, tmp_path: Path) -> None:
    files = tmp_path / "objects.csv", tmp_path / "objects.parquet"
    run(image, tmp_path / "a.zarr", tables=tuple(map(str, files)))
    labels = labels_of(tmp_path / "a.zarr")
    csv, parquet = pd.read_csv(files[0]), pd.read_parquet(files[1])
    assert len(csv) == labels.max() == 9 + 3 * 8
    assert csv["id"].tolist() == list(range(1, len(csv) + 1))
    assert csv.columns.tolist() == parquet.columns.tolist()
    for name in csv.columns:
        np.testing.assert_array_equal(csv[name].to_numpy(), parquet[name].to_numpy())
    for row in csv.itertuples():
        slices, rows, columns = np.nonzero(labels == row.id)
        assert set(slices) == {row.z}
        assert (row.y_min, row.y_max) == (rows.min(), rows.max() + 1)
        assert (row.x_min, row.x_max) == (columns.min(), columns.max() + 1)
        assert (row.centroid_y, row.centroid_x) == (rows.mean(), columns.mean())
        assert row.area_px == len(rows)
        assert row.area == len(rows) * 0.5 * 0.25
        crosses = rows.min() // 24 != rows.max() // 24 or columns.min() // 24 != columns.max() // 24
        assert row.crosses_seam == crosses
        assert row.touches_border == (columns.min() == 0)
    assert set(csv["area_unit"]) == {"micrometer^2"}
    assert csv["crosses_seam"].any()
    assert not csv["crosses_seam"].all()
    assert csv["score"].eq(1).all()
    assert csv["predicted_iou"].isna().all()


def test_labels_as_tiff(image: Path, tmp_path: Path) -> None:
    run(image, tmp_path / "a.zarr", tiff=str(tmp_path / "a.ome.tif"))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), labels_of(tmp_path / "a.zarr"))
        assert file.pages[0].dtype == np.uint8
    with closing(open_volume(tmp_path / "a.ome.tif")) as volume:
        assert volume.scale == (2.0, 0.5, 0.25)


def test_slices_are_linked_in_the_same_run(image: Path, tmp_path: Path) -> None:
    table = tmp_path / "objects.csv"
    events = run(
        image,
        tmp_path / "a.zarr",
        link=LinkConfig(),
        tables=(str(table),),
        tiff=str(tmp_path / "a.tif"),
    )
    linked = labels_of(tmp_path / "a.zarr")
    assert linked.max() == events[-1].n_objects == 9
    run(image, tmp_path / "b.zarr")
    list(link_volume(tmp_path / "b.zarr", tmp_path / "c.zarr"))
    np.testing.assert_array_equal(linked, labels_of(tmp_path / "c.zarr"))
    for level in ("0", "1"):
        if (tmp_path / "c.zarr" / level).exists():
            np.testing.assert_array_equal(
                zarr.open_array(tmp_path / "a.zarr" / level)[...],
                zarr.open_array(tmp_path / "c.zarr" / level)[...],
            )
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), linked)
    rows = pd.read_csv(table)
    assert len(rows) == 9 + 3 * 8
    assert rows.groupby("id")["z"].count().tolist() == [4] * 8 + [1]
    for row in rows.itertuples():
        assert np.count_nonzero(linked[row.z] == row.id) == row.area_px
    multiscale = read_multiscale(tmp_path / "a.zarr")
    assert multiscale.state == "finished"
    assert multiscale.attributes["image-label"]["source"]["image"] == "../image.zarr"
    assert multiscale.attributes["multiscales"][0]["name"] == "a"
    assert {event.what for event in events if isinstance(event, Completing)} == {
        "Linking slices",
        "Writing linked slices",
        "Writing tables",
        "Writing a.tif",
    }
    assert not (tmp_path / "a.zarr.tiles").exists()


def test_objects_in_too_few_slices_leave_the_table_too(image: Path, tmp_path: Path) -> None:
    table = tmp_path / "objects.csv"
    run(image, tmp_path / "a.zarr", link=LinkConfig(min_extent=2), tables=(str(table),))
    assert labels_of(tmp_path / "a.zarr").max() == 8
    assert len(pd.read_csv(table)) == 4 * 8


@pytest.mark.parametrize("stop_after", ["Linking slices", "Writing linked slices", "Writing a.tif"])
def test_what_is_stopped_while_it_is_completed_goes_on(
    image: Path, tmp_path: Path, stop_after: str
) -> None:
    (tmp_path / "stopped").mkdir()

    def config(folder: Path, **options: object) -> SegmentConfig:
        files = str(folder / "a.csv"), str(folder / "a.parquet")
        return dataclasses.replace(
            CONFIG, link=LinkConfig(), tables=files, tiff=str(folder / "a.tif"), **options
        )

    list(segment_volume(image, tmp_path / "a.zarr", config(tmp_path), threshold()))
    folder = tmp_path / "stopped"
    events = segment_volume(image, folder / "a.zarr", config(folder), threshold())
    for event in events:
        if isinstance(event, Completing) and event.what == stop_after:
            events.close()
    assert read_multiscale(folder / "a.zarr").state == "unfinished"
    list(segment_volume(image, folder / "a.zarr", config(folder, resume=True), threshold()))
    np.testing.assert_array_equal(labels_of(folder / "a.zarr"), labels_of(tmp_path / "a.zarr"))
    for name in ("a.csv", "a.tif"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == [
        "a.csv",
        "a.parquet",
        "a.tif",
        "a.zarr",
    ]


def test_linked_labels_that_had_not_yet_changed_places_do_so(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_sam.pipeline.completion import RunFolder

    def fail(folder: RunFolder) -> None:
        raise OSError("no power")

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "mend", fail)
        with pytest.raises(OutputError, match="no power"):
            run(image, tmp_path / "a.zarr", link=LinkConfig())
    assert not (tmp_path / "a.zarr").exists()
    events = run(image, tmp_path / "a.zarr", link=LinkConfig(), resume=True)
    assert labels_of(tmp_path / "a.zarr").max() == events[-1].n_objects == 9
    assert not any(isinstance(event, Completing) for event in events)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_go_into_their_image(tmp_path: Path, version: str) -> None:
    image = write_image(tmp_path / "image.zarr", version)
    run(image, tmp_path / "beside.zarr")
    target = image / "labels" / "cells"
    run(image, target)
    np.testing.assert_array_equal(labels_of(target), labels_of(tmp_path / "beside.zarr"))
    assert listed_labels(image / "labels") == ["cells"]
    multiscale = read_multiscale(target)
    assert (multiscale.ngff_version, multiscale.state) == (version, "finished")
    assert multiscale.attributes["image-label"]["source"]["image"] == "../../"
    files = {".zattrs", ".zgroup", "cells"} if version == "0.4" else {"zarr.json", "cells"}
    assert {path.name for path in (image / "labels").iterdir()} == files
    run(image, image / "labels" / "nuclei")
    assert listed_labels(image / "labels") == ["cells", "nuclei"]
    with pytest.raises(OutputError, match="already"):
        run(image, target)
    run(image, target, overwrite=True)
    assert listed_labels(image / "labels") == ["cells", "nuclei"]


def test_labels_in_their_image_can_be_read_by_others(image: Path) -> None:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr_models.v05.image_label import ImageLabel
    from ome_zarr_models.v05.labels import Labels

    run(image, image / "labels" / "cells", link=LinkConfig())
    listed = Labels.from_zarr(zarr.open_group(image / "labels", mode="r"))
    assert listed.ome_attributes.labels == ["cells"]
    ImageLabel.from_zarr(zarr.open_group(image / "labels" / "cells", mode="r"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = list(Reader(parse_url(image))())
    assert any("cells" in str(node.zarr) for node in nodes)


def test_another_version_than_the_image_has_is_refused(image: Path) -> None:
    with pytest.raises(ConfigError, match=r"NGFF 0\.4 .* has NGFF 0\.5"):
        run(image, image / "labels" / "cells", ngff_version="0.4")
    with pytest.raises(OutputError, match="my cells"):
        run(image, image / "labels" / "my cells")
    with pytest.raises(OutputError, match="lie one in the other"):
        run(image, image / "somewhere")
    assert not (image / "labels").exists()


def test_a_run_that_fails_leaves_no_group_of_labels(image: Path) -> None:
    def fail(tile: np.ndarray) -> np.ndarray:
        raise ConfigError("It broke", rule="", cure="")

    broken = FunctionSegmenter(fail, digest="broken", window=48)
    with pytest.raises(ConfigError, match="broke"):
        list(segment_volume(image, image / "labels" / "cells", CONFIG, broken))
    assert not (image / "labels").exists()


def test_what_cannot_be_completed_is_refused_before_the_work(image: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="T is not among them"):
        run(image, tmp_path / "a.zarr", link=LinkConfig(axis="T"))
    with pytest.raises(ConfigError, match="xlsx"):
        run(image, tmp_path / "a.zarr", tables=("objects.xlsx",))
    with pytest.raises(ConfigError, match="png"):
        run(image, tmp_path / "a.zarr", tiff="labels.png")
    (tmp_path / "objects.csv").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        run(image, tmp_path / "a.zarr", tables=(str(tmp_path / "objects.csv"),))
    assert (tmp_path / "objects.csv").read_text() == "mine"
    assert not (tmp_path / "a.zarr").exists()


def test_labels_that_were_not_yet_listed_in_their_image_are_when_it_goes_on(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr 3 says that this is not in its standard yet
        zarr.consolidate_metadata(image)
    target = image / "labels" / "cells"

    def fail(self: SegmentTarget) -> None:
        raise OutputError("There is no power", rule="", cure="")

    with monkeypatch.context() as patched:
        patched.setattr(SegmentTarget, "register", fail)
        with pytest.raises(OutputError, match="no power"):
            run(image, target)
    assert listed_labels(image / "labels") == []
    events = run(image, target, resume=True)
    assert listed_labels(image / "labels") == ["cells"]
    assert events[-1].n_objects == 9 + 3 * 8
    assert {path.name for path in (image / "labels").iterdir()} == {"zarr.json", "cells"}
    with pytest.raises(OutputError, match="cannot be resumed"):
        run(image, target, resume=True)
