"""Predicted IoU goes through the model's map, wherever it is read, and nowhere without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam.core.errors import CheckpointError
from napari_sam.model import Sam, load_model
from napari_sam.model.checkpoints import CALIBRATION_KEY, build_from_state
from napari_sam.model.execution import execution_override
from napari_sam.model.iou_calibration import IouCalibration
from tiny_models import tiny_sam

RISING = torch.tensor([[0.0, 0.4, 0.6], [0.1, 0.2, 0.9], [0.0, 0.7, 1.0], [0.2, 0.3, 0.4]])


def test_a_map_joins_its_values_by_lines_and_goes_on_beyond() -> None:
    predicted = torch.tensor([[0.0, 0.25, 0.5, 1.0], [0.75, 0.6, 1.1, -0.2]])
    calibrated = IouCalibration(RISING)(predicted, slice(None)).numpy()
    knots = [0, 0.5, 1]
    inside = [[(0, 0), (0, 1), (0, 2), (0, 3)], [(1, 0), (1, 1)]]
    for row, column in [place for places in inside for place in places]:
        expected = np.interp(float(predicted[row, column]), knots, RISING[column].numpy())
        assert calibrated[row, column] == pytest.approx(expected, abs=1e-6)
    assert calibrated[1, 2] == pytest.approx(1.0 + 0.1 * 0.6, abs=1e-6)
    assert calibrated[1, 3] == pytest.approx(0.2 - 0.2 * 0.2, abs=1e-6)


def test_each_token_has_a_map_of_its_own() -> None:
    calibration = IouCalibration(RISING)
    predicted = torch.full((2, 3), 0.5)
    assert calibration(predicted, slice(1, None))[0].tolist() == pytest.approx([0.2, 0.7, 0.3])
    assert calibration(predicted[:, :1], slice(0, 1))[1].tolist() == pytest.approx([0.4])


def _decoded(sam: Sam, *, multimask: bool, few_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    sam.mask_decoder.transformer.few_tokens = few_tokens
    pixels = torch.linspace(0, 255, 3 * 64 * 64).reshape(1, 3, 64, 64)
    points = torch.tensor([[[20.0, 30.0]], [[40.0, 9.0]]]), torch.ones(2, 1)
    with torch.inference_mode():
        return sam.decode(sam.encode(pixels), points=points, multimask=multimask)


@pytest.mark.parametrize("few_tokens", [0, 16], ids=["in one batch", "one by one"])
@pytest.mark.parametrize("multimask", [False, True])
def test_decoding_gives_calibrated_values_and_the_same_masks(
    multimask: bool, few_tokens: int
) -> None:
    sam = tiny_sam("compact")
    logits, raw = _decoded(sam, multimask=multimask, few_tokens=few_tokens)
    sam.mask_decoder.iou_calibration = IouCalibration(RISING)
    same_logits, calibrated = _decoded(sam, multimask=multimask, few_tokens=few_tokens)
    assert torch.equal(logits, same_logits)
    masks = slice(1, None) if multimask else slice(0, 1)
    torch.testing.assert_close(calibrated, IouCalibration(RISING)(raw, masks))
    assert not torch.equal(calibrated, raw)


def test_thresholds_see_calibrated_values() -> None:
    sam = tiny_sam("compact")
    sam.mask_decoder.iou_calibration = IouCalibration(
        torch.tensor([[0.0, 1e-3]] * 2 + [[0.9, 0.9001]] + [[0.0, 1e-3]])
    )
    points = torch.tensor([[[20.0, 30.0]]]), torch.ones(1, 1)
    with torch.inference_mode(), execution_override(scores_first=True):
        features = sam.encode(torch.zeros(1, 3, 64, 64))
        passed = sam.decode_above(features, points=points, min_predicted_iou=0.5)
    assert passed.mask_index.tolist() == [1]
    assert float(passed.predicted_iou) == pytest.approx(0.9, abs=1e-3)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return load_model("compact", device="cpu").state_dict()


def test_a_model_without_a_map_has_none(state: dict[str, torch.Tensor]) -> None:
    assert CALIBRATION_KEY not in state
    assert build_from_state("compact", state, source="it").mask_decoder.iou_calibration is None


def test_a_map_is_loaded_with_its_model(state: dict[str, torch.Tensor]) -> None:
    values = torch.linspace(0, 1, 9).repeat(4, 1)
    sam = build_from_state("compact", state | {CALIBRATION_KEY: values}, source="it")
    assert sam.mask_decoder.iou_calibration is not None
    assert torch.equal(sam.mask_decoder.iou_calibration.values, values)
    assert torch.equal(sam.state_dict()[CALIBRATION_KEY], values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.linspace(1, 0, 9).repeat(4, 1), "does not rise"),
        (torch.full((4, 9), float("nan")), "does not rise"),
        (torch.linspace(0, 1, 9).repeat(3, 1), "another shape"),
        (torch.tensor(1.0), "another shape"),
    ],
)
def test_a_map_that_cannot_be_one_is_refused(
    state: dict[str, torch.Tensor], values: torch.Tensor, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        build_from_state("compact", state | {CALIBRATION_KEY: values}, source="it")


def test_other_architectures_have_no_place_for_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_sam.model import checkpoints

    monkeypatch.setattr(checkpoints, "build_sam", lambda architecture, **_: tiny_sam("vit"))
    values = torch.linspace(0, 1, 9).repeat(4, 1)
    with pytest.raises(CheckpointError, match="unexpected"):
        build_from_state(
            "vit_b", tiny_sam("vit").state_dict() | {CALIBRATION_KEY: values}, source="it"
        )
