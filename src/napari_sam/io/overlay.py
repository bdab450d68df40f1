"""Pictures of label images over their images, for people to look at and for reports.

A picture is an RGB array (H, W, 3) of uint8. Contrast is the caller's: the pixels come as they are
to be shown, so that all slices of a volume can share one contrast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError, OutputError

__all__ = ["draw_overlay", "label_colors", "montage", "write_png"]

Picture = NDArray[np.uint8]

_GOLDEN_RATIO = (1 + math.sqrt(5)) / 2
_GAP_GRAY = 32


def label_colors(label_ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Give each label id a bright colour that depends on nothing but the id.

    Hues advance by the golden ratio, so that neighbouring ids get distant hues.

    Parameters
    ----------
    label_ids : ndarray of int
        Label ids, shape (N,). Background (0) gets a colour as well; callers leave it out.

    Returns
    -------
    ndarray of float64
        RGB colours in 0..1, shape (N, 3).
    """
    ids = np.asarray(label_ids, dtype=np.float64)
    hue = (ids / _GOLDEN_RATIO) % 1.0
    # The usual HSV -> RGB at full value, with saturation 0.8 so that no colour is near the grays.
    channel_phase = np.array([5.0, 3.0, 1.0])
    position = (channel_phase + 6.0 * hue[:, None]) % 6.0  # (N, 3)
    colors: NDArray[np.float64] = 1.0 - 0.8 * np.clip(np.minimum(position, 4.0 - position), 0, 1)
    return colors


def draw_overlay(
    pixels: NDArray[np.uint8], labels: NDArray[np.integer], *, opacity: float = 0.3
) -> Picture:
    """Draw a label image over an image: each object tinted, its outline in the full colour.

    Parameters
    ----------
    pixels : ndarray of uint8
        The image as it is to be shown, shape (H, W) or (H, W, 3).
    labels : ndarray of int
        Label image, shape (H, W); 0 is background.
    opacity : float, optional
        How strongly the inside of an object is tinted, 0 (not at all) to 1.

    Returns
    -------
    ndarray of uint8
        The picture, shape (H, W, 3).

    Raises
    ------
    InputError
        If `pixels` is no uint8 image, or the two shapes differ.
    """
    from skimage.segmentation import find_boundaries

    _check(pixels, labels)
    gray_or_rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    label_ids, inverse = np.unique(labels, return_inverse=True)
    colors = 255.0 * label_colors(label_ids)[inverse.reshape(labels.shape)]  # (H, W, 3)
    weight = np.where(labels != 0, opacity, 0.0)
    weight[find_boundaries(labels, mode="inner")] = 1.0
    mixed = gray_or_rgb * (1.0 - weight[..., None]) + colors * weight[..., None]
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def montage(pictures: Sequence[Picture], *, columns: int | None = None, gap_px: int = 4) -> Picture:
    """Lay pictures of one size out in rows.

    Parameters
    ----------
    pictures : sequence of ndarray of uint8
        At least one picture, each of shape (H, W, 3).
    columns : int, optional
        Pictures per row; when not given, what makes the result about square.
    gap_px : int, optional
        Width of the gray gap between pictures, in pixels.

    Returns
    -------
    ndarray of uint8
        The picture of pictures, shape (rows * (H + gap) - gap, columns * (W + gap) - gap, 3).

    Raises
    ------
    InputError
        If there is no picture, or they differ in shape.
    """
    if not pictures or len({picture.shape for picture in pictures}) != 1:
        raise InputError(
            f"Pictures of the shapes {[picture.shape for picture in pictures]} were given",
            rule="A montage needs at least one picture, and all of one shape",
            cure="Crop or pad the pictures to one shape",
        )
    if columns is None:
        columns = math.ceil(math.sqrt(len(pictures)))
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    height, width, _ = pictures[0].shape
    step_y, step_x = height + gap_px, width + gap_px
    shape = (rows * step_y - gap_px, columns * step_x - gap_px, 3)
    result = np.full(shape, _GAP_GRAY, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = step_y * (index // columns), step_x * (index % columns)
        result[top : top + height, left : left + width] = picture
    return result


def write_png(path: Path | str, picture: Picture) -> Path:
    """Write a picture as PNG, replacing an older one.

    Parameters
    ----------
    path : path-like
        Where to; the folder must exist.
    picture : ndarray of uint8
        Shape (H, W, 3).

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from PIL import Image

    path = Path(path)
    try:
        Image.fromarray(picture).save(path, format="PNG")
    except OSError as error:
        raise OutputError(
            f"The picture {path} could not be written: {error.strerror or error}",
            rule="A picture needs an existing folder that may be written to, and space on the disk",
            cure="Choose another folder, or make room",
        ) from error
    return path


def _check(pixels: NDArray[np.uint8], labels: NDArray[np.integer]) -> None:
    is_picture = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not is_picture:
        raise InputError(
            f"Pixels of the type {pixels.dtype} and the shape {pixels.shape} were given",
            rule="An overlay is drawn over uint8 pixels of shape (H, W) or (H, W, 3)",
            cure="Apply a Contrast first: percentile_contrast(image).apply(image)",
        )
    if labels.shape != pixels.shape[:2]:
        raise InputError(
            f"An image of {pixels.shape[:2]} pixels came with labels of shape {labels.shape}",
            rule="A label image has the height and width of its image",
            cure="Give the slice of the label image that belongs to this slice of the image",
        )
