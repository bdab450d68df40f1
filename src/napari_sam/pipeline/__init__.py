"""The order of the stages: runs over whole volumes with events on the way, interactive sessions.

No GUI, no model; importing this package loads none of its modules: names load on first use,
so that a window or a command waits only for what it uses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        DiameterEstimated,
        EstimatingDiameter,
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
    from napari_sam.pipeline.everything import PlaneBasins, PlaneCandidates, segment_plane
    from napari_sam.pipeline.interactive import EmbedProgress, InteractivePredictor
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

__all__ = [
    "PRESETS",
    "THRESHOLD_RANGE",
    "ArrayPlaneImage",
    "AutomaticOptions",
    "CandidateMask",
    "Completing",
    "ContrastMeasured",
    "CostEstimate",
    "DiameterEstimated",
    "EmbedConfig",
    "EmbedEstimate",
    "EmbedFinished",
    "EmbedPlanned",
    "EmbedProgress",
    "Encoding",
    "EstimatingDiameter",
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
    "PlaneBasins",
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

_HOMES = {
    "ArrayPlaneImage": "plane_image",
    "AutomaticOptions": "options",
    "CandidateMask": "candidates",
    "Completing": "events",
    "ContrastMeasured": "events",
    "DiameterEstimated": "events",
    "EstimatingDiameter": "events",
    "CostEstimate": "estimate",
    "EmbedConfig": "embed",
    "EmbedEstimate": "embed",
    "EmbedFinished": "embed",
    "EmbedPlanned": "embed",
    "EmbedProgress": "interactive",
    "Encoding": "embed",
    "Event": "events",
    "Finished": "events",
    "FunctionSegmenter": "segmenters",
    "InteractivePredictor": "interactive",
    "LabelChange": "label_change",
    "LabelTarget": "label_target",
    "LinkConfig": "link_config",
    "LinkPlanned": "link",
    "MaskPatch": "candidates",
    "ModelSegmenter": "segmenters",
    "ObjectCandidates": "candidates",
    "ObjectRecord": "objects",
    "ObjectTable": "objects",
    "OverwriteRule": "commit",
    "PRESETS": "options",
    "PlaneBasins": "everything",
    "PlaneCandidates": "everything",
    "PlaneImage": "plane_image",
    "Planned": "events",
    "PredictionRequest": "candidates",
    "Preference": "candidates",
    "Preset": "options",
    "Resumed": "events",
    "SegmentConfig": "config",
    "Session": "session",
    "SliceDone": "events",
    "SliceEmbedded": "embed",
    "SliceLinked": "link",
    "SliceRange": "config",
    "SteppingSegmenter": "segmenters",
    "Stitching": "events",
    "Suggestion": "suggest",
    "THRESHOLD_RANGE": "candidates",
    "TileDone": "events",
    "TileObjects": "segmenters",
    "TileSegmenter": "segmenters",
    "TileStep": "segmenters",
    "Warned": "events",
    "Working": "events",
    "change_labels": "label_change",
    "embed_volume": "embed",
    "estimate_cost": "estimate",
    "estimate_embedding": "embed",
    "estimate_steps": "estimate",
    "find_preset": "options",
    "link_volume": "link",
    "parse_slices": "config",
    "segment_plane": "everything",
    "segment_volume": "segment",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
