"""Model, contrast and embeddings of one widget, computed in thread workers.

What a click needs is worked out in order: the model, the contrast of the volume, the embedding of
the plane in view, then those of the planes ahead. A change makes the steps after it void: the job
that is under way is cancelled, and its result never arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam._napari.layers import ChannelChoice, LayerPlane
from napari_sam._napari.loaded_models import load_shared_model
from napari_sam._napari.model_view import ContrastChoice, contrast_steps
from napari_sam._napari.planes_ahead import move_between, planes_ahead
from napari_sam._napari.progress import Progress
from napari_sam._napari.thread_priority import spare_a_processor
from napari_sam._napari.workers import Job, LatestOnly, run_steps
from napari_sam.core.errors import InputError, OutOfMemoryError
from napari_sam.core.plane import Plane

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.model import Sam
    from napari_sam.pipeline.candidates import ObjectCandidates, PredictionRequest
    from napari_sam.pipeline.interactive import InteractivePredictor
    from napari_sam.tiling import Contrast

__all__ = ["Engine"]

SETTLE_MS = 150
"""A plane is prepared when the slider has stood still for this long."""
QUIET_MS = 700
"""After a click, planes ahead wait this long, so that the next click has the processor."""

Candidates = tuple["ObjectCandidates", ...]


class Engine(QObject):  # type: ignore[misc]  # qtpy has no types
    """Keep model, contrast and embeddings of the plane in view at hand.

    Parameters
    ----------
    parent : QObject
        The widget; with it the jobs end.
    """

    progressed = Signal(object)
    """Progress, whenever it changes."""
    contrast_measured = Signal()
    """The contrast of the volume is known."""
    became_ready = Signal()
    """The plane in view can be clicked."""
    failed = Signal(object)
    """An error stopped the work; the engine waits until something changes or `start` is called."""
    dropped_request = Signal()
    """What was asked for will not be answered, and has to be asked for again."""
    device_changed = Signal(str)
    """The engine went over to another device by itself."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._model, self._device = "compact", "auto"
        self._layer: Image | None = None
        self._channels: ChannelChoice | None = None
        self._contrast_choice = ContrastChoice()
        self._plane: Plane | None = None
        self._ahead: tuple[int, int] | None = None  # axis and direction of the last move
        self.sam: Sam | None = None
        self.contrast: Contrast | None = None
        self._predictor: InteractivePredictor | None = None
        self._prepared: set[tuple[object, ...]] = set()
        self._job: Job | None = None
        self._is_stopped = True
        self._waiting: Callable[[], None] | None = None
        self._clicks = LatestOnly(self)
        self._settle = _single_shot(self, SETTLE_MS, self._advance)
        self._quiet = _single_shot(self, QUIET_MS, self._resume_job)

    # what is asked for

    def set_model(self, model: str, device: str) -> None:
        """Choose the model and the device; nothing happens when both are as before."""
        if (model, device) == (self._model, self._device):
            return
        self._model, self._device = model, device
        self.release()
        self._restart()

    def set_image(self, layer: Image | None, channels: ChannelChoice | None) -> None:
        """Choose the image; its contrast is measured anew."""
        self._layer, self._channels = layer, channels
        self._plane, self._ahead = None, None
        self.contrast = None
        self._waiting = None
        self._restart()
        if layer is None:
            self.progressed.emit(Progress("There is no image to segment.", busy=False))

    def set_contrast(self, choice: ContrastChoice) -> None:
        """Choose how intensities become what the model sees."""
        if choice != self._contrast_choice:
            self._contrast_choice = choice
            self.contrast = None
            self._restart()

    def measure_contrast_again(self) -> None:
        """Take over what has changed in the layer: its contrast limits or its data."""
        self.contrast = None
        self._restart()

    def set_plane(self, plane: Plane | None) -> None:
        """Choose the plane in view; it is prepared when the slider stands still."""
        if plane == self._plane:
            return
        self._ahead = move_between(self._plane, plane)
        self._plane = plane
        self._waiting = None
        self._cancel_job()
        if plane is None:
            self.progressed.emit(Progress("", busy=False))
        elif not self._is_stopped:
            if self.is_ready:
                self._advance()
            else:
                self._settle.start()

    def start(self) -> None:
        """Work towards the next click, also after `stop` or an error."""
        self._is_stopped = False
        self._advance()

    def stop(self) -> None:
        """Cancel what is under way, and wait."""
        self._is_stopped = True
        self._drop_request()
        self._cancel_job()
        self.progressed.emit(Progress("Stopped.", busy=False))

    def close(self) -> None:
        """Cancel everything for good."""
        self._settle.stop()
        self._quiet.stop()
        self._is_stopped = True
        self._waiting = None
        self._cancel_job()
        self._clicks.close()
        self.release()

    def release(self) -> None:
        """Let go of the model and its embeddings."""
        self._cancel_job()
        self._drop_request()
        if self._predictor is not None:
            self._predictor.release()
        self._predictor, self.sam, self.contrast = None, None, None
        self._prepared.clear()

    # what is there

    @property
    def is_ready(self) -> bool:
        """Whether a click on the plane in view can be answered at once."""
        image = self.plane_image()
        if image is None or self._predictor is None or self.contrast is None:
            return False
        return self._predictor.is_ready(image, self.contrast)

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way."""
        return self._job is not None

    @property
    def is_answering(self) -> bool:
        """Whether masks are being predicted."""
        return self._clicks.is_busy

    @property
    def predictor(self) -> InteractivePredictor | None:
        """The predictor of the chosen model, once it is loaded."""
        return self._predictor

    def plane_image(self, plane: Plane | None = None) -> LayerPlane | None:
        """Return the pixels of a plane, by default the one in view; None where there are none."""
        try:
            return self._pixels(plane or self._plane)
        except InputError:  # told when the plane is to be prepared
            return None

    def _pixels(self, plane: Plane | None) -> LayerPlane | None:
        if self._layer is None or self._channels is None or plane is None:
            return None
        return LayerPlane(self._layer, plane, self._channels)

    def predict(
        self,
        request: PredictionRequest,
        on_result: Callable[[PredictionRequest, Candidates], None],
    ) -> None:
        """Predict masks, now or as soon as the plane is ready; only the newest request counts."""

        def submit() -> None:
            image, contrast, predictor = self.plane_image(), self.contrast, self._predictor
            if image is None or contrast is None or predictor is None:
                return

            def answer() -> Candidates:
                spare_a_processor()
                return predictor.predict(image, contrast, request.objects, request.preference)

            self._hold_job()
            self._clicks.submit(
                answer,
                on_result=lambda candidates: on_result(request, candidates),
                on_error=lambda error: self._on_click_error(error, predictor),
            )

        if self.is_ready:
            submit()
        else:
            self._waiting = submit
            self.start()

    # how it gets there

    def _restart(self) -> None:
        self._cancel_job()
        if not self._is_stopped:
            self._advance()

    def _advance(self) -> None:
        """Start the first step that is missing."""
        if self._job is not None or self._is_stopped or self._layer is None:
            return
        if self._predictor is None:
            self._load_model()
        elif self.contrast is None:
            self._measure_contrast()
        elif self._plane is None:
            return
        elif not self.is_ready:
            self._prepare_plane_in_view(self._plane)
        else:
            self._serve()
            self._prepare_ahead()

    def _load_model(self) -> None:
        model, device = self._model, self._device
        self.progressed.emit(Progress(f"Loading the model {model} …"))

        def load() -> Generator[None, None, InteractivePredictor]:
            from napari_sam.io.embedding_budget import stored_budget
            from napari_sam.io.embedding_cache import EmbeddingCache
            from napari_sam.pipeline.interactive import InteractivePredictor

            yield
            sam = load_shared_model(model, device)
            return InteractivePredictor(sam, EmbeddingCache(budget_bytes=stored_budget()))

        def loaded(predictor: InteractivePredictor) -> None:
            self._predictor, self.sam = predictor, predictor.sam

        self._run(load, on_result=loaded)

    def _measure_contrast(self) -> None:
        layer, channels, choice = self._layer, self._channels, self._contrast_choice
        assert layer is not None
        assert channels is not None
        assert self.sam is not None
        keeps_8bit = self.sam.input_spec.contrast == "as_is"
        self.progressed.emit(Progress("Measuring the contrast …"))

        def measured(contrast: Contrast) -> None:
            self.contrast = contrast
            self.contrast_measured.emit()

        steps = contrast_steps(layer, channels, choice, keeps_8bit=keeps_8bit)
        self._run(lambda: steps, on_result=measured)

    def _prepare_plane_in_view(self, plane: Plane) -> None:
        try:
            self._pixels(plane)
        except InputError as error:  # other layers that are its channels have changed
            self._on_error(error)
        else:
            self._prepare(plane, self._on_ready)

    def _prepare(self, plane: Plane, on_end: Callable[[], None]) -> None:
        """Compute or load the embedding of a plane."""
        image, contrast, predictor = self.plane_image(plane), self.contrast, self._predictor
        assert image is not None
        assert contrast is not None
        assert predictor is not None
        in_view = plane == self._plane
        text = "Preparing the image …" if in_view else "Preparing the next slices …"

        def show(step: Any) -> None:
            self.progressed.emit(Progress(text, step.done, step.total, busy=in_view))

        def done(_: object) -> None:
            self._prepared.add((image.key, contrast))
            on_end()

        if in_view:
            self.progressed.emit(Progress(text))
        prepare = predictor.prepare
        self._run(lambda: prepare(image, contrast, with_decoder=in_view), done, show)

    def _on_ready(self) -> None:
        self._serve()
        self.became_ready.emit()

    def _serve(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and self.is_ready:
            waiting()

    def _prepare_ahead(self) -> None:
        """Prepare the next plane in the direction of the last move that is not prepared yet."""
        if self._plane is None or self._layer is None:
            return
        for plane in planes_ahead(self._plane, self._ahead, self._layer.level_shapes[0]):
            image = self.plane_image(plane)
            if image is not None and (image.key, self.contrast) not in self._prepared:
                self._prepare(plane, lambda: None)
                return
        self.progressed.emit(Progress("Ready. Click an object.", busy=False))

    def _run(
        self,
        steps: Callable[[], Generator[Any, None, Any]],
        on_result: Callable[[Any], None],
        on_step: Callable[[Any], None] | None = None,
    ) -> None:
        """Run a job; when it is done, see what comes next."""

        def ended() -> None:
            if self._job is job:
                self._job = None
                self._advance()

        job = self._job = run_steps(
            steps,
            on_step=on_step,
            on_result=on_result,
            on_error=self._on_error,
            on_end=ended,
            parent=self,
        )

    def _on_error(self, error: BaseException) -> None:
        """Go over to the CPU when another device has too little memory; else stop and tell."""
        on_cpu = self.sam is None or self.sam.device.type == "cpu"
        if isinstance(error, OutOfMemoryError) and not on_cpu:
            self.release()
            self._device = "cpu"
            self.device_changed.emit("cpu")
            self._restart()
            return
        self._is_stopped = True
        self._drop_request()
        self._cancel_job()
        self.progressed.emit(Progress("Stopped by an error.", busy=False))
        self.failed.emit(error)

    def _on_click_error(self, error: BaseException, predictor: InteractivePredictor) -> None:
        if predictor is self._predictor:  # else another model or device was chosen since
            self._on_error(error)

    def _cancel_job(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.close()  # also its errors are of no interest any more

    def _drop_request(self) -> None:
        self._waiting = None
        self.dropped_request.emit()

    def _hold_job(self) -> None:
        """Let planes ahead wait while clicks come in."""
        if self._job is not None:
            self._job.pause()
            self._quiet.start()

    def _resume_job(self) -> None:
        if self._job is not None:
            self._job.resume()


def _single_shot(parent: QObject, interval_ms: int, callback: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(interval_ms)
    timer.timeout.connect(callback)
    return timer
