"""What happens while a volume is segmented, as frozen values that any face can show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Completing",
    "ContrastMeasured",
    "DiameterEstimated",
    "EstimatingDiameter",
    "Event",
    "Finished",
    "Planned",
    "Resumed",
    "SliceDone",
    "Stitching",
    "TileDone",
    "Warned",
    "Working",
]


@dataclass(frozen=True)
class Planned:
    """What will be done: the first event, but for what is measured before to know it.

    That is the contrast and the diameter of objects, where it is to be estimated.

    Attributes
    ----------
    axes : str
        Axes of the label image.
    shape : tuple of int
        Shape of the label image.
    n_slices : int
        Slices to segment, those already done included.
    n_tiles_per_slice : int
        Tiles in each slice.
    window_yx : tuple of int
        Largest rows and columns that the model is given at once.
    """

    axes: str
    shape: tuple[int, ...]
    n_slices: int
    n_tiles_per_slice: int
    window_yx: tuple[int, int]


@dataclass(frozen=True)
class ContrastMeasured:
    """The contrast that serves the whole volume.

    Attributes
    ----------
    low, high : tuple of float
        Intensities that become black and white, per channel.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class EstimatingDiameter:
    """The diameter of the objects is being estimated on a sample of the volume."""


@dataclass(frozen=True)
class DiameterEstimated:
    """The diameter of objects that serves the whole volume.

    Attributes
    ----------
    diameter : float or None
        In pixels; None where fewer than three objects were seen, so that the image stays as it is.
    scale : float
        Pixels of the model's input along a pixel of the image.
    """

    diameter: float | None
    scale: float


@dataclass(frozen=True)
class Resumed:
    """An unfinished run goes on.

    Attributes
    ----------
    n_slices : int
        Slices that were already done.
    n_tiles : int
        Tiles of further slices that were already done.
    """

    n_slices: int
    n_tiles: int = 0


@dataclass(frozen=True)
class Working:
    """A part of a tile is segmented: one batch of points, where the segmenter works in steps.

    Comes any number of times before the tile's :class:`TileDone`, or not at all. Its use is the
    control that it gives back: a run that is closed or left waiting here stops within the tile.

    Attributes
    ----------
    slice_number : int
        Position of its slice in this run, from 0.
    index : int
        Position of the tile in its slice, from 0.
    done, total : int
        Steps of this tile.
    """

    slice_number: int
    index: int
    done: int
    total: int


@dataclass(frozen=True)
class TileDone:
    """One tile is segmented.

    Attributes
    ----------
    slice_number : int
        Position of its slice in this run, from 0.
    index : int
        Position of the tile in its slice, from 0.
    n_objects : int
        Objects in the tile and its halo.
    seconds : float
        Time that it took to read and segment it, without time spent waiting at events.
    """

    slice_number: int
    index: int
    n_objects: int
    seconds: float


@dataclass(frozen=True)
class Stitching:
    """A part of a slice, all tiles of which are done, is stitched.

    Attributes
    ----------
    slice_number : int
        Position of the slice in this run, from 0.
    done, total : int
        Parts of the work on this slice.
    """

    slice_number: int
    done: int
    total: int


@dataclass(frozen=True)
class SliceDone:
    """One slice is stitched and on disk.

    Attributes
    ----------
    slice_number : int
        Position in this run, from 0.
    position : tuple of int
        Index along the axes before YX.
    n_objects : int
        Objects in the slice.
    """

    slice_number: int
    position: tuple[int, ...]
    n_objects: int


@dataclass(frozen=True)
class Completing:
    """All slices are stitched, and something is made of them.

    Attributes
    ----------
    what : str
        What is done, such as "Linking slices".
    done, total : int
        Slices.
    """

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Warned:
    """Something that the user should know, without stopping.

    Attributes
    ----------
    message : str
        A whole sentence.
    """

    message: str


@dataclass(frozen=True)
class Finished:
    """The label image is complete; always the last event.

    Attributes
    ----------
    path : Path
        Directory of the store.
    n_objects : int
        Objects in all slices.
    n_slices : int
        Slices in the store.
    seconds : float
        Time of this run.
    """

    path: Path
    n_objects: int
    n_slices: int
    seconds: float


Event = (
    Planned
    | ContrastMeasured
    | EstimatingDiameter
    | DiameterEstimated
    | Resumed
    | Working
    | TileDone
    | Stitching
    | SliceDone
    | Completing
    | Warned
    | Finished
)
