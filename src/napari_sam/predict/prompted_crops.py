"""Which points "segment everything" prompts with, in which crop of the image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam.model.devices import translate_torch_errors
from napari_sam.model.sam import InputSpec, Sam
from napari_sam.predict.crops import Crop, image_crops, layer_grids, point_grid, window_crops
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.proposals import assign_to_crops, propose_points
from napari_sam.predict.records import AutomaticOptions

__all__ = ["prompted_crops"]

_POINTS_PER_SIDE = 32


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
        When points from an instance head are wanted of a model that has none.
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
    points = {id(crop): _window_points(crop, options, spec) for crop in crops}
    if options.point_source == "instance_head":
        with translate_torch_errors(), torch.inference_mode():
            proposals = propose_points(sam, embedding)
        first_layer = [crop for crop in crops if crop.layer == 0]
        for crop, own in zip(first_layer, assign_to_crops(proposals, first_layer), strict=True):
            points[id(crop)] = own
    return [(crop, points[id(crop)]) for crop in crops]


def _window_points(crop: Crop, options: AutomaticOptions, spec: InputSpec) -> NDArray[np.float64]:
    """Points of a decode window: spaced as over a full window of the crop's layer."""
    rows, cols = crop.size_yx
    if options.point_grids is not None:
        return np.asarray(options.point_grids[crop.layer]) * (cols, rows)
    per_side = options.points_per_side or _POINTS_PER_SIDE
    per_side = max(per_side // options.crop_n_points_downscale_factor**crop.layer, 1)
    full = spec.size / 2**crop.layer
    n_cols, n_rows = (max(round(per_side * length / full), 1) for length in (cols, rows))
    return point_grid(n_cols, n_rows) * (cols, rows)
