"""What can be set about segmenting everything: one table, and what each option is by default."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from napari_sam.core.modes import MODES, POINT_MODES, Mode
from napari_sam.model.registry import MODELS
from napari_sam.pipeline.options import AutomaticOptions, Preset

__all__ = [
    "OPTIONS",
    "FilterValues",
    "ModelTraits",
    "OptionField",
    "automatic_options",
    "default_values",
    "traits_of",
]

Kind = Literal["slider", "fraction", "count", "number", "flag"]


@dataclass(frozen=True)
class OptionField:
    """One number or switch that the user can set.

    Attributes
    ----------
    name : str
        Name of the field in `AutomaticOptions`, in `SegmentConfig`, or argument of `labels` of
        what was found on a plane.
    label : str
        What stands beside it, with its mnemonic.
    tip : str
        What it does.
    kind : {"slider", "fraction", "count", "number", "flag"}
        How it is set: slider and fraction from `low` to `high` in steps of 0.01, count in whole
        numbers, number in steps of 0.1, flag on or off.
    low, high : float
        Ends of its range; False and True of a flag.
    is_basic : bool
        Whether it is seen without opening the advanced options.
    refilters : bool
        Whether it chooses among masks that were found already, so that the model is not needed.
    zero_text : str
        What 0 means, where it stands for something else than a number.
    needs_instance_head : bool
        Whether it works only with models that have an instance head, as the compact one does.
    needs_native : bool
        Whether it works only with models that see native pixels, as the compact one does.
    modes : tuple of {"proposals", "watershed", "grid"}
        Where it has a meaning.
    """

    name: str
    label: str
    tip: str
    kind: Kind
    low: float
    high: float
    is_basic: bool = False
    refilters: bool = False
    zero_text: str = ""
    needs_instance_head: bool = False
    needs_native: bool = False
    modes: tuple[Mode, ...] = MODES

    def suits(self, traits: ModelTraits) -> bool:
        """Tell whether it works with a model."""
        has_head = traits.has_instance_head or not self.needs_instance_head
        return has_head and (traits.is_native or not self.needs_native)


OPTIONS: tuple[OptionField, ...] = (
    OptionField(
        "diameter",
        "Ob&ject diameter",
        "Diameter of the objects in pixels. Where they are much smaller or larger than those that "
        "the compact model learned, the image is magnified or shrunk for it. Unless you say it, "
        "the model estimates it by itself.",
        "count",
        0,
        10**4,
        is_basic=True,
        zero_text="automatic",
        needs_native=True,
    ),
    OptionField(
        "pred_iou_thresh",
        "Pre&dicted IoU",
        "Masks need a higher predicted IoU, objects of a watershed a higher mean foreground "
        "probability: to the right, fewer and surer objects. Acts at once.",
        "slider",
        0,
        1,
        is_basic=True,
        refilters=True,
    ),
    OptionField(
        "stability_score_thresh",
        "Sta&bility",
        "Smallest stability score of a mask: how little it changes when its threshold moves. "
        "Acts at once.",
        "slider",
        0,
        1,
        is_basic=True,
        refilters=True,
    ),
    OptionField(
        "foreground_thresh",
        "Foreground",
        "With a watershed: foreground probability from which a pixel is part of an object. To the "
        "right, smaller objects. Acts at once.",
        "slider",
        0.05,
        1,
        is_basic=True,
        refilters=True,
        needs_instance_head=True,
        modes=("watershed",),
    ),
    OptionField(
        "min_size",
        "Min si&ze",
        "Objects of fewer pixels are dropped. Acts at once.",
        "count",
        1,
        10**6,
        is_basic=True,
        refilters=True,
    ),
    OptionField(
        "max_area_fraction",
        "Max area",
        "Largest fraction of the slice that an object covers; what is larger is taken for "
        "background. Acts at once. In tiles, it is 0.4 of a tile.",
        "fraction",
        0.01,
        1,
        is_basic=True,
        refilters=True,
    ),
    OptionField(
        "points_per_side",
        "Points per side",
        "Prompts along each side of the point grid; more find smaller objects and take longer.",
        "count",
        1,
        4096,
        modes=POINT_MODES,
    ),
    OptionField(
        "skip_covered",
        "Skip covered points",
        "Prompt a grid from coarse to fine, and skip points in masks that were found already: "
        "faster, but not exactly the same objects.",
        "flag",
        False,
        True,
        modes=POINT_MODES,
    ),
    OptionField(
        "foreground_only",
        "Foreground only",
        "Skip points of a grid where the model itself sees background: faster, but not exactly the "
        "same objects. For the compact model.",
        "flag",
        False,
        True,
        needs_instance_head=True,
        modes=POINT_MODES,
    ),
    OptionField(
        "points_per_batch",
        "Points per batch",
        "Prompts that the mask decoder is given at once; more need more memory.",
        "count",
        0,
        2**20,
        zero_text="as suits the device",
        modes=POINT_MODES,
    ),
    OptionField(
        "stability_score_offset",
        "Stability offset",
        "How far the mask threshold moves for the stability score.",
        "number",
        0,
        100,
    ),
    OptionField(
        "box_nms_thresh",
        "Box overlap",
        "Box IoU above which the worse of two masks is dropped. Acts at once.",
        "fraction",
        0,
        1,
        refilters=True,
        modes=POINT_MODES,
    ),
    OptionField(
        "crop_n_layers",
        "Crop layers",
        "Layers of smaller crops beyond the first; small objects are seen better there. Each "
        "takes longer than the one before.",
        "count",
        0,
        8,
        modes=POINT_MODES,
    ),
    OptionField(
        "crop_nms_thresh",
        "Crop box overlap",
        "Box IoU above which the worse of two masks of different crops is dropped. Acts at once.",
        "fraction",
        0,
        1,
        refilters=True,
        modes=POINT_MODES,
    ),
    OptionField(
        "crop_overlap_ratio",
        "Crop overlap",
        "Overlap of neighbouring crops: as a fraction of the image's short side for models that "
        "resize it, else of the crop's own side.",
        "fraction",
        0,
        0.9,
        modes=POINT_MODES,
    ),
    OptionField(
        "crop_n_points_downscale_factor",
        "Crop point divisor",
        "Division of the points per side from one layer of crops to the next.",
        "count",
        1,
        4096,
        modes=POINT_MODES,
    ),
    OptionField(
        "min_mask_region_area",
        "Min region area",
        "Holes and islands of a mask with fewer pixels are removed. Acts at once.",
        "count",
        0,
        10**6,
        refilters=True,
        modes=POINT_MODES,
    ),
    OptionField(
        "tile",
        "Tile",
        "Side of a tile in pixels, where a slice is done in tiles.",
        "count",
        0,
        2**16,
        zero_text="as suits the model",
    ),
    OptionField(
        "halo",
        "Halo",
        "Pixels that a tile reads beyond its border: as many as the largest object is long.",
        "count",
        0,
        4096,
    ),
)
"""All numbers and switches, in the order in which they are shown; the mode is a choice."""

_AUTOMATIC = frozenset(field.name for field in fields(AutomaticOptions))
_UNSET = frozenset(field.name for field in OPTIONS if field.zero_text)


@dataclass(frozen=True)
class ModelTraits:
    """What decides the defaults of a model.

    Attributes
    ----------
    has_instance_head : bool
        Whether it proposes points itself, and has maps that a watershed can flood.
    is_native : bool
        Whether it sees native pixels; otherwise it resizes the image, as the official models do.
    """

    has_instance_head: bool
    is_native: bool


@dataclass(frozen=True)
class FilterValues:
    """What chooses among what was found; arguments of its `labels`, as far as it takes them."""

    pred_iou_thresh: float
    stability_score_thresh: float
    foreground_thresh: float
    box_nms_thresh: float
    crop_nms_thresh: float
    min_mask_region_area: int
    min_size: int
    max_area_fraction: float


def traits_of(model: str) -> ModelTraits | None:
    """Tell what is known of a model before it is loaded.

    Parameters
    ----------
    model : str
        A name in the registry, or the path of a file.

    Returns
    -------
    ModelTraits or None
        None for a file, which is known when it is loaded.
    """
    entry = MODELS.get(model)
    if entry is None:
        return None
    is_compact = entry.architecture == "compact"
    return ModelTraits(has_instance_head=is_compact, is_native=is_compact)


def default_values(traits: ModelTraits, mode: Mode) -> dict[str, float]:
    """Tell what the options are where nothing is set.

    Parameters
    ----------
    traits : ModelTraits
    mode : {"proposals", "watershed", "grid"}

    Returns
    -------
    dict
        By the names of `OPTIONS`; 0 where the package decides.
    """
    if mode == "watershed":
        iou, stability = 0.7, 0.3
    else:
        iou, stability = (0.5, 0.15) if traits.is_native else (0.88, 0.95)
    return {
        "pred_iou_thresh": iou,
        "stability_score_thresh": stability,
        "diameter": 0,
        "foreground_thresh": 0.5,
        "min_size": 16,
        "max_area_fraction": 0.4,
        "points_per_side": 32,
        "skip_covered": False,
        "foreground_only": False,
        "points_per_batch": 0,
        "stability_score_offset": 1.0,
        "box_nms_thresh": 0.7,
        "crop_n_layers": 0,
        "crop_nms_thresh": 0.7,
        "crop_overlap_ratio": 512 / 1500,
        "crop_n_points_downscale_factor": 1,
        "min_mask_region_area": 0,
        "tile": 0,
        "halo": 64,
    }


def automatic_options(preset: Preset, changed: dict[str, float], mode: Mode) -> AutomaticOptions:
    """Put the options of a run together.

    Parameters
    ----------
    preset : Preset
    changed : dict
        What the user has set to something else than the preset or the default.
    mode : {"proposals", "watershed", "grid"}

    Returns
    -------
    AutomaticOptions
        Options that nobody has set are None, so that equal runs are described equally; so are
        those without a meaning in the mode.

    Raises
    ------
    ConfigError
        When a value is out of range.
    """
    own: dict[str, Any] = {
        name: None if value == 0 and name in _UNSET else value
        for name, value in changed.items()
        if name in _AUTOMATIC
    }
    fitting = {field.name for field in OPTIONS if mode in field.modes}
    options = {
        name: value for name, value in (preset.options.given() | own).items() if name in fitting
    }
    return AutomaticOptions(**options, mode=mode)
