"""Objects lie where and as densely as asked."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.training.synthetic.canvas import Canvas, Scene
from napari_sam.training.synthetic.layouts import draw_diameter, scatter, tissue
from napari_sam.training.synthetic.shapes import Blobs, Branched


def scattered(paint: Blobs | Branched, coverage: float, seed: int = 0) -> Scene:
    rng = np.random.default_rng(seed)
    canvas = Canvas((160, 160), paint.diameter, rng)
    scatter(canvas, paint, coverage, rng)
    return canvas.finish()


def test_coverage_is_that_asked_for_as_far_as_there_is_room() -> None:
    blobs = Blobs(12.0, spread=0.1, min_free=0.6)
    covered = [(scattered(blobs, wanted).labels > 0).mean() for wanted in (0.1, 0.4)]
    assert covered == pytest.approx([0.1, 0.4], abs=0.03)


def test_there_is_always_an_object() -> None:
    for seed in range(5):
        assert scattered(Blobs(20.0), 0.0, seed).labels.max() >= 1


def test_a_dividing_object_is_two() -> None:
    scene = scattered(Blobs(40.0, dividing=1.0), 0.01)
    assert scene.tags[1:].tolist() == [1] * (scene.tags.size - 1)
    assert scene.labels.max() == 2


def extent(scene: Scene) -> float:
    """How far the largest object reaches, over the diameter of a disc of its area."""
    sizes = np.bincount(scene.labels.ravel())
    rows, cols = np.nonzero(scene.labels == 1 + int(np.argmax(sizes[1:])))
    return float(np.hypot(np.ptp(rows), np.ptp(cols)) / np.sqrt(4 * sizes[1:].max() / np.pi))


def test_branched_cells_reach_further_than_round_ones() -> None:
    branched = Branched(26.0, (3, 3), (1.2, 1.6), body=0.6, web=0.2)
    for seed in range(3):
        assert extent(scattered(branched, 0.05, seed)) > extent(
            scattered(Blobs(26.0, elongation=1.1), 0.05, seed)
        )


def test_a_tissue_has_no_gaps_unless_asked_for() -> None:
    rng = np.random.default_rng(0)
    canvas = Canvas((120, 120), 24, rng, 0.03)
    border = tissue(canvas, 24, rng, core=0.4)
    scene = canvas.finish()
    assert (scene.labels > 0).mean() > 0.99
    assert 20 <= scene.labels.max() <= 60
    assert border[scene.edges() > 0].mean() < 1.5 < border.mean()
    assert 0.05 < (scene.inner > 0).mean() < 0.4
    canvas = Canvas((120, 120), 24, rng)
    tissue(canvas, 24, rng, gap=2, missing=0.5)
    assert (canvas.finish().labels > 0).mean() < 0.7


def test_diameters_leave_room() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_diameter((64, 200), rng, 6, 200) for _ in range(200)]
    assert min(drawn) >= 6
    assert 40 < max(drawn) < 45
    assert max(draw_diameter((400, 400), rng, 6, 200) for _ in range(200)) > 180
