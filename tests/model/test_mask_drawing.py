"""Masks are the same whether they are drawn in strips or by convolutions over whole maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_sam.model.layers import ImageFeatures
from napari_sam.model.mask_decoder import ALL_MASKS, DecodedTokens, MaskDecoder
from napari_sam.model.prompt_encoder import PromptEmbeddings
from napari_sam.model.transformer import Attention, TwoWayTransformer

CHANNELS, COARSE, FINE = 16, 8, 4


def decoder() -> MaskDecoder:
    torch.manual_seed(0)
    transformer = TwoWayTransformer(2, CHANNELS, 4, 32)
    return MaskDecoder(CHANNELS, transformer, upscale_dims=(COARSE, FINE)).double()


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (64, 9), (2, 700)])
@pytest.mark.parametrize("has_skips", [False, True])
@pytest.mark.parametrize("maps", [1, 3])
def test_strips_equal_convolutions(grid: tuple[int, int], has_skips: bool, maps: int) -> None:
    model, count = decoder(), 3
    h, w = grid
    skips = (random(maps, FINE, 4 * h, 4 * w), random(maps, COARSE, 2 * h, 2 * w))
    features = ImageFeatures(random(1, CHANNELS, h, w), skips if has_skips else ())
    dense_fine = random(count, COARSE, 2 * h, 2 * w) if has_skips else None
    prompts = PromptEmbeddings(random(count, 2, CHANNELS), random(1, CHANNELS, 1, 1), dense_fine)
    decoded = DecodedTokens(
        random(count, 4, CHANNELS), random(count, h * w, CHANNELS), random(count, 4)
    )
    with torch.no_grad():
        in_strips = model.draw_masks(features, prompts, decoded, ALL_MASKS)
    by_convolutions = model.draw_masks(features, prompts, decoded, ALL_MASKS)
    assert by_convolutions.requires_grad
    assert not in_strips.requires_grad
    torch.testing.assert_close(in_strips, by_convolutions, rtol=1e-12, atol=1e-12)


def test_half_precision_maps_are_drawn_in_the_precision_of_the_tokens() -> None:
    model, (h, w) = decoder().float(), (4, 6)
    skips = (torch.randn(1, FINE, 4 * h, 4 * w).half(), torch.randn(1, COARSE, 2 * h, 2 * w).half())
    tokens = DecodedTokens(
        torch.randn(1, 4, CHANNELS), torch.randn(1, h * w, CHANNELS), torch.randn(1, 4)
    )
    prompts = PromptEmbeddings(torch.randn(1, 2, CHANNELS), torch.zeros(1, CHANNELS, 1, 1))
    image = torch.randn(1, CHANNELS, h, w)
    with torch.no_grad():
        drawn = model.draw_masks(ImageFeatures(image, skips), prompts, tokens, ALL_MASKS)
        exact = tuple(skip.float() for skip in skips)
        expected = model.draw_masks(ImageFeatures(image, exact), prompts, tokens, ALL_MASKS)
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn, expected)


@pytest.mark.parametrize("downsample_rate", [1, 2])
@pytest.mark.parametrize("image_batch", [1, 3])
@pytest.mark.parametrize("image_asks", [False, True])
def test_folded_attention_equals_attention(
    downsample_rate: int, image_batch: int, image_asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    attention = Attention(32, 4, downsample_rate).double()
    tokens, image, other = (
        random(3, 4, 32),
        random(image_batch, 50, 32),
        random(image_batch, 50, 32),
    )
    values = random(3, 4, 32)

    def attend() -> Tensor:
        if image_asks:
            return attention(image.expand(3, -1, -1), tokens, values)
        return attention(tokens, image.expand(3, -1, -1), other.expand(3, -1, -1))

    expected = attend()
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", None)  # not needed
    with torch.no_grad():
        folded = attend()
    torch.testing.assert_close(folded, expected, rtol=1e-12, atol=1e-12)
