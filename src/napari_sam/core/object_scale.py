"""How large objects are to a model of native pixels, and how an image is resized to suit it.

The diameter of an object is that of a circle of its area. The bundled model learned objects of
about 8 to 120 pixels, and segments those of 25 to 50 best: of 25 training images of five kinds,
each at five scales, the mean mSA of a watershed was .36 where objects had 26 to 40 pixels, .34 from
18 to 26, .32 from 40 to 60, and .24 from 8 to 12 and from 60 to 100.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Final, Literal, TypeGuard

from napari_sam.core.errors import ConfigError

__all__ = [
    "AUTO",
    "COMFORTABLE_DIAMETERS",
    "NATIVE",
    "Diameter",
    "check_diameter",
    "scale_for",
]

AUTO: Final = "auto"
"""What is given for a diameter that is to be estimated."""

NATIVE: Final = "native"
"""What is given for a diameter where images are to stay as they are."""

Diameter = float | Literal["auto", "native"]
"""A number of pixels, ``"auto"`` or ``"native"``."""

COMFORTABLE_DIAMETERS = (20.0, 60.0)
"""Objects of these diameters, in pixels, are left as they are."""

SMALL_TARGET = 30.0
"""What smaller objects are magnified to, in pixels of the model's input."""

LARGE_TARGET = 45.0
"""What larger objects are shrunk to."""

LARGEST_SCALE = 4.0
"""Beyond it an image has nothing more to show, and takes 16 times the work as it is."""

SMALLEST_SCALE = 0.25


def scale_for(diameter: Diameter | None) -> float:
    """Choose how an image is resized for objects of a diameter.

    Parameters
    ----------
    diameter : float, "native", "auto" or None
        In pixels of the image; anything else where it is not known.

    Returns
    -------
    float
        Pixels of the model's input along a pixel of the image: exactly 1 for comfortable diameters
        and unknown ones, else what brings objects to :data:`SMALL_TARGET` or :data:`LARGE_TARGET`,
        from 1/4 to 4.
    """
    smallest, largest = COMFORTABLE_DIAMETERS
    if diameter is None or isinstance(diameter, str) or smallest <= diameter <= largest:
        return 1.0
    if diameter < smallest:
        return min(SMALL_TARGET / diameter, LARGEST_SCALE)
    return max(LARGE_TARGET / diameter, SMALLEST_SCALE)


def check_diameter(value: Any) -> TypeGuard[Diameter | None]:
    """Refuse what is no diameter.

    Parameters
    ----------
    value : object
        None, ``"auto"``, ``"native"``, or a number of pixels.

    Returns
    -------
    bool
        True.

    Raises
    ------
    ConfigError
        When it is none of these.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if value is None or value in (AUTO, NATIVE) or (is_number and 0 < float(value) < math.inf):
        return True
    raise ConfigError(
        f"diameter={value!r} was given",
        rule="The diameter of objects is a number of pixels above 0, 'auto' to estimate it, or "
        "'native' for images as they are",
        cure="Use for example diameter=30 (`--diameter 30`), or leave it out",
    )
