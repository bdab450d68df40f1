"""Cut token maps into square attention windows and put them together again."""

from __future__ import annotations

from torch import Tensor

__all__ = ["partition_windows", "unpartition_windows"]


def partition_windows(tokens: Tensor, window_size: int, fill: Tensor) -> Tensor:
    """Cut a token map into non-overlapping square windows, padded at the bottom and right.

    The reference implementations pad with zeros *before* the projection to query, key and value,
    so that a padded token still takes part in attention with a constant key and value. Partition
    the projected tokens and pass that constant as `fill`: the result is the same, and no padded
    token is ever projected.

    Parameters
    ----------
    tokens : Tensor
        Tokens, (B, H, W, C).
    window_size : int
        Side of a window, in tokens.
    fill : Tensor
        The value of a padded token, (C,).

    Returns
    -------
    Tensor
        Windows, (B * windows, window_size, window_size, C).
    """
    batch, height, width, channels = tokens.shape
    rows, columns = -(-height // window_size), -(-width // window_size)
    padded_shape = (batch, rows * window_size, columns * window_size, channels)
    if padded_shape != tokens.shape:
        padded = fill.to(tokens.dtype).expand(padded_shape).clone()
        padded[:, :height, :width] = tokens
        tokens = padded
    # (B, rows, window, columns, window, C) -> (B, rows, columns, window, window, C)
    tokens = tokens.reshape(batch, rows, window_size, columns, window_size, channels)
    return tokens.transpose(2, 3).reshape(-1, window_size, window_size, channels)


def unpartition_windows(windows: Tensor, shape_hw: tuple[int, int]) -> Tensor:
    """Put windows back together and drop the padding.

    Parameters
    ----------
    windows : Tensor
        Windows, (B * windows, window_size, window_size, C), as from `partition_windows`.
    shape_hw : tuple of int
        Height and width of the token map, without padding.

    Returns
    -------
    Tensor
        Tokens, (B, H, W, C).
    """
    height, width = shape_hw
    _, window_size, _, channels = windows.shape
    rows, columns = -(-height // window_size), -(-width // window_size)
    tokens = windows.reshape(-1, rows, columns, window_size, window_size, channels)
    tokens = tokens.transpose(2, 3).reshape(-1, rows * window_size, columns * window_size, channels)
    return tokens[:, :height, :width].contiguous()
