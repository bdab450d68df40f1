"""What was found on a plane: looked for once, filtered as often as thresholds move."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam._napari.everything_plane import (
    PlaneFound,
    PlaneRequest,
    RunProgress,
    diameter_steps,
    loading_text,
    plane_steps,
)
from napari_sam._napari.everything_preview import EverythingPreview
from napari_sam._napari.workers import Job, LatestOnly, run_steps

if TYPE_CHECKING:
    import napari

    from napari_sam._napari.everything_options import FilterValues
    from napari_sam.predict import SegmentedImage
    from napari_sam.tiling import Contrast

__all__ = ["PlaneSearch", "Work"]

DEBOUNCE_MS = 30
SHOW_MS = 250
"""How often progress is shown: where OpenGL is drawn in software, each time costs 50 ms."""


class Work(QObject):  # type: ignore[misc]  # qtpy has no types
    """One job at a time, and how far it has come.

    Parameters
    ----------
    parent : QObject
        With it the job ends.
    """

    changed = Signal()
    """A job began, came further, was paused, or ended."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        self.progress = RunProgress("")
        """What the job said last."""
        self._show = QTimer(self, singleShot=True, interval=SHOW_MS)
        self._show.timeout.connect(self.changed)

    @property
    def is_running(self) -> bool:
        """Whether a job is under way, also one that is being cancelled."""
        return self._job is not None

    @property
    def is_paused(self) -> bool:
        """Whether the job waits."""
        return self._job is not None and self._job.is_paused

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was told to stop and has not done so yet."""
        return self._job is not None and self._job.is_cancelled

    def run(
        self,
        steps: Callable[[], Generator[Any, None, Any]],
        *,
        text: str,
        on_result: Callable[[Any], None],
        on_step: Callable[[Any], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """Begin a job; one that is under way is cancelled, and its result never comes.

        Parameters
        ----------
        steps : callable
            Makes the generator, in the worker.
        text : str
            What is said of it at first.
        on_result, on_end : callable
            As for `run_steps`.
        on_step : callable, optional
            By default steps are `RunProgress`, which is kept.
        """

        def ended() -> None:
            if self._job is job:
                self._job = None
            if on_end is not None:
                on_end()
            self.changed.emit()

        self.close()
        self.progress = RunProgress(text)
        job = self._job = run_steps(
            steps,
            on_step=on_step or self.tell,
            on_result=on_result,
            on_end=ended,
            parent=self,
        )
        self.changed.emit()

    def tell(self, progress: RunProgress) -> None:
        """Take note of how far the job has come; `changed` comes a little later."""
        self.progress = progress
        if not self._show.isActive():
            self._show.start()

    def cancel(self) -> None:
        """Stop the job at its next step."""
        if self._job is not None:
            self._job.cancel()
            self.progress = replace(self.progress, text="Stopping …")
            self.changed.emit()

    def toggle_pause(self) -> None:
        """Let the job wait at its next step, or go on."""
        if self._job is not None:
            if self._job.is_paused:
                self._job.resume()
            else:
                self._job.pause()
            self.changed.emit()

    def close(self) -> None:
        """Cancel the job; nothing of it comes any more."""
        self._show.stop()
        job, self._job = self._job, None
        if job is not None:
            job.close()


class PlaneSearch(QObject):  # type: ignore[misc]  # qtpy has no types
    """Find the objects of one plane, and choose among them.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QObject
        The widget.
    """

    found_changed = Signal()
    """Other objects are shown, or none any more."""
    was_too_large = Signal()
    """The plane cannot be encoded whole, and is to be segmented in tiles."""

    def __init__(self, viewer: napari.Viewer, work: Work, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._work = work
        self.preview = EverythingPreview(viewer)
        self.request: PlaneRequest | None = None
        """What was asked for, as long as its result is shown."""
        self.found: PlaneFound | None = None
        self.shown: SegmentedImage | None = None
        """The objects that are shown."""
        self._measured: tuple[Hashable, Contrast] | None = None
        self._filters: FilterValues | None = None
        self._numbers: dict[Hashable, int] = {}  # which object is shown in which colour
        self._filtering = LatestOnly(self)
        self._debounce = QTimer(self, singleShot=True, interval=DEBOUNCE_MS)
        self._debounce.timeout.connect(self._filter)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def to_keep(self) -> SegmentedImage | None:
        """The objects that are shown, without points where these would not make them again.

        Clicks see the image as it is; a mask of an image that was resized is edited as a mask.
        """
        if self.shown is None or self.found is None or self.found.scale == 1:
            return self.shown
        objects = tuple(replace(item, is_prompted=False) for item in self.shown.objects)
        return replace(self.shown, objects=objects)

    @property
    def floors(self) -> tuple[float, float]:
        """Predicted IoU and stability below which nothing was looked for."""
        if self.found is None or self.found.candidates is None:
            return 0.0, 0.0
        return self.found.candidates.floors

    @property
    def is_below_floor(self) -> bool:
        """Whether masks are wanted that were not looked for."""
        if self._filters is None:
            return False
        wanted = self._filters.pred_iou_thresh, self._filters.stability_score_thresh
        return any(value < floor for value, floor in zip(wanted, self.floors, strict=True))

    def start(self, request: PlaneRequest, filters: FilterValues) -> None:
        """Look for objects; what was shown before is dropped.

        Parameters
        ----------
        request : PlaneRequest
        filters : FilterValues
            What to show of them.
        """
        self.discard()
        self._filters = filters
        if self.found is not None:
            request = replace(request, predictors=(*request.predictors, self.found.predictor))
        if self._measured is not None and self._measured[0] == request.contrast_key:
            request = replace(request, known_contrast=self._measured[1])

        def found(result: PlaneFound) -> None:
            self.found = result
            self._measured = request.contrast_key, result.contrast
            if result.candidates is None:
                self.was_too_large.emit()
                return
            self.request, self._numbers = request, {}
            if request.layer not in self._viewer.layers:
                self.discard()
                return
            self._filter()

        self._work.run(
            lambda: plane_steps(request), text=loading_text(request.model), on_result=found
        )

    def estimate(self, request: PlaneRequest, on_result: Callable[[float | None], None]) -> None:
        """Estimate the diameter of the objects on a plane; what is shown stays.

        Parameters
        ----------
        request : PlaneRequest
        on_result : callable
            Is given the diameter in pixels, or None where too few objects are seen.
        """
        if self._measured is not None and self._measured[0] == request.contrast_key:
            request = replace(request, known_contrast=self._measured[1])

        def found(result: tuple[float | None, Contrast]) -> None:
            diameter, contrast = result
            self._measured = request.contrast_key, contrast
            on_result(diameter)

        self._work.run(
            lambda: diameter_steps(request), text=loading_text(request.model), on_result=found
        )

    def filter(self, filters: FilterValues) -> None:
        """Choose among the masks that were found, soon and without the model.

        Parameters
        ----------
        filters : FilterValues
        """
        if filters != self._filters:
            self._filters = filters
            if self.request is not None:
                self._debounce.start()

    def discard(self) -> None:
        """Forget what was found."""
        self._debounce.stop()
        had_any = self.request is not None
        self.request = self.shown = None
        self.preview.remove()
        if had_any:
            self.found_changed.emit()

    def close(self) -> None:
        """End all work, and take the preview out of the viewer."""
        self._filtering.close()
        self.discard()

    def let_go(self) -> None:
        """Do without the viewer; also after Qt has destroyed everything."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self.preview.forget()
        self.request = self.shown = self.found = self._measured = None

    def _filter(self) -> None:
        request, found, filters = self.request, self.found, self._filters
        if request is None or found is None or found.candidates is None or filters is None:
            return
        candidates = found.candidates
        floor_iou, floor_stability = candidates.floors
        values = asdict(filters)
        values["pred_iou_thresh"] = max(filters.pred_iou_thresh, floor_iou)
        values["stability_score_thresh"] = max(filters.stability_score_thresh, floor_stability)
        values = {name: value for name, value in values.items() if name in candidates.filters}
        numbers = self._numbers

        def choose() -> tuple[SegmentedImage, NDArray[np.int64]]:
            segmented = candidates.labels(**values)
            return segmented, _steady(segmented, numbers)

        def show(result: tuple[SegmentedImage, NDArray[np.int64]]) -> None:
            if self.request is request:
                self.shown, labels = result
                self.preview.show(labels, request.layer, request.plane)
                self.found_changed.emit()

        self._filtering.submit(choose, on_result=show)

    def _on_removed(self, event: Any) -> None:
        if event.value is self.preview.layer:
            self.preview.forget()
            self.discard()
        elif self.request is not None and event.value is self.request.layer:
            self.discard()


def _steady(segmented: SegmentedImage, numbers: dict[Hashable, int]) -> NDArray[np.int64]:
    """Give objects the numbers they had, so that colours stay while thresholds move."""
    table = [0]
    for item in segmented.objects:
        # a seed has one object, whose edge a threshold moves; a point may have several
        key = (item.point_xy, item.box_xyxy) if item.is_prompted else item.point_xy
        table.append(numbers.setdefault(key, len(numbers) + 1))
    steady: NDArray[np.int64] = np.array(table)[segmented.labels]
    return steady
