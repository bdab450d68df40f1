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
from napari_sam.predict.proposals import foreground_at
from napari_sam.predict.proposed_objects import propose_objects
from napari_sam.predict.records import AutomaticOptions
from napari_sam.predict.sharing import PromptedCrop, close_crops, share_out

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
) -> list[PromptedCrop]:
    """List the crops of an image, each with its prompts.

    Parameters
    ----------
    sam : Sam
        The model; its instance head is asked where the options say so.
    embedding : ImageEmbedding
        Of the image.
    options : AutomaticOptions

    Returns
    -------
    list of PromptedCrop

    Raises
    ------
    ConfigError
        When an instance head is asked of a model that has none.
    DeviceError
        When the device fails, or has too little memory.
    """
    grids = _grid_crops(sam.input_spec, embedding, options)
    proposed: list[PromptedCrop] = []
    if options.mode == "proposals":
        first_layer = [each.crop for each in grids if each.crop.layer == 0]
        grids = grids[len(first_layer) :]
        close = close_crops(embedding.transform, sam.input_spec)
        proposed = share_out(propose_objects(sam, embedding), close, first_layer)
    if options.foreground_only and grids:
        grids = _in_foreground(sam, embedding, grids)
    return proposed + grids


def _grid_crops(
    spec: InputSpec, embedding: ImageEmbedding, options: AutomaticOptions
) -> list[PromptedCrop]:
    """Crops with grids of points; those of layer 0 come first."""
    if not spec.native_resolution:
        side = options.points_per_side or _POINTS_PER_SIDE
        grids = options.point_grids or layer_grids(
            side, options.crop_n_layers, options.crop_n_points_downscale_factor
        )
        size_yx, overlap = embedding.original_size_yx, options.crop_overlap_ratio
        crops_of_image = image_crops(size_yx, options.crop_n_layers, overlap, grids)
        return [PromptedCrop(crop, points) for crop, points in crops_of_image]
    transform = embedding.transform
    crops = window_crops(transform, spec, options.crop_n_layers, options.crop_overlap_ratio)
    return [
        PromptedCrop(crop, _window_points(crop, options, spec, transform.scale_yx))
        for crop in crops
    ]


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
    sam: Sam, embedding: ImageEmbedding, prompted: Sequence[PromptedCrop]
) -> list[PromptedCrop]:
    """Drop the points of grids that the instance head takes for background."""
    in_image = [each.points_xy + each.crop.box_xyxy[:2] for each in prompted]
    with translate_torch_errors(), torch.inference_mode():
        foreground = foreground_at(sam, embedding, np.concatenate(in_image))
    ends = np.cumsum([len(each.points_xy) for each in prompted])[:-1]
    return [
        PromptedCrop(each.crop, each.points_xy[likely >= _MIN_FOREGROUND])
        for each, likely in zip(prompted, np.split(foreground, ends), strict=True)
    ]
