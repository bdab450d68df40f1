"""Each way in which an encoder may compute gives the embedding of the plain computation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from napari_sam.model import fused
from napari_sam.model.compact_encoder import CompactEncoder
from napari_sam.model.execution import execution_override
from napari_sam.model.image_encoder import ImageEncoderViT
from napari_sam.model.tiny_vit import TinyViT
from tiny_models import TINY_VIT_CONFIG, randomise


def vit() -> nn.Module:
    return ImageEncoderViT(
        image_size=160,
        embed_dim=24,
        depth=2,
        num_heads=3,
        window_size=4,
        out_channels=16,
        global_attention_indexes=(1,),
    )


def tiny_vit() -> nn.Module:
    return TinyViT(**TINY_VIT_CONFIG, out_channels=16)


def compact() -> nn.Module:
    return CompactEncoder((4, 8, 12, 16, 32), embed_dim=16, skip_dims=(4, 8))


def prepared(build) -> nn.Module:
    torch.manual_seed(0)
    encoder = build()
    randomise(encoder)
    return encoder.double().eval()


def maps(encoder: nn.Module, x: Tensor) -> list[Tensor]:
    features = encoder(x)
    return [part.detach() for part in (features.embedding, *features.skips)]


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"fuses_activations": False},
        {"attention_queries": None, "mlp_tokens": None, "folds_norms": False, "conv_rows": None},
        {"attention_queries": 7, "mlp_tokens": None, "conv_rows": 1},
        {"attention_queries": 1000, "mlp_tokens": 11, "conv_rows": 7},
        {"folds_norms": False, "conv_rows": 1000},
    ],
    ids=str,
)
@pytest.mark.parametrize("build", [vit, tiny_vit, compact])
def test_every_choice_gives_the_embedding_that_gradients_flow_through(build, choices) -> None:
    encoder = prepared(build)
    x = torch.randn(2, 3, 160, 160, dtype=torch.float64)
    expected = maps(encoder, x)  # with gradients: the plain computation
    with execution_override(**choices), torch.inference_mode():
        found = maps(encoder, x)
    for part, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-9, atol=1e-9)


def test_an_image_is_left_as_it_is() -> None:
    encoder = prepared(vit)
    x = torch.randn(1, 3, 160, 160, dtype=torch.float64)
    before, weights = x.clone(), copy.deepcopy(encoder.state_dict())
    with torch.inference_mode():
        first, second = maps(encoder, x), maps(encoder, x)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(encoder.state_dict(), weights, rtol=0, atol=0)


@pytest.mark.parametrize("build", [tiny_vit, compact])
def test_folded_norms_follow_their_weights_and_statistics(build) -> None:
    encoder = prepared(build)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        maps(encoder, x)  # folds
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean += 0.3
                module.weight *= 1.1
    expected = maps(encoder, x)
    for same in (encoder, copy.deepcopy(encoder)):
        with torch.inference_mode():
            torch.testing.assert_close(maps(same, x), expected, rtol=1e-9, atol=1e-9)


def test_norms_in_training_use_the_batch() -> None:
    encoder = prepared(compact).train()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before = encoder.stem.norm.running_mean.clone()
    with torch.no_grad():
        encoder(x)
    assert not torch.equal(encoder.stem.norm.running_mean, before)


@pytest.mark.parametrize("build", [vit, tiny_vit, compact])
def test_fused_activations_round_differently_and_no_more(build) -> None:
    encoder = prepared(build).float()
    x = torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        with execution_override(fuses_activations=False):
            expected = maps(encoder, x)
        for part, wanted in zip(maps(encoder, x), expected, strict=True):
            torch.testing.assert_close(part, wanted, rtol=1e-4, atol=2e-5 * float(wanted.std()))


@pytest.mark.parametrize("gelu", [False, True])
def test_a_layer_is_the_same_fused_or_not(gelu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, tokens = nn.Linear(24, 40), torch.randn(3, 100, 24)
    conv, image = nn.Conv2d(8, 16, 3, stride=2, groups=4), torch.randn(2, 8, 21, 30)

    def both() -> list[Tensor]:
        with torch.no_grad():
            return [
                fused.linear(tokens, layer, gelu=gelu),
                fused.conv2d(image, conv.weight, conv.bias, conv, (0, 1), gelu=gelu),
            ]

    found = both()
    with execution_override(fuses_activations=False):
        expected = both()
    monkeypatch.setattr(fused, "_has_onednn", lambda: False)
    without = both()
    for part, wanted, same in zip(found, expected, without, strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(same, wanted, rtol=0, atol=0)


def test_nothing_is_fused_where_gradients_flow_or_other_precisions_are_asked_for() -> None:
    layer = nn.Linear(16, 16)
    tokens = torch.randn(512, 16)
    assert fused.linear(tokens, layer, gelu=True).requires_grad
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert fused.linear(tokens, layer, gelu=True).dtype == torch.bfloat16
    with torch.no_grad():
        doubled = fused.linear(tokens.double(), layer.double(), gelu=True)
    assert doubled.dtype == torch.float64
