"""Prompt mixing starts as the identity, and reaches far."""

from __future__ import annotations

import torch

from napari_sam.model import build_sam
from napari_sam.model.prompt_mixing import PromptMixing


def test_a_new_mixing_changes_nothing() -> None:
    image = torch.randn(2, 16, 8, 12)
    assert torch.equal(PromptMixing(16, 8)(image), image)


def test_a_prompt_reaches_nine_coarse_cells_and_no_more() -> None:
    torch.manual_seed(0)
    mixing = PromptMixing(8, 8, depth=3).double()
    torch.nn.init.normal_(mixing.up.weight)
    image = torch.randn(1, 8, 48, 48, dtype=torch.float64)
    touched = image.clone()
    touched[0, :, 24, 24] += 1
    with torch.no_grad():
        change = (mixing(touched) - mixing(image)).abs().sum(1)[0] > 1e-12
    rows = change.any(dim=1).nonzero()[:, 0]
    # coarse cell 12 +- 9, two fine cells each
    assert (int(rows.min()), int(rows.max())) == (6, 43)


def test_only_the_compact_model_mixes() -> None:
    with torch.device("meta"):
        assert build_sam("vit_b").mask_decoder.mixing is None
        assert isinstance(build_sam("compact").mask_decoder.mixing, PromptMixing)
