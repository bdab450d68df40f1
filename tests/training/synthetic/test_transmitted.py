"""Phase contrast: dark objects in bright halos, with the shade-off of large ones."""

from __future__ import annotations

import numpy as np

from napari_sam.training.synthetic.transmitted import debris, halo_image


def seen(radius: float) -> np.ndarray:
    rows, cols = np.ogrid[:160, :160]
    disc = (np.hypot(rows - 80, cols - 80) <= radius).astype(np.float32)
    return halo_image(disc, 4.0, 1.0)


def test_an_object_is_dark_and_its_halo_bright() -> None:
    light = seen(12)
    assert light[80, 80] < -0.2
    assert light[80, 80 + 14] > 0.2
    assert abs(light[80, 5]) < 0.01


def test_the_middle_of_a_large_object_fades_into_the_ground() -> None:
    large = seen(60)
    assert abs(large[80, 80]) < 0.1 < -large[80, 80 + 57]


def test_debris_is_sparse_and_mostly_dark() -> None:
    dirt = np.stack([debris((128, 128), np.random.default_rng(seed)) for seed in range(8)])
    assert 0.001 < (dirt != 0).mean() < 0.2
    assert (dirt < 0).sum() > (dirt > 0).sum()
