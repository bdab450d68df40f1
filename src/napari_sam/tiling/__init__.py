"""Tiles of a slice, and the contrast that all tiles share. Knows neither files nor models."""

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
    "check_intensity_dtype",
    "check_percentiles",
    "percentile_contrast",
    "to_rgb",
]
