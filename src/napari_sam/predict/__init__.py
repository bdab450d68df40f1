"""Models and masks together: numpy in, numpy out, nothing remembered between calls."""

from napari_sam.predict.automatic import AutomaticMaskGenerator
from napari_sam.predict.basins import InstanceBasins, WatershedOptions
from napari_sam.predict.candidates import CandidateSet
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.everything import (
    everything_generator,
    records_to_labels,
    segment_everything,
    segment_everything_objects,
    segment_everything_steps,
    watershed_segmenter,
)
from napari_sam.predict.modes import choose_mode
from napari_sam.predict.object_diameter import estimate_diameter
from napari_sam.predict.predictor import MaskPrediction, SamPredictor
from napari_sam.predict.records import AutomaticOptions, AutomaticProgress, MaskRecord
from napari_sam.predict.segmented import SegmentedImage, SegmentedObject
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.watershed import WatershedSegmenter

__all__ = [
    "AutomaticMaskGenerator",
    "AutomaticOptions",
    "AutomaticProgress",
    "CandidateSet",
    "ImageEmbedding",
    "ImageTransform",
    "InstanceBasins",
    "MaskPrediction",
    "MaskRecord",
    "SamPredictor",
    "SegmentedImage",
    "SegmentedObject",
    "WatershedOptions",
    "WatershedSegmenter",
    "choose_mode",
    "estimate_diameter",
    "everything_generator",
    "records_to_labels",
    "segment_everything",
    "segment_everything_objects",
    "segment_everything_steps",
    "watershed_segmenter",
]
