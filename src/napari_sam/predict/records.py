"""What "segment everything" returns, and the options it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError
from napari_sam.core.modes import POINT_MODES, PointMode
from napari_sam.core.object_scale import Diameter, check_diameter
from napari_sam.masks import CocoRLE, PackedMask, UncompressedRLE, compress_rle, encode_rle
from napari_sam.model.execution import execution_for
from napari_sam.model.sam import InputSpec

__all__ = ["AutomaticOptions", "AutomaticProgress", "MaskRecord", "OutputMode"]

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]


class AutomaticProgress(NamedTuple):
    """How far "segment everything" has come.

    Attributes
    ----------
    done, total : int
        Batches of points; the total is 0 as long as a large image is encoded, and where there is no
        point. It shrinks when points turn out to be covered that are skipped then. A watershed is
        one step.
    n_masks : int
        Masks that were kept so far.
    """

    done: int
    total: int
    n_masks: int


@dataclass(frozen=True, eq=False)
class MaskRecord:
    """One mask of "segment everything".

    The mask is kept as the bits of its bounding box; :attr:`segmentation` unfolds it.

    Parameters
    ----------
    mask : PackedMask
        The mask in the image's frame.
    image_size_yx : tuple of int
        Rows and columns of the image.
    bbox_xywh : tuple of int
        First column and row, and the distance to the last ones, as in the original.
    predicted_iou : float
        The model's own estimate of the mask's intersection over union.
    point_xy : tuple of float
        The point that prompted the mask, in image pixels.
    stability_score : float
        How little the mask changes when its threshold moves.
    crop_box_xywh : tuple of int
        The crop of the image that the mask was predicted in.
    output_mode : {"binary_mask", "uncompressed_rle", "coco_rle"}
        The form of :attr:`segmentation`.
    """

    mask: PackedMask
    image_size_yx: tuple[int, int]
    bbox_xywh: tuple[int, int, int, int]
    predicted_iou: float
    point_xy: tuple[float, float]
    stability_score: float
    crop_box_xywh: tuple[int, int, int, int]
    output_mode: OutputMode = "binary_mask"

    @property
    def area(self) -> int:
        """Number of mask pixels."""
        return self.mask.area

    @property
    def segmentation(self) -> NDArray[np.bool_] | UncompressedRLE | CocoRLE:
        """The mask as an array (H, W) or as run lengths, made anew at each access."""
        if self.output_mode == "binary_mask":
            return self.mask.to_array(self.image_size_yx)
        rle = encode_rle(self.mask, self.image_size_yx)
        return compress_rle(rle) if self.output_mode == "coco_rle" else rle

    def as_dict(self) -> dict[str, Any]:
        """Return the record with the keys of the original's output."""
        return {
            "segmentation": self.segmentation,
            "area": self.area,
            "bbox": list(self.bbox_xywh),
            "predicted_iou": self.predicted_iou,
            "point_coords": [list(self.point_xy)],
            "stability_score": self.stability_score,
            "crop_box": list(self.crop_box_xywh),
        }


@dataclass(frozen=True, eq=False)
class AutomaticOptions:
    """Options of :class:`~napari_sam.predict.automatic.AutomaticMaskGenerator`; see there."""

    points_per_side: int | None = None
    points_per_batch: int | None = None
    pred_iou_thresh: float | None = None
    stability_score_thresh: float | None = None
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[NDArray[np.float64]] | None = None
    min_mask_region_area: int = 0
    output_mode: OutputMode = "binary_mask"
    mode: PointMode = "grid"
    skip_covered: bool = False
    foreground_only: bool = False
    diameter: Diameter | None = None

    def __post_init__(self) -> None:
        self._check_points()
        check_diameter(self.diameter)
        for name, low, high in (
            ("pred_iou_thresh", 0.0, 1.0),
            ("stability_score_thresh", 0.0, 1.0),
            ("box_nms_thresh", 0.0, 1.0),
            ("crop_nms_thresh", 0.0, 1.0),
            ("stability_score_offset", 0.0, np.inf),
            ("crop_overlap_ratio", 0.0, 0.9),
            ("points_per_side", 1, 4096),
            ("points_per_batch", 1, 2**20),
            ("crop_n_layers", 0, 8),
            ("crop_n_points_downscale_factor", 1, 4096),
            ("min_mask_region_area", 0, np.inf),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(
                    f"{name}={value} was given",
                    rule=f"{name} lies between {low} and {high}",
                    cure="Choose a value in this range, or leave it out for the default",
                )
        for name, choices in (
            ("output_mode", get_args(OutputMode)),
            ("mode", POINT_MODES),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} was given",
                    rule=f"{name} is one of {', '.join(choices)}",
                    cure="Choose one of these",
                )
        for name in ("skip_covered", "foreground_only"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} was given",
                    rule=f"{name} is either on or off",
                    cure="Use True or False",
                )

    def _check_points(self) -> None:
        if self.point_grids is None:
            return
        if self.points_per_side is not None:
            raise ConfigError(
                "Both points_per_side and point_grids were given",
                rule="The points come either from a number per side or from explicit grids",
                cure="Give only one of them",
            )
        shapes = [np.shape(grid) for grid in self.point_grids]
        proper = all(len(shape) == 2 and shape[1] == 2 for shape in shapes)
        if len(shapes) <= self.crop_n_layers or not proper:
            raise ConfigError(
                f"point_grids of shapes {shapes} were given",
                rule=f"One grid (N, 2) of (x, y) from 0 to 1 is needed for each of "
                f"{self.crop_n_layers + 1} crop layers",
                cure="Give one grid per layer, layer 0 first",
            )

    def batch_size(self, device: torch.device) -> int:
        """Points per call of the mask decoder: as given, else what suits the device."""
        return self.points_per_batch or execution_for(device).points_per_batch

    def thresholds(self, spec: InputSpec) -> tuple[float, float]:
        """Predicted-IoU and stability threshold: as given, else the model's own defaults.

        Official models have the original's 0.88 and 0.95. The compact model was trained on masks
        of cells with soft edges, so its scores are lower; its two thresholds gave the best SA50 on
        samples of its training images, with points of a grid and with its own proposals.
        """
        iou, stability = (0.5, 0.15) if spec.native_resolution else (0.88, 0.95)
        return (
            iou if self.pred_iou_thresh is None else self.pred_iou_thresh,
            stability if self.stability_score_thresh is None else self.stability_score_thresh,
        )
