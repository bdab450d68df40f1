"""Runs over whole volumes: the order of the stages, and events on the way. No GUI, no model."""

from napari_sam.pipeline.config import AutomaticOptions, SegmentConfig, SliceRange, parse_slices
from napari_sam.pipeline.events import (
    ContrastMeasured,
    Event,
    Finished,
    Planned,
    Resumed,
    SliceDone,
    TileDone,
    Warned,
)
from napari_sam.pipeline.segment import segment_volume
from napari_sam.pipeline.segmenters import FunctionSegmenter, TileObjects, TileSegmenter

__all__ = [
    "AutomaticOptions",
    "ContrastMeasured",
    "Event",
    "Finished",
    "FunctionSegmenter",
    "Planned",
    "Resumed",
    "SegmentConfig",
    "SliceDone",
    "SliceRange",
    "TileDone",
    "TileObjects",
    "TileSegmenter",
    "Warned",
    "parse_slices",
    "segment_volume",
]
