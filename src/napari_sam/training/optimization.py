"""How weights descend: groups for AdamW, the learning rate, one step."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from napari_sam.core.errors import NapariSamError

__all__ = [
    "Schedule",
    "begin_step",
    "descend",
    "freeze_batch_norm",
    "learning_rate",
    "parameter_groups",
]


class Schedule(Protocol):
    """The options of a configuration that the learning rate depends on."""

    @property
    def iterations(self) -> int:
        """Steps in all."""
        ...

    @property
    def learning_rate(self) -> float:
        """The rate of the plateau."""
        ...

    @property
    def warmup(self) -> int:
        """Steps over which the rate rises."""
        ...

    @property
    def decay_from(self) -> float:
        """Fraction of the run from which the rate falls."""
        ...


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Part what is trained: weights decay; biases, norms and single tokens do not."""
    decays: list[nn.Parameter] = []
    stays: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim > 1 and min(parameter.shape[:2]) > 1
        (decays if is_matrix else stays).append(parameter)
    return [
        {"params": decays, "weight_decay": weight_decay},
        {"params": stays, "weight_decay": 0.0},
    ]


def learning_rate(iteration: int, config: Schedule) -> float:
    """Linear warm-up, a plateau, then half a cosine down to a hundredth."""
    if iteration < config.warmup:
        return config.learning_rate * (iteration + 1) / config.warmup
    begin = config.decay_from * config.iterations
    progress = (iteration - begin) / max(config.iterations - begin, 1)
    if progress <= 0:
        return config.learning_rate
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def freeze_batch_norm(model: nn.Module) -> None:
    """Let batch normalisation use its running statistics, as at inference."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def begin_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, iteration: int, config: Schedule
) -> None:
    """Make a model and its optimiser ready for a step: what is trained, and at which rate."""
    model.train()
    if iteration >= config.decay_from * config.iterations:
        freeze_batch_norm(model)
    rate = learning_rate(iteration, config)
    for group in optimizer.param_groups:
        group["lr"] = rate


def descend(
    loss: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer, iteration: int
) -> None:
    """Take one step, with gradients of norm 1 at most.

    Raises
    ------
    NapariSamError
        If the loss is not finite; the weights stay as they are.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise NapariSamError(
            f"The loss became {value} at step {iteration}",
            rule="Training needs a finite loss",
            cure="Lower learning_rate and start again in a new output folder",
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
