"""Which points "segment everything" prompts with, in which crop of the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam.model.devices import translate_torch_errors
from napari_sam.model.sam import InputSpec, Sam
from napari_sam.predict.crops import Crop, image_crops, layer_grids, point_grid, window_crops
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.proposals import assign_to_crops, foreground_at, propose_points
from napari_sam.predict.records import AutomaticOptions

__all__ = ["prompted_crops"]

_POINTS_PER_SIDE = 32

_MIN_FOREGROUND = 0.5
"""Foreground probability from which a point of a grid is prompted, with `foreground_only`.

On 21 training images of seven kinds, with thresholds of 0.5, the points within a cell of it were
41 % of the grid, and gave the bundled model the mean SA50 of all points (.407). From 0.4 to 0.8 it
made no difference; looking at a point's own cell alone lost .03.
"""


def prompted_crops(
    sam: Sam, embedding: ImageEmbedding, options: AutomaticOptions
) -> list[tuple[Crop, NDArray[np.float64]]]:
    """List the crops of an image, each with its points.

    Parameters
    ----------
    sam : Sam
        The model; its instance head is asked where the options say so.
    embedding : ImageEmbedding
        Of the image.
    options : AutomaticOptions

    Returns
    -------
    list of tuple
        Crop and points (n, 2) as (x, y) in crop pixels.

    Raises
    ------
    ConfigError
        When an instance head is asked of a model that has none.
    DeviceError
        When the device fails, or has too little memory.
    """
    spec = sam.input_spec
    if not spec.native_resolution:
        side = options.points_per_side or _POINTS_PER_SIDE
        grids = options.point_grids or layer_grids(
            side, options.crop_n_layers, options.crop_n_points_downscale_factor
        )
        return image_crops(
            embedding.original_size_yx, options.crop_n_layers, options.crop_overlap_ratio, grids
        )
    crops = window_crops(
        embedding.transform, spec, options.crop_n_layers, options.crop_overlap_ratio
    )
    points = [_window_points(crop, options, spec, embedding.transform.scale_yx) for crop in crops]
    n_proposed = 0
    if options.mode == "proposals":
        with translate_torch_errors(), torch.inference_mode():
            proposals = propose_points(sam, embedding)
        first_layer = [crop for crop in crops if crop.layer == 0]
        n_proposed = len(first_layer)
        points[:n_proposed] = assign_to_crops(proposals, first_layer)
    if options.foreground_only and n_proposed < len(crops):
        of_grids = crops[n_proposed:]
        points[n_proposed:] = _in_foreground(sam, embedding, of_grids, points[n_proposed:])
    return list(zip(crops, points, strict=True))


def _window_points(
    crop: Crop, options: AutomaticOptions, spec: InputSpec, scale_yx: tuple[float, float]
) -> NDArray[np.float64]:
    """Points of a decode window: spaced as over a full window of the crop's layer."""
    rows, cols = crop.size_yx
    if options.point_grids is not None:
        return np.asarray(options.point_grids[crop.layer]) * (cols, rows)
    per_side = options.points_per_side or _POINTS_PER_SIDE
    per_side = max(per_side // options.crop_n_points_downscale_factor**crop.layer, 1)
    full = spec.size / 2**crop.layer
    in_input = cols * scale_yx[1], rows * scale_yx[0]
    n_cols, n_rows = (max(round(per_side * length / full), 1) for length in in_input)
    return point_grid(n_cols, n_rows) * (cols, rows)


def _in_foreground(
    sam: Sam,
    embedding: ImageEmbedding,
    crops: Sequence[Crop],
    points: Sequence[NDArray[np.float64]],
) -> list[NDArray[np.float64]]:
    """Drop the points of grids that the instance head takes for background."""
    in_image = [own + crop.box_xyxy[:2] for crop, own in zip(crops, points, strict=True)]
    with translate_torch_errors(), torch.inference_mode():
        foreground = foreground_at(sam, embedding, np.concatenate(in_image))
    ends = np.cumsum([len(own) for own in points])[:-1]
    return [
        own[likely >= _MIN_FOREGROUND]
        for own, likely in zip(points, np.split(foreground, ends), strict=True)
    ]
