"""A map from predicted IoU to the IoU that masks of this prediction really have."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["IouCalibration"]


class IouCalibration(nn.Module):
    """Corrects predicted IoU by a rising, piecewise linear function for each mask token.

    This is isotonic calibration (Zadrozny and Elkan 2002) in a form that a file can hold. The token
    of the single mask answers other prompts than those of multimask output, and errs otherwise.

    Parameters
    ----------
    values : Tensor
        Calibrated IoU at K predictions from 0 to 1 in equal steps, (M, K) for M mask tokens. The
        first and the last piece go on beyond 0 and 1.
    """

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)

    def forward(self, predicted_iou: Tensor, masks: slice) -> Tensor:
        """Calibrate the predicted IoU (N, M) of the tokens that ``masks`` selects."""
        table = self.values[masks].T  # (K, M)
        pieces = len(table) - 1
        position = predicted_iou * pieces
        start = position.floor().nan_to_num().clamp(0, pieces - 1)
        index = start.long()
        low, high = table.gather(0, index), table.gather(0, index + 1)
        return low + (high - low) * (position - start)
