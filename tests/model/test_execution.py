"""Choices per device stand in one place, and can be changed for a block."""

from __future__ import annotations

import threading

import pytest
import torch

from napari_sam.model.builders import build_sam
from napari_sam.model.execution import execution_for, execution_override

CPU, CUDA = torch.device("cpu"), torch.device("cuda:1")


def test_a_cpu_takes_fewer_points_at_once_than_cuda_and_mps_lies_between():
    counts = [execution_for(torch.device(d)).points_per_batch for d in ("cpu", "mps", "cuda")]
    assert counts == sorted(set(counts))


def test_another_accelerator_gets_what_cuda_gets():
    assert execution_for(torch.device("xpu")) == execution_for(CUDA)


def test_an_override_holds_inside_its_block_and_adds_to_an_outer_one():
    usual = execution_for(CPU)
    with execution_override(points_per_batch=3):
        with execution_override(scores_first=False):
            inside = execution_for(CPU)
        assert execution_for(CPU).scores_first
    assert (inside.points_per_batch, inside.scores_first) == (3, False)
    assert inside.map_format == usual.map_format
    assert execution_for(CPU) == usual


def test_an_override_ends_with_an_error_in_its_block():
    with pytest.raises(KeyError), execution_override(points_per_batch=3):
        raise KeyError
    assert execution_for(CPU).points_per_batch != 3


def test_an_override_does_not_reach_other_threads():
    seen = []
    with execution_override(points_per_batch=3):
        thread = threading.Thread(target=lambda: seen.append(execution_for(CPU).points_per_batch))
        thread.start()
        thread.join()
    assert seen == [execution_for(CPU).points_per_batch]


@pytest.mark.parametrize("architecture", ["vit_b", "vit_l", "vit_h"])
def test_attention_on_mps_stays_below_the_scores_that_it_gets_wrong(architecture):
    """MPS stores batch x heads x queries x tokens scores; from 2**31 on its numbers are wrong."""
    choices = execution_for(torch.device("mps"))
    with torch.device("meta"):
        encoder = build_sam(architecture).image_encoder
    _, rows, columns, _ = encoder.pos_embed.shape
    tokens = rows * columns
    heads = max(block.attn.num_heads for block in encoder.blocks)
    queries = choices.attention_queries or tokens
    assert (heads, tokens) == ({"vit_b": 12}.get(architecture, 16), 4096)
    assert choices.windows_per_batch * heads * queries * tokens < 2**31
    # all queries at once would still do for the windows of a call
    assert choices.windows_per_batch * heads * tokens**2 < 2**31
