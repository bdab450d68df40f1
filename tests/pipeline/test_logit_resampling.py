"""Masks from coarse logits are those of plain interpolation, wherever they lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from napari_sam.pipeline import logit_resampling
from napari_sam.pipeline.candidates import CandidateMask
from napari_sam.pipeline.logit_resampling import mask_above


def pasted(logits: np.ndarray, threshold: float, factor: int, size: tuple[int, int]) -> np.ndarray:
    mask, (y, x) = mask_above(logits, threshold, (1 / factor, 1 / factor), size)
    drawn = np.zeros(size, bool)
    drawn[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return drawn


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([1, 2, 3, 8, 16]),
    st.floats(-2, 2),
    st.integers(0, 99),
    st.integers(1, 200),
)
def test_masks_are_those_of_plain_interpolation(
    cells: tuple[int, int], factor: int, threshold: float, seed: int, block: int
) -> None:
    logits = np.random.default_rng(seed).normal(size=cells).astype(np.float32)
    size = (cells[0] * factor, cells[1] * factor)
    plain = F.interpolate(
        torch.from_numpy(logits)[None, None], size, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logit_resampling, "_PIXELS_PER_BLOCK", block)
        drawn = pasted(logits, threshold, factor, size)
    certain = np.abs(plain - threshold) > 1e-4
    np.testing.assert_array_equal(drawn[certain], (plain > threshold)[certain])


def test_only_pixels_near_the_mask_are_looked_at() -> None:
    logits = np.full((256, 256), -9, np.float32)
    logits[100:103, 40:50] = 5
    mask, (y, x) = mask_above(logits, 0.0, (0.125, 0.125), (2048, 2048))
    assert mask.shape[0] < 60
    assert mask.shape[1] < 110
    assert (y <= 800, x <= 320) == (True, True)
    assert mask.any()
    assert mask_above(logits, 6.0, (0.125, 0.125), (2048, 2048))[0].size == 0


def test_the_plane_may_end_within_a_cell_or_before_the_padding() -> None:
    logits = np.full((4, 4), 1, np.float32)
    assert pasted(logits, 0.0, 8, (27, 30)).all()
    padded = np.full((4, 4), -1, np.float32)
    padded[3:] = 1  # only in the padding
    assert not pasted(padded, 0.0, 8, (10, 32)).any()


def test_more_cells_than_pixels() -> None:
    logits = np.full((40, 40), -1, np.float32)
    logits[10:30, 10:30] = 1
    mask, origin = mask_above(logits, 0.0, (4.0, 4.0), (10, 10))
    drawn = np.zeros((10, 10), bool)
    drawn[origin[0] : origin[0] + mask.shape[0], origin[1] : origin[1] + mask.shape[1]] = mask
    expected = np.zeros((10, 10), bool)
    expected[2:8, 2:8] = True
    # the outer pixels' centres lie on the edge of the square, where the logit is 0
    np.testing.assert_array_equal(drawn[3:7, 3:7], expected[3:7, 3:7])
    assert not drawn[:2].any()
    assert not drawn[8:].any()


def test_candidates_keep_coarse_logits_and_their_last_mask() -> None:
    logits = np.full((8, 8), -4, np.float32)
    logits[2:4, 2:6] = 4
    candidate = CandidateMask(logits, (100, 200), 0.9, 0.9, (0.25, 0.25), (32, 32))
    patch = candidate.at()
    assert candidate.at() is patch
    assert patch.box_xyxy == (208, 108, 224, 116)
    assert candidate.at(-1.0).area > patch.area
