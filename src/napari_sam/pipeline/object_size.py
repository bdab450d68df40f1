"""The diameter of a volume's objects: estimated once on a sample, the same for all its tiles."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.object_scale import AUTO, NATIVE, Diameter, scale_for
from napari_sam.core.region import Region
from napari_sam.core.steps import retold
from napari_sam.pipeline.events import DiameterEstimated, EstimatingDiameter
from napari_sam.pipeline.segmenters import TileSegmenter, TileStep
from napari_sam.pipeline.source import SliceSource
from napari_sam.tiling import Contrast

__all__ = ["SizedSegmenter", "estimates_diameter", "middle_window", "settle_diameter"]

SAMPLE_SIDE = 2048
"""Rows and columns in the middle of a slice that are read; the model looks at a part of them."""

_SHARES = (0.25, 0.5, 0.75)
"""Where in the stack the slices of the sample lie."""


@runtime_checkable
class SizedSegmenter(TileSegmenter, Protocol):
    """A segmenter that resizes images to suit the diameter of their objects."""

    @property
    def diameter(self) -> Diameter:
        """In pixels; ``"auto"`` where it is to be estimated, ``"native"`` to leave images alone."""
        ...

    def diameter_steps(
        self, samples: Sequence[NDArray[np.uint8]]
    ) -> Generator[TileStep, None, float | None]:
        """Estimate it on images of shape (h, w, 3); None where too few objects are seen."""
        ...

    def with_diameter(self, diameter: Diameter) -> SizedSegmenter:
        """Return the same with a diameter that is known."""
        ...


def estimates_diameter(segmenter: TileSegmenter) -> bool:
    """Tell whether a segmenter is to be given a diameter that is estimated first."""
    return isinstance(segmenter, SizedSegmenter) and segmenter.diameter == AUTO


def settle_diameter(
    segmenter: TileSegmenter,
    slices: SliceSource,
    contrast: Contrast,
    known: dict[str, float | None] | None = None,
) -> Generator[EstimatingDiameter | DiameterEstimated, None, tuple[TileSegmenter, float | None]]:
    """Estimate the diameter of objects in the middle of up to three slices.

    Parameters
    ----------
    segmenter : TileSegmenter
        One that :func:`estimates_diameter`.
    slices : SliceSource
    contrast : Contrast
        Of the whole volume.
    known : dict, optional
        Holds the ``diameter`` that an earlier part of the run has found, which is taken then.

    Yields
    ------
    EstimatingDiameter, DiameterEstimated
        The latter at the end.

    Returns
    -------
    segmenter : TileSegmenter
        The same with the diameter that was found.
    diameter : float or None
        In pixels; None where too few objects are seen, so that images stay as they are.

    Raises
    ------
    InputError, DeviceError
        When the sample cannot be read, or the device fails.
    """
    if not isinstance(segmenter, SizedSegmenter):
        return segmenter, None
    if known is not None:
        diameter = known["diameter"]
    else:
        steps = segmenter.diameter_steps(list(_sample(slices, contrast)))
        yield EstimatingDiameter()
        diameter = yield from retold(steps, lambda _: EstimatingDiameter())
    yield DiameterEstimated(diameter, scale_for(diameter))
    return segmenter.with_diameter(NATIVE if diameter is None else diameter), diameter


def middle_window(shape_yx: tuple[int, int], side: int = SAMPLE_SIDE) -> Region:
    """Find the rows and columns in the middle of a slice, `side` of each at most."""
    start = [max(length - side, 0) // 2 for length in shape_yx]
    stop = [first + min(length, side) for first, length in zip(start, shape_yx, strict=True)]
    return Region(tuple(start), tuple(stop))


def _sample(slices: SliceSource, contrast: Contrast) -> Generator[NDArray[np.uint8], None, None]:
    """Read the middle of slices spread over the stack; the same for the same volume."""
    window, last = middle_window(slices.shape_yx), len(slices.positions) - 1
    for number in sorted({round(share * last) for share in _SHARES}):
        yield slices.read_tile(slices.positions[number], window, contrast).rgb
