"""PNG and JPEG through Pillow. These formats decode as a whole, so the picture is read at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from napari_sam.io.location import Location
from napari_sam.io.volume import ArrayVolume, Volume, resolve_axes, unreadable

__all__ = ["open_image_file"]

COLOR_MODES = {"P": "RGB", "PA": "RGB", "RGBA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LA": "L"}
"""Modes that are turned into intensities. Transparency is dropped: it is no signal."""


def open_image_file(
    path: Location,
    axes: str | None = None,
    stream: BinaryIO | None = None,
    identity: Callable[[], dict[str, Any]] | None = None,
) -> Volume:
    """Open a PNG or JPEG picture.

    Parameters
    ----------
    path : Path or str
        Text when it is a URL.
    axes : str, optional
        ``YX`` or ``YXS``; other letters may rename what the picture's axes mean.
    stream : binary file, optional
        The open file at a URL.
    identity : callable, optional
        As for :class:`napari_sam.io.ArrayVolume`.

    Returns
    -------
    Volume
        Gray of 8 or 16 bits (YX), or RGB of 8 bits (YXS); black and white is boolean.

    Raises
    ------
    InputError
        When the file is truncated or damaged.
    """
    try:
        with Image.open(path if stream is None else stream) as picture:
            mode = COLOR_MODES.get(picture.mode)
            pixels = np.array(picture if mode is None else picture.convert(mode))
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and its own
        raise unreadable(path, error) from error
    letters = resolve_axes(pixels.shape, axes, is_color=pixels.ndim == 3)
    return ArrayVolume(path, [pixels], letters, identity=identity)
