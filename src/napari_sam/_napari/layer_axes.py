"""Axis letters, units and placement of layers, in the words of OME-Zarr."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from napari.utils.transforms import Affine

from napari_sam.core.errors import InputError, NapariSamWarning

__all__ = ["axes_of", "napari_units", "ngff_units", "placement"]

UNNAMED = re.compile(r"(axis )?-?\d*")
"""What napari calls axes that nobody named: ``-1``, and ``axis -1`` in older versions."""
DEFAULT_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
NO_UNITS = {"pixel", "pixels", "dimensionless", "", "None"}
UNIT_NAMES = {"micron": "micrometer", "microns": "micrometer"}


def axes_of(axis_labels: Sequence[str], ndim: int) -> tuple[str, tuple[str, ...] | None]:
    """Find the axes of a layer.

    Parameters
    ----------
    axis_labels : sequence of str
        Of the layer.
    ndim : int

    Returns
    -------
    letters : str
        One letter of TCZYX per axis: those that the labels name, or else the usual ones.
    names : tuple of str or None
        The labels, where they are names but no letters.

    Raises
    ------
    InputError
        When OME-Zarr knows no image of so many axes.
    """
    if ndim not in DEFAULT_AXES:
        raise InputError(
            f"The layer has {ndim} axes",
            rule="An OME-Zarr image has two to five axes: time, channel, z, y and x",
            cure="Take a part of the layer, for example one time point",
        )
    labels = [str(label).strip() for label in axis_labels]
    letters = "".join(labels).upper()
    are_letters = len(labels) == ndim == len(letters) == len(set(letters))
    if are_letters and {"Y", "X"} <= set(letters) <= set("TCZYX"):
        return letters, None
    are_names = len(set(labels)) == len(labels) == ndim
    are_names &= not any(UNNAMED.fullmatch(label) for label in labels)
    return DEFAULT_AXES[ndim], tuple(labels) if are_names else None


def ngff_units(units: Sequence[Any] | None) -> list[str | None] | None:
    """Spell the units of a layer as OME-Zarr does.

    Parameters
    ----------
    units : sequence of pint.Unit or str, optional

    Returns
    -------
    list of (str or None) or None
        None for an axis that is counted in pixels.
    """
    if units is None:
        return None
    # "D" is pint's long form; its default may have been set to symbols
    names = [unit if isinstance(unit, str) else format(unit, "D") for unit in units]
    return [None if name in NO_UNITS else UNIT_NAMES.get(name, name) for name in names]


def napari_units(units: Sequence[str | None]) -> list[str] | None:
    """Spell the units of an OME-Zarr as napari does.

    Parameters
    ----------
    units : sequence of (str or None)

    Returns
    -------
    list of str or None
        None when napari does not know one of them.
    """
    names = [unit or "pixel" for unit in units]
    try:
        Affine(scale=np.ones(len(names)), units=names)
    except ValueError:
        return None
    return names


def placement(meta: Mapping[str, Any], ndim: int) -> tuple[list[float], list[float]]:
    """Find the scale and the translation of a layer.

    Parameters
    ----------
    meta : mapping
        Of a layer data tuple.
    ndim : int

    Returns
    -------
    scale, translate : list of float
        One value per axis.

    Warns
    -----
    NapariSamWarning
        When the layer is rotated or sheared as well, which OME-Zarr 0.4 and 0.5 do not know.
    """
    names = ("scale", "translate", "rotate", "shear")
    known = {name: meta[name] for name in names if meta.get(name) is not None}
    scale = np.asarray(known.get("scale", np.ones(ndim)), float)
    translate = np.asarray(known.get("translate", np.zeros(ndim)), float)
    matrix = Affine(**({"scale": scale} | known), ndim=ndim).affine_matrix
    if meta.get("affine") is not None:
        matrix = np.asarray(meta["affine"], float) @ matrix
    factors = np.diag(matrix)[:-1]
    if np.allclose(matrix[:-1, :-1], np.diag(factors)):
        return factors.tolist(), matrix[:-1, -1].tolist()
    warnings.warn(
        "The rotation or shear of the layer is not saved: OME-Zarr knows scale and translation "
        "alone. The pixels are saved as they are.",
        NapariSamWarning,
        stacklevel=2,
    )
    return scale.tolist(), translate.tolist()
