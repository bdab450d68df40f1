"""A map is fitted to what masks are worth, and only where there are enough of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam.core.errors import InputError
from napari_sam.evaluation import IouPairs, fit_iou_calibration, list_pairs, rate_images
from napari_sam.evaluation.calibration import KNOTS
from napari_sam.evaluation.reliability import concatenate
from napari_sam.predict import SamPredictor
from tiny_models import tiny_sam

GRID = np.linspace(0, 1, KNOTS)


def _pairs(count: int, seed: int, low: float = 0.0) -> IouPairs:
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(low, 1, count)
    return IouPairs(predicted, np.clip(predicted**2 + rng.normal(0, 0.03, count), 0, 1))


def test_a_known_distortion_is_undone() -> None:
    values = fit_iou_calibration([[_pairs(2000, 0), _pairs(2000, 1, low=0.4)]])
    assert values.shape == (2, KNOTS)
    np.testing.assert_allclose(values[0], GRID**2, atol=0.05)
    seen = GRID >= 0.45
    np.testing.assert_allclose(values[1][seen], GRID[seen] ** 2, atol=0.05)
    assert (values[:, 0] == 0).all()


def test_a_map_rises_even_where_predictions_say_nothing() -> None:
    rng = np.random.default_rng(0)
    useless = IouPairs(rng.uniform(0.2, 0.9, 300), rng.uniform(0, 1, 300))
    upside_down = IouPairs(useless.predicted, 1 - useless.predicted)
    constant = IouPairs(np.full(300, 0.5), rng.uniform(0, 1, 300))
    beyond = IouPairs(useless.predicted * 3 - 1, useless.true)
    values = fit_iou_calibration([[useless, upside_down, constant, beyond]])
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=1) > 0).all()
    assert (values[1] == values[2:]).all()  # so that no map changes the choice between the masks
    assert values.min() >= 0
    assert values.max() <= 1.01


def test_images_are_joined_and_too_few_masks_refused() -> None:
    parts = [[_pairs(30, seed), _pairs(80, seed)] for seed in range(2)]
    joined = [concatenate(list(token)) for token in zip(*parts, strict=True)]
    np.testing.assert_array_equal(fit_iou_calibration(parts), fit_iou_calibration([joined]))
    with pytest.raises(InputError, match="30 masks"):
        fit_iou_calibration(parts[:1])
    with pytest.raises(InputError, match="0 masks"):
        fit_iou_calibration([])


def test_every_token_is_rated_as_it_is_used(tmp_path: Path) -> None:
    labels = np.zeros((48, 64), np.uint8)
    labels[4:15, 4:15], labels[20:31, 30:41], labels[40:42, 2:4] = 1, 2, 3  # the last is a speck
    for kind, data in (
        ("images", labels * 90),
        ("labels", labels),
    ):
        (tmp_path / kind).mkdir()
        Image.fromarray(data).save(tmp_path / kind / "a.png")
        Image.fromarray(data * (kind == "images")).save(tmp_path / kind / "b.png")  # no objects
    predictor = SamPredictor(tiny_sam("compact"))
    (tokens,) = rate_images(predictor, list_pairs(tmp_path))
    single, *multimask = tokens
    assert len(single.true) == 2 * 3  # a box and two corrective clicks each
    assert [len(token.true) for token in multimask] == [4, 4, 4]  # two clicks each
    truth = labels == np.array([1, 2])[:, None, None]
    click = predictor.predict(
        predictor.encode(labels * 90),
        points_xy=np.array([[[9.0, 9.0]], [[35.0, 25.0]]]),
        point_labels=np.ones((2, 1), int),
    )
    for index, token in enumerate(multimask):
        np.testing.assert_allclose(token.predicted[:2], click.predicted_iou[:, index], rtol=1e-5)
        union = (click.masks[:, index] | truth).sum((1, 2))
        true = (click.masks[:, index] & truth).sum((1, 2)) / union
        np.testing.assert_allclose(token.true[:2], true)
    assert len(next(iter(rate_images(predictor, list_pairs(tmp_path), max_objects=1)))[0].true) == 3
