"""OME-Zarr 0.4 and 0.5 multiscale images, and plain Zarr arrays of version 2 and 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import zarr
from zarr.storage import FsspecStore

from napari_sam.core.axes import CANONICAL_AXES
from napari_sam.core.errors import InputError
from napari_sam.io.location import Location
from napari_sam.io.volume import ArrayVolume, LazyArray, Volume, resolve_axes, unreadable

__all__ = ["Multiscale", "open_zarr", "read_multiscale"]

UNNAMED_AXES = "TCZYX"
"""The axes of OME-Zarr 0.1 and 0.2, which did not write them down."""


def open_zarr(path: Location, axes: str | None = None, store: FsspecStore | None = None) -> Volume:
    """Open an OME-Zarr image or a Zarr array.

    Parameters
    ----------
    path : Path or str
        The directory of the image or of the array; text when it is a URL.
    axes : str, optional
        Axes in the order of the array, instead of what the metadata say.
    store : FsspecStore, optional
        What reads from the URL.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        When the metadata are damaged, the group holds no image, or the axes are ambiguous.
    """
    try:
        node = zarr.open(path if store is None else store, mode="r")
        if isinstance(node, zarr.Array):
            hint = _array_axes(node)
            letters = resolve_axes(node.shape, axes, hint)
            identity = _identity(path, [node])
            return ArrayVolume(path, [cast(LazyArray, node)], letters, identity=identity)
        return _open_multiscale(path, node, axes)
    except Exception as error:  # zarr raises KeyError, ValueError, TypeError ... on bad metadata
        raise unreadable(path, error) from error


@dataclass(frozen=True)
class Multiscale:
    """An OME-Zarr image or image-label as its metadata describe it; no pixels are read.

    Parameters
    ----------
    path : Path
        Its directory.
    levels : tuple of zarr.Array
        The full resolution first.
    names : tuple of str
        Name of each axis, as written.
    types : tuple of str
        ``"time"``, ``"channel"``, ``"space"``, or an empty text, for each axis.
    units : tuple of (str or None)
        Unit of each axis as NGFF spells it.
    scale, translate : tuple of float
        Pixel size, and position of the first pixel, along each axis of the full resolution.
    ngff_version : str
    attributes : dict
        The NGFF attributes, without the ``ome`` around them.
    state : str, optional
        ``"finished"`` or ``"unfinished"`` for labels that napari_sam wrote.
    """

    path: Path
    levels: tuple[zarr.Array[Any], ...]
    names: tuple[str, ...]
    types: tuple[str, ...]
    units: tuple[str | None, ...]
    scale: tuple[float, ...]
    translate: tuple[float, ...]
    ngff_version: str
    attributes: dict[str, Any]
    state: str | None = None

    @property
    def name(self) -> str:
        """Name of the image; that of its directory where the metadata give none."""
        stated = self.attributes["multiscales"][0].get("name")
        # Some programs write the path within the store, which is "/" at its root.
        is_name = isinstance(stated, str) and stated.strip("/ ")
        return stated if is_name else self.path.name.split(".")[0]


def read_multiscale(path: Path, mode: Literal["r", "r+"] = "r") -> Multiscale:
    """Read the metadata of an OME-Zarr image or image-label.

    Parameters
    ----------
    path : Path
        Its directory.
    mode : str
        Whether its arrays may be written.

    Returns
    -------
    Multiscale

    Raises
    ------
    InputError
        When there is none, or its metadata are damaged.
    """
    try:
        # Consolidated metadata would not know of labels that were added later.
        group = zarr.open_group(path, mode=mode, use_consolidated=False)
        multiscale = _read_multiscale(path, group)
        if {level.ndim for level in multiscale.levels} != {len(multiscale.names)}:
            raise ValueError(f"its axes {multiscale.names} are not those of its arrays")
        return multiscale
    except Exception as error:  # zarr raises KeyError, ValueError, TypeError ... on bad metadata
        raise unreadable(path, error) from error


def _read_multiscale(path: Path, group: zarr.Group) -> Multiscale:
    root, attributes = _image_attributes(path, group)
    multiscale = attributes["multiscales"][0]
    levels = tuple(
        cast("zarr.Array[Any]", group[dataset["path"]]) for dataset in multiscale["datasets"]
    )
    stated = multiscale.get("axes", [{"name": letter} for letter in UNNAMED_AXES])
    axes = [{"name": entry} if isinstance(entry, str) else entry for entry in stated]
    names = tuple(str(axis["name"]) for axis in axes)
    kinds = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
    scale, translate = _calibration(multiscale, levels[0].ndim)
    older = "0.4" if group.metadata.zarr_format == 2 else "0.5"
    state = root.get("napari_sam")
    return Multiscale(
        path,
        levels,
        names,
        tuple(str(axis.get("type") or kinds.get(axis["name"].lower(), "")) for axis in axes),
        tuple(axis.get("unit") for axis in axes),
        tuple(scale),
        tuple(translate),
        str(attributes.get("version") or multiscale.get("version") or older),
        attributes,
        state.get("state") if isinstance(state, dict) else None,
    )


def _image_attributes(path: Location, group: zarr.Group) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all attributes of a group, and those of NGFF among them."""
    root = cast(dict[str, Any], group.attrs.asdict())
    attributes = root.get("ome", root)
    if not attributes.get("multiscales"):
        raise _no_image(path, group)
    return root, attributes


def _identity(
    path: Location, nodes: list[zarr.Group | zarr.Array[Any]]
) -> Callable[[], dict[str, Any]] | None:
    """Return what tells a Zarr at a URL from another; files on this machine have their times."""
    if isinstance(path, Path):
        return None
    from napari_sam.io.remote import metadata_digest

    return partial(metadata_digest, path, [node.path for node in nodes])


def _open_multiscale(path: Location, group: zarr.Group, axes: str | None) -> Volume:
    _image_attributes(path, group)  # says that there is no image before a URL becomes a Path
    multiscale = _read_multiscale(Path(path), group)
    hint = _as_hint(list(multiscale.names))
    letters = resolve_axes(multiscale.levels[0].shape, axes, hint)
    units = zip(letters, multiscale.units, strict=False)
    return ArrayVolume(
        path,
        [cast(LazyArray, array) for array in multiscale.levels],
        letters,
        scale=dict(zip(letters, multiscale.scale, strict=True)),
        units={letter: unit for letter, unit in units if unit},
        is_ngff=True,
        identity=_identity(path, [group, *multiscale.levels]),
    )


def _calibration(multiscale: dict[str, Any], n_axes: int) -> tuple[list[float], list[float]]:
    """Apply the transforms of the full resolution, then those of the whole image."""
    scale, translate = [1.0] * n_axes, [0.0] * n_axes
    for owner in (multiscale["datasets"][0], multiscale):
        for transform in owner.get("coordinateTransformations", []):
            kind = transform.get("type")
            values = transform.get(kind, []) if kind in ("scale", "translation") else []
            if len(values) != n_axes:
                continue
            if kind == "scale":
                scale = [a * float(b) for a, b in zip(scale, values, strict=True)]
                translate = [a * float(b) for a, b in zip(translate, values, strict=True)]
            else:
                translate = [a + float(b) for a, b in zip(translate, values, strict=True)]
    return scale, translate


def _array_axes(array: zarr.Array[Any]) -> str:
    """Read the dimension names of Zarr 3, or those that xarray writes into Zarr 2."""
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS")
    return _as_hint([str(name) for name in names]) if isinstance(names, (list, tuple)) else ""


def _as_hint(names: list[str]) -> str:
    letters = [name.upper() for name in names]
    return "".join(letter if letter in list(CANONICAL_AXES) else "?" for letter in letters)


def _no_image(path: Location, group: zarr.Group) -> InputError:
    members = sorted(name for name, _ in group.members())
    listed = ", ".join(members[:8]) or "nothing"
    first = (members or ["0"])[0]
    example = path / first if isinstance(path, Path) else f"{path.rstrip('/')}/{first}"
    return InputError(
        f"The Zarr group {path} is no OME-Zarr image; it holds {listed}",
        rule="A group needs `multiscales` metadata; otherwise one of its arrays must be named",
        cure=f"Give the path of an image or array in it, such as {example}",
    )
