"""What was embedded ahead is found on disk for the layer that napari makes of the same file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Image
from napari_builtins.io import napari_get_reader

from napari_sam._napari.everything_plane import _predictor_of
from napari_sam._napari.layers import ChannelChoice, LayerPlane
from napari_sam._napari.model_view import ContrastChoice, measure_contrast
from napari_sam._napari.reader import read_ome_zarr
from napari_sam.core.plane import Plane
from napari_sam.io.embedding_budget import store_budget
from napari_sam.io.embedding_cache import EmbeddingCache
from napari_sam.model.sam import Sam
from napari_sam.pipeline import SliceRange
from napari_sam.pipeline.embed import EmbedConfig, SliceEmbedded, embed_volume
from napari_sam.pipeline.interactive import InteractivePredictor
from tiny_models import tiny_sam

SIZE = 40, 50


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test with an empty cache."""
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path / "home"))


@pytest.fixture(params=["compact", "vit"])
def sam(request: pytest.FixtureRequest) -> Sam:
    """A model that stretches 8-bit images, and one that takes them as they are."""
    return tiny_sam(request.param)


def noise(shape: tuple[int, ...], dtype: type = np.uint16) -> np.ndarray:
    """Make an image whose planes grow brighter along all axes before rows and columns."""
    rng = np.random.default_rng(0)
    array = rng.gamma(2, 4, shape)
    for axis in range(len(shape) - 2):
        along = [1] * len(shape)
        along[axis] = shape[axis]
        array *= np.linspace(1, 2 + axis, shape[axis]).reshape(along)
    return array.astype(dtype)


def write_ome_zarr(
    path: Path, array: np.ndarray, axes: str, chunks: Sequence[int], *, n_levels: int = 1
) -> Path:
    """Write an OME-Zarr 0.5 image."""
    group = zarr.open_group(path, mode="w")
    datasets = []
    for level in range(n_levels):
        data = np.ascontiguousarray(array[..., :: 2**level, :: 2**level])
        group.create_array(str(level), data=data, chunks=tuple(chunks))
        scale = [1.0] * (len(axes) - 2) + [2.0**level] * 2
        transforms = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": name, "type": kinds.get(name, "space")} for name in axes]
    multiscales = [{"axes": described, "datasets": datasets}]
    group.attrs.update({"ome": {"version": "0.5", "multiscales": multiscales}})
    return path


def opened(path: Path) -> Image:
    """Open a file as napari itself does."""
    (data,) = napari_get_reader(str(path))(str(path))
    return Image(*data)


def planes_of(layer: Image, channels: ChannelChoice) -> list[Plane]:
    """List the planes that the sliders reach."""
    ranges = [
        range(1 if axis == channels.axis else int(layer.level_shapes[0][axis]))
        for axis in range(layer.ndim - 2)
    ]
    axes_yx = layer.ndim - 2, layer.ndim - 1
    return [Plane(axes_yx, position) for position in itertools.product(*ranges)]


def origins(
    sam: Sam,
    layer: Image,
    channels: ChannelChoice | None = None,
    choice: ContrastChoice | None = None,
) -> list[str]:
    """Prepare all planes of a layer as the widget does, and say where each comes from."""
    channels = channels or ChannelChoice()
    keeps_8bit = sam.input_spec.contrast == "as_is"
    contrast = measure_contrast(layer, channels, choice, keeps_8bit=keeps_8bit)
    predictor = InteractivePredictor(sam, EmbeddingCache())
    found = []
    for plane in planes_of(layer, channels):
        *_, last = predictor.prepare(LayerPlane(layer, plane, channels), contrast)
        found.append(last.origin)
    predictor.flush()
    return found


def embed(sam: Sam, path: Path, **options: Any) -> list[str]:
    """Embed a file ahead, and say where each plane came from."""
    events = list(embed_volume(path, EmbedConfig(**options), sam))
    return [event.origin for event in events if isinstance(event, SliceEmbedded)]


@pytest.mark.parametrize(
    ("array", "axes"),
    [
        (noise(SIZE, np.uint8), "YX"),
        (noise(SIZE), "YX"),
        (noise(SIZE, np.float32), "YX"),
        (noise((20, *SIZE), np.uint8), "ZYX"),
        (noise((20, *SIZE)), "ZYX"),
        (noise((20, *SIZE)), "TYX"),
        (noise((3, 7, *SIZE)), "TZYX"),
        (noise((*SIZE, 3), np.uint8), "YXS"),
        (noise((3, *SIZE, 3), np.uint8), "ZYXS"),
        (noise((2, *SIZE, 4), np.uint8), "TYXS"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.dtype),
)
def test_tiff_files_that_napari_opens_itself(
    sam: Sam, tmp_path: Path, array: np.ndarray, axes: str
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, photometric="rgb" if "S" in axes else "minisblack")
    layer = opened(path)
    computed = embed(sam, path, axes=axes)
    assert set(computed) == {"computed"}
    assert origins(sam, layer) == ["disk"] * len(computed)


def test_pictures(sam: Sam, tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "a.png", noise((*SIZE, 3), np.uint8))
    iio.imwrite(tmp_path / "b.png", noise(SIZE, np.uint8)[::-1])
    for name in ("a.png", "b.png"):
        assert embed(sam, tmp_path / name) == ["computed"]
        assert origins(sam, opened(tmp_path / name)) == ["disk"]


def test_a_folder_of_slices(sam: Sam, tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    for number, plane in enumerate(noise((12, *SIZE))):
        tifffile.imwrite(folder / f"{number}.tif", plane)
    assert embed(sam, folder) == ["computed"] * 12
    assert origins(sam, opened(folder)) == ["disk"] * 12


@pytest.mark.parametrize(
    ("shape", "axes", "chunks"),
    [
        (SIZE, "yx", (20, 50)),
        ((20, *SIZE), "zyx", (1, 40, 50)),
        ((2, 19, *SIZE), "tzyx", (1, 4, 20, 50)),
        ((19, 2, *SIZE), "ztyx", (1, 1, 40, 50)),
    ],
)
@pytest.mark.parametrize("n_levels", [1, 2])
def test_ome_zarr_that_our_reader_opens(
    sam: Sam, tmp_path: Path, shape: tuple[int, ...], axes: str, chunks: list[int], n_levels: int
) -> None:
    path = tmp_path / "a.ome.zarr"
    write_ome_zarr(path, noise(shape), axes, chunks, n_levels=n_levels)
    (data,) = read_ome_zarr(str(path))
    n_planes = int(np.prod(shape[:-2], dtype=int))
    assert embed(sam, path) == ["computed"] * n_planes
    assert origins(sam, Image(data[0], **data[1])) == ["disk"] * n_planes


def test_chunks_so_deep_that_fewer_slices_are_sampled(
    sam: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam.pipeline.volume_contrast.BUDGET", 5 * 16 * 40 * 50)
    array = noise((2, 48, *SIZE))
    path = write_ome_zarr(tmp_path / "a.ome.zarr", array, "czyx", (1, 16, 40, 50))
    layers = [Image(data, **meta) for data, meta, _ in read_ome_zarr(str(path))]
    in_memory = Image(np.asarray(array[1]))
    assert measure_contrast(layers[1]) != measure_contrast(in_memory)  # or nothing is tested
    assert len(embed(sam, path, channels=(1,))) == 48
    assert origins(sam, layers[1]) == ["disk"] * 48


def test_channels_that_are_layers(sam: Sam, tmp_path: Path) -> None:
    array = noise((3, 5, *SIZE))
    path = write_ome_zarr(tmp_path / "a.ome.zarr", array, "czyx", (1, 1, 40, 50))
    layers = [Image(data, **meta) for data, meta, _ in read_ome_zarr(str(path))]
    assert embed(sam, path, channels=(2,)) == ["computed"] * 5
    assert origins(sam, layers[2]) == ["disk"] * 5
    assert origins(sam, layers[0]) == ["computed"] * 5
    assert embed(sam, path, channels=(1, 0)) == ["computed"] * 5
    assert origins(sam, layers[1], ChannelChoice(other_layers=(layers[0],))) == ["disk"] * 5


def test_channels_that_are_an_axis(sam: Sam, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((5, 3, *SIZE)), imagej=True, metadata={"axes": "ZCYX"})
    layer = opened(path)
    for indices in ((1,), (2, 0), (0, 1, 2)):
        assert embed(sam, path, channels=indices) == ["computed"] * 5
        assert origins(sam, layer, ChannelChoice(1, indices)) == ["disk"] * 5


def test_channels_on_a_slider_are_embedded_as_one_more_axis(sam: Sam, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((19, 2, *SIZE)), imagej=True, metadata={"axes": "ZCYX"})
    assert embed(sam, path, axes="TZYX") == ["computed"] * 38
    assert origins(sam, opened(path)) == ["disk"] * 38


def test_contrast_that_is_set_in_the_widget(sam: Sam, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((3, *SIZE), np.uint8), photometric="minisblack")
    layer = opened(path)
    layer.contrast_limits = (3, 29.5)
    limits = ContrastChoice("layer limits")
    assert embed(sam, path, axes="ZYX", contrast_limits=(3, 29.5)) == ["computed"] * 3
    assert origins(sam, layer, choice=limits) == ["disk"] * 3
    assert embed(sam, path, axes="ZYX", contrast_percentiles=(5, 90)) == ["computed"] * 3
    stated = ContrastChoice(percentiles=(5.0, 90.0))
    assert origins(sam, layer, choice=stated) == ["disk"] * 3
    assert embed(sam, path, axes="ZYX", contrast_percentiles=(1, 99.8)) == ["computed"] * 3
    assert origins(sam, layer) == ["disk"] * 3


def test_only_some_planes_under_the_contrast_of_all(sam: Sam, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((6, *SIZE)), photometric="minisblack")
    assert embed(sam, path, axes="ZYX", slices=SliceRange(1, 3)) == ["computed"] * 2
    expected = ["computed", "disk", "disk", "computed", "computed", "computed"]
    assert origins(sam, opened(path)) == expected


def test_what_is_not_finite(sam: Sam, tmp_path: Path) -> None:
    array = noise((3, *SIZE), np.float32)
    array[1, 5:9] = np.nan
    array[2] = np.inf
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, photometric="minisblack")
    embed(sam, path, axes="ZYX")
    assert origins(sam, opened(path)) == ["disk"] * 3


def test_one_bright_pixel_in_a_dark_stack(sam: Sam, tmp_path: Path) -> None:
    array = np.zeros((40, *SIZE), np.uint16)
    array[7, 4, 5] = 900
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, photometric="minisblack")
    found = embed(sam, path, axes="ZYX")
    assert found.count("computed") == 2  # all dark planes are one and the same
    assert origins(sam, opened(path)) == ["disk"] * 40


def test_segment_everything_keeps_to_the_stored_size_of_the_cache() -> None:
    store_budget(10**5)
    assert _predictor_of(tiny_sam("compact"), ())._store._cache.budget_bytes == 10**5
