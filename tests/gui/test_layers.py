"""Layers of a shown window, read in workers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import napari

Wait = Callable[[Callable[[], bool]], None]


def test_a_volume_is_named_after_the_file_that_its_layer_was_opened_from(
    viewer: napari.Viewer, tmp_path: Path
) -> None:
    from napari_sam._napari.layer_volume import layer_volume

    np.save(tmp_path / "cells.npy", np.zeros((5, 8, 9)))
    (layer,) = viewer.open(tmp_path / "cells.npy", plugin="napari")
    assert layer_volume(layer).path == tmp_path / "cells.npy"
    layer.name = "another"
    assert layer_volume(layer).path == tmp_path / "cells.npy"


@pytest.mark.parametrize("cores", [1, 4])
def test_the_contrast_is_measured_in_a_thread_while_the_user_goes_on(
    viewer: napari.Viewer, wait_until: Wait, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    import dask
    import dask.array as da

    from napari_sam._napari.model_view import measure_contrast

    monkeypatch.setattr("os.cpu_count", lambda: cores)
    array = np.random.default_rng(0).gamma(2, 100, (24, 64, 64)).astype(np.uint16)
    chunked = da.from_array(array, chunks=(1, 16, 16))
    found: list = []
    # napari draws with dask's own threads, which here end with the test
    with ThreadPoolExecutor(2) as pool, dask.config.set(pool=pool):
        layer = viewer.add_image(chunked, contrast_limits=(0, 999))
        thread = threading.Thread(target=lambda: found.append(measure_contrast(layer)))
        thread.start()
        for z in range(24):  # the same chunks are drawn meanwhile
            viewer.dims.set_current_step(0, z)
            layer.name = f"name {z}"
        wait_until(lambda: not thread.is_alive())
    assert found == [measure_contrast(viewer.add_image(array))]


def test_a_plane_of_a_layer_that_is_removed_meanwhile_is_still_read(
    viewer: napari.Viewer,
) -> None:
    from napari_sam._napari.coordinates import displayed_plane
    from napari_sam._napari.layers import LayerPlane
    from napari_sam.core.region import Region

    array = np.arange(5 * 8 * 9).reshape(5, 8, 9)
    layer = viewer.add_image(array)
    viewer.dims.set_current_step(0, 3)
    image = LayerPlane(layer, displayed_plane(layer, viewer.dims))
    viewer.layers.clear()
    np.testing.assert_array_equal(image.read(Region.whole((8, 9))), array[3])
