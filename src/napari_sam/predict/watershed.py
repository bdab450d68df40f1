"""Segment everything by a watershed of the instance head's maps.

What is flooded, and how objects are scored, is written at :mod:`napari_sam.predict.basins`.
"""

from __future__ import annotations

from collections.abc import Generator

from numpy.typing import ArrayLike

from napari_sam.core.object_scale import Diameter
from napari_sam.core.steps import result_of
from napari_sam.model.sam import Sam
from napari_sam.predict.basins import InstanceBasins, WatershedOptions, flood_basins
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.image_steps import encode_image_steps
from napari_sam.predict.modes import require_instance_head
from napari_sam.predict.object_diameter import require_diameter
from napari_sam.predict.records import AutomaticProgress
from napari_sam.tiling.normalize import Contrast

__all__ = ["WatershedSegmenter"]


class WatershedSegmenter:
    """Segment everything by a watershed of the instance head's maps.

    Parameters
    ----------
    sam : Sam
        A model with an instance head, as the compact one has it.
    foreground_thresh, pred_iou_thresh, stability_score_thresh, stability_score_offset
        As in :class:`WatershedOptions`; its defaults where they are None.
    diameter : float, "auto" or "native", optional
        Diameter of the objects in pixels, as :func:`~napari_sam.predict.segment_everything` takes
        it.

    Raises
    ------
    ConfigError
        When an option is out of range, or the model has no instance head.
    """

    def __init__(
        self,
        sam: Sam,
        foreground_thresh: float | None = None,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        stability_score_offset: float | None = None,
        diameter: Diameter | None = None,
    ) -> None:
        given = {
            "foreground_thresh": foreground_thresh,
            "pred_iou_thresh": pred_iou_thresh,
            "stability_score_thresh": stability_score_thresh,
            "stability_score_offset": stability_score_offset,
        }
        self.sam = sam
        self.options = WatershedOptions(
            **{name: value for name, value in given.items() if value is not None}
        )
        self.diameter = require_diameter(sam, diameter)
        self._head = require_instance_head(sam, "mode='watershed'")

    def find_basins(
        self, image: ArrayLike | ImageEmbedding, contrast: Contrast | None = None
    ) -> InstanceBasins:
        """Flood the maps of an image.

        Parameters
        ----------
        image : array-like, shape (H, W) or (H, W, C), or ImageEmbedding
            As :meth:`SamPredictor.encode` takes or returns it; of any size.
        contrast : Contrast, optional
            A fixed map of intensities.

        Returns
        -------
        InstanceBasins

        Raises
        ------
        InputError
            When the image is not valid, or the embedding is of another model.
        ConfigError
            When an embedding was given that does not fit the diameter.
        DeviceError
            When the device fails, or has too little memory.
        """
        return result_of(self.basin_steps(image, contrast))

    def basin_steps(
        self, image: ArrayLike | ImageEmbedding, contrast: Contrast | None = None
    ) -> Generator[AutomaticProgress, None, InstanceBasins]:
        """Flood the maps of an image, giving control back between the parts of the work.

        Parameters and errors as in :meth:`find_basins`.

        Yields
        ------
        AutomaticProgress
            Between the windows of an image that is encoded in several, once when it is encoded, and
            once when it is flooded.

        Returns
        -------
        InstanceBasins
        """
        embedding, _ = yield from encode_image_steps(self.sam, image, contrast, self.diameter)
        yield AutomaticProgress(0, 1, 0)
        basins = flood_basins(self._head, embedding, self.options)
        yield AutomaticProgress(1, 1, len(basins.seeds_xy))
        return basins
