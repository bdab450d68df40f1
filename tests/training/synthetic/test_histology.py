"""Stains: nuclei are darker than tissue, and no two slides have the same colours."""

from __future__ import annotations

import numpy as np

from napari_sam.training.synthetic.histology import histology


def test_nuclei_are_darker_and_bluer_than_the_ground_and_colours_vary() -> None:
    drawn = [histology((96, 96), np.random.default_rng(seed)) for seed in range(12)]
    inside = np.array([image[labels > 0].mean(axis=0) for image, labels in drawn])
    ground = np.array([image[labels == 0].mean(axis=0) for image, labels in drawn])
    assert (inside.sum(axis=1) < ground.sum(axis=1)).all()
    bluer = inside[:, 2] / inside[:, 0] > ground[:, 2] / ground[:, 0]
    assert bluer.sum() >= 10
    assert (ground.std(axis=0) > 8).all()
