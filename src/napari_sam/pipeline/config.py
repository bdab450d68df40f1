"""What `segment_volume` is asked to do: one frozen, validated value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from napari_sam.core.errors import ConfigError
from napari_sam.io.label_layout import NgffVersion
from napari_sam.pipeline.link_config import LinkConfig
from napari_sam.pipeline.options import AutomaticOptions
from napari_sam.tiling import check_percentiles

__all__ = ["AutomaticOptions", "SegmentConfig", "SliceRange", "parse_slices"]

DEFAULT_HALO = 64
DEFAULT_MIN_SIZE = 16
MAX_CHANNELS = 3
NOT_IN_LABELS = (
    "device",
    "precision",  # another one gives the model another digest
    "overwrite",
    "resume",
    "workers",
    "dask",
    "dask_resources",
    "tables",
    "tiff",
)


@dataclass(frozen=True)
class SliceRange:
    """Every `step`-th index from `start` up to, but not including, `stop`.

    Parameters
    ----------
    start, stop, step : int, optional
        As in Python's slices: negative numbers count from the end, None means the end itself.
    """

    start: int | None = None
    stop: int | None = None
    step: int | None = None

    def indices(self, length: int) -> range:
        """List the chosen indices of an axis.

        Parameters
        ----------
        length : int
            Length of the axis.

        Returns
        -------
        range
        """
        return range(*slice(self.start, self.stop, self.step).indices(length))


@dataclass(frozen=True)
class SegmentConfig:
    """Everything that decides what a run of `segment_volume` does.

    Parameters
    ----------
    model : str
        Name of a model or path of a checkpoint.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    precision : {"float32", "half"}
        Of the image encoder, see :func:`~napari_sam.model.load_model`.
    axes : str, optional
        Axes of the input in the order of the file, when the file does not say.
    channels : tuple of int
        One to three channels of the input; empty for an image without channels.
    slices : SliceRange
        Which indices along Z, or along T when there is no Z. The rest stays background.
    times : SliceRange
        Which indices along T of a volume that also has Z.
    tile : int, optional
        Side of a tile in pixels; by default what fills the model's window with its halo.
    halo : int
        Pixels that a tile reads beyond its border. Objects up to this size are seen whole by each
        tile that owns a part of them.
    contrast_percentiles : tuple of float, optional
        Percentiles of the whole volume that become black and white. By default 1 and 99.8, and no
        stretching at all where a model takes 8-bit images as they are.
    contrast_limits : tuple of float, or tuple of such tuples, optional
        Intensities that become black and white, instead of percentiles: one pair (low, high) for
        all channels, or one for each of `channels` (for each colour of an RGB image).
    min_size : int
        Objects of fewer pixels are dropped.
    ngff_version : str, optional
        ``0.5`` or ``0.4``. By default 0.5, or that of the image into which the labels go.
    overwrite : bool
        Replace an existing store.
    resume : bool
        Complete an unfinished store.
    workers : int
        Processes of this machine that segment tiles; each holds the model.
    dask : str, optional
        Segment with the workers of a Dask scheduler instead: its address, its scheduler file, or
        ``local`` for a cluster of `workers` processes on this machine.
    dask_resources : tuple of (str, float)
        What each tile takes of the resources that Dask workers offer, such as ``(("GPU", 1),)``.
    link : LinkConfig, optional
        Link the slices into objects of the volume or tracks when all are done.
    tables : tuple of str
        Files for a table of all objects, ending in ``.csv`` or ``.parquet``.
    tiff : str, optional
        File for the labels as tiled BigTIFF, besides the OME-Zarr.
    automatic : AutomaticOptions
        How everything in a tile is segmented.

    Raises
    ------
    ConfigError
        When a value is out of range or two options exclude each other.
    """

    model: str = "compact"
    device: str = "auto"
    precision: Literal["float32", "half"] = "float32"
    axes: str | None = None
    channels: tuple[int, ...] = ()
    slices: SliceRange = SliceRange()
    times: SliceRange = SliceRange()
    tile: int | None = None
    halo: int = DEFAULT_HALO
    contrast_percentiles: tuple[float, float] | None = None
    contrast_limits: tuple[float, float] | tuple[tuple[float, float], ...] | None = None
    min_size: int = DEFAULT_MIN_SIZE
    ngff_version: NgffVersion | None = None
    overwrite: bool = False
    resume: bool = False
    workers: int = 1
    dask: str | None = None
    dask_resources: tuple[tuple[str, float], ...] = ()
    link: LinkConfig | None = None
    tables: tuple[str, ...] = ()
    tiff: str | None = None
    automatic: AutomaticOptions = field(default_factory=AutomaticOptions)

    def __post_init__(self) -> None:
        if self.contrast_percentiles is not None:
            check_percentiles(self.contrast_percentiles)
        _require(
            len(self.channels) <= MAX_CHANNELS and all(c >= 0 for c in self.channels),
            f"The channels {self.channels} were given",
            "The model sees one to three channels, counted from 0",
            "Repeat `--channel` at most three times, for example `--channel 0 --channel 2`",
        )
        _require(
            (self.tile is None or self.tile >= 1) and self.halo >= 0,
            f"A tile of {self.tile} pixels with a halo of {self.halo} was given",
            "A tile is at least one pixel wide and its halo is not negative",
            "Use for example `--tile 384 --halo 64`",
        )
        _require(
            self.min_size >= 1,
            f"min_size={self.min_size} was given",
            "An object has at least one pixel",
            "Use for example `--min-size 20`",
        )
        if self.contrast_limits is not None:
            pairs = _as_pairs(self.contrast_limits)
            # one pair is written in one way, so that equal configurations have equal fingerprints
            object.__setattr__(self, "contrast_limits", pairs if len(pairs) > 1 else pairs[0])
        _require(
            self.contrast_limits is None or self.contrast_percentiles is None,
            "Both contrast limits and contrast percentiles were given",
            "Contrast is set by limits or measured by percentiles",
            "Use only one of `--contrast-limits` and `--contrast-percentiles`",
        )
        _require(
            self.workers >= 1,
            f"{self.workers} workers were asked for",
            "Tiles are segmented by at least one process",
            "Use for example `--workers 2`",
        )
        _require(
            self.dask is not None or not self.dask_resources,
            f"The resources {dict(self.dask_resources)} were asked for without a Dask cluster",
            "Resources are what workers of Dask offer",
            "Add `--dask`, or leave out `--dask-resource`",
        )
        _require(
            self.dask in (None, "local") or self.workers == 1,
            f"{self.workers} workers were asked for with the scheduler {self.dask}",
            "A scheduler has the workers that were started for it",
            "Leave out `--workers`, or use `--dask local`",
        )
        _require(
            not (self.overwrite and self.resume),
            "Both overwrite and resume were asked for",
            "A run either replaces an existing output or completes it",
            "Use only one of `--overwrite` and `--resume`",
        )
        for chosen in (self.slices, self.times):
            _require(
                chosen.step is None or chosen.step >= 1,
                f"A step of {chosen.step} slices was given",
                "Slices are taken in increasing order",
                "Use a step of 1 or more, for example `--slices 0:100:5`",
            )

    @property
    def limit_pairs(self) -> tuple[tuple[float, float], ...]:
        """The contrast limits as pairs (low, high): none, one for all channels, or one for each."""
        return () if self.contrast_limits is None else _as_pairs(self.contrast_limits)

    def fingerprint(self) -> dict[str, Any]:
        """Return the options that change the labels: those that a resumed run must repeat.

        Returns
        -------
        dict
            Plain values that survive JSON; where the work is done and what is written besides the
            labels is left out, as are overwrite and resume.
        """
        values = asdict(self)
        for name in NOT_IN_LABELS:
            del values[name]
        return values


def parse_slices(text: str) -> SliceRange:
    """Read ``START:STOP[:STEP]`` or a single index.

    Parameters
    ----------
    text : str

    Returns
    -------
    SliceRange

    Raises
    ------
    ConfigError
        When the text is neither.
    """
    parts = text.split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and numbers[0] is not None:
        index = numbers[0]
        return SliceRange(index, index + 1 if index != -1 else None)
    if len(numbers) not in (2, 3):
        raise ConfigError(
            f"The slices {text!r} were given",
            rule="Slices are START:STOP, START:STOP:STEP or one index",
            cure="Use for example `--slices 10:20` or `--slices 5`",
        )
    return SliceRange(*numbers)


def _require(condition: bool, given: str, rule: str, cure: str) -> None:
    if not condition:
        raise ConfigError(given, rule=rule, cure=cure)


def _as_pairs(limits: Sequence[Any]) -> tuple[tuple[float, float], ...]:
    """Read one pair of contrast limits or several."""
    try:
        values = np.atleast_2d(np.asarray(limits, dtype=np.float64))
    except (TypeError, ValueError):
        values = np.zeros((0, 2))
    proper = values.ndim == 2 and values.shape[1] == 2 and len(values) > 0
    _require(
        proper and bool(np.isfinite(values).all() and (values[:, 0] < values[:, 1]).all()),
        f"The contrast limits {limits} were given",
        "A low limit below a high one is needed, once or for each channel",
        "Use for example `--contrast-limits 100 4000`",
    )
    return tuple((low, high) for low, high in values.tolist())


def chosen_channels(channels: Sequence[int], count: int) -> tuple[int, ...]:
    """Check the channels against the image.

    Parameters
    ----------
    channels : sequence of int
        From the configuration.
    count : int
        Channels of the image.

    Returns
    -------
    tuple of int
        The channels to read; ``(0,)`` for an image with a single one.

    Raises
    ------
    ConfigError
        When the image has several channels and none was chosen, or one that it lacks.
    """
    if not channels and count > 1:
        raise ConfigError(
            f"The image has {count} channels and none was chosen",
            rule="The model must know which channel shows the objects",
            cure=f"Choose up to three from 0 to {count - 1}, for example `--channel 0`",
        )
    chosen = tuple(channels) or (0,)
    missing = [channel for channel in chosen if channel >= count]
    _require(
        not missing,
        f"Channel {missing[0] if missing else ''} was chosen",
        f"The image has {count} channel(s), counted from 0",
        f"Choose from 0 to {count - 1} with `--channel`",
    )
    return chosen
