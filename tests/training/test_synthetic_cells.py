"""The generator draws what its labels say, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_sam.training.synthetic_cells import KINDS, synthetic_image, synthetic_stack


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_images_have_cells_that_can_be_seen(kind: str) -> None:
    image, labels = synthetic_image((160, 200), np.random.default_rng(5), kind)
    assert image.shape == labels.shape == (160, 200)
    assert image.dtype == np.uint16
    assert labels.max() >= 3
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    smooth = ndimage.gaussian_filter(image.astype(float), 1)
    difference = np.abs(smooth - np.median(smooth[labels == 0]))
    assert difference[labels > 0].mean() > 1.15 * difference[labels == 0].mean()


def test_the_stack_is_reproducible_and_its_nuclei_are_bright() -> None:
    image, labels = synthetic_stack((4, 96, 128), seed=3)
    again, _ = synthetic_stack((4, 96, 128), seed=3)
    other, _ = synthetic_stack((4, 96, 128), seed=4)
    assert image.shape == labels.shape == (4, 96, 128)
    assert np.array_equal(image, again)
    assert not np.array_equal(image, other)
    assert image[labels > 0].mean() > 2 * image[labels == 0].mean()
    spans = [np.unique(np.nonzero(labels == i)[0]).size for i in np.unique(labels)[1:]]
    assert max(spans) > 1  # nuclei reach over several slices
