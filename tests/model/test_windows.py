"""Cutting a token map into windows."""

from __future__ import annotations

import pytest
import torch

from napari_sam.model.windows import partition_windows, unpartition_windows


@pytest.mark.parametrize(
    ("height", "width", "window"), [(6, 9, 3), (5, 7, 3), (2, 2, 4), (1, 8, 1)]
)
def test_windows_go_together_again(height: int, width: int, window: int) -> None:
    tokens = torch.arange(2 * height * width * 4.0).reshape(2, height, width, 4)
    windows = partition_windows(tokens, window, fill=torch.zeros(4))
    assert windows.shape[1:] == (window, window, 4)
    assert torch.equal(unpartition_windows(windows, (height, width)), tokens)


def test_padding_is_the_fill() -> None:
    windows = partition_windows(torch.ones(1, 2, 3, 2), 2, fill=torch.tensor([7.0, 8.0]))
    assert windows.shape == (2, 2, 2, 2)
    assert torch.equal(windows[0], torch.ones(2, 2, 2))
    assert torch.equal(windows[1, :, 0], torch.ones(2, 2))
    assert torch.equal(windows[1, :, 1], torch.tensor([[7.0, 8.0], [7.0, 8.0]]))


def test_a_window_holds_neighbours() -> None:
    rows = torch.arange(4.0)[:, None].expand(4, 4)
    columns = torch.arange(4.0)[None, :].expand(4, 4)
    windows = partition_windows(torch.stack([rows, columns], dim=-1)[None], 2, torch.zeros(2))
    assert windows[2].tolist() == [[[2, 0], [2, 1]], [[3, 0], [3, 1]]]


def test_gradients_reach_tokens_and_fill() -> None:
    tokens = torch.ones(1, 3, 3, 2, requires_grad=True)
    fill = torch.zeros(2, requires_grad=True)
    partition_windows(tokens, 2, fill).sum().backward()
    assert torch.equal(tokens.grad, torch.ones_like(tokens))
    assert fill.grad.tolist() == [7.0, 7.0]
