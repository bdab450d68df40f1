"""What the image encoders promise beside parity."""

from __future__ import annotations

import pytest
import torch

from napari_sam.core.errors import InputError
from napari_sam.model.image_encoder import relative_table
from tiny_models import tiny_sam


@pytest.mark.parametrize(
    ("encoder", "size", "rule"),
    [("vit", 96, "128 x 128 pixels"), ("tiny_vit", 100, "multiples of 16")],
)
def test_another_input_size_is_refused(encoder: str, size: int, rule: str) -> None:
    sam = tiny_sam(encoder)
    with pytest.raises(InputError, match=rule):
        sam.image_encoder(torch.zeros(1, 3, size, size))


@pytest.mark.parametrize("encoder", ["vit", "tiny_vit"])
def test_every_used_weight_learns(encoder: str) -> None:
    sam = tiny_sam(encoder)
    embedding = sam.image_encoder(torch.randn(1, 3, 128, 128)).embedding
    embedding.square().sum().backward()
    idle = {name for name, p in sam.image_encoder.named_parameters() if p.grad is None}
    # the classifier that MobileSAM's checkpoint carries along
    classifier = {"norm_head.weight", "norm_head.bias", "head.weight", "head.bias"}
    assert idle == (classifier if encoder == "tiny_vit" else set())


@pytest.mark.parametrize("encoder", ["vit", "tiny_vit"])
def test_images_of_a_batch_do_not_meet(encoder: str) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 128, 128) * 255
    sam = tiny_sam(encoder)
    with torch.inference_mode():
        together = sam.encode(images).embedding
        alone = sam.encode(images[1:]).embedding
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-4)


def test_tiny_vit_takes_any_multiple_of_its_stride() -> None:
    encoder = tiny_sam("tiny_vit").image_encoder
    with torch.inference_mode():
        assert encoder(torch.zeros(1, 3, 64, 112)).embedding.shape == (1, 32, 4, 7)


def test_relative_table_looks_up_query_minus_key() -> None:
    table = relative_table(torch.arange(5.0)[:, None], 3)  # distances -2 ... 2
    assert table[..., 0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
