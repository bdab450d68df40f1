"""The plugin in a real window: its samples and its results are there, in colour, on the screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import napari

Wait = Callable[[Callable[[], bool]], None]

PLUGIN = "napari-sam"


def canvas(viewer: napari.Viewer) -> np.ndarray:
    """Return what the canvas shows now, (H, W, 3) as int."""
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)


def colorful_fraction(picture: np.ndarray) -> float:
    """Return the share of pixels that are clearly no gray."""
    return float((np.ptp(picture, axis=2) > 60).mean())


@pytest.mark.parametrize(
    ("sample", "ndim"), [("synthetic_nuclei", 2), ("synthetic_nuclei_stack", 3)]
)
def test_a_sample_opened_through_napari_is_on_the_screen(
    viewer: napari.Viewer, wait_until: Wait, sample: str, ndim: int
) -> None:
    (layer,) = viewer.open_sample(PLUGIN, sample)
    assert layer.ndim == ndim
    assert layer.data.dtype == np.uint16
    wait_until(lambda: np.ptp(canvas(viewer)) > 100)
    assert colorful_fraction(canvas(viewer)) == 0


def test_samples_are_found_by_their_names() -> None:
    from npe2 import PluginManager

    manager = PluginManager.instance()
    manager.discover()
    samples = {
        sample.display_name
        for plugin, contributions in manager.iter_sample_data()
        if plugin == PLUGIN
        for sample in contributions
    }
    assert samples == {"Synthetic nuclei (2D)", "Synthetic nuclei (stack)"}


def test_a_result_shows_labels_in_colors_over_the_image(
    viewer: napari.Viewer, wait_until: Wait
) -> None:
    from napari_sam._napari.viewer import show_result
    from napari_sam.training.synthetic import synthetic_stack

    image, labels = synthetic_stack(shape_zyx=(3, 128, 128), seed=1)
    assert show_result(image, labels, viewer=viewer) is viewer
    assert [layer.name for layer in viewer.layers] == ["image", "labels"]
    wait_until(lambda: colorful_fraction(canvas(viewer)) > 0.01)
    viewer.layers["labels"].visible = False
    wait_until(lambda: colorful_fraction(canvas(viewer)) == 0)


def test_a_result_without_a_viewer_opens_a_window(
    screen: None, wait_until: Wait, nothing_left_behind: None
) -> None:
    from napari_sam._napari.viewer import show_result

    image = np.zeros((8, 8), np.uint8)
    viewer = show_result(image, np.eye(8, dtype=np.int32))
    wait_until(viewer.window._qt_window.isVisible)
    viewer.close()


def test_files_are_shown_with_their_pixel_size(
    screen: None, nothing_left_behind: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari
    import tifffile

    from napari_sam._napari import viewer as viewer_module

    image = np.arange(2 * 16 * 16, dtype=np.uint16).reshape(2, 16, 16)
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "image.ome.tif", image, metadata=metadata)
    tifffile.imwrite(tmp_path / "labels.ome.tif", image % 3, metadata=metadata)

    def look_and_close() -> None:
        viewer = napari.current_viewer()
        np.testing.assert_array_equal(viewer.layers["image"].data, image)
        np.testing.assert_array_equal(viewer.layers["labels"].data, image % 3)
        np.testing.assert_allclose(viewer.layers["labels"].scale, (2.0, 0.5, 0.5))
        viewer.close()

    monkeypatch.setattr(viewer_module.napari, "run", look_and_close)
    paths = [str(tmp_path / "image.ome.tif"), str(tmp_path / "labels.ome.tif")]
    assert viewer_module.main(paths) == 0


@pytest.mark.parametrize("words", [["one"], ["absent.tif", "absent.zarr"]])
def test_words_that_name_no_files_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_sam._napari.viewer import main

    assert main(words) == 2
    assert capsys.readouterr().err
