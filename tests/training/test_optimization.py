"""The learning rate's course, and steps that are refused."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from napari_sam.core.errors import NapariSamError
from napari_sam.training import TrainConfig
from napari_sam.training.optimization import (
    descend,
    freeze_batch_norm,
    learning_rate,
    parameter_groups,
)


def test_the_rate_rises_stays_and_falls_to_a_hundredth() -> None:
    config = TrainConfig(
        data="", output="", iterations=100, warmup=10, decay_from=0.5, learning_rate=0.1
    )
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[:10] == pytest.approx([0.01 * step for step in range(1, 11)])
    assert set(rates[10:51]) == {0.1}
    assert all(after < before for before, after in itertools.pairwise(rates[50:]))
    assert rates[75] == pytest.approx(0.0505)
    assert rates[100] == pytest.approx(0.001)


def test_only_matrices_decay() -> None:
    model = nn.ModuleList([nn.Linear(3, 4), nn.LayerNorm(4), nn.Embedding(1, 4)])
    decays, stays = parameter_groups(model, 0.5)
    assert [tuple(weight.shape) for weight in decays["params"]] == [(4, 3)]
    assert (decays["weight_decay"], stays["weight_decay"]) == (0.5, 0.0)
    assert len(stays["params"]) == 4


def test_a_step_has_a_gradient_of_norm_1_at_most() -> None:
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = float(model.weight.detach())
    descend(1000 * model.weight.sum(), model, optimizer, 0)
    assert float(model.weight.detach()) == pytest.approx(before - 1, abs=1e-4)
    with pytest.raises(NapariSamError, match="nan at step 7"):
        descend(model.weight.sum() * float("nan"), model, optimizer, 7)
    assert float(model.weight.detach()) == pytest.approx(before - 1, abs=1e-4)


def test_frozen_batch_normalisation_keeps_its_statistics() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout()).train()
    freeze_batch_norm(model)
    model(torch.full((2, 1, 4, 4), 5.0))
    assert float(model[0].running_mean) == 0
    assert model[1].training
