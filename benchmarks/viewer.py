"""Time what a user waits for in the window: from click to mask, and while something is computed.

    python benchmarks/viewer.py [--only clicks gaps zoom] [--size 2048] [--clicks 40]
                                [--hold 80] [--rounds 3] [--seconds 10] [--json FILE]

It opens a real napari window with the widget Segment by clicks, the compact model and a plane of
synthetic nuclei of `size` x `size` pixels; on Linux under an Xvfb of its own, where xdotool sends
the clicks through the X server. All times are in milliseconds.

clicks
    From the release of the mouse button reaching the window to the mask standing in the preview
    layer: clicks on so many different nuclei, each without prompts, then as many clicks that follow
    on one nucleus after another. The button is held down for `hold` milliseconds, as a person does,
    and in a third series not at all, as a tap on a touchpad. Targets: median 60, 95th percentile
    120. Software OpenGL draws on the processors that the model computes on, so each series is
    measured with a canvas that is not drawn between press and mask, for which the targets hold, and
    apart from it with one that is.
gaps
    How long the event loop takes from one tick of a timer of 10 ms to the next, with nobody
    touching the canvas: at rest, while a plane is encoded, while a model is downloaded from this
    machine, and while everything is segmented. Target: 95th percentile below 30.
zoom
    The same with the canvas zoomed continuously, at rest and while a plane is encoded, in turns.
    Target: at most 1.5 times as long.

Each part is repeated `rounds` times, and the best round is reported besides all of them, because
other programs on the machine only ever make it slower.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from shown_viewer import (
    is_at_rest,
    machine,
    main_on_a_screen,
    nuclei,
    open_widget,
    run_for,
    run_until,
    summary,
)

from gui.hands import XHand

if TYPE_CHECKING:
    import napari

TICK_MS = 10
FRAME_MS = 15
FOLLOWING = 10
"""Clicks on one nucleus after the first."""
DOWNLOAD_BYTES = 2**33

Figures = dict[str, dict[str, float]]


class ClickWatch:
    """Times on a click's way, taken where it passes.

    Attributes
    ----------
    release : float
        The window system tells the window that the button was released.
    predict : tuple of float
        Begin and end in the worker.
    decoder : float
        Seconds in the prompt encoder and the mask decoder.
    mask : float
        The preview layer holds the mask.
    painted : float
        The canvas has been drawn anew and shown.
    """

    def __init__(self, viewer: napari.Viewer, interaction: Any) -> None:
        self._session = interaction.session
        self._window = viewer.window._qt_window.windowHandle()
        self._canvas = viewer.window._qt_viewer.canvas.native
        self.reset()

    def reset(self) -> None:
        self.release = self.mask = self.painted = self.decoder = 0.0
        self.predict = (0.0, 0.0)

    @contextmanager
    def watching(self) -> Iterator[None]:
        from napari_sam._napari.preview_layer import PreviewLayer
        from napari_sam.pipeline import prompt_decoding
        from napari_sam.pipeline.interactive import InteractivePredictor

        on_release = _on_release(self._window, self._note_release)
        self._canvas.frameSwapped.connect(self._note_frame)
        with (
            spied(PreviewLayer, "show", self._note_mask),
            spied(InteractivePredictor, "predict", self._note_predict),
            spied(prompt_decoding, "decode_all_masks", self._note_decode),
        ):
            yield
        self._canvas.frameSwapped.disconnect(self._note_frame)
        self._window.removeEventFilter(on_release)

    def times_of(self, click: Callable[[], None], is_drawn: bool) -> dict[str, float]:
        """Click, wait until the mask is on the screen, and return what took how long.

        Where the canvas is not drawn, it is from the mask on.
        """
        self.reset()
        self._canvas.setUpdatesEnabled(is_drawn)
        click()
        run_until(lambda: self.mask > 0, "the mask is in its layer")
        self._canvas.setUpdatesEnabled(True)
        run_until(lambda: self.painted > 0, "the mask is on the screen")
        begun, ended = self.predict
        return {
            "click to mask": 1e3 * (self.mask - self.release),
            "click to worker": 1e3 * (begun - self.release),
            "worker": 1e3 * (ended - begun),
            "decoder alone": 1e3 * self.decoder,
            "worker to mask": 1e3 * (self.mask - ended),
            "mask to screen": 1e3 * (self.painted - self.mask),
        }

    def _note_release(self) -> None:
        self.release = self.release or time.perf_counter()

    def _note_predict(self, begun: float, ended: float) -> None:
        self.predict = begun, ended

    def _note_decode(self, begun: float, ended: float) -> None:
        self.decoder += ended - begun

    def _note_mask(self, _: float, ended: float) -> None:
        if self.release and self._session.is_current:  # not the mask of the click before
            self.mask = self.mask or ended

    def _note_frame(self) -> None:
        if self.mask and not self.painted:
            self.painted = time.perf_counter()


@contextmanager
def spied(owner: Any, name: str, note: Callable[[float, float], None]) -> Iterator[None]:
    """Tell when a function is called, and when it returns."""
    real = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        result = real(*args, **kwargs)
        note(begun, time.perf_counter())
        return result

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, real)


def _on_release(window: Any, note: Callable[[], None]) -> Any:
    from qtpy.QtCore import QEvent, QObject

    class Filter(QObject):  # type: ignore[misc]  # qtpy has no types
        def eventFilter(self, receiver: QObject, event: QEvent) -> bool:  # noqa: N802
            if event.type() == QEvent.Type.MouseButtonRelease:
                note()
            return False

    on_release = Filter()
    window.installEventFilter(on_release)
    return on_release


def in_columns(rows: list[dict[str, float]]) -> Figures:
    return {name: summary([row[name] for row in rows]) for name in rows[0]}


class Bench:
    """The window with its image, and what is measured in it."""

    def __init__(self, size: int, home: Path) -> None:
        import napari

        from gui.driver import Driver

        self.home = home
        self.image, self.labels = nuclei(size)
        self.viewer = napari.Viewer(show=True)
        self.layer = self.viewer.add_image(self.image, name="nuclei")
        self.widget = open_widget(self.viewer)
        self.engine = self.widget.interaction.engine
        self.driver = Driver(self.viewer)
        self.driver.show_all()
        self._centres = self._spread_centres()
        self._rolls = itertools.count(1)

    def close(self) -> None:
        self.viewer.close()

    # clicks

    def clicks(self, count: int, hold_ms: float) -> dict[str, Figures]:
        """Time clicks on different nuclei, clicks that follow on one, and taps."""
        watch = ClickWatch(self.viewer, self.widget.interaction)
        series = {}
        with watch.watching():
            self._click_afresh(watch, hold_ms, True)  # makes the preview layer
            for is_drawn, when in ((False, ""), (True, ", drawn by software")):
                self.driver.show_all()
                series["first clicks" + when] = in_columns(
                    [self._click_afresh(watch, hold_ms, is_drawn) for _ in range(count)]
                )
                series["first clicks, taps" + when] = in_columns(
                    [self._click_afresh(watch, 0, is_drawn) for _ in range(count)]
                )
                following: list[dict[str, float]] = []
                while len(following) < count:
                    following += self._clicks_on_one(watch, hold_ms, is_drawn)
                series["following clicks" + when] = in_columns(following)
        self._clear()
        self.driver.show_all()
        return series

    def _click_afresh(self, watch: ClickWatch, hold_ms: float, is_drawn: bool) -> dict[str, float]:
        self._clear()
        return self._click(watch, next(self._centres), hold_ms, is_drawn)

    def _clicks_on_one(
        self, watch: ClickWatch, hold_ms: float, is_drawn: bool
    ) -> list[dict[str, float]]:
        self._clear()
        row, col = next(self._centres)
        self.driver.look_at((row, col), zoom=8)
        self._click(watch, (row, col), hold_ms, is_drawn)
        ring = [2 * math.pi * i / FOLLOWING for i in range(FOLLOWING)]
        places = [(row + 4 * math.sin(a), col + 4 * math.cos(a)) for a in ring]
        return [self._click(watch, place, hold_ms, is_drawn) for place in places]

    def _click(
        self, watch: ClickWatch, place: tuple[float, float], hold_ms: float, is_drawn: bool
    ) -> dict[str, float]:
        self.driver.move(place, self.layer)
        run_for(0.6)  # so that two clicks at one place are no double click
        return watch.times_of(lambda: self._press_and_release(place, hold_ms), is_drawn)

    def _press_and_release(self, place: tuple[float, float], hold_ms: float) -> None:
        """Click where the mouse is, from outside, so that the event loop runs undisturbed."""
        if isinstance(self.driver._hand, XHand):
            words = ["mousedown", "1", "sleep", f"{hold_ms / 1e3}", "mouseup", "1"]
            self._xdotool = subprocess.Popen(["xdotool", *words])
        else:
            self.driver.click(place, self.layer)

    def _spread_centres(self) -> Iterator[tuple[int, int]]:
        """Rows and columns of nuclei, in any order, away from the border; none comes twice."""
        from scipy import ndimage

        found = ndimage.center_of_mass(self.labels > 0, self.labels, np.unique(self.labels)[1:])
        inside = [
            (round(row), round(col))
            for row, col in found
            if self.labels[round(row), round(col)]
            and min(row, col, *(np.array(self.labels.shape) - (row, col))) > 32
        ]
        yield from (inside[i] for i in np.random.default_rng(0).permutation(len(inside)))

    def _clear(self) -> None:
        self.widget.interaction.session.clear_prompts()
        run_until(lambda: is_at_rest(self.widget), "nothing is computed")
        run_for(0.3)

    # gaps

    def gaps(self, seconds: float) -> Figures:
        """Measure the gaps of the event loop in all situations."""
        run_for(1)
        measured = {"at rest": _gaps(lambda: True, seconds)}
        self._show_another_image()
        measured["while a plane is encoded"] = _gaps(lambda: not self.engine.is_ready, seconds)
        self._rest()
        with self._downloading() as goes_on:
            measured["while a model is downloaded"] = _gaps(goes_on, seconds)
        self._rest()
        with self._segmenting() as goes_on:
            measured["while everything is segmented"] = _gaps(goes_on, seconds)
        self._rest()
        return {name: summary(gaps) for name, gaps in measured.items()}

    def zoomed_gaps(self, seconds: float) -> Figures:
        """Measure the gaps while the canvas is zoomed, at rest and computing in turns."""
        measured: dict[str, list[float]] = {"zoomed at rest": [], "zoomed while encoding": []}
        for _ in range(2):
            with self._zooming():
                measured["zoomed at rest"] += _gaps(lambda: True, seconds / 2)
            self._show_another_image()
            with self._zooming():
                measured["zoomed while encoding"] += _gaps(
                    lambda: not self.engine.is_ready, seconds / 2
                )
            self._rest()
        return {name: summary(gaps) for name, gaps in measured.items()}

    def _show_another_image(self) -> None:
        """Make the engine encode, and wait until it does."""
        self.layer.data = np.roll(self.image, 24 * next(self._rolls), axis=1)
        run_until(lambda: self.engine.contrast is not None, "the contrast is measured")
        run_for(0.2)

    def _rest(self) -> None:
        run_until(lambda: is_at_rest(self.widget), "nothing is computed")
        run_for(0.5)

    @contextmanager
    def _zooming(self) -> Iterator[None]:
        from qtpy.QtCore import QTimer

        camera = getattr(self.viewer, "scene", self.viewer).camera
        before, steps = camera.zoom, itertools.count()

        def zoom() -> None:
            camera.zoom = before * 1.5 ** math.sin(next(steps) / 20)

        timer = QTimer(interval=FRAME_MS)
        timer.timeout.connect(zoom)
        timer.start()
        run_for(0.3)
        yield
        timer.stop()
        camera.zoom = before

    @contextmanager
    def _downloading(self) -> Iterator[Callable[[], bool]]:
        """Download a model through the dialog, as fast as this machine can."""
        from napari_sam._napari.models_dialog import ModelsDialog

        with served() as url:
            name = register(url)
            dialog = ModelsDialog(self.widget)
            dialog.select(name)
            dialog.show()
            dialog.download_button.click()
            run_for(0.3)
            yield dialog.cancel_button.isEnabled
            dialog.cancel_button.click()
            run_until(lambda: not dialog.cancel_button.isEnabled(), "the download has stopped")
            run_for(0.5)
            dialog.close()
        for part in self.home.rglob("*.part"):
            part.unlink()

    @contextmanager
    def _segmenting(self) -> Iterator[Callable[[], bool]]:
        """Segment everything on the plane."""
        from napari_sam._napari.plugin_viewer import unwrapped

        viewer = unwrapped(self.viewer)
        dock, everything = viewer.window.add_plugin_dock_widget("napari-sam", "Segment everything")
        run_for(1)
        everything.run()
        run_for(0.3)
        yield lambda: bool(everything.work.is_running)
        everything.work.cancel()
        run_until(lambda: not everything.work.is_running, "the run has stopped")
        viewer.window.remove_dock_widget(dock)
        everything.deleteLater()


def _gaps(goes_on: Callable[[], bool], seconds: float) -> list[float]:
    """Return the milliseconds from each tick of a timer to the next."""
    from qtpy.QtCore import QEventLoop, Qt, QTimer

    loop, ticks = QEventLoop(), [time.perf_counter()]
    timer = QTimer(interval=TICK_MS, timerType=Qt.TimerType.PreciseTimer)

    def tick() -> None:
        ticks.append(time.perf_counter())
        if ticks[-1] - ticks[0] > seconds or not goes_on():
            loop.quit()

    timer.timeout.connect(tick)
    timer.start()
    loop.exec()
    timer.stop()
    if ticks[-1] - ticks[0] < 0.5:
        raise TimeoutError("It was over before it could be measured: take a larger image")
    return (1e3 * np.diff(ticks)).tolist()


@contextmanager
def served() -> Iterator[str]:
    """Serve a large file from a process of its own."""
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    server = context.Process(target=serve, args=(port,), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{port.get(timeout=60)}/weights.pt"
    finally:
        server.terminate()
        server.join()


def serve(port: Any) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(DOWNLOAD_BYTES))
            self.end_headers()
            with suppress(ConnectionError):  # the download is broken off
                for _ in range(DOWNLOAD_BYTES // 2**20):
                    self.wfile.write(bytes(2**20))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    port.put(server.server_port)
    server.serve_forever()


def register(url: str) -> str:
    """Register a model that is published there; its file is never complete."""
    from dataclasses import replace

    from napari_sam.model import checkpoints, registry, store

    name = "benchmark"
    entry = replace(
        registry.MODELS["vit_b"],
        name=name,
        url=url,
        file_name="benchmark.pth",
        size_bytes=DOWNLOAD_BYTES,
    )
    models = MappingProxyType({**registry.MODELS, name: entry})
    for module in (registry, store, checkpoints):
        module.MODELS = models  # type: ignore[attr-defined]
    return name


def best_of(rounds: list[Figures], decisive: str, value: str) -> dict[str, Any]:
    """Choose the round of the least value, and keep that value of all of them."""
    return {
        "best": min(rounds, key=lambda figures: figures[decisive][value]),
        "all_rounds": {name: [figures[name][value] for figures in rounds] for name in rounds[0]},
    }


def measure(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    n_rounds = range(arguments.rounds)
    if "clicks" in arguments.only:
        series = [bench.clicks(arguments.clicks, arguments.hold) for _ in n_rounds]
        for name in series[0]:
            figures = [each[name] for each in series]
            results[name] = best_of(figures, "click to mask", "median")
    if "gaps" in arguments.only:
        rounds = [bench.gaps(arguments.seconds) for _ in n_rounds]
        per_situation = {
            name: min((figures[name] for figures in rounds), key=lambda row: row["p95"])
            for name in rounds[0]
        }
        results["gaps"] = best_of(rounds, "at rest", "p95") | {"best": per_situation}
    if "zoom" in arguments.only:
        rounds = [bench.zoomed_gaps(arguments.seconds) for _ in n_rounds]
        results["zoom"] = best_of(rounds, "zoomed while encoding", "p95")
    return results


def show(results: dict[str, Any]) -> None:
    print(f"{'milliseconds':44s}{'median':>9s}{'p95':>9s}{'max':>9s}{'n':>7s}   each round")
    for part, result in results.items():
        print(part)
        for name, row in result["best"].items():
            rounds = " ".join(f"{value:.1f}" for value in result["all_rounds"][name])
            values = f"{row['median']:9.1f}{row['p95']:9.1f}{row['max']:9.1f}{row['n']:7d}"
            print(f"  {name:42s}{values}   {rounds}")


def run(home: Path) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ["clicks", "gaps", "zoom"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--hold", type=float, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bench = Bench(arguments.size, home)
    results = measure(bench, arguments)
    figures = {"machine": machine(), "arguments": vars(arguments), "results": results}
    bench.close()
    show(results)
    if arguments.json:
        text = json.dumps(figures, indent=2, default=str)
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main_on_a_screen(run)
