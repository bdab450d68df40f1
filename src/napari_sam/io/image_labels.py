"""The labels inside an OME-Zarr image: its group ``labels``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import zarr

from napari_sam.core.errors import InputError, OutputError
from napari_sam.io.label_image import LabelImage
from napari_sam.io.label_layout import NgffVersion
from napari_sam.io.label_saving import EXISTS_CURE, SaveProgress, save_labels
from napari_sam.io.label_store import listed_labels, update_attributes
from napari_sam.io.ome_zarr import read_multiscale
from napari_sam.io.output_files import output_errors

__all__ = ["image_version", "label_group_name", "register_labels", "save_into_image"]


def save_into_image(
    image: str | Path, name: str, labels: LabelImage, *, overwrite: bool = False
) -> Generator[SaveProgress, None, Path]:
    """Save labels into the group ``labels`` of the OME-Zarr image that they belong to.

    Written as the image is, NGFF 0.4 or 0.5. Labels without a pixel size, of an image of the same
    shape, take that of the image. See :func:`save_labels` for what happens when it stops early.

    Parameters
    ----------
    image : str or Path
        Directory of the image.
    name : str
        Name of the labels; that of their group is :func:`label_group_name` of it.
    labels : LabelImage
    overwrite : bool
        Whether labels of this name may be replaced.

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
        When there is no such image, or its NGFF version is unknown here.
    OutputError
        When the name is taken, or the labels cannot be written.
    """
    image = Path(image)
    version = image_version(image)
    group = image / "labels"
    target = group / label_group_name(name)
    if not overwrite and target.name in listed_labels(group):
        raise OutputError(
            f"The image {image} has labels named {target.name} already",
            rule="Existing labels are never replaced unasked",
            cure=EXISTS_CURE,
        )
    saving = save_labels(
        target,
        _calibrated(labels, image),
        name=name,
        ngff_version=version,
        source_image="../../",
        overwrite=overwrite,
    )
    try:
        yield from saving
    finally:
        with suppress(OSError):  # only a folder that is empty is removed
            group.rmdir()
    register_labels(target, version)
    return target


def label_group_name(name: str) -> str:
    """Turn the name of a layer into one that every file system and Zarr takes.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        Letters, digits, ``_``, ``-`` and ``.`` inside; ``"labels"`` where nothing is left.
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.") or "labels"


def image_version(image: Path) -> NgffVersion:
    """Tell in which NGFF version the labels of an image are written.

    Parameters
    ----------
    image : Path
        Directory of the image.

    Returns
    -------
    str
        ``"0.5"`` or ``"0.4"``.

    Raises
    ------
    InputError
        When there is no such image, or its NGFF version is unknown here.
    """
    multiscale = read_multiscale(image)
    is_v3 = multiscale.levels[0].metadata.zarr_format == 3
    known = ("0.5",) if is_v3 else ("0.1", "0.2", "0.3", "0.4")
    if multiscale.ngff_version not in known or "image-label" in multiscale.attributes:
        raise InputError(
            f"{image} is an OME-Zarr of NGFF version {multiscale.ngff_version}"
            + (", and a label image itself" if "image-label" in multiscale.attributes else ""),
            rule="Labels can be added to images of NGFF versions up to 0.5",
            cure="Save the labels beside it, as an OME-Zarr of their own",
        )
    return "0.5" if is_v3 else "0.4"


def _calibrated(labels: LabelImage, image: Path) -> LabelImage:
    """Give labels that have no pixel size that of the image, where their shapes agree."""
    is_plain = not any(labels.units or ()) and not any(labels.translate or ())
    if not is_plain or any(value != 1 for value in labels.scale or ()):
        return labels
    multiscale = read_multiscale(image)
    found = {name.upper(): i for i, name in enumerate(multiscale.names)}
    at = [found.get(axis, -1) for axis in labels.axes.upper()]
    shape = multiscale.levels[0].shape
    if -1 in at or any(shape[i] != n for i, n in zip(at, labels.data.shape, strict=True)):
        return labels
    return replace(
        labels,
        scale=[multiscale.scale[i] for i in at],
        translate=[multiscale.translate[i] for i in at],
        units=[multiscale.units[i] for i in at],
    )


def register_labels(target: Path, version: NgffVersion) -> None:
    """List labels in their group, which is made where there is none.

    Parameters
    ----------
    target : Path
        Directory of the labels: ``IMAGE/labels/NAME``.
    version : str
        Of the image, as :func:`image_version` tells.

    Raises
    ------
    OutputError
        When the group cannot be written.
    """
    group, name = target.parent, target.name

    def change(attributes: dict[str, Any]) -> None:
        owner = attributes.setdefault("ome", {"version": "0.5"}) if is_v3 else attributes
        names = owner.setdefault("labels", [])
        if name not in names:
            names.append(name)

    is_v3 = version == "0.5"
    with output_errors(group):
        zarr.open_group(group, mode="a", zarr_format=3 if is_v3 else 2)
    update_attributes(group, change)
    _consolidate_again(group.parent)


def _consolidate_again(image: Path) -> None:
    """Bring the collected metadata of an image up to date, where it has such."""
    with output_errors(image):
        group = zarr.open_group(image, mode="r+")
        if group.metadata.consolidated_metadata is not None:
            with warnings.catch_warnings():  # Zarr 3 says that this is not in its standard yet
                warnings.simplefilter("ignore", category=UserWarning)
                zarr.consolidate_metadata(group.store, zarr_format=group.metadata.zarr_format)
