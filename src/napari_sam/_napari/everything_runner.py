"""A run over a volume: its cost, its course, and the layer that shows what is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_sam._napari.everything_plane import RunProgress, loading_text
from napari_sam._napari.everything_search import Work
from napari_sam._napari.everything_store import Placement, StoreLayer
from napari_sam._napari.everything_volume import VolumeProgress, estimate_volume, run_volume
from napari_sam._napari.everything_words import counted
from napari_sam._napari.notices import show_error, show_warning
from napari_sam.core.errors import NapariSamError

if TYPE_CHECKING:
    import napari

    from napari_sam.io import Volume
    from napari_sam.pipeline.config import SegmentConfig
    from napari_sam.pipeline.estimate import CostEstimate

__all__ = ["VolumeRunner"]


class VolumeRunner(QObject):  # type: ignore[misc]  # qtpy has no types
    """Estimate and run.

    Parameters
    ----------
    viewer : napari.Viewer
    work : Work
        Does one thing at a time.
    parent : QObject
        The widget.
    """

    estimated = Signal(object)
    """The CostEstimate that was asked for."""
    ended = Signal(str)
    """A run finished, was cancelled, or failed: what the user should know."""

    def __init__(self, viewer: napari.Viewer, work: Work, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._work = work
        self._sam: Any = None  # so that the model stays in memory between estimate and run
        self._store: StoreLayer | None = None
        self._progress = VolumeProgress()
        self.target: Path | None = None
        """Where the last run wrote."""
        self.is_running = False

    def estimate(self, volume: Volume, config: SegmentConfig) -> None:
        """Find out what a run will cost."""

        def told(result: tuple[CostEstimate, Any]) -> None:
            estimate, self._sam = result
            self.estimated.emit(estimate)

        text = loading_text(config.model)
        self._work.run(lambda: estimate_volume(volume, config), text=text, on_result=told)

    def start(
        self, volume: Volume, config: SegmentConfig, target: Path, placement: Placement
    ) -> None:
        """Begin a run.

        Parameters
        ----------
        volume : Volume
        config : SegmentConfig
        target : Path
            Directory of the output.
        placement : Placement
            Where the labels lie.
        """
        self._progress = VolumeProgress()
        self.target = target
        self.is_running = True
        self._store = StoreLayer(self._viewer, target, placement)
        if not config.resume:
            self._store.remove_others()
        self._work.run(
            lambda: run_volume(volume, config, target),
            text=loading_text(config.model),
            on_step=self._on_step,
            on_result=self._on_step,
            on_end=self._on_end,
        )

    def close(self) -> None:
        """Let go of model and layer."""
        self._sam = self._store = None

    @property
    def can_resume(self) -> bool:
        """Whether the last run left something to complete."""
        if self.target is None or self.is_running:
            return False
        from napari_sam.pipeline.unfinished import is_unfinished  # it loads zarr

        return is_unfinished(self.target)

    def _on_step(self, progress: VolumeProgress) -> None:
        before, self._progress = self._progress, progress
        for message in progress.warnings[len(before.warnings) :]:
            show_warning(message)
        self._show(before, progress)
        self._work.tell(RunProgress(progress.text, *progress.steps))

    def _show(self, before: VolumeProgress, now: VolumeProgress) -> None:
        """Show in the layer what has come to disk."""
        if self._store is None:
            return
        try:
            if now.has_store and not before.has_store:
                self._store.open()
            elif len(now.written) > len(before.written):
                self._store.show_written(now.written[len(before.written) :])
        except NapariSamError as error:
            show_error(error)

    def _on_end(self) -> None:
        self.is_running = False
        store, self._store = self._store, None
        progress = self._progress
        if store is not None and store.layer is not None:
            try:
                if progress.finished is not None:
                    store.finish()
                elif not store.path.exists():  # stopped before its first slice
                    store.remove()
                else:
                    store.show_all()
            except NapariSamError as error:
                show_error(error)
        self.ended.emit(self._last_words(progress))

    def _last_words(self, progress: VolumeProgress) -> str:
        if progress.finished is not None:
            objects = counted(progress.n_objects, "object")
            return f"{objects} in {counted(progress.n_slices, 'slice')}, in {self.target}"
        if self.can_resume:
            return (
                f"Stopped. {progress.n_slices_done} of {progress.n_slices} slices are on disk; "
                "Resume completes the rest."
            )
        return "Stopped. Nothing was written."
