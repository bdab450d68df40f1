"""Blur is a Gaussian at every width; a camera adds what it is told to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_sam.training.synthetic.optics import blur, expose, scan, uneven_light


@pytest.mark.parametrize("sigma", [0.1, 1.0, 2.9, 3.1, 7.0, 20.0])
def test_blur_is_a_gaussian(sigma: float) -> None:
    plane = np.zeros((101, 121), np.float32)
    plane[45:52, 60:66] = 1
    expected = ndimage.gaussian_filter(plane, sigma, mode="constant") if sigma > 0.2 else plane
    found = blur(plane, sigma)
    middle = (slice(20, 80), slice(20, 100)) if sigma < 10 else (slice(40, 60), slice(45, 80))
    assert np.abs(found - expected)[middle].max() < 0.05 * expected.max()


def test_blur_keeps_an_even_plane_up_to_its_border() -> None:
    for sigma in (1.0, 9.0):
        assert blur(np.ones((40, 70), np.float32), sigma) == pytest.approx(1, abs=1e-4)


def test_few_photons_are_noisier_than_many() -> None:
    light = np.full((64, 64), 0.4, np.float32)
    spreads = [
        np.median(
            [
                picture.std() / picture.mean()
                for seed in range(5)
                for picture in [
                    expose(light, np.random.default_rng(seed), fewest_photons=n, most_uneven=0)
                ]
            ]
        )
        for n in (10, 10_000)
    ]
    assert spreads[0] > 2 * spreads[1]


def test_pictures_stay_in_range() -> None:
    light = np.linspace(-1, 9, 4096, dtype=np.float32).reshape(64, 64)
    picture = expose(light, np.random.default_rng(0))
    assert picture.dtype == np.uint16
    assert picture.max() == 4095
    scanned = scan(light, np.random.default_rng(0))
    assert scanned.dtype == np.uint8
    assert (scanned.min(), scanned.max()) == (0, 255) or scanned.max() == 255


def test_light_falls_off_only_as_far_as_asked() -> None:
    even = uneven_light((40, 50), np.random.default_rng(1), 0.0)
    assert even == pytest.approx(1)
    spans = [np.ptp(uneven_light((40, 50), np.random.default_rng(i), 0.5)) for i in range(20)]
    assert 0.05 < max(spans) < 1
