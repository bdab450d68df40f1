"""What segments one tile. The pipeline knows this protocol only; models stand behind it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import NapariSamWarning, OutOfMemoryError
from napari_sam.core.object_scale import Diameter, scale_for
from napari_sam.core.steps import result_of
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.options import AutomaticOptions
from napari_sam.tiling import Contrast

if TYPE_CHECKING:
    from napari_sam.model import Sam
    from napari_sam.predict import SegmentedImage

__all__ = [
    "BatchedSegmenter",
    "FunctionSegmenter",
    "ModelSegmenter",
    "SteppingSegmenter",
    "TileObjects",
    "TileSegmenter",
    "TileStep",
    "load_segmenter",
    "segmentation_steps",
]

AS_IT_IS = Contrast(low=(0.0,), high=(255.0,))
"""Tiles arrive with the contrast of their volume, so nothing is left to stretch."""


class TileObjects(NamedTuple):
    """The objects of one tile.

    Attributes
    ----------
    labels : ndarray of int32, shape (h, w)
        0 is background, 1..n are objects.
    scores : ndarray of float32, shape (n,)
        Score of each object, higher is better.
    predicted_ious, stability_scores : ndarray of float32, shape (n,), optional
        What the model says of each object; they go to the table of objects.
    """

    labels: NDArray[np.int32]
    scores: NDArray[np.float32]
    predicted_ious: NDArray[np.float32] | None = None
    stability_scores: NDArray[np.float32] | None = None


class TileStep(Protocol):
    """How far the work on one tile has come."""

    @property
    def done(self) -> int:
        """Steps that are done, such as batches of points."""
        ...

    @property
    def total(self) -> int:
        """Steps in all."""
        ...


class TileSegmenter(Protocol):
    """Turns the pixels of a tile into objects; the same pixels always give the same objects."""

    @property
    def window(self) -> int:
        """Side in pixels of the tile, halo included, that suits it best."""
        ...

    @property
    def keeps_8bit(self) -> bool:
        """Whether 8-bit images are to be given as they are, without stretching the contrast."""
        ...

    @property
    def digest(self) -> str:
        """What identifies it: a run is only resumed with an equal one."""
        ...

    def __call__(self, tile: NDArray[np.uint8]) -> TileObjects:
        """Segment one tile of shape (h, w, 3)."""
        ...


@runtime_checkable
class SteppingSegmenter(TileSegmenter, Protocol):
    """A segmenter that gives control back while it works on a tile."""

    def steps(self, tile: NDArray[np.uint8]) -> Generator[TileStep, None, TileObjects]:
        """Segment one tile of shape (h, w, 3) as calling does; closing it stops the work."""
        ...


@runtime_checkable
class BatchedSegmenter(TileSegmenter, Protocol):
    """A segmenter that decodes points in batches on a device."""

    @property
    def batch(self) -> int | None:
        """Points that are decoded at once; None where none are decoded."""
        ...

    @property
    def device(self) -> str:
        """What it runs on: ``cpu``, ``cuda`` or ``mps``."""
        ...

    def with_batch(self, batch: int) -> BatchedSegmenter:
        """Return the same with so many points at once; what it finds is the same."""
        ...


def segmentation_steps(
    segmenter: TileSegmenter, tile: NDArray[np.uint8]
) -> Generator[TileStep, None, TileObjects]:
    """Segment one tile, in steps where the segmenter has them.

    Parameters
    ----------
    segmenter : TileSegmenter
    tile : ndarray of uint8, shape (h, w, 3)

    Yields
    ------
    TileStep
        After each step; never for a segmenter that works in one go.

    Returns
    -------
    TileObjects
    """
    if isinstance(segmenter, SteppingSegmenter):
        return (yield from segmenter.steps(tile))
    return segmenter(tile)


@dataclass(frozen=True)
class FunctionSegmenter:
    """A plain function as a segmenter.

    Parameters
    ----------
    function : callable
        Takes a uint8 tile of shape (h, w, 3), returns labels of shape (h, w). All scores are 1.
    digest : str
        Name and version of the function.
    window : int
        Side in pixels of the tile, halo included, that suits it best.
    keeps_8bit : bool
        Whether 8-bit images are given without stretching the contrast.
    """

    function: Callable[[NDArray[np.uint8]], NDArray[np.integer]]
    digest: str
    window: int = 512
    keeps_8bit: bool = False

    def __call__(self, tile: NDArray[np.uint8]) -> TileObjects:
        """Segment one tile.

        Parameters
        ----------
        tile : ndarray of uint8, shape (h, w, 3)

        Returns
        -------
        TileObjects
        """
        labels = self.function(tile).astype(np.int32)
        return TileObjects(labels, np.ones(int(labels.max(initial=0)), dtype=np.float32))


class ModelSegmenter:
    """Segments everything in a tile with a SAM model.

    Parameters
    ----------
    model : Sam
        From :func:`napari_sam.model.load_model`.
    options : AutomaticOptions
        How everything is segmented.

    Raises
    ------
    ConfigError
        When an option does not fit the model.
    """

    batch: int | None

    def __init__(self, model: Sam, options: AutomaticOptions) -> None:
        from napari_sam.predict import everything_generator, watershed_segmenter
        from napari_sam.predict.object_diameter import choose_diameter

        self._model = model
        self.diameter: Diameter = choose_diameter(model, options.diameter)
        options = replace(options, diameter=self.diameter)
        self._options = options.given()
        if options.mode == "watershed":  # both refuse options at once
            watershed_segmenter(model, **options.given_besides_mode())
            self.batch = None
        else:
            generator = everything_generator(model, **self._options)
            self.batch = generator.options.batch_size(model.device)
        self.device: str = model.device.type
        # shrunk, a larger tile fills the model's window; a magnified one takes several
        self.window = int(model.input_spec.size / min(scale_for(self.diameter), 1.0))
        self.keeps_8bit = model.input_spec.contrast == "as_is"
        self.digest = f"{model.name} {model.digest}"

    def __call__(self, tile: NDArray[np.uint8]) -> TileObjects:
        """Segment one tile.

        Parameters
        ----------
        tile : ndarray of uint8, shape (h, w, 3)

        Returns
        -------
        TileObjects

        Raises
        ------
        DeviceError
            When the device fails; its subclass OutOfMemoryError when its memory is too small for
            one point at a time. Before that, fewer points are decoded at once, with a warning.
        """
        return result_of(self.steps(tile))

    def steps(self, tile: NDArray[np.uint8]) -> Generator[TileStep, None, TileObjects]:
        """Segment one tile, giving control back after each batch of points.

        Parameters and errors as when it is called. Closing the generator stops the work.

        Yields
        ------
        TileStep
            Once after the tile is encoded, then after each batch, or when its maps are flooded.

        Returns
        -------
        TileObjects
        """
        found = None
        while found is None:
            is_encoded = False
            try:
                with closing(self._try_steps(tile)) as steps:
                    while True:
                        step = next(steps)
                        is_encoded = True
                        yield step
            except StopIteration as finished:
                found = finished.value
            except OutOfMemoryError:
                if not is_encoded or self.batch is None or self.batch == 1:
                    raise
                self._go_on_with(self.batch // 2)
        ious = np.array([item.predicted_iou for item in found.objects], dtype=np.float32)
        stability = np.array([item.stability_score for item in found.objects], dtype=np.float32)
        return TileObjects(found.labels, ious * stability, ious, stability)

    def with_batch(self, batch: int) -> ModelSegmenter:
        """Return a segmenter with the same model that decodes so many points at once.

        Parameters
        ----------
        batch : int
            1 or more.

        Returns
        -------
        ModelSegmenter
        """
        return ModelSegmenter(
            self._model, AutomaticOptions(**self._options | {"points_per_batch": batch})
        )

    def diameter_steps(
        self, samples: Sequence[NDArray[np.uint8]]
    ) -> Generator[TileStep, None, float | None]:
        """Estimate the diameter of objects, giving control back between windows.

        Parameters
        ----------
        samples : sequence of ndarray of uint8, shape (h, w, 3)

        Yields
        ------
        TileStep

        Returns
        -------
        float or None
            In pixels; None where fewer than three objects are seen.

        Raises
        ------
        DeviceError
            When the device fails, or has too little memory.
        """
        from napari_sam.predict.object_diameter import diameter_steps

        return (yield from diameter_steps(self._model, samples))

    def with_diameter(self, diameter: Diameter) -> ModelSegmenter:
        """Return a segmenter with the same model for objects of a diameter.

        Parameters
        ----------
        diameter : float or "native"
            In pixels, or ``"native"`` for images as they are.

        Returns
        -------
        ModelSegmenter
        """
        return ModelSegmenter(
            self._model, AutomaticOptions(**self._options | {"diameter": diameter})
        )

    def _try_steps(self, tile: NDArray[np.uint8]) -> Generator[TileStep, None, SegmentedImage]:
        from napari_sam.model.devices import translate_torch_errors
        from napari_sam.predict import segment_everything_steps

        batch = {} if self.batch is None else {"points_per_batch": self.batch}
        with translate_torch_errors():
            return (
                yield from segment_everything_steps(
                    tile,
                    self._model,
                    contrast=AS_IT_IS,
                    min_size=1,  # what is small here may be the edge of an object of the next tile
                    **self._options | batch,
                )
            )

    def _go_on_with(self, batch: int) -> None:
        """Decode fewer points at once, from here on; the masks stay the same."""
        self.batch = batch
        warnings.warn(
            f"The device ran out of memory. From here on {self.batch} points are decoded at once, "
            "half as many; the masks stay the same.",
            NapariSamWarning,
            stacklevel=2,
        )


def load_segmenter(config: SegmentConfig) -> TileSegmenter:
    """Load the model that a configuration names.

    Parameters
    ----------
    config : SegmentConfig

    Returns
    -------
    TileSegmenter

    Raises
    ------
    CheckpointError
        When the weights are missing, damaged or of another architecture.
    ConfigError
        When the model or device is unknown.
    DeviceError
        When the device is absent.
    """
    from napari_sam.model import load_model

    model = load_model(config.model, device=config.device, precision=config.precision)
    return ModelSegmenter(model, config.automatic)
