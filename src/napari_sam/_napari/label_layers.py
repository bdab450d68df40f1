"""Labels layers for results: where their pixels are kept, and how they are drawn again."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_sam._napari.label_redraw import redraw, redraw_region
from napari_sam._napari.layer_axes import axes_of, ngff_units
from napari_sam.core.axes import canonical_order
from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane
from napari_sam.core.region import Region
from napari_sam.io.label_layout import MAX_LEVELS, LabelLayout
from napari_sam.io.label_pyramid import LabelPyramid, RepeatedView, factors_yx
from napari_sam.pipeline.label_target import LabelTarget

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

__all__ = [
    "METADATA_KEY",
    "LayerTarget",
    "add_label_layer",
    "label_target_of",
    "layer_data_of",
    "refresh_after_write",
]

NUMPY_BYTES = 2**28
"""Label images below this are held in memory."""
SINGLE_LEVEL = 4096
"""Planes of no more rows and columns are shown at full resolution, so that they can be painted."""
METADATA_KEY = "napari_sam"
"""Where the metadata of a layer say which store it shows, and what its objects are."""
MAX_WRITES = 64
"""Regions that are redrawn one by one; beyond, the whole layer is."""


class LayerTarget(LabelTarget):
    """The label image of a layer, which notes what is to be drawn again.

    Parameters
    ----------
    levels, factors, known_maximum
        As for :class:`~napari_sam.pipeline.label_target.LabelTarget`.
    """

    def __init__(
        self,
        levels: Sequence[Any],
        factors: Sequence[tuple[int, ...]] | None = None,
        *,
        known_maximum: int | None = None,
    ) -> None:
        super().__init__(levels, factors, known_maximum=known_maximum)
        self._written: list[tuple[Plane, Region]] = []

    def write(self, plane: Plane, region_yx: Region, values: NDArray[Any]) -> None:
        """Write a part of a plane, on all levels, and note it.

        Parameters
        ----------
        plane : Plane
        region_yx : Region
        values : ndarray of int, shape (rows, columns)

        Raises
        ------
        InputError
            When a label is too large for the type of the label image; nothing is written.
        OutputError
            When the label image cannot be written.
        """
        if len(self._written) <= MAX_WRITES:
            self._written.append((plane, region_yx))
        super().write(plane, region_yx, values)

    def take_written(self) -> list[tuple[Plane, Region]] | None:
        """Return what was written since this was called last.

        Returns
        -------
        list of (Plane, Region) or None
            None when there was too much to list.
        """
        written, self._written = self._written, []
        return written if len(written) <= MAX_WRITES else None


_targets: weakref.WeakKeyDictionary[Labels, tuple[Any, LayerTarget]] = weakref.WeakKeyDictionary()


def add_label_layer(
    viewer: ViewerModel,
    image_layer: Image,
    name: str,
    directory: str | Path | None = None,
    *,
    channel_axis: int | None = None,
) -> Labels:
    """Add an empty labels layer for the objects of an image.

    It has the pixels of the image and lies where it lies. Small label images are in memory; large
    ones in an OME-Zarr store, of which only what is written takes space.

    Parameters
    ----------
    viewer : napari.Viewer
    image_layer : napari.layers.Image
    name : str
        Of the layer.
    directory : str or Path, optional
        Where a store is made. By default, in the folder for temporary files, until the layer is
        removed or the program ends.
    channel_axis : int, optional
        Axis of the image that counts channels: the labels are the same in all of them.

    Returns
    -------
    napari.layers.Labels

    Raises
    ------
    InputError
        When a large image has more axes than OME-Zarr knows.
    OutputError
        When the store cannot be made.
    """
    shape = [int(length) for length in image_layer.level_shapes[0][: image_layer.ndim]]
    own_shape = [n for axis, n in enumerate(shape) if axis != channel_axis]
    store, folder = None, None
    if int(np.prod(own_shape, dtype=np.int64)) * 4 >= NUMPY_BYTES:
        from napari_sam.io.label_store import LabelStore  # it loads zarr

        layout = _layout(image_layer, own_shape, channel_axis)
        folder = tempfile.mkdtemp(prefix="napari-sam-labels-") if directory is None else None
        path = _free_path(Path(directory or folder or ""), name)
        store = LabelStore.create(path, layout, name=name)
    levels = [np.zeros(own_shape, np.uint32)] if store is None else list(store.levels)
    if channel_axis is not None:
        levels = [_repeat(level, channel_axis, shape[channel_axis]) for level in levels]
    layer = viewer.add_labels(
        levels if len(levels) > 1 else levels[0],
        name=name,
        multiscale=len(levels) > 1,
        metadata={} if store is None else {METADATA_KEY: {"store": str(store.path)}},
        **_placement_of(image_layer),
    )
    _targets[layer] = layer.data, _new_target(layer, known_maximum=0)
    if folder is not None:
        _remove_with(layer, viewer, folder)
    return layer


def label_target_of(layer: Labels) -> LayerTarget:
    """Return what a session commits objects of a layer to.

    Parameters
    ----------
    layer : napari.layers.Labels

    Returns
    -------
    LayerTarget
        The same one as long as the layer keeps its data.

    Raises
    ------
    InputError
        When the layer's data cannot be changed in place.
    """
    data, target = _targets.get(layer, (None, None))
    if target is None or data is not layer.data:
        target = _new_target(layer)
        _targets[layer] = layer.data, target
    return target


def layer_data_of(levels: Sequence[Any]) -> Any:
    """Choose how the levels of a label image are shown.

    Parameters
    ----------
    levels : sequence of array-like
        The full resolution first.

    Returns
    -------
    array-like or list of array-like
        One array where planes are small, so that napari's own tools can paint in it; all levels
        otherwise. Either is read from the disk whenever it is indexed.
    """
    if len(levels) == 1 and not getattr(levels[0], "read_only", False):
        return levels[0]  # a pyramid says what to do when it cannot be changed
    is_small = max(levels[0].shape[-2:]) <= SINGLE_LEVEL
    return LabelPyramid(levels) if is_small else list(levels)


def refresh_after_write(
    layer: Labels,
    written: LabelTarget | Plane | None = None,
    region_yx: Region | None = None,
) -> None:
    """Show what was written, as cheaply as napari allows.

    Parameters
    ----------
    layer : napari.layers.Labels
    written : LabelTarget or Plane, optional
        The target that was written to, or a plane of the layer; everything when not given.
    region_yx : Region, optional
        Rows and columns of the plane; all when not given.
    """
    regions: list[tuple[Plane, Region]] | None = None
    if isinstance(written, LayerTarget):
        regions = written.take_written()
    elif isinstance(written, Plane):
        whole = Region.whole(written.shape_yx([int(n) for n in layer.data.shape]))
        regions = [(written, whole if region_yx is None else region_yx)]
    if regions is None or not all(redraw_region(layer, *each) for each in regions):
        redraw(layer)


def _new_target(layer: Labels, known_maximum: int | None = None) -> LayerTarget:
    data = layer.data
    if layer.multiscale:
        levels = tuple(data)
    else:
        levels = data.levels if isinstance(data, LabelPyramid) else (data,)
    if levels[0].ndim < 2 or not hasattr(levels[0], "__setitem__"):
        raise InputError(
            f"The data of the layer '{layer.name}' are a {type(levels[0]).__name__}",
            rule="Objects are written into a numpy or Zarr array",
            cure="Choose another labels layer, or a new one",
        )
    factors = factors_yx([level.shape for level in levels])
    return LayerTarget(levels, factors, known_maximum=known_maximum)


def _layout(image: Image, shape: Sequence[int], channel_axis: int | None) -> LabelLayout:
    kept = [axis for axis in range(image.ndim) if axis != channel_axis]
    letters, names = axes_of([image.axis_labels[axis] for axis in kept], len(kept))
    if letters != canonical_order(letters):  # OME-Zarr has them in this order only
        letters, names = axes_of([], len(kept))
    scale, translate = (tuple(getattr(image, name)[kept]) for name in ("scale", "translate"))
    units = ngff_units(image.units) or [None] * image.ndim
    return LabelLayout(
        letters,
        tuple(shape),
        tuple(float(size) for size in scale),
        tuple(units[axis] for axis in kept),
        translate=tuple(float(position) for position in translate),
        names=names,
        max_levels=1 if max(shape[-2:]) <= SINGLE_LEVEL else MAX_LEVELS,
    )


def _free_path(directory: Path, name: str) -> Path:
    from napari_sam.io.image_labels import label_group_name  # it loads zarr

    stem = label_group_name(name)
    endings = chain([""], (f"-{number}" for number in count(2)))
    names = (f"{stem}{ending}.ome.zarr" for ending in endings)
    return next(path for path in map(directory.joinpath, names) if not path.exists())


def _repeat(level: Any, axis: int, length: int) -> Any:
    """Add an axis along which the labels are the same; for numpy without a copy."""
    if not isinstance(level, np.ndarray):
        return RepeatedView(level, axis, length)
    widened = np.expand_dims(level, axis)
    strides = [0 if i == axis else step for i, step in enumerate(widened.strides)]
    shape = [length if i == axis else n for i, n in enumerate(widened.shape)]
    return np.lib.stride_tricks.as_strided(widened, shape, strides, writeable=True)


def _placement_of(image: Image) -> dict[str, Any]:
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return {name: getattr(image, name) for name in names}


def _remove_with(layer: Labels, viewer: ViewerModel, folder: str) -> None:
    """Remove a temporary store with its layer, or at the latest when the program ends."""
    finalizer = weakref.finalize(layer, shutil.rmtree, folder, ignore_errors=True)
    layers = viewer.layers

    def remove_unless_used() -> None:
        # Converting or duplicating a layer gives another one with the same data and metadata.
        stores = (each.metadata.get(METADATA_KEY, {}).get("store", "") for each in layers)
        if not any(store.startswith(folder) for store in stores):
            layers.events.removed.disconnect(on_removed)
            finalizer()

    def on_removed(event: Any) -> None:
        if QApplication.instance() is None:
            remove_unless_used()
        else:  # what takes its place is added after it was removed
            QTimer.singleShot(0, remove_unless_used)

    layers.events.removed.connect(on_removed)
