"""Names and shapes of all weights against the official models, without any weights at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import segment_anything
import torch
from torch import Tensor

from napari_sam.model.builders import build_sam

# names and shapes of the image encoder in mobile_sam.pt, as MobileSAM's own class loads it strictly
MOBILE_SAM = Path(__file__).with_name("mobile_sam_image_encoder.json")


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("architecture", ["vit_b", "vit_l", "vit_h"])
def test_weights_are_named_and_shaped_as_the_official_ones(architecture: str) -> None:
    with torch.device("meta"):
        ours = build_sam(architecture)
        official = segment_anything.sam_model_registry[architecture]()
    assert _shapes(ours.state_dict()) == _shapes(official.state_dict())


def test_weights_of_vit_t_are_named_and_shaped_as_in_mobile_sam() -> None:
    with torch.device("meta"):
        ours = _shapes(build_sam("vit_t").state_dict())
        official = _shapes(segment_anything.sam_model_registry["vit_b"]().state_dict())
    # MobileSAM keeps prompt encoder and mask decoder of Segment Anything
    expected = {k: v for k, v in official.items() if not k.startswith("image_encoder.")}
    encoder = json.loads(MOBILE_SAM.read_text(encoding="utf-8"))
    expected |= {f"image_encoder.{key}": tuple(shape) for key, shape in encoder.items()}
    assert ours == expected


def test_parameters_are_as_many_as_published() -> None:
    """The published figures, rounded to millions."""
    published = {"vit_b": 91e6, "vit_l": 308e6, "vit_h": 636e6}
    for architecture, expected in published.items():
        with torch.device("meta"):
            count = sum(p.numel() for p in build_sam(architecture).parameters())
        assert count == pytest.approx(expected, rel=0.04)
