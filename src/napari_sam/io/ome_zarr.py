"""OME-Zarr 0.4 and 0.5 multiscale images, and plain Zarr arrays of version 2 and 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import zarr

from napari_sam.core.axes import CANONICAL_AXES
from napari_sam.core.errors import InputError
from napari_sam.io.volume import ArrayVolume, LazyArray, Volume, resolve_axes, unreadable

__all__ = ["open_zarr"]

UNNAMED_AXES = "TCZYX"
"""The axes of OME-Zarr 0.1 and 0.2, which did not write them down."""


def open_zarr(path: Path, axes: str | None = None) -> Volume:
    """Open an OME-Zarr image or a Zarr array.

    Parameters
    ----------
    path : Path
        The directory of the image or of the array.
    axes : str, optional
        Axes in the order of the array, instead of what the metadata say.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        When the metadata are damaged, the group holds no image, or the axes are ambiguous.
    """
    try:
        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Array):
            hint = _array_axes(node)
            letters = resolve_axes(node.shape, axes, hint)
            return ArrayVolume(path, [cast(LazyArray, node)], letters)
        return _open_multiscale(path, node, axes)
    except Exception as error:  # zarr raises KeyError, ValueError, TypeError ... on bad metadata
        raise unreadable(path, error) from error


def _open_multiscale(path: Path, group: zarr.Group, axes: str | None) -> Volume:
    attributes = cast(dict[str, Any], group.attrs.asdict())
    attributes = attributes.get("ome", attributes)
    multiscales = attributes.get("multiscales")
    if not multiscales:
        raise _no_image(path, group)
    multiscale = multiscales[0]
    arrays = [group[dataset["path"]] for dataset in multiscale["datasets"]]
    stated = multiscale.get("axes", [{"name": letter} for letter in UNNAMED_AXES])
    entries = [{"name": entry} if isinstance(entry, str) else entry for entry in stated]
    hint = _as_hint([entry["name"] for entry in entries])
    letters = resolve_axes(cast("zarr.Array[Any]", arrays[0]).shape, axes, hint)
    factors = _scale(multiscale, len(letters))
    units = {
        letter: entry["unit"]
        for letter, entry in zip(letters, entries, strict=False)
        if entry.get("unit")
    }
    return ArrayVolume(
        path,
        [cast(LazyArray, array) for array in arrays],
        letters,
        scale=dict(zip(letters, factors, strict=True)),
        units=units,
        is_ngff=True,
    )


def _scale(multiscale: dict[str, Any], n_axes: int) -> list[float]:
    """Multiply the scale of the full resolution by the scale of the whole image."""
    factors = [1.0] * n_axes
    for owner in (multiscale["datasets"][0], multiscale):
        for transform in owner.get("coordinateTransformations", []):
            if transform.get("type") == "scale" and len(transform.get("scale", [])) == n_axes:
                factors = [a * float(b) for a, b in zip(factors, transform["scale"], strict=True)]
    return factors


def _array_axes(array: zarr.Array[Any]) -> str:
    """Read the dimension names of Zarr 3, or those that xarray writes into Zarr 2."""
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS")
    return _as_hint([str(name) for name in names]) if isinstance(names, (list, tuple)) else ""


def _as_hint(names: list[str]) -> str:
    letters = [name.upper() for name in names]
    return "".join(letter if letter in list(CANONICAL_AXES) else "?" for letter in letters)


def _no_image(path: Path, group: zarr.Group) -> InputError:
    members = sorted(name for name, _ in group.members())
    listed = ", ".join(members[:8]) or "nothing"
    return InputError(
        f"The Zarr group {path} is no OME-Zarr image; it holds {listed}",
        rule="A group needs `multiscales` metadata; otherwise one of its arrays must be named",
        cure=f"Give the path of an image or array in it, such as {path / (members or ['0'])[0]}",
    )
