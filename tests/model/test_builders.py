"""Architectures by name."""

from __future__ import annotations

import pytest
import torch

from napari_sam.core.errors import ConfigError
from napari_sam.model.builders import build_sam
from napari_sam.model.checkpoints import detect_architecture
from napari_sam.model.registry import ARCHITECTURES, MODELS


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_architecture_is_told_from_its_weights(architecture: str) -> None:
    with torch.device("meta"):
        sam = build_sam(architecture)
    assert detect_architecture(sam.state_dict()) == architecture


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ConfigError, match="vit_b, vit_l, vit_h, vit_t, compact"):
        build_sam("vit_x")


def test_every_registered_model_can_be_built() -> None:
    assert {entry.architecture for entry in MODELS.values()} == set(ARCHITECTURES)


def test_input_of_official_models() -> None:
    with torch.device("meta"):
        spec = build_sam("vit_t").input_spec
    assert (spec.size, spec.stride, spec.low_res_stride) == (1024, 16, 4)
    assert not spec.native_resolution
    assert spec.pixel_mean == (123.675, 116.28, 103.53)
    assert spec.pixel_std == (58.395, 57.12, 57.375)
