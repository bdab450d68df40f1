"""Save a labels layer as OME-Zarr, of its own or inside the image that it belongs to."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam._napari.label_layers import METADATA_KEY
from napari_sam._napari.layer_axes import axes_of, ngff_units, placement
from napari_sam.core.steps import result_of
from napari_sam.io.image_labels import save_into_image
from napari_sam.io.label_image import LabelImage
from napari_sam.io.label_pyramid import ArrayView, RepeatedView
from napari_sam.io.label_saving import SaveProgress, save_labels
from napari_sam.io.label_store import INDEX_COLUMN, LABEL_KEY, read_attributes, rows_of

__all__ = ["is_ome_zarr_image", "save_steps", "write_labels"]

SUFFIXES = (".ome.zarr", ".zarr")
LABELS_GROUP = "labels"


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Save a labels layer; what napari calls for *File > Save*.

    Parameters
    ----------
    path : str
        Directory to write; see :func:`save_steps`.
    data : array-like or list of array-like
    meta : dict
        As of ``layer.as_layer_data_tuple()``.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    InputError, OutputError
        As of :func:`save_steps`.
    """
    return [str(result_of(save_steps(data, meta, path)))]


def save_steps(
    data: Any,
    meta: Mapping[str, Any],
    path: str | Path,
    overwrite: bool = False,
    *,
    properties: Iterable[Mapping[str, Any]] | None = None,
) -> Generator[SaveProgress, None, Path]:
    """Save a labels layer step by step, in any thread.

    A path that is an OME-Zarr image, or inside one, means the labels of that image: they go to its
    group ``labels``, under the name of the layer or the one in the path.

    Parameters
    ----------
    data : array-like or list of array-like
        Data of the layer; of several levels the first is saved, and the others made again.
    meta : mapping
        As of ``layer.as_layer_data_tuple()``. Name, scale, translation, units, axis labels and
        features are saved.
    path : str or Path
        Directory to write.
    overwrite : bool
        Whether labels that are there may be replaced.
    properties : iterable of mapping, optional
        The table of objects, instead of that of the layer; see
        :meth:`~napari_sam.io.label_store.LabelStore.write_properties`.

    Yields
    ------
    SaveProgress

    Returns
    -------
    Path
        Directory of the labels.

    Raises
    ------
    InputError
        When the layer holds no labels that can be saved.
    OutputError
        When something is there already, or it cannot be written.
    """
    name = str(meta.get("name") or "labels")
    labels = _label_image(data, meta, _properties(meta) if properties is None else properties)
    image, stem = _image_around(Path(path), name)
    if image is not None:
        return (yield from save_into_image(image, stem, labels, overwrite=overwrite))
    return (yield from save_labels(path, labels, name=name, overwrite=overwrite))


def _label_image(
    data: Any, meta: Mapping[str, Any], properties: Iterable[Mapping[str, Any]]
) -> LabelImage:
    full = data[0] if meta.get("multiscale") or isinstance(data, list | tuple) else data
    ndim = len(full.shape)
    scale, translate = placement(meta, ndim)
    units = ngff_units(meta.get("units")) or [None] * ndim
    names = list(meta.get("axis_labels") or [])
    repeated = _repeated_axis(full)
    if repeated is not None:  # the same labels for all channels are saved once
        full = ArrayView(full, {repeated: 0})
        ndim -= 1
        for values in (scale, translate, units, names):
            del values[repeated : repeated + 1]
    letters, other_names = axes_of(names, ndim)
    return LabelImage(full, letters, scale, translate, units, other_names, tuple(properties))


def _repeated_axis(array: Any) -> int | None:
    if isinstance(array, RepeatedView):
        return array.axis
    if isinstance(array, np.ndarray) and array.ndim > 2 and 0 in array.strides[:-2]:
        return array.strides.index(0)
    return None


def _properties(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make the table of objects of a layer's features, and of what was read with it."""
    notes = meta.get("metadata", {}).get(METADATA_KEY, {})
    kept = {row[LABEL_KEY]: row for row in notes.get("properties", [])}
    features = meta.get("features")
    columns = {} if features is None else {name: list(features[name]) for name in features}
    if not columns:
        return list(kept.values())
    if INDEX_COLUMN not in columns:  # napari then counts the rows
        columns[INDEX_COLUMN] = list(range(len(next(iter(columns.values())))))
    rows = [row for row in rows_of(columns) if _is_id(row[LABEL_KEY])]
    nested = {
        label: {key: value for key, value in row.items() if isinstance(value, dict | list)}
        for label, row in kept.items()
    }
    return [nested.get(int(row[LABEL_KEY]), {}) | row for row in rows]


def _is_id(value: Any) -> bool:
    is_number = isinstance(value, int | float | np.integer | np.floating)
    return is_number and value > 0 and float(value).is_integer()


def _image_around(path: Path, name: str) -> tuple[Path | None, str]:
    """Find the OME-Zarr image that a path is in, and what the labels shall be called there."""
    if is_ome_zarr_image(path):
        return path, name
    image = next((parent for parent in path.absolute().parents if is_ome_zarr_image(parent)), None)
    stem = path.name
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    is_group = image is not None and path.absolute() == image / LABELS_GROUP
    return image, name if is_group else stem


def is_ome_zarr_image(path: Path) -> bool:
    """Tell whether a directory is an OME-Zarr image, and no label image.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    try:
        attributes = read_attributes(path)
    except (OSError, ValueError):
        return False
    attributes = attributes.get("ome", attributes)
    return bool(attributes.get("multiscales")) and "image-label" not in attributes
