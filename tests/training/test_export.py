"""Model files: what is rounded, what is kept, and maps of predicted IoU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sam.core.errors import ConfigError, OutputError
from napari_sam.model import load_model
from napari_sam.model.checkpoints import CALIBRATION_KEY
from napari_sam.training import export_calibrated
from napari_sam.training.start import build_start_model
from tiny_models import tiny_sam

VALUES = np.cumsum(np.linspace(0.01, 0.11, 36).reshape(4, 9), axis=1)


def test_a_calibrated_model_keeps_weights_and_map_to_the_bit(tmp_path: Path) -> None:
    from safetensors import safe_open

    sam = load_model("compact", device="cpu")
    path = export_calibrated(sam, VALUES, tmp_path / "calibrated.safetensors")
    calibrated = load_model(path, device="cpu").state_dict()
    assert torch.equal(calibrated.pop(CALIBRATION_KEY), torch.from_numpy(VALUES).float())
    before = sam.state_dict()
    assert calibrated.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in calibrated.items())
    with safe_open(path, "pt") as file:
        assert file.get_tensor(CALIBRATION_KEY).dtype == torch.float32
        assert file.get_tensor("mask_decoder.iou_token.weight").dtype == torch.float16
        assert file.metadata()["calibrated_from"] == sam.digest
    # training changes what is predicted, so it begins without the map
    assert CALIBRATION_KEY not in build_start_model(str(path)).sam.state_dict()
    again = export_calibrated(load_model(path, device="cpu"), VALUES / 2, path)
    halved = load_model(again, device="cpu").state_dict()[CALIBRATION_KEY]
    assert torch.equal(halved, torch.from_numpy(VALUES / 2).float())


def test_official_models_and_folders_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no"):
        export_calibrated(tiny_sam("vit"), VALUES, tmp_path / "vit.safetensors")
    with pytest.raises(OutputError, match="cannot be written"):
        export_calibrated(tiny_sam("compact"), VALUES, tmp_path / "absent" / "a.safetensors")
