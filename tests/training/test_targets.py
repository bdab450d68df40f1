"""Instance maps of known labels."""

from __future__ import annotations

import numpy as np

from napari_sam.training.targets import instance_targets


def test_maps_of_two_touching_squares() -> None:
    labels = np.zeros((30, 40), np.int32)
    labels[5:16, 5:16], labels[5:16, 16:27] = 1, 2
    foreground, centre, boundary = instance_targets(labels)
    assert np.array_equal(foreground > 0, labels > 0)
    assert centre[10, 10] == centre[10, 21] == 1.0
    assert centre.max() == 1.0
    assert not centre[labels == 0].any()
    assert boundary[10, 15] == boundary[10, 16] == 1  # the border between them
    assert boundary[10, 10] == 0
    assert boundary[2, 2] == 0


def test_an_empty_crop_has_empty_maps() -> None:
    assert not instance_targets(np.zeros((8, 8), np.int32)).any()
