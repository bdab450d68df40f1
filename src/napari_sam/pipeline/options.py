"""Options of segmenting everything, and presets of them for common kinds of images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, NamedTuple

from napari_sam.core.errors import ConfigError
from napari_sam.core.modes import MODES, Mode
from napari_sam.core.object_scale import Diameter, check_diameter

__all__ = ["PRESETS", "AutomaticOptions", "Preset", "find_preset"]


class _Range(NamedTuple):
    """What a number may be, and what is said when it is not."""

    low: float
    high: float
    rule: str
    example: str
    is_whole: bool = False

    def allows(self, value: float) -> bool:
        is_proper = not self.is_whole or isinstance(value, Integral)
        return is_proper and self.low <= value <= self.high


_FRACTION = "Thresholds are fractions from 0 to 1"
_RANGES = {
    "points_per_side": _Range(
        1, 4096, "A grid has a whole number of points per side, 1 to 4096", "32", True
    ),
    "points_per_batch": _Range(
        1, 2**20, "A batch has a whole number of points, at least one", "64", True
    ),
    "pred_iou_thresh": _Range(0, 1, _FRACTION, "0.88"),
    "stability_score_thresh": _Range(0, 1, _FRACTION, "0.95"),
    "stability_score_offset": _Range(
        0, float("inf"), "The mask threshold moves by a number that is not negative", "1.0"
    ),
    "box_nms_thresh": _Range(0, 1, _FRACTION, "0.7"),
    "crop_n_layers": _Range(0, 8, "The layers of crops are a whole number from 0 to 8", "1", True),
    "crop_nms_thresh": _Range(0, 1, _FRACTION, "0.7"),
    "crop_overlap_ratio": _Range(0, 0.9, "Crops overlap by a fraction from 0 to 0.9", "0.34"),
    "crop_n_points_downscale_factor": _Range(
        1, 4096, "The points per side are divided by a whole number from 1 to 4096", "2", True
    ),
    "foreground_thresh": _Range(
        0.05, 1, "The threshold of the foreground is a probability from 0.05 to 1", "0.5"
    ),
    "min_mask_region_area": _Range(
        0, float("inf"), "An area is a whole number of pixels that is not negative", "100", True
    ),
}


@dataclass(frozen=True)
class AutomaticOptions:
    """Options of segmenting everything; None keeps the engine's own default.

    With a watershed only `foreground_thresh`, `pred_iou_thresh`, `stability_score_thresh`,
    `stability_score_offset` and `diameter` have a meaning, without one all but the first; others
    are refused.

    Parameters
    ----------
    points_per_side : int, optional
        Prompts along each side of the point grid.
    points_per_batch : int, optional
        Prompts that the mask decoder is given at once; more need more memory.
    pred_iou_thresh : float, optional
        Masks need a higher predicted IoU, 0 to 1; for a watershed, a higher mean foreground
        probability.
    stability_score_thresh : float, optional
        Smallest stability score of a mask, 0 to 1.
    stability_score_offset : float, optional
        How far the mask threshold moves for the stability score.
    box_nms_thresh : float, optional
        Box IoU above which the worse of two masks is dropped, 0 to 1.
    crop_n_layers : int, optional
        Layers of smaller crops beyond the first; small objects are seen better there.
    crop_nms_thresh : float, optional
        As `box_nms_thresh`, for masks of different crops.
    crop_overlap_ratio : float, optional
        Overlap of neighbouring crops, 0 to 0.9: as a fraction of the image's short side for models
        that resize it, else of the crop's own side.
    crop_n_points_downscale_factor : int, optional
        Division of the points per side from one layer to the next.
    min_mask_region_area : int, optional
        Holes and islands of a mask with fewer pixels are removed.
    mode : {"proposals", "watershed", "grid"}, optional
        Masks from points that the model's instance head proposes, objects from a watershed of its
        maps, or masks from a grid of points. By default proposals with models that have the head,
        unless any of `points_per_side`, `crop_n_layers`, `skip_covered` and `foreground_only` is
        given, which describe a grid.
    foreground_thresh : float, optional
        Pixels of a watershed's objects have a higher foreground probability, 0.05 to 1.
    skip_covered : bool, optional
        Prompt a grid from coarse to fine, and skip points in masks that were found already: faster,
        but not exactly the same masks.
    foreground_only : bool, optional
        Skip points of a grid where the model's instance head sees background: likewise.
    diameter : float, "auto" or "native", optional
        Diameter of the objects in pixels, in any mode: the compact model sees an image magnified or
        shrunk where they are much smaller or larger than those that it learned. ``"auto"``
        estimates it, for a volume once and for all its tiles, as is done without one where the
        model can; ``"native"`` leaves images as they are.

    Raises
    ------
    ConfigError
        When a value is out of range.
    """

    points_per_side: int | None = None
    points_per_batch: int | None = None
    pred_iou_thresh: float | None = None
    stability_score_thresh: float | None = None
    stability_score_offset: float | None = None
    box_nms_thresh: float | None = None
    crop_n_layers: int | None = None
    crop_nms_thresh: float | None = None
    crop_overlap_ratio: float | None = None
    crop_n_points_downscale_factor: int | None = None
    min_mask_region_area: int | None = None
    mode: Mode | None = None
    foreground_thresh: float | None = None
    skip_covered: bool | None = None
    foreground_only: bool | None = None
    diameter: Diameter | None = None

    def __post_init__(self) -> None:
        check_diameter(self.diameter)
        for name, allowed in _RANGES.items():
            value = getattr(self, name)
            if value is None or allowed.allows(value):
                continue
            raise ConfigError(
                f"{name}={value} was given",
                rule=allowed.rule,
                cure=f"Use for example `--{name.replace('_', '-')} {allowed.example}`",
            )
        if self.mode not in (None, *MODES):
            raise ConfigError(
                f"mode={self.mode!r} was given",
                rule=f"The modes are {', '.join(MODES)}",
                cure="Choose one of these, for example `--mode grid`",
            )
        for name in ("skip_covered", "foreground_only"):
            if not isinstance(getattr(self, name), bool | None):
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} was given",
                    rule="An option like this is either on or off",
                    cure=f"Use `--{name.replace('_', '-')}`, or leave it out",
                )

    def given(self) -> dict[str, Any]:
        """Return the options that were set.

        Returns
        -------
        dict
        """
        return {name: value for name, value in asdict(self).items() if value is not None}

    def given_besides_mode(self) -> dict[str, Any]:
        """Return the options that were set, without the mode.

        Returns
        -------
        dict
        """
        return {name: value for name, value in self.given().items() if name != "mode"}


@dataclass(frozen=True)
class Preset:
    """Options that suit a kind of image.

    Parameters
    ----------
    name : str
        What a menu shows.
    description : str
        One line on what it is for.
    options : AutomaticOptions
        The options; those that are None keep the model's own defaults.
    needs_instance_head : bool
        Whether it works only with models that have an instance head, as the compact one does.
    """

    name: str
    description: str
    options: AutomaticOptions
    needs_instance_head: bool = False


PRESETS: dict[str, Preset] = {
    "automatic": Preset(
        "Automatic (fast)",
        "The model itself proposes the objects, one mask each; for the compact model.",
        AutomaticOptions(mode="proposals"),
        needs_instance_head=True,
    ),
    "watershed": Preset(
        "Watershed (fastest)",
        "Objects from the model's maps at once, without masks to choose from; for the compact "
        "model.",
        AutomaticOptions(mode="watershed"),
        needs_instance_head=True,
    ),
    "grid": Preset(
        "Grid 32 x 32 (as in SAM)",
        "A point every 32nd part of the window's side, whatever the image shows.",
        AutomaticOptions(mode="grid", points_per_side=32),
    ),
    "small-objects": Preset(
        "Small objects",
        "The grid once more in crops of half the side: finds more, takes several times as long.",
        AutomaticOptions(mode="grid", points_per_side=32, crop_n_layers=1),
    ),
    "large-objects": Preset(
        "Few large objects",
        "A coarse grid of 8 x 8 points, and masks without specks and pinholes; quick.",
        AutomaticOptions(mode="grid", points_per_side=8, min_mask_region_area=100),
    ),
}
"""Presets by the name that the command line takes."""


def find_preset(name: str) -> Preset:
    """Look up a preset.

    Parameters
    ----------
    name : str
        A key of :data:`PRESETS`.

    Returns
    -------
    Preset

    Raises
    ------
    ConfigError
        When there is none of this name.
    """
    if name not in PRESETS:
        raise ConfigError(
            f"The preset {name!r} was given",
            rule=f"The presets are {', '.join(PRESETS)}",
            cure="Choose one of these, for example `--preset grid`",
        )
    return PRESETS[name]
