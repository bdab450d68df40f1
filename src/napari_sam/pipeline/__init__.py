"""The order of the stages: runs over whole volumes with events on the way, interactive sessions.

No GUI, no model; importing this package loads no torch.
"""

from typing import TYPE_CHECKING

from napari_sam.pipeline.candidates import (
    THRESHOLD_RANGE,
    CandidateMask,
    MaskPatch,
    ObjectCandidates,
    PredictionRequest,
    Preference,
)
from napari_sam.pipeline.commit import OverwriteRule
from napari_sam.pipeline.config import SegmentConfig, SliceRange, parse_slices
from napari_sam.pipeline.embed import (
    EmbedConfig,
    EmbedEstimate,
    EmbedFinished,
    EmbedPlanned,
    Encoding,
    SliceEmbedded,
    embed_volume,
    estimate_embedding,
)
from napari_sam.pipeline.estimate import CostEstimate, estimate_cost, estimate_steps
from napari_sam.pipeline.events import (
    Completing,
    ContrastMeasured,
    Event,
    Finished,
    Planned,
    Resumed,
    SliceDone,
    Stitching,
    TileDone,
    Warned,
    Working,
)
from napari_sam.pipeline.everything import PlaneCandidates, segment_plane
from napari_sam.pipeline.label_change import LabelChange, change_labels
from napari_sam.pipeline.label_target import LabelTarget
from napari_sam.pipeline.link import LinkPlanned, SliceLinked, link_volume
from napari_sam.pipeline.link_config import LinkConfig
from napari_sam.pipeline.objects import ObjectRecord, ObjectTable
from napari_sam.pipeline.options import PRESETS, AutomaticOptions, Preset, find_preset
from napari_sam.pipeline.plane_image import ArrayPlaneImage, PlaneImage
from napari_sam.pipeline.segment import segment_volume
from napari_sam.pipeline.segmenters import (
    FunctionSegmenter,
    ModelSegmenter,
    SteppingSegmenter,
    TileObjects,
    TileSegmenter,
    TileStep,
)
from napari_sam.pipeline.session import Session
from napari_sam.pipeline.suggest import Suggestion

if TYPE_CHECKING:
    from napari_sam.pipeline.interactive import EmbedProgress, InteractivePredictor

__all__ = [
    "PRESETS",
    "THRESHOLD_RANGE",
    "ArrayPlaneImage",
    "AutomaticOptions",
    "CandidateMask",
    "Completing",
    "ContrastMeasured",
    "CostEstimate",
    "EmbedConfig",
    "EmbedEstimate",
    "EmbedFinished",
    "EmbedPlanned",
    "EmbedProgress",
    "Encoding",
    "Event",
    "Finished",
    "FunctionSegmenter",
    "InteractivePredictor",
    "LabelChange",
    "LabelTarget",
    "LinkConfig",
    "LinkPlanned",
    "MaskPatch",
    "ModelSegmenter",
    "ObjectCandidates",
    "ObjectRecord",
    "ObjectTable",
    "OverwriteRule",
    "PlaneCandidates",
    "PlaneImage",
    "Planned",
    "PredictionRequest",
    "Preference",
    "Preset",
    "Resumed",
    "SegmentConfig",
    "Session",
    "SliceDone",
    "SliceEmbedded",
    "SliceLinked",
    "SliceRange",
    "SteppingSegmenter",
    "Stitching",
    "Suggestion",
    "TileDone",
    "TileObjects",
    "TileSegmenter",
    "TileStep",
    "Warned",
    "Working",
    "change_labels",
    "embed_volume",
    "estimate_cost",
    "estimate_embedding",
    "estimate_steps",
    "find_preset",
    "link_volume",
    "parse_slices",
    "segment_plane",
    "segment_volume",
]


def __getattr__(name: str) -> object:
    if name in ("EmbedProgress", "InteractivePredictor"):
        from napari_sam.pipeline import interactive  # it loads torch

        return getattr(interactive, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
