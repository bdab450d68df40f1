"""Embed the planes of a stack ahead of time: an image in, embeddings in the widget's cache out.

Encoding a plane is what takes long when one clicks through a stack. The name of an embedding in
the cache is a hash of the model and of the very pixels that it sees. So nothing but equal pixels,
contrast included, makes the widget find what was stored here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_sam.core.errors import ConfigError
from napari_sam.core.steps import result_of, retold, timed
from napari_sam.io import open_volume
from napari_sam.io.embedding_budget import store_budget, stored_budget
from napari_sam.io.embedding_cache import embedding_directory
from napari_sam.pipeline.config import SegmentConfig, SliceRange
from napari_sam.pipeline.events import ContrastMeasured
from napari_sam.pipeline.volume_contrast import volume_contrast_steps
from napari_sam.pipeline.volume_planes import VolumePlanes
from napari_sam.tiling import DEFAULT_PERCENTILES, Contrast

if TYPE_CHECKING:
    from napari_sam.model import Sam
    from napari_sam.pipeline.plane_embedder import PlaneEmbedder

__all__ = [
    "EmbedConfig",
    "EmbedEstimate",
    "EmbedEvent",
    "EmbedFinished",
    "EmbedPlanned",
    "Encoding",
    "SliceEmbedded",
    "embed_volume",
    "estimate_embedding",
]

QUICK_SECONDS = 20.0
"""A plane that took less is timed a second time: a first call also sets things up."""


@dataclass(frozen=True)
class EmbedConfig:
    """Everything that decides what a run of `embed_volume` does.

    Parameters
    ----------
    model : str
        Name of a model or path of a checkpoint: the one that the widget will use.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``. It does not matter to the widget.
    axes : str, optional
        Axes of the input in the order of the file, when the file does not say.
    channels : tuple of int
        One to three channels of the input, as they will be chosen in the widget; empty for an
        image without channels.
    slices : SliceRange
        Which indices along Z, or along T when there is no Z.
    times : SliceRange
        Which indices along T of a volume that also has Z.
    contrast_percentiles : tuple of float, optional
        As in the widget; 1 and 99.8 are its default, and no stretching at all where a model takes
        8-bit images as they are.
    contrast_limits : tuple of float, or tuple of such tuples, optional
        The contrast limits of the layer, where the widget takes those: one pair (low, high), or
        one for each of several channels.
    cache_bytes : int, optional
        Size that the cache keeps to from then on, also in the widget; by default as it is.

    Raises
    ------
    ConfigError
        When a value is out of range or two options exclude each other.
    """

    model: str = "compact"
    device: str = "auto"
    axes: str | None = None
    channels: tuple[int, ...] = ()
    slices: SliceRange = field(default_factory=SliceRange)
    times: SliceRange = field(default_factory=SliceRange)
    contrast_percentiles: tuple[float, float] | None = None
    contrast_limits: tuple[float, float] | tuple[tuple[float, float], ...] | None = None
    cache_bytes: int | None = None

    def __post_init__(self) -> None:
        _ = self.selection  # says what is wrong
        if self.cache_bytes is not None and self.cache_bytes <= 0:
            raise ConfigError(
                f"A cache of {self.cache_bytes} bytes was asked for",
                rule="A cache that embeddings are put into has room for some",
                cure="Use for example `--cache-size 20`",
            )

    @property
    def selection(self) -> SegmentConfig:
        """Which pixels are meant, as a run that segments them would be told."""
        return SegmentConfig(
            axes=self.axes,
            channels=self.channels,
            slices=self.slices,
            times=self.times,
            contrast_percentiles=self.contrast_percentiles,
            contrast_limits=self.contrast_limits,
        )


@dataclass(frozen=True)
class EmbedPlanned:
    """What will be done; always the first event.

    Attributes
    ----------
    axes : str
        Axes of the image without channels.
    shape : tuple of int
        Length of these axes.
    n_slices : int
        Planes to embed, those that are there already included.
    directory : Path
        Folder of the cache.
    budget_bytes : int
        Size that the cache keeps to.
    """

    axes: str
    shape: tuple[int, ...]
    n_slices: int
    directory: Path
    budget_bytes: int


@dataclass(frozen=True)
class Encoding:
    """A part of a plane is encoded. Its use is the control that it gives back.

    Attributes
    ----------
    slice_number : int
        Position of the plane in this run, from 0.
    done, total : int
        Encoder windows of the plane.
    """

    slice_number: int
    done: int
    total: int


@dataclass(frozen=True)
class SliceEmbedded:
    """The embedding of one plane is on disk.

    Attributes
    ----------
    slice_number : int
        Position in this run, from 0.
    position : tuple of int
        Index along the axes before YX.
    origin : {"computed", "disk"}
        Whether it was computed now, or there already.
    n_bytes : int
        Its size before compression.
    """

    slice_number: int
    position: tuple[int, ...]
    origin: Literal["computed", "disk"]
    n_bytes: int


@dataclass(frozen=True)
class EmbedFinished:
    """All embeddings are on disk; always the last event.

    Attributes
    ----------
    directory : Path
        Folder of the cache.
    n_computed, n_found : int
        Planes that were computed, and those that were there already.
    n_bytes : int
        Size of all of them before compression.
    seconds : float
        Time of this run.
    """

    directory: Path
    n_computed: int
    n_found: int
    n_bytes: int
    seconds: float


EmbedEvent = EmbedPlanned | ContrastMeasured | Encoding | SliceEmbedded | EmbedFinished


@dataclass(frozen=True)
class EmbedEstimate:
    """What a run will cost.

    Attributes
    ----------
    n_slices : int
        Planes to embed.
    seconds_per_slice : float
        Time that the middle one took: reading, encoding and storing it.
    seconds : float
        Time of the whole run when nothing is there yet.
    disk_bytes : int
        Upper estimate of the size of all embeddings.
    budget_bytes : int
        Size that the cache would keep to.
    free_bytes : int
        Free space of the disk that the cache lies on.
    directory : Path
        Folder of the cache.
    """

    n_slices: int
    seconds_per_slice: float
    seconds: float
    disk_bytes: int
    budget_bytes: int
    free_bytes: int
    directory: Path


def embed_volume(
    source: str | Path, config: EmbedConfig | None = None, sam: Sam | None = None
) -> Generator[EmbedEvent, None, None]:
    """Put the embeddings of all chosen planes of a volume into the disk cache of the widget.

    A generator: work is done while it is iterated. Closing it, or Ctrl-C, stops there; what is
    stored stays, and another run computes only what is missing. Who leaves it waiting has paused
    it.

    Parameters
    ----------
    source : str or Path
        Any image that :func:`napari_sam.io.open_volume` opens.
    config : EmbedConfig, optional
        Defaults to the bundled model and the widget's own settings.
    sam : Sam, optional
        A model that is loaded; by default the one that `config` names.

    Yields
    ------
    EmbedEvent
        EmbedPlanned first, EmbedFinished last.

    Raises
    ------
    InputError
        When the image cannot be used, or its planes are too large to be encoded whole.
    ConfigError
        When options do not fit the image, or all embeddings are larger than the cache.
    OutputError
        When an embedding cannot be stored.
    CheckpointError, DeviceError
        When the model cannot be loaded or run.
    """
    config = config or EmbedConfig()
    begun = time.monotonic()
    with closing(open_volume(source, config.axes)) as volume:
        planes = VolumePlanes(volume, config.selection)
        embedder, sam = _embedder(planes, config, sam)
        budget = _budget(config)
        n_slices = len(planes.positions)
        yield EmbedPlanned(planes.axes, planes.shape, n_slices, embedder.directory, budget)
        contrast = _contrast(planes, config, sam)
        yield ContrastMeasured(contrast.low, contrast.high)
        n_found = n_bytes = 0
        for number in range(n_slices):
            done = yield from _embed_plane(embedder, planes, contrast, number)
            if number == 0 and config.cache_bytes is not None:  # all of them fit
                store_budget(config.cache_bytes)
            n_found += done.origin == "disk"
            n_bytes += done.n_bytes
            yield done
    seconds = time.monotonic() - begun
    yield EmbedFinished(embedder.directory, n_slices - n_found, n_found, n_bytes, seconds)


def estimate_embedding(
    source: str | Path, config: EmbedConfig | None = None, sam: Sam | None = None
) -> EmbedEstimate:
    """Estimate what `embed_volume` will need, by embedding one plane into a temporary folder.

    It is the middle one of the chosen planes. One that took less than 20 seconds is timed twice,
    and the second time counts. Nothing is put into the cache.

    Parameters
    ----------
    source, config, sam
        As for `embed_volume`.

    Returns
    -------
    EmbedEstimate
        Of all chosen planes, also where some are in the cache already.

    Raises
    ------
    InputError, ConfigError, OutputError, CheckpointError, DeviceError
        As `embed_volume` does, but for a cache that is too small.
    """
    from napari_sam.pipeline.plane_embedder import PlaneEmbedder, free_bytes

    config = config or EmbedConfig()
    with closing(open_volume(source, config.axes)) as volume:
        planes = VolumePlanes(volume, config.selection)
        _, sam = _embedder(planes, config, sam)
        begun = time.monotonic()
        contrast = _contrast(planes, config, sam)
        measured = time.monotonic() - begun
        n_slices = len(planes.positions)
        middle = planes.plane(planes.positions[n_slices // 2])
        for _ in range(2):
            with tempfile.TemporaryDirectory() as folder:
                embedder = PlaneEmbedder(sam, 1, 2**62, folder)
                plane, seconds = result_of(timed(embedder.steps(middle, contrast)))
            if seconds >= QUICK_SECONDS:
                break
    return EmbedEstimate(
        n_slices,
        seconds,
        measured + n_slices * seconds,
        n_slices * plane.n_bytes,
        _budget(config),
        free_bytes(embedding_directory()),
        embedding_directory(),
    )


def _embedder(
    planes: VolumePlanes, config: EmbedConfig, sam: Sam | None
) -> tuple[PlaneEmbedder, Sam]:
    """Load the model, unless there is one, and refuse planes that do not suit it."""
    from napari_sam.model import load_model
    from napari_sam.pipeline.plane_embedder import PlaneEmbedder

    sam = sam or load_model(config.model, device=config.device)
    embedder = PlaneEmbedder(sam, len(planes.positions), _budget(config))
    embedder.check_size(planes.levels_yx[0])
    return embedder, sam


def _embed_plane(
    embedder: PlaneEmbedder, planes: VolumePlanes, contrast: Contrast, number: int
) -> Generator[Encoding, None, SliceEmbedded]:
    position = planes.positions[number]
    steps = embedder.steps(planes.plane(position), contrast)
    plane = yield from retold(steps, lambda step: Encoding(number, step.done, step.total))
    return SliceEmbedded(number, position, plane.origin, plane.n_bytes)


def _contrast(planes: VolumePlanes, config: EmbedConfig, sam: Sam) -> Contrast:
    """Take the contrast that was given, or measure it as the widget does."""
    pairs = config.selection.limit_pairs
    if not pairs:
        percentiles = config.contrast_percentiles
        stated = None if percentiles == DEFAULT_PERCENTILES else percentiles  # as in the widget
        keeps_8bit = sam.input_spec.contrast == "as_is"
        return result_of(volume_contrast_steps(planes, stated, keeps_8bit=keeps_8bit))
    if len(pairs) not in (1, planes.n_channels):
        raise ConfigError(
            f"{len(pairs)} pairs of contrast limits were given for {planes.n_channels} channel(s)",
            rule="One pair serves all channels, or each channel has its own",
            cure="Give `--contrast-limits` once, or as often as `--channel`",
        )
    return Contrast(tuple(low for low, _ in pairs), tuple(high for _, high in pairs))


def _budget(config: EmbedConfig) -> int:
    return config.cache_bytes or stored_budget()
