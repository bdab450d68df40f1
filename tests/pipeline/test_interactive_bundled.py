"""The bundled model on synthetic cells: large planes, large objects, and rounding that is harmless.

How well it segments is measured elsewhere; here it has to find plain objects whole.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_sam.core.prompts import BoxPrompt, PointPrompt, PromptSet
from napari_sam.io.embedding_cache import EmbeddingCache
from napari_sam.model.checkpoints import load_model
from napari_sam.model.sam import Sam
from napari_sam.pipeline import embedding_store
from napari_sam.pipeline.candidates import ObjectCandidates
from napari_sam.pipeline.interactive import InteractivePredictor
from napari_sam.pipeline.plane_image import ArrayPlaneImage
from napari_sam.predict import SamPredictor
from napari_sam.predict.decoding import ViewPrompts, decode_all_masks
from napari_sam.predict.frames import Frame, closer_view, view_around
from napari_sam.tiling.normalize import Contrast, percentile_contrast
from napari_sam.training.synthetic import synthetic_stack


@pytest.fixture(scope="module")
def sam() -> Sam:
    return load_model("compact")


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray]:
    image, labels = synthetic_stack((1, 400, 480), seed=0)
    return image[0], labels[0]


def centres(labels: np.ndarray, count: int) -> list[tuple[int, float, float]]:
    """Label and (x, y) of the largest objects."""
    ids = np.argsort(-np.bincount(labels.ravel())[1:])[:count] + 1
    return [
        (int(i), float(x), float(y))
        for i, (y, x) in zip(ids, ndimage.center_of_mass(labels > 0, labels, ids), strict=True)
    ]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def best(found: ObjectCandidates) -> Any:
    return found.masks[found.preferred("best")].at()


def test_rounding_to_half_precision_changes_no_mask(
    sam: Sam, cells: tuple[np.ndarray, np.ndarray]
) -> None:
    image, labels = cells
    contrast = percentile_contrast(image)
    exact = SamPredictor(sam).encode(image, contrast)
    predictor = InteractivePredictor(sam)
    plane = ArrayPlaneImage([image])
    objects = centres(labels, 8)
    prompts = [PromptSet((PointPrompt(x, y),)) for _, x, y in objects]
    rounded = predictor.predict(plane, contrast, prompts)
    found = 0
    for (label, x, y), ours in zip(objects, rounded, strict=True):
        extent = (x, y, x, y)
        view = view_around(extent, Frame.whole(image.shape), sam.input_spec)
        view = closer_view(extent, view, sam.input_spec)
        assert ours.factor == 1
        expected = decode_all_masks(
            sam, exact, view, ViewPrompts(np.array([[x, y]]), np.array([1]))
        )
        assert not np.array_equal(ours.masks[0].logits, expected.low_res_logits[1])
        chosen = ours.preferred("best")
        cells_of_both = ours.masks[chosen].logits > 0, expected.low_res_logits[1 + chosen] > 0
        assert iou(*cells_of_both) >= 0.99
        found += iou(best(ours).to_plane(image.shape), labels == label) > 0.7
    assert found >= 6  # or the test would compare nothing


def test_disk_gives_back_the_same_bits(
    sam: Sam,
    cells: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding_store, "_LOAD_BYTES_PER_S", 1e15)
    image, labels = cells
    contrast = percentile_contrast(image)
    prompts = [PromptSet((PointPrompt(x, y),)) for _, x, y in centres(labels, 3)]
    plane = ArrayPlaneImage([image])
    first = InteractivePredictor(sam, EmbeddingCache(tmp_path))
    before = first.predict(plane, contrast, prompts)
    first.flush()
    later = InteractivePredictor(sam, EmbeddingCache(tmp_path))
    (progress,) = later.prepare(plane, contrast)
    assert progress.origin == "disk"
    for one, other in zip(before, later.predict(plane, contrast, prompts), strict=True):
        for a, b in zip(one.masks, other.masks, strict=True):
            assert a.logits.tobytes() == b.logits.tobytes()


def disc(side: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc in the middle of a noisy plane, and its mask."""
    y, x = np.ogrid[:side, :side]
    truth = np.hypot(y - side / 2, x - side / 2) <= radius
    noise = np.random.default_rng(0).normal(0, 40, (side, side))
    image = 100 + 1000 * ndimage.gaussian_filter(truth.astype(np.float32), 2) + noise
    return image.astype(np.float32), truth


CENTRE = PromptSet((PointPrompt(750, 750),))
FAR_APART = PromptSet((PointPrompt(360, 750), PointPrompt(1140, 750)))
BOX = PromptSet(box=BoxPrompt(300, 300, 1200, 1200))


@pytest.mark.parametrize("prompts", [CENTRE, FAR_APART, BOX], ids=["click", "two clicks", "box"])
def test_objects_larger_than_a_window_are_found_whole(sam: Sam, prompts: PromptSet) -> None:
    """A disc of 900 pixels, where a window is 512."""
    image, truth = disc(1500, 450)
    predictor = InteractivePredictor(sam)
    (found,) = predictor.predict(ArrayPlaneImage([image]), percentile_contrast(image), [prompts])
    assert found.factor >= 4
    patch = best(found)
    assert iou(patch.to_plane(image.shape), truth) > 0.85
    parts, _ = ndimage.label(patch.mask)
    assert np.bincount(parts.ravel())[1:].max() > 0.98 * patch.area  # one mask
    left, top, right, bottom = patch.box_xyxy
    assert max(abs(left - 300), abs(top - 300), abs(right - 1200), abs(bottom - 1200)) < 60


@pytest.fixture(scope="module")
def always_wide(sam: Sam) -> Sam:
    """The same model, that decodes in windows of its input size only."""
    wide = copy.copy(sam)
    wide.input_spec = dataclasses.replace(sam.input_spec, decode_size=None)
    return wide


def test_a_large_object_gets_nearly_the_mask_of_wide_windows(sam: Sam, always_wide: Sam) -> None:
    """A disc of 400 pixels, where a close window is 256."""
    image, truth = disc(800, 200)
    contrast = percentile_contrast(image)
    prompts = PromptSet((PointPrompt(400, 400),))
    ours, expected = (
        InteractivePredictor(model).predict(ArrayPlaneImage([image]), contrast, [prompts])[0]
        for model in (sam, always_wide)
    )
    assert iou(best(ours).to_plane(image.shape), truth) > 0.85
    assert iou(best(ours).to_plane(image.shape), best(expected).to_plane(image.shape)) > 0.95


def test_small_objects_get_nearly_the_masks_of_wide_windows(
    sam: Sam, always_wide: Sam, cells: tuple[np.ndarray, np.ndarray]
) -> None:
    image, labels = cells
    embedding = SamPredictor(sam).encode(image)
    points = np.array([[[x, y]] for _, x, y in centres(labels, 8)])
    ones = np.ones((len(points), 1), int)
    close, wide = (
        SamPredictor(model).predict(embedding, points, ones) for model in (sam, always_wide)
    )
    assert not np.array_equal(close.low_res_logits, wide.low_res_logits)
    chosen = wide.predicted_iou.argmax(axis=1)
    same = [
        iou(close.masks[i, mask], wide.masks[i, mask]) for i, mask in enumerate(chosen.tolist())
    ]
    assert np.median(same) > 0.9


class HugePlane:
    """20,000 x 20,000 pixels that exist only where they are looked at."""

    shape = (20_000, 20_000)
    dtype = np.dtype(np.float32)

    def __init__(self, tile: np.ndarray, step: int = 1) -> None:
        self.tile, self.step = tile, step
        self.shape = (20_000 // step, 20_000 // step)
        self.reads: list[tuple[slice, slice]] = []

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        self.reads.append(index)
        rows, cols = (np.arange(part.start, part.stop) * self.step for part in index)
        image = self.tile[np.ix_(rows % self.tile.shape[0], cols % self.tile.shape[1])]
        inside = np.hypot(rows[:, None] - 9000.0, cols - 9000.0) <= 1500
        return np.where(inside, 3000, image).astype(np.float32)

    @property
    def pixels_read(self) -> int:
        return sum((r.stop - r.start) * (c.stop - c.start) for r, c in self.reads)


@pytest.fixture
def huge(cells: tuple[np.ndarray, np.ndarray]) -> Callable[..., list[HugePlane]]:
    return lambda *steps: [HugePlane(cells[0], step) for step in steps]


def test_a_click_on_a_huge_plane_reads_a_window(
    sam: Sam, cells: tuple[np.ndarray, np.ndarray], huge: Callable[..., list[HugePlane]]
) -> None:
    image, labels = cells
    levels = huge(1)
    plane = ArrayPlaneImage(levels)
    predictor = InteractivePredictor(sam)
    contrast = percentile_contrast(image)
    assert list(predictor.prepare(plane, contrast)) == []
    assert levels[0].pixels_read == 0
    label, x, y = next(c for c in centres(labels, 20) if 60 < c[1] < 420 and 60 < c[2] < 340)
    row, col = 30 * image.shape[0], 5 * image.shape[1]
    (found,) = predictor.predict(plane, contrast, [PromptSet((PointPrompt(x + col, y + row),))])
    assert found.factor == 1
    assert levels[0].pixels_read == 512 * 512
    truth = np.zeros((600, 600), bool)
    truth[100 : 100 + image.shape[0], 60 : 60 + image.shape[1]] = labels == label
    patch = best(found)
    shown = np.zeros_like(truth)
    left, top, right, bottom = patch.box_xyxy
    shown[top - row + 100 : bottom - row + 100, left - col + 60 : right - col + 60] = patch.mask
    assert iou(shown, truth) > 0.7
    predictor.predict(plane, contrast, [PromptSet((PointPrompt(x + col + 3, y + row),))])
    assert levels[0].pixels_read == 512 * 512  # neighbours share the window


def test_clicks_thousands_of_pixels_apart_make_one_mask(
    sam: Sam, huge: Callable[..., list[HugePlane]]
) -> None:
    """A disc of 3000 pixels, on a plane with resolution levels."""
    levels = huge(1, 2, 4, 8, 16, 32)
    plane = ArrayPlaneImage(levels)
    prompts = PromptSet((PointPrompt(7900, 9000), PointPrompt(10_100, 9000)))
    contrast = Contrast((100.0,), (3000.0,))
    (found,) = InteractivePredictor(sam).predict(plane, contrast, [prompts])
    assert found.factor >= 16
    patch = best(found)
    rows, cols = (
        np.arange(patch.origin_yx[i], patch.origin_yx[i] + n)
        for i, n in enumerate(patch.mask.shape)
    )
    truth = np.hypot(rows[:, None] - 9000.0, cols - 9000.0) <= 1500
    area = np.pi * 1500**2
    overlap = (truth & patch.mask).sum()
    assert overlap / (area + patch.area - overlap) > 0.85
    assert sum(level.pixels_read for level in levels) <= 12 * 512 * 512
