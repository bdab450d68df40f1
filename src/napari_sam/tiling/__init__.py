"""Tiles of a slice, and the contrast that all tiles share. Knows neither files nor models."""

from napari_sam.tiling.grid import Tile, TileGrid, tile_grid
from napari_sam.tiling.normalize import (
    DEFAULT_PERCENTILES,
    Contrast,
    check_intensity_dtype,
    check_percentiles,
    percentile_contrast,
    to_rgb,
)

__all__ = [
    "DEFAULT_PERCENTILES",
    "Contrast",
    "Tile",
    "TileGrid",
    "check_intensity_dtype",
    "check_percentiles",
    "percentile_contrast",
    "tile_grid",
    "to_rgb",
]
