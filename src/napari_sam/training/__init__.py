"""Training: data, augmentation, simulated prompts, losses and the loop; distillation.

Names load on first use, so that the generator of synthetic cells comes without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.training.config import TrainConfig, load_config
    from napari_sam.training.distill_config import DistillConfig, load_distill_config
    from napari_sam.training.distillation import (
        DistillEvent,
        DistillStepDone,
        TeacherEncoded,
        distill,
    )
    from napari_sam.training.export import export_calibrated, export_model
    from napari_sam.training.fine_tuning import Measured, Offered, fine_tune, fine_tune_config
    from napari_sam.training.loop import (
        Started,
        StepDone,
        Stopped,
        TrainEvent,
        Validated,
        train,
    )
    from napari_sam.training.synthetic import synthetic_image, synthetic_stack

__all__ = [
    "DistillConfig",
    "DistillEvent",
    "DistillStepDone",
    "Measured",
    "Offered",
    "Started",
    "StepDone",
    "Stopped",
    "TeacherEncoded",
    "TrainConfig",
    "TrainEvent",
    "Validated",
    "distill",
    "export_calibrated",
    "export_model",
    "fine_tune",
    "fine_tune_config",
    "load_config",
    "load_distill_config",
    "synthetic_image",
    "synthetic_stack",
    "train",
]

_HOMES = {
    "config": ("TrainConfig", "load_config"),
    "distill_config": ("DistillConfig", "load_distill_config"),
    "distillation": ("DistillEvent", "DistillStepDone", "TeacherEncoded", "distill"),
    "export": ("export_calibrated", "export_model"),
    "fine_tuning": ("Measured", "Offered", "fine_tune", "fine_tune_config"),
    "loop": ("Started", "StepDone", "Stopped", "TrainEvent", "Validated", "train"),
    "synthetic": ("synthetic_image", "synthetic_stack"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
