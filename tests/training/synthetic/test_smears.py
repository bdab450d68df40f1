"""Smears: a white cell is labelled with its cytoplasm, and red cells are objects too."""

from __future__ import annotations

import numpy as np

from napari_sam.training.synthetic.smears import smear


def test_cells_are_darker_than_glass_and_labelled_beyond_their_nuclei() -> None:
    shares = []
    for seed in range(12):
        image, labels = smear((160, 160), np.random.default_rng(seed))
        light = image.mean(axis=2) / np.median(image[labels == 0].mean(axis=1))
        inside = light[labels > 0]
        assert np.median(inside) < 0.97, seed
        darkest = np.percentile(inside, 2)
        # nuclei are the darkest; most of what is labelled is much lighter, and yet no glass
        shares.append(float((inside > (1 + darkest) / 2).mean()))
    assert np.median(shares) > 0.25


def test_both_sorts_of_cells_are_drawn() -> None:
    ratios = []
    for seed in range(12):
        _, labels = smear((160, 160), np.random.default_rng(seed))
        areas = np.sort(np.bincount(labels.ravel())[1:])
        ratios.append(areas[-1] / np.median(areas))
    assert max(ratios) > 2.5
