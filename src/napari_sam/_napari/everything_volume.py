"""Segment whole stacks to disk: the cost beforehand, and the run, step by step in a worker."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam._napari.everything_plane import RunProgress, loading_text
from napari_sam._napari.everything_words import duration_text
from napari_sam._napari.loaded_models import load_shared_model
from napari_sam.core.steps import retold
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.events import (
    Event,
    Finished,
    Planned,
    Resumed,
    SliceDone,
    TileDone,
    Warned,
    Working,
)

if TYPE_CHECKING:
    from napari_sam.io import Volume
    from napari_sam.model import Sam
    from napari_sam.pipeline.estimate import CostEstimate

__all__ = ["VolumeProgress", "estimate_volume", "run_volume"]

STEPS_PER_TILE = 100
"""The progress bar shows hundredths of a tile."""


@dataclass(frozen=True)
class VolumeProgress:
    """How far a run over a volume has come, told whole each time: steps in between may be missed.

    Attributes
    ----------
    text : str
        A few words for the user.
    n_slices, tiles_per_slice : int
        What there is to do; 0 until it is known.
    n_slices_done : int
        Slices on disk, those of an earlier run included.
    tiles_done : float
        Tiles of all slices that are done, with the share of the one under way.
    seconds_left : float or None
        About how long it will take from here.
    has_store : bool
        Whether the output can be opened.
    written : tuple of tuple of int
        Positions of the slices that this run has written, in order.
    n_objects : int
        Objects in those slices.
    warnings : tuple of str
        What the user should know.
    finished : Finished or None
        At the end.
    """

    text: str = ""
    n_slices: int = 0
    tiles_per_slice: int = 0
    n_slices_done: int = 0
    tiles_done: float = 0.0
    seconds_left: float | None = None
    has_store: bool = False
    written: tuple[tuple[int, ...], ...] = ()
    n_objects: int = 0
    warnings: tuple[str, ...] = ()
    finished: Finished | None = None

    @property
    def steps(self) -> tuple[int, int]:
        """What a progress bar shows: done and total, (0, 0) while the total is not known."""
        total = self.n_slices * self.tiles_per_slice * STEPS_PER_TILE
        return (int(self.tiles_done * STEPS_PER_TILE), total)


def estimate_volume(
    volume: Volume, config: SegmentConfig
) -> Generator[RunProgress, None, tuple[CostEstimate, Sam]]:
    """Load the model and find out what a run will cost, from one tile.

    Parameters
    ----------
    volume : Volume
    config : SegmentConfig

    Yields
    ------
    RunProgress

    Returns
    -------
    estimate : CostEstimate
    sam : Sam
        The model; who holds it spares the run from loading it again.

    Raises
    ------
    NapariSamError
        As `segment_volume` does.
    """
    yield RunProgress(loading_text(config.model))
    sam = load_shared_model(config.model, config.device)
    from napari_sam.pipeline.estimate import estimate_steps
    from napari_sam.pipeline.segmenters import ModelSegmenter

    segmenter = ModelSegmenter(sam, config.automatic)
    text = "Timing one tile …"
    yield RunProgress(text)
    steps = estimate_steps(volume, config, segmenter)
    estimate = yield from retold(steps, lambda step: RunProgress(text, step.done, step.total))
    return estimate, sam


def run_volume(
    volume: Volume, config: SegmentConfig, target: Path
) -> Generator[VolumeProgress, None, VolumeProgress]:
    """Segment a volume to disk.

    Closing the generator stops within a tile; finished slices stay on disk.

    Parameters
    ----------
    volume : Volume
    config : SegmentConfig
    target : Path
        Directory of the output.

    Yields
    ------
    VolumeProgress

    Returns
    -------
    VolumeProgress
        The last one.

    Raises
    ------
    NapariSamError
        As `segment_volume` does.
    """
    yield VolumeProgress(loading_text(config.model))
    sam = load_shared_model(config.model, config.device)
    from napari_sam.pipeline.segment import segment_volume
    from napari_sam.pipeline.segmenters import ModelSegmenter

    segmenter = ModelSegmenter(sam, config.automatic)
    track = _Track()
    with closing(segment_volume(volume, target, config, segmenter)) as events:
        for event in events:
            track.take(event)
            yield track.progress
    return track.progress


class _Track:
    """Follows the events of a run."""

    def __init__(self) -> None:
        self.progress = VolumeProgress("Measuring the contrast …")
        self._seconds: list[float] = []  # of each tile of this run

    def take(self, event: Event) -> None:
        """Bring the progress up to date."""
        before = self.progress
        if isinstance(event, Planned):
            self._set(n_slices=event.n_slices, tiles_per_slice=event.n_tiles_per_slice)
        elif isinstance(event, Resumed):
            self._set(n_slices_done=event.n_slices, has_store=True)
            done = event.n_slices * before.tiles_per_slice + event.n_tiles
            self._set(tiles_done=float(done))
        elif isinstance(event, Working):
            self._set(has_store=True)
            self._work_on(event.index + event.done / max(event.total, 1))
        elif isinstance(event, TileDone):
            self._set(has_store=True)
            self._seconds.append(event.seconds)
            self._work_on(event.index + 1)
        elif isinstance(event, SliceDone):
            self._set(
                n_slices_done=before.n_slices_done + 1,
                written=(*before.written, event.position),
                n_objects=before.n_objects + event.n_objects,
            )
        elif isinstance(event, Warned):
            self._set(warnings=(*before.warnings, event.message))
        elif isinstance(event, Finished):
            self._set(finished=event, n_objects=event.n_objects, seconds_left=0.0, text="Finished.")

    def _set(self, **changes: object) -> None:
        self.progress = replace(self.progress, **changes)  # type: ignore[arg-type]

    def _work_on(self, tiles: float) -> None:
        """Say which tile is worked on, and how long the rest will take."""
        now = self.progress
        done = now.n_slices_done * now.tiles_per_slice + tiles
        left = None
        if self._seconds:
            mean = sum(self._seconds) / len(self._seconds)
            left = mean * max(now.n_slices * now.tiles_per_slice - done, 0)
        words = f"Slice {now.n_slices_done + 1} of {now.n_slices}"
        if now.tiles_per_slice > 1:
            words += f", tile {min(int(tiles) + 1, now.tiles_per_slice)} of {now.tiles_per_slice}"
        if left is not None:
            words += f", {duration_text(left)} left"
        self._set(tiles_done=done, seconds_left=left, text=f"{words}.")
