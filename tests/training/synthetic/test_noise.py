"""Noise has the grain and strength that its name says."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.training.synthetic.noise import fibres, log_uniform, smooth_noise, spline_weights


def test_splines_add_up_to_one_everywhere() -> None:
    for spacing, phase in ((1.7, 0.0), (5.3, 0.99), (400.0, 0.5)):
        assert spline_weights(100, spacing, phase).sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("grain", [0.0, 0.8, 2.0, 6.0])
def test_noise_has_unit_deviation_and_its_grain(grain: float) -> None:
    noise = smooth_noise((400, 400), grain, np.random.default_rng(0))
    assert noise.std() == pytest.approx(1, abs=0.15)
    assert abs(noise.mean()) < 0.1
    near, far = max(round(grain), 1), round(5 * grain) + 2
    correlation = [float((noise[:, :-lag] * noise[:, lag:]).mean()) for lag in (near, far)]
    assert (correlation[0] > 0.5) == (grain > 0.5)
    assert abs(correlation[1]) < 0.15


def test_fibres_are_longer_than_wide() -> None:
    strands = [fibres((200, 200), 3, np.random.default_rng(seed)) for seed in range(6)]
    steps = [
        sorted(float(np.abs(np.diff(s, axis=axis)).mean()) for axis in (0, 1)) for s in strands
    ]
    assert np.median([large / small for small, large in steps]) > 1.2


def test_log_uniform_has_as_many_below_as_above_the_geometric_mean() -> None:
    rng = np.random.default_rng(0)
    values = np.array([log_uniform(rng, 1, 100) for _ in range(500)])
    assert values.min() >= 1
    assert values.max() <= 100
    assert (values < 10).mean() == pytest.approx(0.5, abs=0.08)
