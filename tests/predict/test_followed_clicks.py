"""A click always counts: masks of the compact model are in at positive ones, out at negative."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_sam.core.prompt_shapes import PointPrompt
from napari_sam.core.prompts import PromptSet
from napari_sam.pipeline import ArrayPlaneImage, InteractivePredictor
from napari_sam.predict import SamPredictor
from napari_sam.predict.followed_clicks import follow_clicks
from napari_sam.predict.prompted_parts import cell_coordinates
from napari_sam.predict.windows import Window
from napari_sam.tiling import percentile_contrast
from tiny_models import tiny_sam

SIDE = 48


def smooth_logits(seed: int) -> torch.Tensor:
    noise = np.random.default_rng(seed).normal(size=(1, SIDE, SIDE))
    smooth = ndimage.gaussian_filter(noise, (0, 5, 5))
    return torch.from_numpy((4 * smooth / smooth.std()).astype(np.float32))


def upsampled(logits: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.interpolate(logits[None], scale_factor=2, mode="bilinear")[0].numpy()


clicks = st.lists(
    st.tuples(st.integers(2, 93), st.integers(2, 93), st.booleans()), min_size=1, max_size=4
)


def far_apart(given_clicks: list[tuple[int, int, bool]]) -> bool:
    places = np.array([click[:2] for click in given_clicks], float)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    return bool((distances[np.triu_indices(len(places), 1)] > 8).all())


@given(seed=st.integers(0, 50), clicked=clicks.filter(far_apart))
def test_the_mask_is_right_at_every_click(seed: int, clicked: list[tuple[int, int, bool]]) -> None:
    logits = smooth_logits(seed)
    before = logits.clone()
    points_xy = np.array([(x, y) for y, x, _ in clicked], float)
    cells = cell_coordinates(points_xy, Window(0, 0, 2 * SIDE, 2 * SIDE), 2)
    followed = follow_clicks(logits, 0.0, cells, np.array([positive for *_, positive in clicked]))
    assert torch.equal(logits, before)
    mask = upsampled(followed)[0] > 0
    assert [bool(mask[y, x]) for y, x, _ in clicked] == [positive for *_, positive in clicked]


def test_what_follows_already_stays_as_it_is() -> None:
    logits = smooth_logits(0)
    inside = np.argwhere(logits[0].numpy() > 1)[:3].astype(float)
    assert follow_clicks(logits, 0.0, inside, np.ones(3, bool)) is logits
    off = np.array([[-0.6, 4.0], [SIDE - 0.4, 4.0]])
    assert follow_clicks(logits, 0.0, off, np.array([True, False])) is logits


def half() -> torch.Tensor:
    """Twenty columns inside, the others outside."""
    logits = torch.full((1, SIDE, SIDE), -5.0)
    logits[..., :20] = 5.0
    return logits


@pytest.mark.parametrize("column", [21, 25, 31])
def test_what_is_added_joins_the_mask_and_ends_beyond_the_click(column: int) -> None:
    followed = follow_clicks(half(), 0.0, np.array([[24.0, column]]), np.array([True]))
    added = (followed[0] > 0).numpy()
    assert ndimage.label(added)[1] == 1
    distance = column - 19
    last = int(np.flatnonzero(added[24])[-1])
    assert column < last <= column + 1.3 * distance
    assert (added == (half()[0] > 0).numpy())[:8].all()  # nothing far away


def test_what_is_taken_away_is_no_larger() -> None:
    followed = follow_clicks(half(), 0.0, np.array([[24.0, 16.0]]), np.array([False]))
    taken = ((half()[0] > 0) & (followed[0] <= 0)).numpy()
    assert taken[24, 16:20].all()
    assert int(np.flatnonzero(taken[24])[0]) == 11  # 1.3 times the way to the edge
    assert not taken[:18].any()
    assert not taken[31:].any()


def test_a_contrary_click_nearby_keeps_its_place() -> None:
    places = np.array([[24.0, 30.0], [24.0, 26.0]])
    followed = follow_clicks(half(), 0.0, places, np.array([True, False]))
    assert followed[0, 24, 30] > 0
    assert followed[0, 24, 26] == -5


def test_far_from_the_mask_a_click_adds_a_spot() -> None:
    followed = follow_clicks(half(), 0.0, np.array([[24.0, 42.0]]), np.array([True]))
    assert ndimage.label((followed[0] > 0).numpy())[1] == 2
    assert int(((followed[0] > 0) & (half()[0] < 0)).sum()) < 30


def test_a_mask_of_nothing_stays_so() -> None:
    logits = torch.full((2, SIDE, SIDE), -3.0)
    logits[1] = half()[0]
    followed = follow_clicks(logits, 0.0, np.array([[24.0, 30.0]]), np.array([True]))
    assert torch.equal(followed[0], logits[0])
    assert followed[1, 24, 30] > 0


@pytest.mark.parametrize("kind", ["compact", "vit"])
def test_predictors_follow_clicks_unless_the_model_is_official(kind: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 120), dtype=np.uint8)
    sam = tiny_sam(kind)
    predictor, contrast = SamPredictor(sam), percentile_contrast(image)
    embedding = predictor.encode(image, contrast)
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(12):
        places = rng.uniform(5, 95, (3, 2)).round()
        labels = np.array([1, 0, 1])
        found = predictor.predict(
            embedding, points_xy=places, point_labels=labels, multimask=False
        ).masks[0]
        columns, rows = places.astype(int).T
        wrong += int(found.any() and (found[rows, columns] != labels).any())
        points = [
            PointPrompt(x, y, bool(label)) for (x, y), label in zip(places, labels, strict=True)
        ]
        (interactive,) = InteractivePredictor(sam).predict(
            ArrayPlaneImage([image]), contrast, [PromptSet(tuple(points))]
        )
        drawn = interactive.masks[0].at().to_plane((100, 120))
        assert kind == "vit" or not drawn.any() or (drawn[rows, columns] == labels).all()
    assert (wrong == 0) == (kind == "compact")
