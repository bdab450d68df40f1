"""Open OME-Zarr labels, and images with their labels; nothing is read before it is shown."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_sam._napari.label_layers import METADATA_KEY, layer_data_of
from napari_sam._napari.layer_axes import napari_units
from napari_sam.core.errors import NapariSamError, NapariSamWarning
from napari_sam.io.label_pyramid import ArrayView
from napari_sam.io.label_store import (
    LabelStore,
    columns_of,
    is_label_image,
    listed_labels,
    read_attributes,
)
from napari_sam.io.ome_zarr import Multiscale, read_multiscale

__all__ = ["get_reader", "read_ome_zarr"]

LayerData = tuple[Any, dict[str, Any], str]
Paths = str | Sequence[str]
LABELS_GROUP = "labels"
TWO_COLORS = ("magenta", "green")
COLORS = ("cyan", "magenta", "yellow", "blue", "green", "red")
"""Colours of channels that come without, as napari chooses them."""


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Find out whether a path is for this reader; what napari calls.

    Parameters
    ----------
    path : str or sequence of str

    Returns
    -------
    callable or None
        :func:`read_ome_zarr` for the directory of an OME-Zarr image, of labels, or of a group of
        labels; None for anything else, which other readers may know.
    """
    folder = _single(path)
    if folder is None or not folder.is_dir():
        return None
    try:
        attributes = read_attributes(folder)
        attributes = attributes.get("ome", attributes)
        known = bool(attributes.get("multiscales") or listed_labels(folder))
    except (OSError, ValueError, AttributeError):
        return None
    return read_ome_zarr if known else None


def read_ome_zarr(path: Paths) -> list[LayerData]:
    """Open an OME-Zarr as layers: labels, or an image and its labels.

    Labels are shown from the disk, and what is painted or segmented in them goes there at once,
    where the files may be written.

    Parameters
    ----------
    path : str or sequence of str
        Directory of an image, of labels, or of a group of labels.

    Returns
    -------
    list of (data, meta, type)
        One image layer per channel, then one labels layer per label image.

    Raises
    ------
    InputError
        When the metadata are damaged.

    Warns
    -----
    NapariSamWarning
        When labels are unfinished; when labels of an image cannot be opened and are left out.
    """
    folder = _single(path)
    if folder is None:
        return []
    if listed_labels(folder):
        return _labels_of_group(folder)
    multiscale = read_multiscale(folder)
    if is_label_image(multiscale):
        return [_labels_layer(LabelStore.open(folder), None)]
    return [*_image_layers(multiscale), *_labels_of_group(folder / LABELS_GROUP)]


def _single(path: Paths) -> Path | None:
    if isinstance(path, str | os.PathLike):
        return Path(path)
    return Path(path[0]) if len(path) == 1 else None


def _labels_of_group(group: Path) -> list[LayerData]:
    layers = []
    for name in listed_labels(group):
        try:
            store = LabelStore.open(group / name)
        except NapariSamError as error:
            warnings.warn(f"Labels were left out. {error}", NapariSamWarning, stacklevel=2)
            continue
        axis = _channel_axis(store.multiscale)
        if axis is None:
            layers.append(_labels_layer(store))
        else:
            count = store.levels[0].shape[axis]
            layers += [_labels_layer(store, axis, number) for number in range(count)]
    return layers


def _labels_layer(store: LabelStore, axis: int | None = None, number: int = 0) -> LayerData:
    """Describe a labels layer; with an axis, one index along it, as channels of images are."""
    if not store.is_finished:
        warnings.warn(
            f"The labels {store.path} are unfinished: what wrote them was stopped, or is still at "
            "work. What is not there yet is shown as background.",
            NapariSamWarning,
            stacklevel=2,
        )
    levels, rows = store.levels, store.properties
    meta = {"name": store.multiscale.name} | _placement(store.multiscale, axis)
    meta["metadata"] = {METADATA_KEY: {"store": str(store.path), "properties": rows}}
    if axis is not None and levels[0].shape[axis] > 1:
        meta["name"] += f" [{number}]"
    if rows:
        meta["features"] = columns_of(rows)
    dtype = "uint8" if levels[0].dtype.kind == "b" else None
    fixed = {} if axis is None else {axis: number}
    shown = [ArrayView(level, fixed, dtype) if fixed or dtype else level for level in levels]
    return layer_data_of(shown), meta, "labels"


def _image_layers(multiscale: Multiscale) -> list[LayerData]:
    axis = _channel_axis(multiscale)
    placement = _placement(multiscale, axis)
    count = 1 if axis is None else multiscale.levels[0].shape[axis]
    stated = multiscale.attributes.get("omero", {}).get("channels", [])
    layers: list[LayerData] = []
    for number in range(count):
        levels: Sequence[Any] = multiscale.levels
        if axis is not None:
            levels = [ArrayView(level, {axis: number}) for level in levels]
        meta: dict[str, Any] = {"name": multiscale.name}
        meta["name"] += f" [{number}]" if count > 1 else ""
        meta |= placement | {"blending": "additive" if number else "translucent_no_depth"}
        if count > 1:
            meta["colormap"] = TWO_COLORS[number] if count == 2 else COLORS[number % len(COLORS)]
        meta |= _rendering(stated[number]) if number < len(stated) else {}
        layers.append((list(levels) if len(levels) > 1 else levels[0], meta, "image"))
    return layers


def _rendering(channel: dict[str, Any]) -> dict[str, Any]:
    """Take name, colour and contrast limits of a channel as the OMERO metadata have them."""
    meta: dict[str, Any] = {"visible": bool(channel.get("active", True))}
    if channel.get("label"):
        meta["name"] = str(channel["label"])
    color, window = str(channel.get("color", "")), channel.get("window", {})
    if len(color) == 6 and set(color.upper()) <= set("0123456789ABCDEF"):
        meta["colormap"] = "gray" if color.upper() == "FFFFFF" else f"#{color}"
    low, high = window.get("start"), window.get("end")
    if isinstance(low, int | float) and isinstance(high, int | float) and low < high:
        meta["contrast_limits"] = (float(low), float(high))
    return meta


def _channel_axis(multiscale: Multiscale) -> int | None:
    return multiscale.types.index("channel") if "channel" in multiscale.types else None


def _placement(multiscale: Multiscale, left_out: int | None) -> dict[str, Any]:
    kept = [axis for axis in range(len(multiscale.names)) if axis != left_out]
    meta = {
        "scale": [multiscale.scale[axis] for axis in kept],
        "translate": [multiscale.translate[axis] for axis in kept],
        "axis_labels": [multiscale.names[axis] for axis in kept],
    }
    units = napari_units([multiscale.units[axis] for axis in kept])
    return meta if units is None else meta | {"units": units}
