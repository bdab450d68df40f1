"""Where "segment everything" looks: crops of the image, and grids of points in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from napari_sam.model.sam import InputSpec
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.windows import Window, covering_windows, whole_frame

__all__ = ["Crop", "crop_boxes", "image_crops", "layer_grids", "point_grid", "window_crops"]


@dataclass(frozen=True)
class Crop:
    """A part of the image that is prompted with its own grid of points.

    Parameters
    ----------
    box_xyxy : tuple of int
        The part, as (x0, y0, x1, y1) in image pixels, ends excluded.
    layer : int
        0 for the coarsest crops; each further layer halves their sides.
    window : Window or None
        The decode window in the features of the whole image; None where the crop is encoded by
        itself.
    """

    box_xyxy: tuple[int, int, int, int]
    layer: int
    window: Window | None = None

    @property
    def size_yx(self) -> tuple[int, int]:
        """Rows and columns."""
        x0, y0, x1, y1 = self.box_xyxy
        return y1 - y0, x1 - x0

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.size_yx[0] * self.size_yx[1]


def point_grid(n_cols: int, n_rows: int) -> NDArray[np.float64]:
    """Spread points evenly over the unit square, row by row.

    Parameters
    ----------
    n_cols, n_rows : int
        Points along x and y.

    Returns
    -------
    ndarray of float64, shape (n_rows * n_cols, 2)
        Points as (x, y), 0 to 1, each in the middle of its cell.
    """
    half_x, half_y = 1 / (2 * n_cols), 1 / (2 * n_rows)
    x, y = np.meshgrid(
        np.linspace(half_x, 1 - half_x, n_cols), np.linspace(half_y, 1 - half_y, n_rows)
    )
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def layer_grids(
    points_per_side: int, n_layers: int, downscale_factor: int
) -> list[NDArray[np.float64]]:
    """Make the point grid of each crop layer, sparser by `downscale_factor` from one to the next.

    Parameters
    ----------
    points_per_side : int
        Points along a side in layer 0.
    n_layers : int
        Layers beyond layer 0.
    downscale_factor : int
        Division of the points per side from layer to layer.

    Returns
    -------
    list of ndarray, shape (n * n, 2)
    """
    sides = [max(points_per_side // downscale_factor**layer, 1) for layer in range(n_layers + 1)]
    return [point_grid(side, side) for side in sides]


def crop_boxes(
    image_size_yx: tuple[int, int], n_layers: int, overlap_ratio: float
) -> list[tuple[tuple[int, int, int, int], int]]:
    """Cut an image into overlapping crops: 2**i along each side in layer i.

    As in the original (Kirillov et al. 2023, appendix B, "Cropping").

    Parameters
    ----------
    image_size_yx : tuple of int
    n_layers : int
        Layers beyond layer 0, which is the whole image.
    overlap_ratio : float
        Overlap of the crops of layer 1 as a fraction of the image's short side; it halves from
        layer to layer.

    Returns
    -------
    list of tuple
        ((x0, y0, x1, y1), layer) of each crop.
    """
    rows, cols = image_size_yx
    boxes = [((0, 0, cols, rows), 0)]
    for layer in range(1, n_layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(rows, cols) * (2 / per_side))
        width, height = (
            int(np.ceil((overlap * (per_side - 1) + length) / per_side)) for length in (cols, rows)
        )
        starts_x = [(width - overlap) * i for i in range(per_side)]
        starts_y = [(height - overlap) * i for i in range(per_side)]
        boxes += [
            ((x, y, min(x + width, cols), min(y + height, rows)), layer)
            for x, y in product(starts_x, starts_y)
        ]
    return boxes


def image_crops(
    image_size_yx: tuple[int, int],
    n_layers: int,
    overlap_ratio: float,
    grids: Sequence[NDArray[np.float64]],
) -> list[tuple[Crop, NDArray[np.float64]]]:
    """List the crops of a model that resizes, each with its points in crop pixels.

    Crops that a tiny image leaves empty are left out.
    """
    crops = [Crop(box, layer) for box, layer in crop_boxes(image_size_yx, n_layers, overlap_ratio)]
    return [
        (crop, grids[crop.layer] * np.array(crop.size_yx[::-1]))
        for crop in crops
        if min(crop.size_yx) > 0
    ]


def window_crops(
    transform: ImageTransform, spec: InputSpec, n_layers: int, overlap_ratio: float
) -> list[Crop]:
    """List the crops of a model with native pixels: decode windows that cover the image.

    The windows of layer 0 have the model's input size, or are the whole image where that is
    smaller. Each further layer halves the windows.

    Parameters
    ----------
    transform : ImageTransform
        Of the image.
    spec : InputSpec
        Of the model.
    n_layers : int
        Layers beyond layer 0.
    overlap_ratio : float
        Overlap of neighbouring windows as a fraction of their side.

    Returns
    -------
    list of Crop
    """
    crops = []
    frame = whole_frame(transform)
    for layer in range(n_layers + 1):
        size = max(spec.size // 2**layer // spec.pad_multiple, 1) * spec.pad_multiple
        overlap = int(overlap_ratio * size)
        for window in covering_windows(transform, size, overlap, spec.pad_multiple):
            if layer and window == frame:
                continue  # the image is so small that layer 0 has this window already
            y0, y1 = transform.image_span(0, window.y, window.height)
            x0, x1 = transform.image_span(1, window.x, window.width)
            if y0 < y1 and x0 < x1:  # magnified, the end of an image may show the edge of a pixel
                crops.append(Crop((x0, y0, x1, y1), layer, window))
    return crops
