"""Metrics of instance segmentation, one definition each, and the protocols to report them.

Names load on first use, so that the metrics come without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.evaluation.calibration import fit_iou_calibration, rate_images
    from napari_sam.evaluation.comparison import Comparison, Difference, compare_reports
    from napari_sam.evaluation.datasets import LabelledImage, PairEntry, iter_images, list_pairs
    from napari_sam.evaluation.interactive import InteractiveScores, score_interactive
    from napari_sam.evaluation.metrics import (
        PanopticQuality,
        average_recall,
        label_iou_matrix,
        mask_iou,
        mean_segmentation_accuracy,
        panoptic_quality,
        segmentation_accuracy,
    )
    from napari_sam.evaluation.reliability import (
        IouPairs,
        Reliability,
        collect_pairs,
        measure_reliability,
    )
    from napari_sam.evaluation.report import (
        EvaluationConfig,
        ImageScores,
        evaluate,
        summarize,
        write_report,
    )

__all__ = [
    "Comparison",
    "Difference",
    "EvaluationConfig",
    "ImageScores",
    "InteractiveScores",
    "IouPairs",
    "LabelledImage",
    "PairEntry",
    "PanopticQuality",
    "Reliability",
    "average_recall",
    "collect_pairs",
    "compare_reports",
    "evaluate",
    "fit_iou_calibration",
    "iter_images",
    "label_iou_matrix",
    "list_pairs",
    "mask_iou",
    "mean_segmentation_accuracy",
    "measure_reliability",
    "panoptic_quality",
    "rate_images",
    "score_interactive",
    "segmentation_accuracy",
    "summarize",
    "write_report",
]

_HOMES = {
    "calibration": ("fit_iou_calibration", "rate_images"),
    "comparison": ("Comparison", "Difference", "compare_reports"),
    "datasets": ("LabelledImage", "PairEntry", "iter_images", "list_pairs"),
    "interactive": ("InteractiveScores", "score_interactive"),
    "metrics": (
        "PanopticQuality",
        "average_recall",
        "label_iou_matrix",
        "mask_iou",
        "mean_segmentation_accuracy",
        "panoptic_quality",
        "segmentation_accuracy",
    ),
    "reliability": ("IouPairs", "Reliability", "collect_pairs", "measure_reliability"),
    "report": ("EvaluationConfig", "ImageScores", "evaluate", "summarize", "write_report"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
