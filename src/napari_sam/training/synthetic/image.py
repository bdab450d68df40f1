"""One synthetic image of any kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError
from napari_sam.training.synthetic.canvas import Labels
from napari_sam.training.synthetic.electron import axons, neurites
from napari_sam.training.synthetic.fluorescence import cytoplasm, membranes, nuclei
from napari_sam.training.synthetic.histology import histology
from napari_sam.training.synthetic.microbes import bacteria, yeast
from napari_sam.training.synthetic.smears import smear
from napari_sam.training.synthetic.transmitted import brightfield, phase_contrast

__all__ = ["KINDS", "synthetic_image"]

KINDS: dict[str, Callable[[tuple[int, int], np.random.Generator], tuple[NDArray[Any], Labels]]] = {
    "axons": axons,
    "bacteria": bacteria,
    "brightfield": brightfield,
    "cytoplasm": cytoplasm,
    "histology": histology,
    "membranes": membranes,
    "neurites": neurites,
    "nuclei": nuclei,
    "phase_contrast": phase_contrast,
    "smear": smear,
    "yeast": yeast,
}
"""What the generator can draw, by name."""


def synthetic_image(
    shape_yx: tuple[int, int], rng: np.random.Generator, kind: str | None = None
) -> tuple[NDArray[Any], Labels]:
    """Draw objects and look at them through a microscope.

    Sizes, densities, shapes, contrast and noise are drawn anew for each image, from wide
    distributions.

    Parameters
    ----------
    shape_yx : tuple of int
        Rows and columns, 32 or more of each.
    rng : numpy.random.Generator
        Source of chance.
    kind : str, optional
        One of :data:`KINDS`; drawn at random unless given.

    Returns
    -------
    tuple of ndarray
        The image, (H, W) or (H, W, 3) for stains, of uint16 or uint8, and its labels (H, W) of
        int32. Labels are numbered from 1 without gaps; each object is one connected component of 12
        pixels or more.

    Raises
    ------
    InputError
        If there is no such kind, or the image is too small for objects.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(
            f"The kind {kind!r} of synthetic image was given",
            rule=f"The kinds are {', '.join(sorted(KINDS))}",
            cure="Choose one of them, or none for any",
        )
    if min(shape_yx) < 32:
        raise InputError(
            f"A synthetic image of {shape_yx[0]} x {shape_yx[1]} pixels was asked for",
            rule="It has 32 rows and columns or more, so that objects have room",
            cure="Draw a larger image and crop it",
        )
    return KINDS[kind or str(rng.choice(sorted(KINDS)))](shape_yx, rng)
