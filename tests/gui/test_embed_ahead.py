"""In a real window, planes that were embedded ahead come from the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import zarr

from gui.hands import wait_until
from gui.segmenting import A, cells, open_widget, wait_until_ready, works
from napari_sam.io.embedding_budget import store_budget
from napari_sam.pipeline.embed import EmbedConfig, embed_volume

if TYPE_CHECKING:
    import napari

N = 4


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test with an empty cache."""
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path / "home"))


@pytest.fixture
def origins(monkeypatch: pytest.MonkeyPatch) -> dict[Any, str]:
    """Where the widget took the embedding of each plane from, the first time."""
    from napari_sam.pipeline.interactive import InteractivePredictor

    real, found = InteractivePredictor.prepare, {}

    def watched(self: Any, image: Any, contrast: Any, **options: Any) -> Iterator[Any]:
        for step in real(self, image, contrast, **options):
            found.setdefault(image.key, step.origin)
            yield step

    monkeypatch.setattr(InteractivePredictor, "prepare", watched)
    return found


def stack(dtype: type) -> np.ndarray:
    """Slices of cells that grow brighter."""
    return np.stack([cells(seed=i).astype(dtype) * (i + 2) // 6 for i in range(N)])


def image_file(folder: Path, kind: str) -> tuple[Path, str]:
    """Write an image; return where it is, and which of napari's readers opens it."""
    if kind == "channels":
        group = zarr.open_group(folder / "a.ome.zarr", mode="w")
        data = np.stack([stack(np.uint16)[::-1], 300 + 9 * stack(np.uint16)])
        group.create_array("0", data=data, chunks=(1, 2, 64, 64))
        scale = {"type": "scale", "scale": [1.0, 2.0, 0.5, 0.5]}
        axes = [{"name": "c", "type": "channel"}] + [{"name": n, "type": "space"} for n in "zyx"]
        datasets = [{"path": "0", "coordinateTransformations": [scale]}]
        multiscales = [{"name": "image", "axes": axes, "datasets": datasets}]
        group.attrs.update({"ome": {"version": "0.5", "multiscales": multiscales}})
        return folder / "a.ome.zarr", "napari-sam"
    path, pixels = folder / "a.tif", stack(np.uint8)
    if kind == "rgb":
        pixels = np.stack([pixels, pixels[::-1], pixels], axis=-1)
    elif kind == "uint16":
        pixels = pixels.astype(np.uint16) * 100
    tifffile.imwrite(path, pixels, photometric="rgb" if kind == "rgb" else "minisblack")
    return path, "napari"


@pytest.mark.parametrize("kind", ["uint8", "uint16", "rgb", "channels"])
def test_each_slice_comes_from_the_disk(
    viewer: napari.Viewer, tmp_path: Path, origins: dict[Any, str], kind: str
) -> None:
    path, reader = image_file(tmp_path, kind)
    axes = {"rgb": "ZYXS", "channels": None}.get(kind, "ZYX")
    channels = (1,) if kind == "channels" else ()
    list(embed_volume(path, EmbedConfig(axes=axes, channels=channels)))
    layers = viewer.open(path, plugin=reader)
    viewer.dims.set_point(0, 0)
    widget = open_widget(viewer, is_ready=False)
    widget.image_panel.image.choose(layers[-1])
    for slice_number in range(N):
        viewer.dims.set_current_step(0, slice_number)
        wait_until_ready(widget)
    of_layer = [origin for key, origin in origins.items() if key in _keys(layers[-1])]
    assert of_layer == ["disk"] * N
    if kind == "uint8":
        works(widget, A)
    viewer.layers.clear()


def test_the_widget_keeps_to_the_size_that_was_stored(viewer: napari.Viewer) -> None:
    store_budget(10**5)  # less than two embeddings
    viewer.add_image(stack(np.uint8))
    viewer.dims.set_point(0, 0)
    widget = open_widget(viewer)
    engine = widget.interaction.engine
    wait_until(lambda: not engine.is_busy, "the slices ahead are prepared")
    engine.predictor.flush()
    assert engine.predictor._store._cache.budget_bytes == 10**5


def _keys(layer: Any) -> set[Any]:
    """Keys of all slices of a layer."""
    from napari_sam._napari.layers import LayerPlane
    from napari_sam.core.plane import Plane

    return {LayerPlane(layer, Plane((1, 2), (z,))).key for z in range(N)}
